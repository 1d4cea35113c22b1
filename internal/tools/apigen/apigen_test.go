package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRegeneratingChangesNoByte(t *testing.T) {
	const root = "../../.."
	files, err := generateAll(".")
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range sortedKeys(files) {
		committed, err := os.ReadFile(filepath.Join(root, path))
		if err != nil {
			t.Error(err)
		} else if !bytes.Equal(committed, files[path]) {
			t.Errorf("%s differs from what the generator writes: run go run ./internal/tools/apigen", path)
		}
	}
	t.Run("and no generated package holds a file of unknown origin", func(t *testing.T) {
		for _, s := range services {
			have, err := filepath.Glob(filepath.Join(root, "internal", "api", s.pkg, "*.go"))
			if err != nil {
				t.Fatal(err)
			}
			for _, f := range have {
				path, _ := filepath.Rel(root, f)
				if _, ok := files[path]; !ok && !strings.HasSuffix(f, "_test.go") {
					t.Errorf("%s is not generated", path)
				}
			}
		}
	})
}

func TestModelsHoldExactlyTheWantedOperations(t *testing.T) {
	counts := map[string]int{"workspaces": 91, "ds": 73, "ds-data": 17, "sts": 11, "iam": 129, "ec2": 124, "cloudtrail": 8}
	for _, s := range services {
		t.Run(s.name, func(t *testing.T) {
			wanted, err := readWanted(".", s.name)
			if err != nil {
				t.Fatal(err)
			}
			m, err := loadModel(filepath.Join("models", s.name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			if got := strings.Join(sortedKeys(m.Operations), " "); got != strings.Join(wanted, " ") {
				t.Errorf("the model holds %s", got)
			}
			if len(wanted) != counts[s.name] {
				t.Errorf("%d operations are wanted, not %d", len(wanted), counts[s.name])
			}
		})
	}
}

func TestAReducedModelReducesToItself(t *testing.T) {
	for _, s := range services {
		t.Run(s.name, func(t *testing.T) {
			raw, err := os.ReadFile(filepath.Join("models", s.name+".json"))
			if err != nil {
				t.Fatal(err)
			}
			wanted, err := readWanted(".", s.name)
			if err != nil {
				t.Fatal(err)
			}
			again, _, err := reduce(raw, wanted)
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(raw, again) {
				t.Error("reducing it again changes it")
			}
		})
	}
}

// tiny has what the seven models lack: a recursive shape, clashing names, a member called documentation.
const tiny = `{"version":"2.0","metadata":{"protocol":"json","apiVersion":"1","endpointPrefix":"tiny","serviceId":"Tiny"},
"documentation":"prose",
"operations":{
 "Grow":{"name":"Grow","documentation":"prose","http":{"method":"POST","requestUri":"/"},"input":{"shape":"Tree","documentation":"prose"},"output":{"shape":"Tree"}},
 "Other":{"name":"Other","http":{"method":"POST","requestUri":"/"},"input":{"shape":"Unwanted"}}},
"shapes":{
 "Tree":{"type":"structure","documentation":"prose","members":{"documentation":{"shape":"Text","documentation":"prose"},
   "kids":{"shape":"Trees"},"Kids":{"shape":"Text"},"named":{"shape":"Named"},"colour":{"shape":"Colour"}}},
 "Trees":{"type":"list","member":{"shape":"Tree"}},
 "Named":{"type":"map","key":{"shape":"Text"},"value":{"shape":"Tree"}},
 "Colour":{"type":"string","enum":["dark-red","DARK_RED","GrowInput","!"]},
 "ColourDarkRed":{"type":"string","enum":["x"]},
 "Text":{"type":"string","max":2.0E3},
 "Unwanted":{"type":"structure","members":{}}}}`

func tinyModel(t *testing.T, change func(string) string) (*model, error) {
	t.Helper()
	out, _, err := reduce([]byte(change(tiny)), []string{"Grow"})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "tiny.json")
	if err := os.WriteFile(path, out, 0o600); err != nil {
		t.Fatal(err)
	}
	return loadModel(path)
}

func TestReducingDropsProseAndTheUnwanted(t *testing.T) {
	m, err := tinyModel(t, func(s string) string { return s })
	if err != nil {
		t.Fatal(err)
	}
	if _, ok := m.Shapes["Tree"].Members["documentation"]; !ok {
		t.Error("a member that is called documentation is gone")
	}
	if got := strings.Join(sortedKeys(m.Shapes), " "); got != "Colour Named Text Tree Trees" {
		t.Errorf("kept shapes: %s", got)
	}
	if data, _ := json.Marshal(m); bytes.Contains(data, []byte("prose")) {
		t.Error("prose is left")
	}
}

func TestSecretsThatTheModelDoesNotKnow(t *testing.T) {
	m, err := tinyModel(t, func(s string) string { return s })
	if err != nil {
		t.Fatal(err)
	}
	if err := m.conceal([]string{"Text"}); err != nil || !m.Shapes["Text"].Sensitive {
		t.Errorf("%v, %+v", err, m.Shapes["Text"])
	}
	if err := m.conceal([]string{"Renamed"}); err == nil {
		t.Error("a shape that there is not was concealed")
	}
}

func TestOddModelsAreCarriedOver(t *testing.T) {
	m, err := tinyModel(t, func(s string) string { return s })
	if err != nil {
		t.Fatal(err)
	}
	g, err := newGenerator(serviceDef{"tiny", "tiny"}, m, 2)
	if err != nil {
		t.Fatal(err)
	}
	read := func(write func()) string {
		out, err := g.file(write)
		if err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(string(out)), " ")
	}
	types, shapes := read(g.writeTypes), read(g.writeShapes)
	for _, c := range []struct{ name, in, want string }{
		{"members that clash in Go get a number", types, "Kids *string Colour *Colour Documentation *string Kids2 []Tree"},
		{"the input has its own type beside the recursive one", types, "type GrowInput struct {"},
		{"maps hold values", types, "Named map[string]Tree"},
		{"constants that clash get a number", types, `ColourDarkRed Colour = "dark-red" ColourDarkRed2 Colour = "DARK_RED"`},
		{"a value of punctuation alone has a name", types, `ColourEmpty Colour = "!"`},
		{"cycles are closed in init", shapes, "func init() {"},
		{"bounds in exponent form are read", shapes, "Max: 2000, HasMax: true"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if !strings.Contains(c.in, c.want) {
				t.Errorf("no %q in\n%s", c.want, c.in)
			}
		})
	}
}

