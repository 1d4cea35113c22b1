package archtest

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// permissive are the licences that a direct dependency of the binary or its tests may have.
var permissive = []string{"Apache-2.0", "MIT", "ISC", "BSD-2-Clause", "BSD-3-Clause"}

// reasonLine is a line of docs/dependencies.txt: a module, or several as prefix/{one,other}; licences; the reason, after (test) when only
// tests use it.
var reasonLine = regexp.MustCompile(`^(\S+\.\S+/\S+)\s+([\w.-]+(?:, [\w.-]+)*)\s+(\(test\) )?(\S.*)$`)

// reason is what docs/dependencies.txt says of a module.
type reason struct {
	licences []string
	test     bool
}

func reasons(t *testing.T) map[string]reason {
	t.Helper()
	doc, err := os.ReadFile("../../docs/dependencies.txt")
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]reason{}
	modules, _, _ := strings.Cut(string(doc), "\nFrom npm")
	for line := range strings.Lines(modules) {
		m := reasonLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil {
			if strings.Contains(line, "/") {
				t.Errorf("docs/dependencies.txt: not a module, its licence and a reason: %s", line)
			}
			continue
		}
		names := []string{m[1]}
		if prefix, list, several := strings.Cut(strings.TrimSuffix(m[1], "}"), "{"); several {
			names = nil
			for _, n := range strings.Split(list, ",") {
				names = append(names, prefix+n)
			}
		}
		for _, n := range names {
			all[n] = reason{strings.Split(m[2], ", "), m[3] != ""}
		}
	}
	return all
}

func TestEveryDirectDependencyHasItsReason(t *testing.T) {
	mod, err := os.ReadFile("../../go.mod")
	if err != nil {
		t.Fatal(err)
	}
	direct := map[string]bool{}
	for line := range strings.Lines(string(mod)) {
		fields := strings.Fields(line)
		if len(fields) != 2 || !strings.Contains(fields[0], ".") || fields[0] == "go" {
			continue // Indirect ones carry a comment: more fields.
		}
		direct[fields[0]] = true
	}
	if len(direct) < 5 {
		t.Fatalf("only %d direct dependencies found in go.mod: is it tidy?", len(direct))
	}
	said := reasons(t)
	shipped := importedByTheProgram(t, direct)
	for name := range direct {
		// etcd's modules share one line; its major version is in their paths.
		r, ok := said[regexp.MustCompile(`^(go\.etcd\.io/etcd/\w+)/(?:pkg/)?v\d+$`).ReplaceAllString(name, "$1")]
		if !ok {
			t.Errorf("%s is required by go.mod and has no line in docs/dependencies.txt", name)
			continue
		}
		for _, l := range r.licences {
			if !slices.Contains(permissive, l) {
				t.Errorf("%s: the licence %s is not one of %v", name, l, permissive)
			}
		}
		if r.test == shipped[name] {
			t.Errorf("%s: docs/dependencies.txt says that only tests use it: %v; the program imports it: %v", name, r.test, shipped[name])
		}
	}
	for name := range said {
		if !slices.ContainsFunc(keys(direct), func(m string) bool { return m == name || strings.HasPrefix(m, name+"/") }) {
			t.Errorf("docs/dependencies.txt has a line for %s, which go.mod does not require", name)
		}
	}
}

// importedByTheProgram tells which modules files that are not tests import.
func importedByTheProgram(t *testing.T, modules map[string]bool) map[string]bool {
	t.Helper()
	found := map[string]bool{}
	for _, f := range files(t) {
		if f.test || strings.HasPrefix(f.dir, "test/") || strings.HasSuffix(f.dir, "test") {
			continue
		}
		for _, i := range f.syntax.Imports {
			path := strings.Trim(i.Path.Value, `"`)
			longest := ""
			for m := range modules {
				if (path == m || strings.HasPrefix(path, m+"/")) && len(m) > len(longest) {
					longest = m
				}
			}
			found[longest] = true
		}
	}
	return found
}

func keys(m map[string]bool) (list []string) {
	for k := range m {
		list = append(list, k)
	}
	return list
}
