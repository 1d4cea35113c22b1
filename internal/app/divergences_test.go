package app

import (
	"bytes"
	"flag"
	"os"
	"testing"

	"carrel/internal/api/shape"
	"carrel/internal/clock"
	"carrel/internal/config"
	"carrel/internal/driver/sim"
	"carrel/internal/tools/divergences"
)

var update = flag.Bool("update", false, "write docs/divergences.md")

// TestDivergencesDocument keeps docs/divergences.md what the bound handlers say it is: make generate writes it.
func TestDivergencesDocument(t *testing.T) {
	conf := &config.Config{Simulate: true}
	conf.Complete()
	clk := &clock.Movable{}
	s, err := sim.Open(sim.Config{Dir: t.TempDir(), Clock: clk, Random: random})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	table := (&house{conf: conf, clock: clk, sim: s}).handlers()
	var rows []divergences.Service
	for _, api := range APIs() {
		rows = append(rows, divergences.Of(api, func(op *shape.Operation) bool { return table[op] != nil }))
	}
	var b bytes.Buffer
	if err := divergences.Write(&b, rows); err != nil {
		t.Fatal(err)
	}
	const path = "../../docs/divergences.md"
	if *update {
		if err := os.WriteFile(path, b.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	have, err := os.ReadFile(path)
	if err != nil || !bytes.Equal(have, b.Bytes()) {
		t.Errorf("%s is not what the handlers say (%v): run make generate", path, err)
	}
}
