package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"carrel/internal/clock"
	"carrel/internal/ident"
	"carrel/internal/state"
	"carrel/internal/state/memory"
	"carrel/internal/state/statetest"
)

func update(t testing.TB, db *state.DB, fn func(*state.Tx)) state.Revision {
	t.Helper()
	rev, err := db.Update(t.Context(), func(tx *state.Tx) error { fn(tx); return nil })
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func workspace(n int, directory, bundle string) *state.Workspace {
	w := &state.Workspace{ID: ident.WorkspaceID(fmt.Sprintf("ws-%09d", n))}
	w.Created = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	w.Spec.DirectoryID, w.Spec.BundleID = ident.DirectoryID(directory), ident.BundleID(bundle)
	w.Spec.UserName = fmt.Sprintf("User%d", n)
	return w
}

func ids(ws []*state.Workspace) []string {
	var out []string
	for _, w := range ws {
		out = append(out, strings.TrimLeft(string(w.ID), "ws-0"))
	}
	return out
}

func TestPagesWalkATableAndItsIndexes(t *testing.T) {
	db := statetest.NewDB(t)
	update(t, db, func(tx *state.Tx) {
		for n := 1; n <= 7; n++ {
			state.Put(tx, state.Workspaces, workspace(n, []string{"d-even", "d-odd"}[n%2], "wsb-1"))
		}
	})
	snap := db.Snapshot()
	walk := func(page func(after string) ([]*state.Workspace, string)) (pages []string) {
		for after := ""; ; {
			recs, next := page(after)
			pages = append(pages, strings.Join(ids(recs), " "))
			if next == "" {
				return pages
			}
			after = next
		}
	}
	for _, c := range []struct {
		name string
		page func(after string) ([]*state.Workspace, string)
		want []string
	}{
		{"the table by three", func(a string) ([]*state.Workspace, string) { return state.Page(snap, state.Workspaces, a, 3) }, []string{"1 2 3", "4 5 6", "7"}},
		{"the table by seven has no second page", func(a string) ([]*state.Workspace, string) { return state.Page(snap, state.Workspaces, a, 7) }, []string{"1 2 3 4 5 6 7"}},
		{"a limit of zero gives nothing", func(a string) ([]*state.Workspace, string) { return state.Page(snap, state.Workspaces, a, 0) }, []string{""}},
		{"the odd ones by two", func(a string) ([]*state.Workspace, string) {
			return state.PageBy(snap, state.Workspaces, state.WorkspacesByDirectory, "d-odd", a, 2)
		}, []string{"1 3", "5 7"}},
		{"a key nobody has", func(a string) ([]*state.Workspace, string) {
			return state.PageBy(snap, state.Workspaces, state.WorkspacesByDirectory, "d-", a, 2)
		}, []string{""}},
		{"one user, whatever the case", func(a string) ([]*state.Workspace, string) {
			return state.PageBy(snap, state.Workspaces, state.WorkspacesByUser, state.UserKey("d-odd", "uSER5"), a, 2)
		}, []string{"5"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if d := cmp.Diff(c.want, walk(c.page)); d != "" {
				t.Errorf("-want +got\n%s", d)
			}
		})
	}
	if n := state.Count(snap, state.Workspaces); n != 7 {
		t.Errorf("Count: %d", n)
	}
	if n := state.CountBy(snap, state.Workspaces, state.WorkspacesByDirectory, "d-even"); n != 3 {
		t.Errorf("CountBy: %d", n)
	}
	if got := ids(slices.Collect(state.All(snap, state.Workspaces))); len(got) != 7 || got[6] != "7" {
		t.Errorf("All: %v", got)
	}
	for w := range state.AllBy(snap, state.Workspaces, state.WorkspacesByBundle, "wsb-1") {
		if got := ids([]*state.Workspace{w}); got[0] != "1" {
			t.Errorf("AllBy begins with %v", got)
		}
		break
	}
}

func TestIndexesFollowChanges(t *testing.T) {
	db := statetest.NewDB(t)
	in := func(s *state.Snapshot, d string) int {
		return state.CountBy(s, state.Workspaces, state.WorkspacesByDirectory, d)
	}
	update(t, db, func(tx *state.Tx) {
		for n := range 200 {
			state.Put(tx, state.Workspaces, workspace(n, "d-1", "wsb-1"))
		}
	})
	before := db.Snapshot()
	update(t, db, func(tx *state.Tx) {
		for n := range 50 {
			w, _ := state.Get(tx, state.Workspaces, fmt.Sprintf("ws-%09d", n))
			w = state.Clone(w)
			w.Spec.DirectoryID = "d-2"
			state.Put(tx, state.Workspaces, w)
		}
		for n := 50; n < 60; n++ {
			state.Delete(tx, state.Workspaces, fmt.Sprintf("ws-%09d", n))
		}
	})
	after := db.Snapshot()
	if a, b := in(after, "d-1"), in(after, "d-2"); a != 140 || b != 50 || state.Count(after, state.Workspaces) != 190 {
		t.Errorf("after the change %d and %d", a, b)
	}
	if a, b := in(before, "d-1"), in(before, "d-2"); a != 200 || b != 0 || state.Count(before, state.Workspaces) != 200 {
		t.Errorf("the old snapshot has changed: %d and %d", a, b)
	}
}

func TestTransactions(t *testing.T) {
	errStop := errors.New("stop")
	t.Run("an error of fn is returned as it is and nothing is written", func(t *testing.T) {
		db := statetest.NewDB(t)
		_, err := db.Update(t.Context(), func(tx *state.Tx) error {
			state.Put(tx, state.Workspaces, workspace(1, "d-1", "wsb-1"))
			return errStop
		})
		if err != errStop || state.Count(db.Snapshot(), state.Workspaces) != 0 {
			t.Errorf("Update: %v", err)
		}
	})
	t.Run("a transaction sees its own puts and deletes", func(t *testing.T) {
		db := statetest.NewDB(t)
		update(t, db, func(tx *state.Tx) {
			w := workspace(1, "d-1", "wsb-1")
			if _, ok := state.Get(tx, state.Workspaces, string(w.ID)); ok {
				t.Error("there before it was put")
			}
			state.Put(tx, state.Workspaces, w)
			if got, ok := state.Get(tx, state.Workspaces, string(w.ID)); !ok || got != w {
				t.Error("not there after it was put")
			}
			state.Delete(tx, state.Workspaces, string(w.ID))
			if _, ok := state.Get(tx, state.Workspaces, string(w.ID)); ok {
				t.Error("there after it was deleted")
			}
		})
		if n := state.Count(db.Snapshot(), state.Workspaces); n != 0 {
			t.Errorf("%d records", n)
		}
	})
	for _, c := range []struct {
		name string
		fn   func(*state.Tx)
		says string
	}{
		{"a record without an id is refused", func(tx *state.Tx) { state.Put(tx, state.Workspaces, &state.Workspace{}) }, "without an id"},
		{"a shared record is not put back", func(tx *state.Tx) {
			b, _ := state.Get(tx, state.Bundles, "wsb-1")
			state.Put(tx, state.Bundles, b)
		}, "without a Clone"},
	} {
		t.Run(c.name, func(t *testing.T) {
			db := statetest.NewDB(t)
			update(t, db, func(tx *state.Tx) { state.Put(tx, state.Bundles, &state.Bundle{ID: "wsb-1"}) })
			_, err := db.Update(t.Context(), func(tx *state.Tx) error { c.fn(tx); return nil })
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("Update: %v, want %q", err, c.says)
			}
		})
	}
	t.Run("one time holds throughout a transaction", func(t *testing.T) {
		clk := &clock.Movable{}
		db := statetest.OpenDB(t, memory.New(), clk)
		update(t, db, func(tx *state.Tx) {
			first := tx.Now()
			clk.Advance(time.Hour)
			if !tx.Now().Equal(first) || first.Location() != time.UTC {
				t.Errorf("%v, then %v", first, tx.Now())
			}
		})
	})
	t.Run("a panic of fn leaves the DB usable", func(t *testing.T) {
		db := statetest.NewDB(t)
		for range 3 {
			func() {
				defer func() { _ = recover() }() // the panic below
				_, _ = db.Update(t.Context(), func(*state.Tx) error { panic("fn") })
			}()
		}
		update(t, db, func(tx *state.Tx) { state.Put(tx, state.Workspaces, workspace(1, "d-1", "wsb-1")) })
	})
}

