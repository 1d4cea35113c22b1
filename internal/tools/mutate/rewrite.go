package main

import (
	"bytes"
	"fmt"
	"go/ast"
	"go/importer"
	"go/parser"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// variable names the change that is switched on in a run of the tests.
const variable = "MUTATE_CHANGE"

// support is added to the package: which change is on, and the operations that need more than one expression.
const support = `
import (
	"os"
	"strconv"
)

var mutateChange, _ = strconv.Atoi(os.Getenv("` + variable + `"))

func mutateOn(id int) bool { return mutateChange == id }

func mutateAnd(id int, a bool, b func() bool) bool {
	if mutateOn(id) {
		return a || b()
	}
	return a && b()
}

func mutateOr(id int, a bool, b func() bool) bool {
	if mutateOn(id) {
		return a && b()
	}
	return a || b()
}

func mutateSum[T ~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64](id int, a, b T) T {
	if mutateOn(id) {
		return a - b
	}
	return a + b
}

func mutateDifference[T ~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64](id int, a, b T) T {
	if mutateOn(id) {
		return a + b
	}
	return a - b
}
`

// mutated is a package rewritten: its files by path, and what each change is, in the order of their numbers from 1.
type mutated struct {
	files   map[string][]byte
	changes []string
	fset    *token.FileSet
	info    *types.Info
	edits   []edit
}

// edit inserts text into a file; those at the same place are made in the order they were found.
type edit struct {
	at   int
	text string
}

func rewrite(dir, only string) (*mutated, error) {
	m := &mutated{files: map[string][]byte{}, fset: token.NewFileSet(), info: &types.Info{Types: map[ast.Expr]types.TypeAndValue{}}}
	paths, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, err
	}
	paths = slices.DeleteFunc(paths, func(path string) bool { return strings.HasSuffix(path, "_test.go") })
	if len(paths) == 0 {
		return nil, fmt.Errorf("%s has no Go files", dir)
	}
	files := make([]*ast.File, len(paths))
	for i, path := range paths {
		if files[i], err = parser.ParseFile(m.fset, path, nil, parser.SkipObjectResolution); err != nil {
			return nil, err
		}
	}
	check := types.Config{Importer: importer.ForCompiler(m.fset, "source", nil)}
	if _, err := check.Check(dir, m.fset, files, m.info); err != nil {
		return nil, err
	}
	for i, path := range paths {
		if only != "" && !slices.Contains(strings.Split(only, ","), filepath.Base(path)) {
			continue
		}
		if err := m.file(path, files[i]); err != nil {
			return nil, err
		}
	}
	m.files[filepath.Join(dir, "mutate_support.go")] = []byte("package " + files[0].Name.Name + "\n" + support)
	return m, nil
}

func (m *mutated) file(path string, f *ast.File) error {
	source, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	m.edits = nil
	ast.Inspect(f, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GenDecl:
			return n.Tok == token.VAR
		case *ast.BlockStmt:
			m.statements(n.List)
		case *ast.CaseClause:
			m.statements(n.Body)
		case *ast.IfStmt:
			m.condition(n.Cond)
		case *ast.BinaryExpr:
			m.binary(n, source)
		case *ast.Ident:
			if tv := m.info.Types[n]; tv.Value != nil && (n.Name == "true" || n.Name == "false") {
				m.negate(n, n.Name+" made the other")
			}
		}
		return true
	})
	// Insertions at one place: what closes comes before what opens, and the inner before the outer; Inspect meets the outer first.
	slices.SortStableFunc(m.edits, func(a, b edit) int { return a.at - b.at })
	var out bytes.Buffer
	at := 0
	for _, e := range m.edits {
		out.Write(source[at:e.at])
		out.WriteString(e.text)
		at = e.at
	}
	out.Write(source[at:])
	m.files[path] = out.Bytes()
	return nil
}

// change gives the number of a new change.
func (m *mutated) change(at token.Pos, what string) int {
	p := m.fset.Position(at)
	m.changes = append(m.changes, fmt.Sprintf("%s:%d:%d: %s", p.Filename, p.Line, p.Column, what))
	return len(m.changes)
}

// wrap puts text before and after a node. The text after must stand before that of an outer node that ends at the same place.
func (m *mutated) wrap(n ast.Node, before, after string) {
	m.edits = append(m.edits, edit{m.fset.Position(n.Pos()).Offset, before})
	m.edits = slices.Insert(m.edits, 0, edit{m.fset.Position(n.End()).Offset, after})
}

func (m *mutated) negate(e ast.Expr, what string) {
	m.wrap(e, "((", fmt.Sprintf(") != mutateOn(%d))", m.change(e.Pos(), what)))
}

// condition turns round what is no comparison itself: a call, a variable, a negation.
func (m *mutated) condition(e ast.Expr) {
	if _, compared := e.(*ast.BinaryExpr); !compared {
		m.negate(e, "condition turned round")
	}
}

func (m *mutated) binary(n *ast.BinaryExpr, source []byte) {
	if tv := m.info.Types[n]; tv.Value != nil {
		return // A constant.
	}
	text := func(e ast.Expr) string {
		return string(source[m.fset.Position(e.Pos()).Offset:m.fset.Position(e.End()).Offset])
	}
	switch n.Op {
	case token.EQL, token.NEQ:
		m.negate(n, n.Op.String()+" turned round")
	case token.LSS, token.LEQ, token.GTR, token.GEQ:
		m.negate(n, n.Op.String()+" turned round")
		// The boundary moved: what the operands are when they are equal.
		m.wrap(n, "((", fmt.Sprintf(") != (mutateOn(%d) && %s == %s))", m.change(n.OpPos, n.Op.String()+" with its boundary moved"), text(n.X), text(n.Y)))
	case token.LAND, token.LOR:
		helper := map[token.Token]string{token.LAND: "mutateAnd", token.LOR: "mutateOr"}[n.Op]
		id := m.change(n.OpPos, n.Op.String()+" made the other")
		m.call(n, helper, id, "func() bool { return ")
	case token.ADD, token.SUB:
		if b, ok := m.info.Types[n].Type.Underlying().(*types.Basic); ok && b.Info()&types.IsInteger != 0 {
			helper := map[token.Token]string{token.ADD: "mutateSum", token.SUB: "mutateDifference"}[n.Op]
			m.call(n, helper, m.change(n.OpPos, n.Op.String()+" made the other"), "")
		}
	}
}

// call makes a binary expression a call of helper. lazy begins a function round the second operand.
func (m *mutated) call(n *ast.BinaryExpr, helper string, id int, lazy string) {
	closing := ")"
	if lazy != "" {
		closing = " })"
	}
	m.wrap(n, fmt.Sprintf("%s(%d, ", helper, id), closing)
	// The operator is commented out: an insertion before it and one after.
	op := m.fset.Position(n.OpPos).Offset
	m.edits = append(m.edits, edit{op, ", /*"}, edit{op + len(n.Op.String()), "*/ " + lazy})
}

// statements leaves one out at a time: assignments, calls, continue and break.
func (m *mutated) statements(list []ast.Stmt) {
	for _, s := range list {
		switch s := s.(type) {
		case *ast.AssignStmt:
			if s.Tok == token.DEFINE {
				continue
			}
		case *ast.IncDecStmt, *ast.ExprStmt, *ast.BranchStmt:
		default:
			continue
		}
		m.wrap(s, fmt.Sprintf("if !mutateOn(%d) { ", m.change(s.Pos(), "statement left out")), " }")
	}
}
