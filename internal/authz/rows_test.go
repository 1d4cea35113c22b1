package authz

import (
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"carrel/internal/api/shape"
)

var update = flag.Bool("update", false, "write the golden files anew")

// TestEveryOperationHasARow keeps an operation from being generated without anybody having said what it is checked against.
func TestEveryOperationHasARow(t *testing.T) {
	n := 0
	for _, s := range services {
		for _, op := range s.Operations {
			n++
			if rowOf(op) == nil {
				t.Errorf("%s %s has no row in the authorization tables", s.Name, op.Name)
			}
			if want := strings.ToLower(s.SigningName + ":" + op.Name); !strings.EqualFold(actionOf(op).String(), want) {
				t.Errorf("%s %s has the action %s", s.Name, op.Name, actionOf(op))
			}
		}
	}
	if n < 400 || len(tables) != len(services) {
		t.Errorf("%d operations of %d services, and %d tables", n, len(services), len(tables))
	}
}

// TestTheTables holds what is checked to testdata/rows.golden, so that a change of a row is seen for what it is. -update writes it.
func TestTheTables(t *testing.T) {
	var b strings.Builder
	for _, s := range services {
		for _, op := range s.Operations {
			r := tables[s.Name][op.Name]
			fmt.Fprintf(&b, "%s %s -> %s\n", s.Name, op.Name, r.describe(op))
		}
	}
	golden := filepath.Join("testdata", "rows.golden")
	if *update {
		if err := os.WriteFile(golden, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	have, expected := strings.Split(b.String(), "\n"), strings.Split(string(want), "\n")
	for _, line := range have {
		if !slices.Contains(expected, line) {
			t.Errorf("not in %s: %s", golden, line)
		}
	}
	for _, line := range expected {
		if !slices.Contains(have, line) {
			t.Errorf("only in %s: %s", golden, line)
		}
	}
}

// describe writes a row as one line; "{Path}" stands for what the request has there.
func (r *row) describe(op *shape.Operation) string {
	if r.open != "" {
		return "open: " + r.open
	}
	var parts []string
	for _, o := range r.on {
		parts = append(parts, actionOf(op).String()+" "+o.describe())
	}
	if len(r.on) == 0 {
		parts = append(parts, actionOf(op).String()+" *")
	}
	for _, a := range r.also {
		text := a.action + " " + a.on.describe()
		if a.when != "" {
			text += " when {" + a.when + "}"
		}
		if a.handsOn != nil {
			text += " or handed on"
		}
		parts = append(parts, text)
	}
	if r.items != "" {
		parts = append(parts, "for each {"+r.items+"}")
	}
	if r.tags != "" {
		parts = append(parts, "tags {"+r.tags+"}")
	}
	if r.factor != nil {
		parts = append(parts, "second factor {"+strings.Join(r.factor, "} {")+"}")
	}
	if r.tagKeys != "" {
		parts = append(parts, "tag keys {"+r.tagKeys+"}")
	}
	for _, k := range slices.Sorted(maps.Keys(r.keys)) {
		parts = append(parts, k+" {"+r.keys[k]+"}")
	}
	return strings.Join(parts, ", ")
}

func (o on) describe() string {
	if o.kind == nil {
		return "*"
	}
	id := ""
	if o.under != "" {
		id = "{" + o.under + "}"
	}
	switch {
	case o.path != "":
		id += "{" + o.path + "}"
	case o.under == "":
		id = "*"
	}
	if o.kind == iamUser {
		id = strings.ReplaceAll(strings.ReplaceAll(id, "*", "{caller}"), "}", " or caller}")
		id = strings.ReplaceAll(id, "caller or caller", "caller")
	}
	text := o.kind.arn(&env{Authorizer: &Authorizer{Partition: "aws", Region: "R", Account: "A"}}, id)
	if o.optional {
		text += "?"
	}
	return text + map[*kind]string{
		boundedUser: " with its boundary", boundedRole: " with its boundary", renamedUser: " as renamed", renamedGroup: " as renamed",
		passedRole: " with the service", keyOwner: " (owner)", deletedRole: " (of the task)", specified: " (of the type)",
	}[o.kind]
}
