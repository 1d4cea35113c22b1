package main

import (
	"bytes"
	"context"
	"encoding/json"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"carrel/internal/clock"
	"carrel/internal/ident"
	"carrel/internal/state"
	"carrel/internal/state/memory"
)

// freshBackup is a backup of a directory and a bundle.
func freshBackup(t *testing.T, dir *state.Directory, bundle *state.Bundle) string {
	t.Helper()
	var w writes
	w.put(state.DirectoryTable, string(dir.ID), dir)
	w.put(state.BundleTable, string(bundle.ID), bundle)
	store := memory.New()
	if _, err := store.Transact(t.Context(), state.Txn{Puts: w.puts}); err != nil || w.err != nil {
		t.Fatal(err, w.err)
	}
	var b bytes.Buffer
	if _, err := state.Backup(t.Context(), store, &b); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "base.jsonl")
	if err := os.WriteFile(file, b.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// opened is a DB over a restored backup.
func opened(t *testing.T, file string) *state.Snapshot {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	store := memory.New()
	if _, err := state.Restore(t.Context(), store, f); err != nil {
		t.Fatal(err)
	}
	db, err := state.Open(t.Context(), store, clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	return db.Snapshot()
}

func TestAFilledBackupHoldsWholeDesktops(t *testing.T) {
	const n = 1000
	dir := &state.Directory{ID: simulatedDirectory}
	bundle := &state.Bundle{ID: "wsb-bh8rsxt14", RootGiB: 80, UserGiB: 50, Compute: "STANDARD", Protocols: []string{"DCV"}}
	out := filepath.Join(t.TempDir(), "filled.jsonl")
	if err := fill(t.Context(), freshBackup(t, dir, bundle), out, n); err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(out); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the backup holds secrets and has mode %v (%v)", info.Mode(), err)
	}
	snap := opened(t, out)
	if have := state.Count(snap, state.Workspaces); have != n {
		t.Fatalf("%d desktops, not %d", have, n)
	}
	addresses := map[string]bool{}
	for i := range n {
		w, ok := state.Get(snap, state.Workspaces, string(desktopID(i)))
		if !ok {
			t.Fatalf("no desktop %d (%s)", i, desktopID(i))
		}
		if _, err := ident.ParseWorkspaceID(string(w.ID)); err != nil {
			t.Error(err)
		}
		nic, ok := state.Get(snap, state.Interfaces, state.InterfaceKey(w.Status.SubnetID, w.Status.IPAddress))
		if !ok || nic.ID != w.Status.Interface || nic.Address != w.Status.IPAddress || nic.SubnetID != w.Status.SubnetID || addresses[nic.Address] {
			t.Errorf("desktop %d has the interface %+v", i, nic)
		}
		addresses[nic.Address] = true
		if _, ok := state.Get(snap, state.Subnets, string(nic.SubnetID)); !ok {
			t.Errorf("there is no subnet %s", nic.SubnetID)
		}
		if have := state.CountBy(snap, state.Workspaces, state.WorkspacesByUser, state.UserKey(dir.ID, userName(i))); have != 1 {
			t.Errorf("%s has %d desktops", userName(i), have)
		}
	}
}

func TestDesktopIDsDoNotRepeatInALargeInstallation(t *testing.T) {
	seen := map[ident.WorkspaceID]bool{}
	for i := range large {
		seen[desktopID(i)] = true
	}
	if len(seen) != large {
		t.Errorf("%d ids for %d desktops", len(seen), large)
	}
}

func TestAMissedOrUnknownValueIsSaidToBeMissed(t *testing.T) {
	var out bytes.Buffer
	r := newReport(&out)
	r.atMost("P0", "within", 1, 1)
	r.atMost("P0", "beyond", 1.01, 1)
	r.atLeast("P0", "short", 49.9, 50)
	r.atMost("P0", "nothing measured", median(nil), 1)
	out.Reset()
	if missed := r.summary(); missed != 3 {
		t.Errorf("%d missed", missed)
	}
	for _, line := range []string{"met     P0   within", "MISSED  P0   beyond", "MISSED  P0   short", "MISSED  P0   nothing measured", "1 of 4 goals met"} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("no %q in\n%s", line, out.String())
		}
	}
	if _, err := json.Marshal(r); err != nil {
		t.Error(err)
	}
}

func TestARatioIsTheMedianOfThePairsAndNotOfTheMedians(t *testing.T) {
	s := newSamples()
	for _, pair := range [][2]float64{{1, 1}, {10, 2}, {30, 10}} {
		s.add("x", "a", pair[0])
		s.add("x", "b", pair[1])
	}
	if r := s.ratio("x", "a", "b"); r != 3 {
		t.Errorf("ratio %v", r)
	}
	if m := median([]float64{4, 1, 3, 2}); m != 2.5 {
		t.Errorf("median of four is %v", m)
	}
	if !math.IsNaN(s.ratio("x", "a", "absent")) {
		t.Error("a ratio to nothing is a number")
	}
}

