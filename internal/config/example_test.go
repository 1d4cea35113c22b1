package config

import (
	"bytes"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write docs/operate/carrel.yaml anew")

const (
	examplePath = "../../docs/operate/carrel.yaml"
	exampleDir  = "/var/lib/carrel"
)

// TestTheExampleIsTheStruct keeps docs/operate/carrel.yaml equal to the struct's fields, comments and defaults.
func TestTheExampleIsTheStruct(t *testing.T) {
	want := Config{State: State{Dir: exampleDir}}
	want.Complete()
	text := example(t, want)
	if *update {
		if err := os.WriteFile(examplePath, text, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(text), string(have)); diff != "" {
		t.Errorf("docs/operate/carrel.yaml is out of date (go test ./internal/config -update):\n%s", diff)
	}
	got, err := Load(examplePath)
	if err != nil {
		t.Fatal(err)
	}
	got.Complete()
	// An empty list and none mean the same.
	got.API.Names, got.Etcd.Endpoints, got.Host.Compute, got.Host.Resolvers = nil, nil, nil, nil
	if diff := cmp.Diff(&want, got); diff != "" {
		t.Errorf("the example is not the defaults:\n%s", diff)
	}
}

// example writes the configuration c as YAML, each field under its comment from config.go.
func example(t *testing.T, c Config) []byte {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "config.go", nil, parser.ParseComments)
	if err != nil {
		t.Fatal(err)
	}
	comments := map[string]string{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		for _, field := range spec.Type.(*ast.StructType).Fields.List {
			comments[spec.Name.Name+"."+field.Names[0].Name] = field.Doc.Text()
		}
		return false
	})
	var out bytes.Buffer
	out.WriteString("# Carrel's configuration with every field at its default: `carrel serve --config carrel.yaml`.\n" +
		"# Leave out what you do not change. Flags of `carrel serve` win over this file.\n" +
		"# Generated from internal/config/config.go: go test ./internal/config -update\n")
	write(t, &out, comments, reflect.ValueOf(c), "")
	return out.Bytes()
}

func write(t *testing.T, out *bytes.Buffer, comments map[string]string, v reflect.Value, indent string) {
	t.Helper()
	for i := range v.NumField() {
		field, value := v.Type().Field(i), v.Field(i)
		comment := comments[v.Type().Name()+"."+field.Name]
		if comment == "" {
			t.Errorf("%s.%s has no comment", v.Type().Name(), field.Name)
		}
		if value.Kind() != reflect.Struct && field.Name != "Names" && !strings.Contains(comment, "Default") {
			t.Errorf("the comment of %s.%s names no default", v.Type().Name(), field.Name)
		}
		if indent == "" {
			out.WriteString("\n")
		}
		for line := range strings.SplitSeq(strings.TrimSpace(comment), "\n") {
			fmt.Fprintf(out, "%s# %s\n", indent, line)
		}
		fmt.Fprintf(out, "%s%s:", indent, field.Tag.Get("yaml"))
		if value.Kind() == reflect.Struct {
			out.WriteString("\n")
			write(t, out, comments, value, indent+"  ")
			continue
		}
		fmt.Fprintf(out, " %s\n", scalar(value.Interface()))
	}
}

func scalar(v any) string {
	switch v := v.(type) {
	case string:
		return fmt.Sprintf("%q", v)
	case []string:
		return "[]"
	case *bool:
		return fmt.Sprint(*v)
	case time.Duration:
		return v.String()
	default:
		return fmt.Sprint(v)
	}
}
