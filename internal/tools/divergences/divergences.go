// Package divergences writes docs/divergences.md: how far the operations of each service go, counted from the tables the
// program itself runs on.
//
// It refuses to hold any list of its own that could differ from those tables.
package divergences

import (
	"bytes"
	"fmt"
	"io"
	"slices"
	"strings"

	"carrel/internal/api/shape"
)

// Service is one service's row.
type Service struct {
	Name string
	// Modelled is how many operations AWS's full model has.
	Modelled int
	// Decoded are the operations that Carrel decodes and validates, Working those of them with a handler. Both sorted.
	Decoded, Working []string
}

// Of gives the row of a service; bound tells which operations have a handler.
func Of(s *shape.Service, bound func(*shape.Operation) bool) Service {
	out := Service{Name: s.Name, Modelled: s.Modelled}
	for _, op := range s.Operations {
		out.Decoded = append(out.Decoded, op.Name)
		if bound(op) {
			out.Working = append(out.Working, op.Name)
		}
	}
	return out
}

// answered are the operations that validate their input and then answer a modelled error.
func (s Service) answered() []string {
	var out []string
	for _, name := range s.Decoded {
		if !slices.Contains(s.Working, name) {
			out = append(out, name)
		}
	}
	return out
}

// check refuses a row whose counts contradict each other.
func (s Service) check() error {
	if len(s.Decoded) > s.Modelled {
		return fmt.Errorf("divergences: %s decodes %d operations of a model with %d", s.Name, len(s.Decoded), s.Modelled)
	}
	for _, name := range s.Working {
		if !slices.Contains(s.Decoded, name) {
			return fmt.Errorf("divergences: %s %s works without being decoded", s.Name, name)
		}
	}
	return nil
}

const head = `<!-- Generated from the operation tables. Do not edit: the test that compares it says how to write it anew. -->

# Divergences from AWS

Counted from the tables that the running program uses. "Decoded and validated" operations read every member of their input and
check it against the constraints of AWS's model; those without a handler then answer an error of the service's model.
Operations of the model that are not decoded are answered as unknown.

| Service | In AWS's model | Decoded and validated | Working | Answered with an error | Unknown |
|---|---:|---:|---:|---:|---:|
`

const wording = `
## Validation

- Every pattern, length, range, enum and required member of the models is enforced. Patterns match the whole value, as AWS's
  Java front ends match them; those that look ahead are spelt out as equal conditions without look-ahead.
- A message lists the first ten violations and counts all; a value is shown up to 256 characters, structures by name only.
- The sentence about a union with none or several members is Carrel's own: AWS's services differ in theirs.
- A value longer than allowed and longer than 4096 bytes is reported for its length only, not for its pattern as well.

## Event history

- CloudTrail LookupEvents sees a call as soon as it is answered, where AWS may take 15 minutes, and has no limit of two calls per second.
- A search for what is rare ends its page early, with a NextToken; AWS's pages may be short, too.
- Calls without valid credentials are recorded, with a userIdentity of type Unknown, up to a limit; AWS has no account to record them in.
- Resources have CloudTrail's types where it has one. WorkSpaces' bundles, images and IP groups are AWS::WorkSpaces::WorkspaceBundle, WorkspaceImage and
  WorkspaceIpGroup, directories AWS::DirectoryService::Directory.
- Session tokens are hidden in records. The texts of LookupEvents' exceptions are Carrel's own: AWS does not publish them.
- There are no trails: operations about one answer TrailNotFoundException, lists are empty.
`

// Write writes the document, services in the order given, or says which row is wrong and writes nothing.
func Write(w io.Writer, services []Service) error {
	var b bytes.Buffer
	b.WriteString(head)
	var all counts
	for _, s := range services {
		if err := s.check(); err != nil {
			return err
		}
		c := counts{s.Modelled, len(s.Decoded), len(s.Working)}
		c.write(&b, s.Name)
		all = counts{all.modelled + c.modelled, all.decoded + c.decoded, all.working + c.working}
	}
	all.write(&b, "**all**")
	b.WriteString(wording)
	for _, s := range services {
		fmt.Fprintf(&b, "\n## %s\n", s.Name)
		section(&b, "Working", s.Working)
		section(&b, "Answered with an error", s.answered())
	}
	_, err := w.Write(b.Bytes())
	return err
}

// counts are one row of the table.
type counts struct{ modelled, decoded, working int }

func (c counts) write(b *bytes.Buffer, name string) {
	fmt.Fprintf(b, "| %s | %d | %d | %d | %d | %d |\n", name, c.modelled, c.decoded, c.working, c.decoded-c.working, c.modelled-c.decoded)
}

func section(b *bytes.Buffer, title string, operations []string) {
	list := "none"
	if len(operations) > 0 {
		list = strings.Join(operations, ", ")
	}
	fmt.Fprintf(b, "\n%s (%d): %s.\n", title, len(operations), list)
}
