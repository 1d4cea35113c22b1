package etcd

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime/debug"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"carrel/internal/clock"
	"carrel/internal/ident"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

func BenchmarkEmbedded(b *testing.B) {
	statetest.Bench(b, func(b *testing.B) state.Store {
		s, err := open(b, EmbeddedConfig{Dir: b.TempDir()})
		if err != nil {
			b.Fatal(err)
		}
		return s
	})
}

// BenchmarkStart opens and closes a store that exists.
func BenchmarkStart(b *testing.B) {
	dir := b.TempDir()
	for b.Loop() {
		s, err := open(b, EmbeddedConfig{Dir: dir})
		if err != nil {
			b.Fatal(err)
		}
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkResident reports the resident size of a process that holds a hundred thousand records of 1 KiB in the embedded
// server and, decoded, in a DB (P14).
func BenchmarkResident(b *testing.B) {
	const n = 100_000
	dir := b.TempDir()
	s, err := open(b, EmbeddedConfig{Dir: dir})
	if err != nil {
		b.Fatal(err)
	}
	var wg sync.WaitGroup
	for g := range 64 {
		wg.Go(func() {
			for i := g; i < n; i += 64 {
				if _, err := s.Transact(b.Context(), state.Txn{Puts: []state.Write{record(b, i)}}); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := s.Close(); err != nil {
		b.Fatal(err)
	}
	debug.FreeOSMemory()
	for b.Loop() {
		start := time.Now()
		s := mustOpen(b, EmbeddedConfig{Dir: dir})
		served := time.Since(start)
		db, err := state.Open(b.Context(), s, clock.System{})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(served.Seconds(), "s-to-serve")
		b.ReportMetric(time.Since(start).Seconds(), "s-to-read-all")
		b.ReportMetric(resident(b), "MiB-peak")
		debug.FreeOSMemory()
		b.ReportMetric(resident(b), "MiB")
		if state.Count(db.Snapshot(), state.Workspaces) != n {
			b.Fatal("not all there")
		}
		mustClose(b, s)
	}
}

// record is a WorkSpace's record of about 1 KiB.
func record(b *testing.B, n int) state.Write {
	w := &state.Workspace{ID: ident.WorkspaceID(fmt.Sprintf("ws-%09d", n))}
	w.Spec.DirectoryID, w.Spec.BundleID = "d-9067012345", "wsb-012345678"
	w.Spec.UserName = fmt.Sprintf("first.last%06d", n)
	w.Spec.UserSID = fmt.Sprintf("S-1-5-21-1004336348-1177238915-682003330-%06d", n)
	w.Status.State, w.Status.IPAddress = "AVAILABLE", fmt.Sprintf("10.0.%d.%d", n>>8&255, n&255)
	w.Status.Interface = ident.InterfaceID(fmt.Sprintf("eni-%017d", n))
	w.Status.ErrorMessage = strings.Repeat("x", 400)
	raw, err := json.Marshal(w)
	if err != nil {
		b.Error(err)
	}
	return state.Write{Key: state.Key{Table: state.WorkspaceTable, ID: string(w.ID)}, Value: raw}
}

func resident(b *testing.B) float64 {
	raw, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		b.Skip("no /proc")
	}
	pages, err := strconv.Atoi(strings.Fields(string(raw))[1])
	if err != nil {
		b.Fatal(err)
	}
	return float64(pages*os.Getpagesize()) / (1 << 20)
}