func TestModelsThatCannotBeCarriedOverAreRefused(t *testing.T) {
	for _, c := range []struct{ name, old, new string }{
		{"an unknown trait", `"max":2.0E3`, `"streaming":true`},
		{"an unknown type", `"type":"string","max":2.0E3`, `"type":"document"`},
		{"an unknown place", `"kids":{"shape":"Trees"`, `"kids":{"location":"headers","shape":"Trees"`},
		{"an unknown protocol", `"protocol":"json"`, `"protocol":"smithy-rpc-v2-cbor"`},
		{"a pattern without translation", `"max":2.0E3`, `"pattern":"(?<=a)b"`},
		{"a bound that is no integer", `"max":2.0E3`, `"max":2.5`},
		{"an answer other than 200", `"name":"Grow","documentation":"prose","http":{`, `"name":"Grow","http":{"responseCode":202,`},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := tinyModel(t, func(s string) string {
				out := strings.Replace(s, c.old, c.new, 1)
				if out == s {
					t.Fatal("the change does not apply")
				}
				return out
			})
			if err != nil {
				return
			}
			g, err := newGenerator(serviceDef{"tiny", "tiny"}, m, 2)
			for _, write := range []func(){func() { g.writeTypes() }, func() { g.writeShapes() }, func() { g.writeOps() }} {
				if err == nil {
					_, err = g.file(write)
				}
			}
			if err == nil {
				t.Error("it was generated")
			}
		})
	}
}