// interfere commits what another process could have, in the middle of fn's first run.
func interfere(t *testing.T, store state.Store, table state.Table, id string) func() {
	return sync.OnceFunc(func() {
		raw := []byte(fmt.Sprintf(`{"Created":"2026-01-02T03:04:05Z","ID":%q,"CIDR":"10.9.0.0/16","Default":false,"DNSNames":false,"DNSLookup":false}`, id))
		if _, err := store.Transact(context.Background(), state.Txn{Puts: []state.Write{{Key: state.Key{Table: table, ID: id}, Value: raw}}}); err != nil {
			t.Error(err)
		}
	})
}

func TestConflictsMakeFnRunAgain(t *testing.T) {
	put := func(tx *state.Tx) { state.Put(tx, state.VPCs, &state.VPC{ID: "vpc-mine"}) }
	for _, c := range []struct {
		name string
		fn   func(*state.Tx)
		runs int
	}{
		{"when a record it read has changed", func(tx *state.Tx) { state.Get(tx, state.VPCs, "vpc-theirs"); put(tx) }, 2},
		{"when a record it writes has changed", func(tx *state.Tx) { state.Put(tx, state.VPCs, &state.VPC{ID: "vpc-theirs"}) }, 2},
		{"when a record it deletes has appeared", func(tx *state.Tx) { state.Delete(tx, state.VPCs, "vpc-theirs"); put(tx) }, 2},
		{"when something it guards was written", func(tx *state.Tx) { tx.Guard(state.VPCTable, ""); put(tx) }, 2},
		{"when it only reads", func(tx *state.Tx) { state.Get(tx, state.VPCs, "vpc-theirs") }, 2},
		{"but not for what it has nothing to do with", func(tx *state.Tx) { tx.Guard(state.SubnetTable, ""); put(tx) }, 1},
		{"but not for what it read from the snapshot", func(tx *state.Tx) { state.Get(tx.Snapshot(), state.VPCs, "vpc-theirs"); put(tx) }, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { // the pause after a conflict ends once the view shows it, however busy the machine is
				store := memory.New()
				db := statetest.OpenDB(t, store, clock.System{})
				theirs := interfere(t, store, state.VPCTable, "vpc-theirs")
				runs := 0
				update(t, db, func(tx *state.Tx) { runs++; theirs(); c.fn(tx) })
				if runs != c.runs {
					t.Errorf("fn ran %d times, want %d", runs, c.runs)
				}
			})
		})
	}
	t.Run("until it has lost twenty times", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store := memory.New()
			db := statetest.OpenDB(t, store, clock.System{})
			runs := 0
			_, err := db.Update(t.Context(), func(tx *state.Tx) error {
				runs++
				interfere(t, store, state.VPCTable, "vpc-theirs")()
				state.Put(tx, state.VPCs, &state.VPC{ID: "vpc-theirs"})
				return nil
			})
			if !errors.Is(err, state.ErrConflict) || runs != 20 {
				t.Errorf("Update: %v after %d runs", err, runs)
			}
		})
	})
	t.Run("and no increment of sixteen goroutines is lost", func(t *testing.T) {
		db := statetest.NewDB(t)
		const workers, each = 16, 50
		var wg sync.WaitGroup
		for range workers {
			wg.Go(func() {
				for range each {
					_, err := db.Update(t.Context(), func(tx *state.Tx) error {
						w, ok := state.Get(tx, state.Workspaces, "ws-000000001")
						if !ok {
							w = workspace(1, "d-1", "wsb-1")
						}
						w = state.Clone(w)
						w.Spec.Reboots++
						state.Put(tx, state.Workspaces, w)
						return nil
					})
					if err != nil {
						t.Errorf("Update: %v", err)
						return
					}
				}
			})
		}
		wg.Wait()
		if w, _ := state.Get(db.Snapshot(), state.Workspaces, "ws-000000001"); w.Spec.Reboots != workers*each {
			t.Errorf("counted %d, want %d", w.Spec.Reboots, workers*each)
		}
	})
}

