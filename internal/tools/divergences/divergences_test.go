package divergences_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"carrel/internal/api/ds"
	"carrel/internal/api/shape"
	"carrel/internal/api/workspaces"
	"carrel/internal/tools/divergences"
)

func rows() []divergences.Service {
	return []divergences.Service{
		divergences.Of(workspaces.Service, func(op *shape.Operation) bool { return op == workspaces.CreateWorkspaces.Operation }),
		divergences.Of(ds.Service, func(*shape.Operation) bool { return false }),
	}
}

func TestTheDocumentCountsWhatTheTablesHold(t *testing.T) {
	var b bytes.Buffer
	if err := divergences.Write(&b, rows()); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, want string }{
		{"a row of a service that is decoded whole", "| workspaces | 91 | 91 | 1 | 90 | 0 |\n"},
		{"a row of a service that is decoded in part", "| ds | 80 | 73 | 0 | 73 | 7 |\n"},
		{"the sum", "| **all** | 171 | 164 | 1 | 163 | 7 |\n"},
		{"the working operations by name", "\nWorking (1): CreateWorkspaces.\n"},
		{"the answered operations by name", "\nAnswered with an error (90): AcceptAccountLinkInvitation, "},
		{"a service without a working operation says so", "## ds\n\nWorking (0): none.\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(b.String(), c.want) {
				t.Errorf("no %q in\n%s", c.want, b.String())
			}
		})
	}
	t.Run("a working operation does not stand among the answered ones", func(t *testing.T) {
		if n := strings.Count(b.String(), " CreateWorkspaces,"); n != 0 {
			t.Errorf("it stands there %d times", n)
		}
	})
}

func TestContradictingRowsAreRefusedAndNothingIsWritten(t *testing.T) {
	for _, c := range []struct {
		name string
		row  divergences.Service
	}{
		{"a working operation that is not decoded", divergences.Service{Name: "x", Modelled: 2, Decoded: []string{"A"}, Working: []string{"B"}}},
		{"more operations than the model has", divergences.Service{Name: "x", Modelled: 1, Decoded: []string{"A", "B"}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var b bytes.Buffer
			if err := divergences.Write(&b, append(rows(), c.row)); err == nil || b.Len() > 0 {
				t.Errorf("error %v, %d bytes written", err, b.Len())
			}
		})
	}
}

type full struct{}

func (full) Write([]byte) (int, error) { return 0, errors.New("no space left on device") }

func TestAFailingWriterIsReported(t *testing.T) {
	if err := divergences.Write(full{}, rows()); err == nil {
		t.Error("the error is lost")
	}
}
