// Command apigen writes the packages below internal/api out of AWS service models.
//
//	go run ./internal/tools/apigen                            writes internal/api/<package>/*_gen.go
//	go run ./internal/tools/apigen -import <botocore data>    makes models/<service>.json out of botocore's service-2.json
//
// It holds the lists of wanted operations and the reduced models, and refuses a model with a trait, shape or pattern that it
// cannot carry over completely.
package main

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
)

// serviceDef says which service goes into which package.
type serviceDef struct{ name, pkg string }

var services = [...]serviceDef{
	{"workspaces", "workspaces"},
	{"ds", "ds"},
	{"ds-data", "dsdata"},
	{"sts", "sts"},
	{"iam", "iam"},
	{"ec2", "ec2"},
	{"cloudtrail", "cloudtrail"},
}

// secrets are the shapes that must not be shown in records of calls though the model does not call them sensitive: who has a session token and
// reads the rest of its credentials elsewhere, or a code that was refused and may be right again, has what they should not.
var secrets = map[string][]string{
	"sts": {"tokenType", "tokenCodeType"},
}

func main() {
	data := flag.String("import", "", "botocore's data `directory`: refresh the reduced models instead of generating")
	root := flag.String("root", ".", "the module's root `directory`")
	flag.Parse()
	if err := run(*root, *data); err != nil {
		fmt.Fprintln(os.Stderr, "apigen:", err)
		os.Exit(1)
	}
}

func run(root, data string) error {
	dir := filepath.Join(root, "internal", "tools", "apigen")
	if data != "" {
		return importModels(data, dir)
	}
	files, err := generateAll(dir)
	if err != nil {
		return err
	}
	for _, path := range sortedKeys(files) {
		full := filepath.Join(root, path)
		if err := os.MkdirAll(filepath.Dir(full), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(full, files[path], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// generateAll makes every generated file from the models below dir, keyed by its path from the module's root.
func generateAll(dir string) (map[string][]byte, error) {
	files := map[string][]byte{}
	totals, err := readTotals(dir)
	if err != nil {
		return nil, err
	}
	for _, s := range services {
		m, err := loadModel(filepath.Join(dir, "models", s.name+".json"))
		if err != nil {
			return nil, err
		}
		if err := m.conceal(secrets[s.name]); err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		g, err := newGenerator(s, m, totals[s.name])
		if err != nil {
			return nil, fmt.Errorf("%s: %w", s.name, err)
		}
		for name, write := range map[string]func(){
			"doc.go": g.writeDoc, "types_gen.go": g.writeTypes, "shapes_gen.go": g.writeShapes, "ops_gen.go": g.writeOps,
		} {
			out, err := g.file(write)
			if err != nil {
				return nil, fmt.Errorf("%s/%s: %w", s.pkg, name, err)
			}
			files[filepath.Join("internal", "api", s.pkg, name)] = out
		}
	}
	return files, nil
}
