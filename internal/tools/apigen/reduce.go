package main

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
)

// importModels reads botocore's models below data and writes the reduced ones into dir/models.
func importModels(data, dir string) error {
	totals := map[string]int{}
	for _, s := range services {
		wanted, err := readWanted(dir, s.name)
		if err != nil {
			return err
		}
		raw, err := readBotocore(data, s.name)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		out, total, err := reduce(raw, wanted)
		if err != nil {
			return fmt.Errorf("%s: %w", s.name, err)
		}
		if err := os.WriteFile(filepath.Join(dir, "models", s.name+".json"), out, 0o644); err != nil {
			return err
		}
		totals[s.name] = total
	}
	out, err := json.MarshalIndent(totals, "", " ")
	if err != nil {
		return err
	}
	return os.WriteFile(totalsFile(dir), append(out, '\n'), 0o644)
}

// totalsFile is where the numbers of operations of the full models are kept, which the reduced ones no longer tell.
func totalsFile(dir string) string { return filepath.Join(dir, "models", "totals.json") }

// readTotals gives the number of operations of each service's full model.
func readTotals(dir string) (map[string]int, error) {
	data, err := os.ReadFile(totalsFile(dir))
	if err != nil {
		return nil, err
	}
	totals := map[string]int{}
	return totals, json.Unmarshal(data, &totals)
}

// readWanted reads the committed list of operations of a service: one name a line, sorted.
func readWanted(dir, service string) ([]string, error) {
	data, err := os.ReadFile(filepath.Join(dir, "wanted", service+".txt"))
	if err != nil {
		return nil, err
	}
	names := strings.Fields(string(data))
	if !sort.StringsAreSorted(names) {
		return nil, fmt.Errorf("wanted/%s.txt is not sorted", service)
	}
	return names, nil
}

// readBotocore gives the service-2.json of the newest API version, unpacked where it is compressed.
func readBotocore(data, service string) ([]byte, error) {
	versions, err := filepath.Glob(filepath.Join(data, service, "[0-9]*"))
	if err != nil {
		return nil, err
	}
	if len(versions) == 0 {
		return nil, errors.New("no API version below " + filepath.Join(data, service))
	}
	sort.Strings(versions)
	newest := versions[len(versions)-1]
	plain, err := os.ReadFile(filepath.Join(newest, "service-2.json"))
	if !errors.Is(err, fs.ErrNotExist) {
		return plain, err
	}
	packed, err := os.ReadFile(filepath.Join(newest, "service-2.json.gz"))
	if err != nil {
		return nil, err
	}
	z, err := gzip.NewReader(bytes.NewReader(packed))
	if err != nil {
		return nil, err
	}
	return io.ReadAll(z)
}

// object is a JSON object whose numbers keep their spelling.
type object = map[string]any

// reduce keeps the wanted operations and the shapes they reach, without documentation. It also gives the number of operations
// that the model had.
func reduce(raw []byte, wanted []string) ([]byte, int, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var in object
	if err := d.Decode(&in); err != nil {
		return nil, 0, err
	}
	allOps, _ := in["operations"].(object)
	allShapes, _ := in["shapes"].(object)
	ops, shapes := object{}, object{}
	for _, name := range wanted {
		op, ok := allOps[name].(object)
		if !ok {
			return nil, 0, fmt.Errorf("the model has no operation %s", name)
		}
		strip(op)
		ops[name] = op
		for _, r := range operationRefs(op) {
			if err := reach(r, allShapes, shapes); err != nil {
				return nil, 0, err
			}
		}
	}
	var buf bytes.Buffer
	e := json.NewEncoder(&buf)
	e.SetEscapeHTML(false)
	e.SetIndent("", " ")
	err := e.Encode(object{"version": in["version"], "metadata": in["metadata"], "operations": ops, "shapes": shapes})
	return buf.Bytes(), len(allOps), err
}

// operationRefs lists the references to shapes that an operation holds, stripped.
func operationRefs(op object) []object {
	var refs []object
	for _, key := range []string{"input", "output"} {
		if r, ok := op[key].(object); ok {
			refs = append(refs, strip(r))
		}
	}
	list, _ := op["errors"].([]any)
	for _, e := range list {
		if r, ok := e.(object); ok {
			refs = append(refs, strip(r))
		}
	}
	return refs
}

// reach copies the shape that r names, and all it refers to, from all to kept.
func reach(r object, all, kept object) error {
	name, _ := r["shape"].(string)
	if _, done := kept[name]; done {
		return nil
	}
	s, ok := all[name].(object)
	if !ok {
		return fmt.Errorf("the model has no shape %q", name)
	}
	kept[name] = strip(s)
	var refs []object
	members, _ := s["members"].(object)
	for _, m := range members {
		if ref, ok := m.(object); ok {
			refs = append(refs, ref)
		}
	}
	for _, key := range []string{"member", "key", "value"} {
		if ref, ok := s[key].(object); ok {
			refs = append(refs, ref)
		}
	}
	for _, ref := range refs {
		if err := reach(strip(ref), all, kept); err != nil {
			return err
		}
	}
	return nil
}

// strip removes what is prose. It is only used on operations, shapes and references, never on a "members" object, where a
// key of the same name would be a member.
func strip(o object) object {
	for _, key := range []string{"documentation", "documentationUrl", "deprecatedMessage", "deprecatedSince"} {
		delete(o, key)
	}
	return o
}