func TestClaims(t *testing.T) {
	db := statetest.NewDB(t)
	claim := func(name, owner string) error {
		_, err := db.Update(t.Context(), func(tx *state.Tx) error { return tx.Claim(name, owner) })
		return err
	}
	if err := claim("user/ada", "ws-1"); err != nil {
		t.Fatal(err)
	}
	if err := claim("user/ada", "ws-1"); err != nil {
		t.Errorf("claiming again: %v", err)
	}
	err := claim("user/ada", "ws-2")
	var taken *state.ClaimedError
	if !errors.Is(err, state.ErrClaimed) || !errors.As(err, &taken) || taken.Owner != "ws-1" {
		t.Errorf("claiming what is taken: %v", err)
	}
	if owner, ok := state.Owner(db.Snapshot(), "user/ada"); !ok || owner != "ws-1" {
		t.Errorf("Owner: %q, %v", owner, ok)
	}
	update(t, db, func(tx *state.Tx) { tx.Release("user/ada") })
	if err := claim("user/ada", "ws-2"); err != nil {
		t.Errorf("after the release: %v", err)
	}
	t.Run("of sixteen at once one gets the name", func(t *testing.T) {
		var wg sync.WaitGroup
		won := make(chan string, 16)
		for i := range 16 {
			wg.Go(func() {
				switch err := claim("contested", fmt.Sprint(i)); {
				case err == nil:
					won <- fmt.Sprint(i)
				case !errors.Is(err, state.ErrClaimed):
					t.Errorf("Claim: %v", err)
				}
			})
		}
		wg.Wait()
		if owner, _ := state.Owner(db.Snapshot(), "contested"); len(won) != 1 || owner != <-won {
			t.Errorf("owner %s, %d more winners", owner, len(won))
		}
	})
}

