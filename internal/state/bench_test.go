package state_test

import (
	"context"
	"fmt"
	"runtime"
	"strings"
	"testing"
	"time"

	"carrel/internal/clock"
	"carrel/internal/ident"
	"carrel/internal/state"
	"carrel/internal/state/memory"
	"carrel/internal/state/statetest"
)

// desktop is a WorkSpace with everything filled in that one in use has.
func desktop(n int) *state.Workspace {
	w := &state.Workspace{ID: ident.WorkspaceID(fmt.Sprintf("ws-%09d", n))}
	w.Created = time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	w.Spec = state.WorkspaceSpec{
		DirectoryID: ident.DirectoryID(fmt.Sprintf("d-90670%05d", n%20)), UserName: fmt.Sprintf("first.last%06d", n),
		UserSID: fmt.Sprintf("S-1-5-21-1004336348-1177238915-682003330-%06d", n), BundleID: ident.BundleID(fmt.Sprintf("wsb-%09d", n%10)),
		RunningMode: "AUTO_STOP", AutoStopMinutes: 60, RootGiB: 80, UserGiB: 50, Compute: "STANDARD",
		OperatingSystem: "UBUNTU_22_04", Protocols: []string{"DCV"}, Power: state.PowerRunning,
	}
	w.Status = state.WorkspaceStatus{
		State: "AVAILABLE", Since: w.Created, IPAddress: fmt.Sprintf("10.0.%d.%d", n>>8&255, n&255), SubnetID: "subnet-0123456789abcdef0",
		Interface: ident.InterfaceID(fmt.Sprintf("eni-%017d", n)), ComputerName: fmt.Sprintf("WSAMZN-%08d", n), Host: "host-1",
		Connection: "DISCONNECTED", CheckedAt: w.Created, LastUserSeen: w.Created,
	}
	return w
}

// filled is a store with n desktops, put in transactions of a thousand.
func filled(b *testing.B, n int) (*memory.Store, *state.DB) {
	b.Helper()
	store := memory.New()
	db := statetest.OpenDB(b, store, clock.System{})
	for from := 0; from < n; from += 1000 {
		update(b, db, func(tx *state.Tx) {
			for i := from; i < min(from+1000, n); i++ {
				state.Put(tx, state.Workspaces, desktop(i))
			}
		})
	}
	return store, db
}

var sizes = []int{100, 100_000}

// BenchmarkMemory reports what one desktop's record costs in memory, its places in the indexes included (P14).
func BenchmarkMemory(b *testing.B) {
	const n = 100_000
	store, _ := filled(b, n)
	for b.Loop() {
		before := heap()
		db, err := state.Open(b.Context(), store, clock.System{})
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(heap()-before)/n, "bytes/record")
		runtime.KeepAlive(db)
	}
}

func heap() int64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func BenchmarkGet(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			_, db := filled(b, n)
			ids := make([]string, 1024)
			for i := range ids {
				ids[i] = fmt.Sprintf("ws-%09d", i*7919%n)
			}
			i := 0
			b.ReportAllocs()
			for b.Loop() {
				if _, ok := state.Get(db.Snapshot(), state.Workspaces, ids[i&1023]); !ok {
					b.Fatal("absent")
				}
				i++
			}
		})
	}
}

// BenchmarkPageBy reads pages of 25 desktops of a directory, from its beginning and from its middle in turn.
func BenchmarkPageBy(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			_, db := filled(b, n)
			afters := []string{"", fmt.Sprintf("ws-%09d", n/2)}
			i := 0
			for b.Loop() {
				directory := fmt.Sprintf("d-90670%05d", i%20)
				if recs, _ := state.PageBy(db.Snapshot(), state.Workspaces, state.WorkspacesByDirectory, directory, afters[i&1], 25); len(recs) == 0 {
					b.Fatal("empty page")
				}
				i++
			}
		})
	}
}

// BenchmarkPageInRoom reads the page that BenchmarkPageBy makes anew into memory that is used again, as DescribeWorkspaces does.
func BenchmarkPageInRoom(b *testing.B) {
	_, db := filled(b, 1000)
	room := state.NewRoom[state.Workspace](26)
	roomy := state.In(room, db.Snapshot())
	b.ReportAllocs()
	for b.Loop() {
		if recs, next := state.PageBy(roomy, state.Workspaces, state.WorkspacesByDirectory, "d-9067000003", "", 25); len(recs) != 25 || next == "" {
			b.Fatal("not a page")
		}
		room.Reset()
	}
}

func BenchmarkUpdate(b *testing.B) {
	for _, n := range sizes {
		for _, writers := range []int{1, 64} {
			b.Run(fmt.Sprintf("%d records, %d writers", n, writers), func(b *testing.B) {
				_, db := filled(b, n)
				statetest.Parallel(b, writers, func(ctx context.Context, i int) error {
					_, err := db.Update(ctx, func(tx *state.Tx) error {
						w, _ := state.Get(tx, state.Workspaces, fmt.Sprintf("ws-%09d", i%n))
						w = state.Clone(w)
						w.Spec.Reboots++
						state.Put(tx, state.Workspaces, w)
						return nil
					})
					return err
				})
			})
		}
	}
}

func BenchmarkClone(b *testing.B) {
	w := desktop(1)
	w.Tags = map[string]string{"team": "a", "cost": strings.Repeat("x", 10)}
	b.ReportAllocs()
	for b.Loop() {
		state.Clone(w)
	}
}
