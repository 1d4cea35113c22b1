package authz_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"carrel/internal/app"
	"carrel/internal/identity"
	"carrel/internal/identity/identitytest"
	"carrel/internal/policy"
	"carrel/internal/state"
)

// TestTheMatrix holds the decision about every operation of every service for callers as there are in an account, operation by caller, to
// testdata/matrix.golden: + allowed, . denied implicitly, x denied explicitly. A change of a row, of a key or of a policy of AWS's shows there
// for whoever it concerns. The operations name no resource of their own here; what they name is TestResources'.
func TestTheMatrix(t *testing.T) {
	w := newWorld(t)
	attached := func(name string, policies ...string) identity.Principal {
		p := w.user(name, "")
		w.changeUser(name, func(u *state.User) {
			for _, policy := range policies {
				u.Attached = append(u.Attached, "arn:aws:iam::aws:policy/"+policy)
			}
		})
		return p
	}
	bounded := attached("bounded", "AdministratorAccess")
	w.changeUser("bounded", func(u *state.User) { u.Boundary = "arn:aws:iam::aws:policy/ReadOnlyAccess" })
	callers := []struct {
		name string
		p    identity.Principal
	}{
		{"root", identitytest.Root(t, w.db)},
		{"AdministratorAccess", attached("admin", "AdministratorAccess")},
		{"PowerUserAccess", attached("power", "PowerUserAccess")},
		{"ReadOnlyAccess", attached("reader", "ReadOnlyAccess")},
		{"AdministratorAccess bounded by ReadOnlyAccess", bounded},
		{"AmazonWorkSpacesAdmin", attached("desks", "AmazonWorkSpacesAdmin")},
		{"AWSDirectoryServiceFullAccess", attached("directory", "AWSDirectoryServiceFullAccess")},
		{"AmazonVPCFullAccess", attached("network", "AmazonVPCFullAccess")},
		{"IAMFullAccess", attached("people", "IAMFullAccess")},
		{"IAMUserChangePassword", attached("self", "IAMUserChangePassword")},
		{"workspaces:* on one directory", w.user("one", allow("workspaces:*", prefix+"directory/d-1"))},
		{"everything but with a second factor", w.user("factor", allow("*", "*", `{"Bool":{"aws:MultiFactorAuthPresent":"true"}}`))},
		{"AdministratorAccess and AWSDenyAll", attached("stopped", "AdministratorAccess", "AWSDenyAll")},
		{"nobody", w.user("nobody", "")},
	}
	var b strings.Builder
	for i, c := range callers {
		fmt.Fprintf(&b, "%s%d %s\n", strings.Repeat(" ", i/10), i+1, c.name)
	}
	for _, api := range app.APIs() {
		for _, op := range api.Operations {
			b.WriteString("\n")
			for _, c := range callers {
				d := w.ask(c.p, op, nil)
				mark := "."
				switch {
				case d.Allowed:
					mark = "+"
				case len(d.Checks) > 0 && d.Checks[len(d.Checks)-1].Verdict.Decision == policy.ExplicitDeny:
					mark = "x"
				}
				b.WriteString(mark)
				d.Release()
			}
			b.WriteString(" " + api.Name + " " + op.Name)
		}
	}
	b.WriteString("\n")
	golden := filepath.Join("testdata", "matrix.golden")
	if flag.Lookup("update").Value.String() == "true" { // rows_test.go has it
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	have, expected := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
	for i := range max(len(have), len(expected)) {
		if i >= len(have) || i >= len(expected) || have[i] != expected[i] {
			t.Fatalf("line %d of %s is another (-update writes it): have %q", i+1, golden, have[min(i, len(have)-1)])
		}
	}
}