func TestCloneSharesNothing(t *testing.T) {
	a := &state.Directory{ID: "d-1", Registration: &state.Registration{SelfService: map[string]string{"a": "b"}, IPGroupIDs: []ident.IPGroupID{"wsipg-1"}}}
	a.Tags = map[string]string{"k": "v"}
	a.Spec.SubnetIDs = []ident.SubnetID{"subnet-1"}
	a.Created = time.Now()
	b := state.Clone(a)
	if d := cmp.Diff(a, b); d != "" {
		t.Fatalf("not a copy:\n%s", d)
	}
	b.Tags["k"], b.Registration.SelfService["a"], b.Registration.Code = "x", "x", "x"
	b.Registration.IPGroupIDs[0], b.Spec.SubnetIDs[0] = "x", "x"
	if a.Tags["k"] != "v" || a.Registration.SelfService["a"] != "b" || a.Registration.Code != "" ||
		a.Registration.IPGroupIDs[0] != "wsipg-1" || a.Spec.SubnetIDs[0] != "subnet-1" {
		t.Errorf("the original has changed: %+v", a)
	}
}

func TestCheckSharedNamesARecordChangedInPlace(t *testing.T) {
	store := memory.New()
	db, stop := running(t, store)
	defer stop()
	update(t, db, func(tx *state.Tx) {
		state.Put(tx, state.Workspaces, workspace(1, "d-1", "wsb-1"))
		state.Put(tx, state.Bundles, &state.Bundle{ID: "wsb-1"})
	})
	if err := db.CheckShared(t.Context()); err != nil {
		t.Fatal(err)
	}
	w, _ := state.Get(db.Snapshot(), state.Workspaces, "ws-000000001")
	w.Spec.UserName = "changed in a copy"
	if err := db.CheckShared(t.Context()); err != nil {
		t.Errorf("a packed record was changed: %v", err)
	}
	b, _ := state.Get(db.Snapshot(), state.Bundles, "wsb-1")
	b.Name = "changed in place"
	if err := db.CheckShared(t.Context()); err == nil || !strings.Contains(err.Error(), "wsb-1") {
		t.Errorf("CheckShared: %v", err)
	}
}

// running is a DB without statetest's check at the end. stop may be called more than once.
func running(t *testing.T, store state.Store, opts ...state.Option) (*state.DB, func()) {
	t.Helper()
	db, err := state.Open(t.Context(), store, clock.System{}, opts...)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := db.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	return db, func() { cancel(); wg.Wait() }
}

func commit(t *testing.T, store state.Store, txn state.Txn) state.Revision {
	t.Helper()
	rev, err := store.Transact(t.Context(), txn)
	if err != nil {
		t.Fatal(err)
	}
	return rev
}

func value(table state.Table, id, json string) state.Txn {
	return state.Txn{Puts: []state.Write{{Key: state.Key{Table: table, ID: id}, Value: []byte(json)}}}
}

