// Package archtest holds the tests of the house itself: who imports whom, how large files and functions are, and that every package
// says what it holds.
package archtest

import (
	"bytes"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

const module = "carrel"

type file struct {
	path, dir string
	syntax    *ast.File
	fset      *token.FileSet
	lines     int
	generated bool
	test      bool
}

// files parses every Go file of the module.
func files(t *testing.T) []file {
	t.Helper()
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	var all []file
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); path != root && (n == "testdata" || n == "node_modules" || n == "bin" || strings.HasPrefix(n, ".")) {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") {
			return nil
		}
		src, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		f := file{path: filepath.ToSlash(rel), dir: filepath.ToSlash(filepath.Dir(rel)), fset: token.NewFileSet(), lines: bytes.Count(src, []byte("\n")), test: strings.HasSuffix(path, "_test.go")}
		f.syntax, err = parser.ParseFile(f.fset, path, src, parser.ParseComments)
		f.generated = err == nil && ast.IsGenerated(f.syntax)
		all = append(all, f)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 50 {
		t.Fatalf("only %d files found: the walk is broken", len(all))
	}
	return all
}

func TestEveryPackageHasItsPlaceAndImportsOnlyWhatItsRowAllows(t *testing.T) {
	for _, f := range files(t) {
		if strings.HasPrefix(f.dir, "test/") {
			continue
		}
		r, known := table[f.dir]
		if !known {
			t.Errorf("%s: package %s has no row in internal/archtest/table_test.go: decide which floor it stands on", f.path, f.dir)
			continue
		}
		if f.test {
			continue // Tests may bring conformance suites and fakes from anywhere.
		}
		for _, spec := range f.syntax.Imports {
			path, _ := strconv.Unquote(spec.Path.Value)
			own, ok := strings.CutPrefix(path, module+"/")
			if ok && !r.allows(own) {
				t.Errorf("%s imports %s: the row of %s does not allow it (imports only go down; see ARCHITECTURE.md)", f.path, own, f.dir)
			}
		}
	}
}

func (r row) allows(pkg string) bool {
	for _, m := range r.may {
		if base, all := strings.CutSuffix(m, "/..."); m == pkg || all && (pkg == base || strings.HasPrefix(pkg, base+"/")) {
			return true
		}
	}
	return false
}

func TestTheTableOnlyGoesDown(t *testing.T) {
	for pkg, r := range table {
		for _, m := range r.may {
			if strings.HasSuffix(m, "/...") {
				continue
			}
			to, known := table[m]
			if !known {
				t.Errorf("the row of %s names %s, which has no row", pkg, m)
			} else if to.layer > r.layer {
				t.Errorf("the row of %s lets it import %s, which stands above it", pkg, m)
			}
		}
	}
}

func TestBudgets(t *testing.T) {
	for _, f := range files(t) {
		if f.test || f.generated {
			continue
		}
		if f.lines > fileLines && exempt[f.path] == "" {
			t.Errorf("%s has %d lines, more than %d: split it, or give a reason in exempt", f.path, f.lines, fileLines)
		}
		for _, d := range f.syntax.Decls {
			fn, ok := d.(*ast.FuncDecl)
			if !ok {
				continue
			}
			id := f.path + ":" + fn.Name.Name
			if n := f.fset.Position(fn.End()).Line - f.fset.Position(fn.Pos()).Line + 1; n > functionLines && exempt[id] == "" {
				t.Errorf("%s has %d lines, more than %d", id, n, functionLines)
			}
			if n := countParameters(fn); n > parameters && exempt[id] == "" {
				t.Errorf("%s takes %d parameters beside ctx, more than %d", id, n, parameters)
			}
		}
	}
}

func countParameters(fn *ast.FuncDecl) int {
	n := 0
	for _, p := range fn.Type.Params.List {
		if s, ok := p.Type.(*ast.SelectorExpr); ok && s.Sel.Name == "Context" {
			continue
		}
		n += max(1, len(p.Names))
	}
	return n
}

func TestExemptionsAreStillNeeded(t *testing.T) {
	paths := map[string]bool{}
	for _, f := range files(t) {
		paths[f.path] = true
	}
	for id, reason := range exempt {
		path, _, _ := strings.Cut(id, ":")
		if !paths[path] || reason == "" {
			t.Errorf("exemption %q names no file or gives no reason", id)
		}
	}
}

func TestEveryPackageSaysWhatItHolds(t *testing.T) {
	said := map[string]bool{}
	for _, f := range files(t) {
		if f.test && f.dir != "internal/archtest" {
			continue
		}
		doc := f.syntax.Doc.Text()
		said[f.dir] = said[f.dir] || strings.HasPrefix(doc, "Package ") || strings.HasPrefix(doc, "Command ")
	}
	for dir, ok := range said {
		if !ok && !strings.HasPrefix(dir, "test/") {
			t.Errorf("%s has no package comment", dir)
		}
	}
	for _, n := range []string{"util", "utils", "common", "helpers", "types", "misc"} {
		for dir := range said {
			if filepath.Base(dir) == n {
				t.Errorf("%s: a package is one noun that says what it holds", dir)
			}
		}
	}
}