func TestTheQuantileIsTheNearestRank(t *testing.T) {
	var r result
	for i := range 1000 {
		r.latency = append(r.latency, time.Duration(1000-i)*time.Millisecond)
	}
	if q := r.quantile(0.99); q != 991 {
		t.Errorf("p99 of 1..1000 ms is %v", q)
	}
}

func TestTheBenchmarksLinesAreRead(t *testing.T) {
	const text = "BenchmarkP4/naive-2 \t  1000\t   11571 ns/op\t  5000 B/op\t      85 allocs/op\nBenchmarkP4/right   \t 9\t 2628.5 ns/op\t 64 B/op\t 1 allocs/op\n"
	found := benchmarkLine.FindAllStringSubmatch(text, -1)
	if len(found) != 2 || !slices.Equal(found[0][1:], []string{"naive", "11571", "85"}) || !slices.Equal(found[1][1:], []string{"right", "2628.5", "1"}) {
		t.Errorf("%q", found)
	}
}

func TestUnknownPartsAndSubcommandsAreRefused(t *testing.T) {
	for _, args := range [][]string{nil, {"ran"}, {"run", "p2", "p99"}, {"run"}} {
		if err := command(context.Background(), args); err == nil {
			t.Errorf("%q was accepted", args)
		}
	}
}

func TestProcessTimeCountsThisProcessAndRefusesOneThatIsGone(t *testing.T) {
	begin, err := processTime(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	for end := begin; end-begin < 2*tick; {
		if end, err = processTime(os.Getpid()); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := processTime(1 << 30); err == nil {
		t.Error("a process that does not exist has a time")
	}
	if all, anonymous, err := resident(os.Getpid()); err != nil || all < anonymous || anonymous == 0 {
		t.Errorf("resident: %d KiB, %d anonymous, %v", all, anonymous, err)
	}
}

func TestABenchmarksFiguresAreReadJudgedAndKept(t *testing.T) {
	const text = `goos: linux
figure: {"figure":"p7","name":"template start / cold boot","unit":"x","samples":[0.2,0.09,0.1],"goal":0.1,"better":"<=","note":"three pairs"}
BenchmarkP7-2   	figure: {"figure":"p7","name":"MB/s","server":"websockify","samples":[100,300]}
figure: {"figure":"p7","name":"MB/s","samples":[1000,3000]}
figure: {"figure":"p7","name":"relay / websockify","samples":[1.5],"goal":2,"better":">="}
missing: sunshine: nobody has it
PASS
`
	found, missing, err := findings("p7", []byte(text))
	if err != nil || len(found) != 4 || !slices.Equal(missing, []string{"sunshine: nobody has it"}) {
		t.Fatalf("%+v, %q, %v", found, missing, err)
	}
	var out bytes.Buffer
	r := newReport(&out)
	r.findings(found)
	for _, line := range []string{"met     P7   template start / cold boot, x", "three pairs", "MISSED  P7   relay / websockify", "websockify   carrel", "200     2000"} {
		if !strings.Contains(out.String(), line) {
			t.Errorf("no %q in\n%s", line, out.String())
		}
	}
	if missed := r.summary(); missed != 1 || len(r.Measures) != 4 || r.Goals[0].Value != 0.1 || r.Goals[0].Figure != "P7" {
		t.Errorf("%d missed, %+v, %+v", missed, r.Measures, r.Goals)
	}
}

func TestABenchmarkThatSaysNothingOrSomethingElseIsAnError(t *testing.T) {
	for name, text := range map[string]string{
		"nothing":          "goos: linux\nBenchmarkP7-2 1 12345 ns/op\nPASS\n",
		"another figure":   `figure: {"figure":"p8","name":"x","samples":[1]}`,
		"no samples":       `figure: {"figure":"p7","name":"x","samples":[],"goal":1,"better":"<="}`,
		"no name":          `figure: {"figure":"p7","samples":[1]}`,
		"no side":          `figure: {"figure":"p7","name":"x","samples":[1],"goal":1}`,
		"an unknown side":  `figure: {"figure":"p7","name":"x","samples":[1],"goal":1,"better":"<"}`,
		"an unknown field": `figure: {"figure":"p7","name":"x","samples":[1],"gaol":1}`,
		"not a number":     `figure: {"figure":"p7","name":"x","samples":["NaN"]}`,
		"more than one":    `figure: {"figure":"p7","name":"x","samples":[1]} {}`,
		"cut short":        `figure: {"figure":"p7","name":"x"`,
	} {
		if found, _, err := findings("p7", []byte(text)); err == nil {
			t.Errorf("%s was taken: %+v", name, found)
		}
	}
}

func TestWhatAMachineLacksIsNamed(t *testing.T) {
	s := suite{root: true, programs: []string{"qemu-img", "samba"}}
	only := func(have string) func(string) (string, error) {
		return func(p string) (string, error) {
			if p == have {
				return "/usr/bin/" + p, nil
			}
			return "", os.ErrNotExist
		}
	}
	if l := s.lacks(1000, only("samba")); l != "root, qemu-img" {
		t.Errorf("lacks %q", l)
	}
	s.programs = s.programs[:1]
	if l := s.lacks(0, only("qemu-img")); l != "" {
		t.Errorf("lacks %q", l)
	}
}