const goodVPC = `{"Created":"2026-01-02T03:04:05Z","ID":"vpc-1","CIDR":"10.0.0.0/16","Default":false,"DNSNames":false,"DNSLookup":false}`

// corrupt are values no version of carrel has written.
var corrupt = []struct {
	name  string
	table state.Table
	id    string
	json  string
}{
	{"cut off", state.VPCTable, "vpc-1", goodVPC[:40]},
	{"empty", state.VPCTable, "vpc-1", ""},
	{"not JSON", state.VPCTable, "vpc-1", "\x00\xff"},
	{"two values", state.VPCTable, "vpc-1", goodVPC + "{}"},
	{"a field of a newer version", state.VPCTable, "vpc-1", strings.Replace(goodVPC, "{", `{"Colour":"red",`, 1)},
	{"the wrong type", state.VPCTable, "vpc-1", strings.Replace(goodVPC, `"10.0.0.0/16"`, "10", 1)},
	{"another record's", state.VPCTable, "vpc-2", goodVPC},
	{"of a table of a newer version", "vpn", "vpn-1", "{}"},
}

func TestOpenRefusesACorruptStoreAndNamesTheKey(t *testing.T) {
	for _, c := range corrupt {
		t.Run(c.name, func(t *testing.T) {
			store := memory.New()
			rev := commit(t, store, value(c.table, c.id, c.json))
			_, err := state.Open(t.Context(), store, clock.System{})
			var bad *state.CorruptError
			if !errors.As(err, &bad) || bad.Key != (state.Key{Table: c.table, ID: c.id}) || !strings.Contains(err.Error(), c.id) {
				t.Errorf("Open: %v", err)
			}
			if _, now, _ := store.List(t.Context()); now != rev {
				t.Error("Open has written")
			}
		})
	}
}

func TestCorruptWriteIsShownByHealthAndKeptFromReaders(t *testing.T) {
	for _, c := range corrupt {
		t.Run(c.name, func(t *testing.T) {
			store := memory.New()
			var log bytes.Buffer
			db, stop := running(t, store, state.WithLogger(slog.New(slog.NewTextHandler(&log, nil))))
			defer stop()
			first := commit(t, store, value(state.VPCTable, "vpc-1", goodVPC))
			wait := func(rev state.Revision) {
				t.Helper()
				if err := db.Wait(t.Context(), rev); err != nil {
					t.Fatal(err)
				}
			}
			wait(commit(t, store, value(c.table, c.id, c.json)))
			var bad *state.CorruptError
			if err := db.Health(); !errors.As(err, &bad) || bad.Key.ID != c.id {
				t.Errorf("Health: %v", err)
			}
			if v, ok := state.Get(db.Snapshot(), state.VPCs, "vpc-1"); !ok || v.Revision != first {
				t.Errorf("the record that could be read is gone: %+v", v)
			}
			wait(commit(t, store, state.Txn{Deletes: []state.Key{{Table: c.table, ID: c.id}}}))
			if err := db.Health(); err != nil {
				t.Errorf("Health after the deletion: %v", err)
			}
			stop()
			if !strings.Contains(log.String(), c.id) {
				t.Errorf("the log does not name it: %s", log.String())
			}
		})
	}
}

func TestSubscribersAreToldAfterTheSnapshot(t *testing.T) {
	store := memory.New()
	db, err := state.Open(t.Context(), store, clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	type told struct {
		id      string
		deleted bool
		visible bool
	}
	got := make(chan told, 10)
	db.Subscribe(state.VPCTable, func(id string, deleted bool) {
		_, ok := state.Get(db.Snapshot(), state.VPCs, id)
		got <- told{id, deleted, ok}
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := db.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	defer func() { cancel(); wg.Wait() }()
	update(t, db, func(tx *state.Tx) {
		state.Put(tx, state.VPCs, &state.VPC{ID: "vpc-1"})
		state.Put(tx, state.Subnets, &state.Subnet{ID: "subnet-1"})
	})
	if g := <-got; g != (told{"vpc-1", false, true}) {
		t.Errorf("told %+v", g)
	}
	update(t, db, func(tx *state.Tx) { state.Delete(tx, state.VPCs, "vpc-1") })
	if g := <-got; g != (told{"vpc-1", true, false}) {
		t.Errorf("told %+v", g)
	}
}

// flaky is a store whose watch can be broken off, and which can be gone for a while.
type flaky struct {
	*memory.Store
	mu      sync.Mutex
	gone    bool
	breaker chan error
	watches chan state.Revision
}

func (f *flaky) Watch(ctx context.Context, from state.Revision, fn func(state.Event)) error {
	f.watches <- from
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- f.Store.Watch(ctx, from, fn) }()
	select {
	case err := <-f.breaker:
		cancel()
		<-ended
		return err
	case err := <-ended:
		cancel()
		return err
	}
}

func (f *flaky) setGone(gone bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.gone = gone
}

func (f *flaky) Transact(ctx context.Context, txn state.Txn) (state.Revision, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.gone {
		return 0, state.ErrUnavailable
	}
	return f.Store.Transact(ctx, txn)
}

func TestDBComesBackToItsStore(t *testing.T) {
	quiet := state.WithLogger(slog.New(slog.DiscardHandler))
	t.Run("after it was gone for a minute", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			store := &flaky{Store: memory.New(), breaker: make(chan error), watches: make(chan state.Revision, 9)}
			db, stop := running(t, store, quiet)
			defer stop()
			<-store.watches
			synctest.Wait()
			if err := db.Health(); err != nil {
				t.Errorf("Health: %v", err)
			}
			store.setGone(true)
			store.breaker <- state.ErrUnavailable
			time.Sleep(time.Minute) // of the bubble's clock
			if err := db.Health(); !errors.Is(err, state.ErrUnavailable) {
				t.Errorf("Health while it is gone: %v", err)
			}
			rev := commit(t, store.Store, value(state.VPCTable, "vpc-1", goodVPC))
			store.setGone(false)
			if err := db.Wait(t.Context(), rev); err != nil {
				t.Fatal(err)
			}
			if err := db.Health(); err != nil {
				t.Errorf("Health after it came back: %v", err)
			}
		})
	})
	t.Run("after what it had not seen is no longer kept, telling subscribers the difference", func(t *testing.T) {
		store := &flaky{Store: memory.New(), breaker: make(chan error), watches: make(chan state.Revision, 9)}
		for _, id := range []string{"vpc-1", "vpc-2", "vpc-3"} {
			commit(t, store, value(state.VPCTable, id, strings.Replace(goodVPC, "vpc-1", id, 1)))
		}
		db, err := state.Open(t.Context(), store, clock.System{}, quiet)
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		told := map[string]bool{}
		done := make(chan struct{})
		db.Subscribe(state.VPCTable, func(id string, deleted bool) {
			mu.Lock()
			defer mu.Unlock()
			told[id] = deleted
			if len(told) == 3 {
				close(done)
			}
		})
		commit(t, store, value(state.VPCTable, "vpc-2", strings.Replace(goodVPC, "vpc-1", "vpc-2", 1)))
		commit(t, store, state.Txn{Deletes: []state.Key{{Table: state.VPCTable, ID: "vpc-3"}}})
		last := commit(t, store, value(state.VPCTable, "vpc-4", strings.Replace(goodVPC, "vpc-1", "vpc-4", 1)))
		store.Compact(last)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { _ = db.Run(ctx) }) // nil, as the first subtest checks
		defer func() { cancel(); wg.Wait() }()
		<-done
		if d := cmp.Diff(map[string]bool{"vpc-2": false, "vpc-3": true, "vpc-4": false}, told); d != "" {
			t.Errorf("-want +got\n%s", d)
		}
		if n := state.Count(db.Snapshot(), state.VPCs); n != 3 || db.Snapshot().Revision() != last {
			t.Errorf("%d records as of %d", n, db.Snapshot().Revision())
		}
	})
	t.Run("and Update says when Run has ended", func(t *testing.T) {
		db, stop := running(t, memory.New())
		stop()
		_, err := db.Update(t.Context(), func(tx *state.Tx) error { state.Put(tx, state.VPCs, &state.VPC{ID: "vpc-1"}); return nil })
		if !errors.Is(err, state.ErrUnavailable) {
			t.Errorf("Update: %v", err)
		}
		if db.Health() == nil {
			t.Error("Health is nil")
		}
	})
}
