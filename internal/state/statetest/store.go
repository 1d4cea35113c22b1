package statetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"carrel/internal/clock"
	"carrel/internal/ident"
	"carrel/internal/state"
)

// patience bounds waits for what must happen; no test waits for it to pass.
const patience = 30 * time.Second

// Run holds a Store to the contract. open gives an empty store, which Run closes.
func Run(t *testing.T, open func(t *testing.T) state.Store) {
	for _, c := range []struct {
		name string
		test func(*testing.T, state.Store)
	}{
		{"an empty store lists nothing", empty},
		{"what is put is listed with its revision", puts},
		{"a revision check holds only for the revision last written", revisionChecks},
		{"an absence check holds until the item exists and again when it is gone", absenceChecks},
		{"a prefix check holds until something below the prefix is written", prefixChecks},
		{"a prefix check does not see neighbours or deletions", prefixNeighbours},
		{"a transaction whose checks fail writes nothing", atomicity},
		{"a transaction without writes only checks", checkOnly},
		{"an impossible transaction is refused", impossible},
		{"a transaction of two thousand writes is one event", large},
		{"a list of many pages is complete and in order", manyPages},
		{"a watch shows every transaction whole and in order while sixteen write", watchConcurrent},
		{"a watch from an old revision shows what came after it", watchOld},
		{"a watch ends with its context's error", watchCancelled},
		{"of sixteen counters' increments none is lost", incrementStorm},
		{"a closed store is unavailable and ends its watches", closed},
		{"a cancelled call is unavailable", cancelled},
		{"a DB sees its own writes at once", readYourWrites},
		{"two DBs on one store count together and lose nothing", twoDBs},
		{"of creators on two DBs one makes a user's WorkSpace", oneWorkspaceAUser},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := open(t)
			t.Cleanup(func() {
				if err := s.Close(); err != nil {
					t.Errorf("Close: %v", err)
				}
			})
			c.test(t, s)
		})
	}
}

func key(table state.Table, id string) state.Key { return state.Key{Table: table, ID: id} }

func put(table state.Table, id, value string) state.Write {
	return state.Write{Key: key(table, id), Value: []byte(value)}
}

func commit(t *testing.T, s state.Store, txn state.Txn) state.Revision {
	t.Helper()
	rev, err := s.Transact(t.Context(), txn)
	if err != nil {
		t.Fatalf("Transact: %v", err)
	}
	return rev
}

func conflict(t *testing.T, s state.Store, txn state.Txn) {
	t.Helper()
	if _, err := s.Transact(t.Context(), txn); !errors.Is(err, state.ErrConflict) {
		t.Fatalf("Transact: %v, want ErrConflict", err)
	}
}

func list(t *testing.T, s state.Store) ([]state.Item, state.Revision) {
	t.Helper()
	items, rev, err := s.List(t.Context())
	if err != nil {
		t.Fatalf("List: %v", err)
	}
	slices.SortFunc(items, func(a, b state.Item) int {
		return strings.Compare(string(a.Key.Table)+"/"+a.Key.ID, string(b.Key.Table)+"/"+b.Key.ID)
	})
	return items, rev
}

func same(t *testing.T, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Fatalf("-want +got\n%s", d)
	}
}

func empty(t *testing.T, s state.Store) {
	if items, _ := list(t, s); len(items) != 0 {
		t.Fatalf("%d items", len(items))
	}
}

func puts(t *testing.T, s state.Store) {
	first := commit(t, s, state.Txn{Puts: []state.Write{put("a", "1", "x"), put("a", "with/slash", "")}})
	second := commit(t, s, state.Txn{Puts: []state.Write{put("a", "1", "y\x00\xff"), put("b", "1", "z")}})
	if second <= first {
		t.Fatalf("revision %d after %d", second, first)
	}
	items, rev := list(t, s)
	if rev != second {
		t.Fatalf("List as of %d, want %d", rev, second)
	}
	for i := range items {
		if len(items[i].Value) == 0 {
			items[i].Value = nil // whether an empty value is nil is nobody's concern
		}
	}
	same(t, items, []state.Item{
		{Key: key("a", "1"), Value: []byte("y\x00\xff"), Revision: second},
		{Key: key("a", "with/slash"), Revision: first},
		{Key: key("b", "1"), Value: []byte("z"), Revision: second},
	})
	commit(t, s, state.Txn{Deletes: []state.Key{key("a", "1"), key("b", "1")}})
	if items, _ := list(t, s); len(items) != 1 {
		t.Fatalf("%d items after the deletion, want 1", len(items))
	}
}

func revisionChecks(t *testing.T, s state.Store) {
	first := commit(t, s, state.Txn{Puts: []state.Write{put("a", "1", "x")}})
	commit(t, s, state.Txn{Puts: []state.Write{put("a", "2", "x")}})
	second := commit(t, s, state.Txn{Checks: []state.Check{{Key: key("a", "1"), Revision: first}}, Puts: []state.Write{put("a", "1", "y")}})
	conflict(t, s, state.Txn{Checks: []state.Check{{Key: key("a", "1"), Revision: first}}, Puts: []state.Write{put("a", "1", "z")}})
	conflict(t, s, state.Txn{Checks: []state.Check{{Key: key("a", "1"), Revision: second + 1}}, Puts: []state.Write{put("a", "1", "z")}})
	commit(t, s, state.Txn{Deletes: []state.Key{key("a", "1")}})
	commit(t, s, state.Txn{Puts: []state.Write{put("a", "1", "y")}})
	conflict(t, s, state.Txn{Checks: []state.Check{{Key: key("a", "1"), Revision: second}}, Puts: []state.Write{put("a", "1", "z")}})
}

func absenceChecks(t *testing.T, s state.Store) {
	absent := []state.Check{{Key: key("a", "1")}}
	commit(t, s, state.Txn{Checks: absent, Puts: []state.Write{put("a", "1", "x")}})
	conflict(t, s, state.Txn{Checks: absent, Puts: []state.Write{put("a", "1", "y")}})
	commit(t, s, state.Txn{Deletes: []state.Key{key("a", "1")}})
	commit(t, s, state.Txn{Checks: absent, Puts: []state.Write{put("a", "1", "z")}})
}

func prefixChecks(t *testing.T, s state.Store) {
	before := commit(t, s, state.Txn{Puts: []state.Write{put("other", "1", "x")}})
	guard := func(rev state.Revision, prefix string) []state.Check {
		return []state.Check{{Key: key("a", prefix), Revision: rev, Prefix: true}}
	}
	commit(t, s, state.Txn{Checks: guard(0, "p")})      // nothing below it, ever
	commit(t, s, state.Txn{Checks: guard(before, "p")}) // nor since
	commit(t, s, state.Txn{Checks: guard(before, "")})
	first := commit(t, s, state.Txn{Checks: guard(before, "p"), Puts: []state.Write{put("a", "p1", "x")}})
	conflict(t, s, state.Txn{Checks: guard(before, "p"), Puts: []state.Write{put("a", "p2", "x")}})
	conflict(t, s, state.Txn{Checks: guard(before, ""), Puts: []state.Write{put("a", "p2", "x")}})
	conflict(t, s, state.Txn{Checks: guard(first-1, "p1")})
	commit(t, s, state.Txn{Checks: guard(first, "p")})
	commit(t, s, state.Txn{Checks: guard(first, "p"), Puts: []state.Write{put("a", "p2", "x")}})
	commit(t, s, state.Txn{Checks: guard(first, "p1")})
}

func prefixNeighbours(t *testing.T, s state.Store) {
	rev := commit(t, s, state.Txn{Puts: []state.Write{put("a", "p1", "x"), put("a", "p2", "x")}})
	commit(t, s, state.Txn{Puts: []state.Write{put("a", "o", "x"), put("a", "q", "x"), put("ap", "1", "x"), put("b", "p1", "x")}})
	commit(t, s, state.Txn{Deletes: []state.Key{key("a", "p2")}})
	commit(t, s, state.Txn{Checks: []state.Check{{Key: key("a", "p"), Revision: rev, Prefix: true}}, Puts: []state.Write{put("a", "p3", "x")}})
}

func atomicity(t *testing.T, s state.Store) {
	rev := commit(t, s, state.Txn{Puts: []state.Write{put("a", "1", "x"), put("a", "2", "x")}})
	conflict(t, s, state.Txn{
		Checks:  []state.Check{{Key: key("a", "1"), Revision: rev}, {Key: key("a", "3"), Revision: rev}},
		Puts:    []state.Write{put("a", "1", "y"), put("a", "3", "y")},
		Deletes: []state.Key{key("a", "2")},
	})
	items, now := list(t, s)
	if now != rev {
		t.Fatalf("revision %d, want %d", now, rev)
	}
	same(t, items, []state.Item{
		{Key: key("a", "1"), Value: []byte("x"), Revision: rev}, {Key: key("a", "2"), Value: []byte("x"), Revision: rev},
	})
}

func checkOnly(t *testing.T, s state.Store) {
	rev := commit(t, s, state.Txn{Puts: []state.Write{put("a", "1", "x")}})
	if got := commit(t, s, state.Txn{}); got != rev {
		t.Errorf("the empty transaction gives %d, want %d", got, rev)
	}
	if got := commit(t, s, state.Txn{Checks: []state.Check{{Key: key("a", "1"), Revision: rev}}}); got != rev {
		t.Errorf("a check gives %d, want %d", got, rev)
	}
	conflict(t, s, state.Txn{Checks: []state.Check{{Key: key("a", "1")}}})
}

func impossible(t *testing.T, s state.Store) {
	for name, txn := range map[string]state.Txn{
		"an empty id":        {Puts: []state.Write{put("a", "", "x")}},
		"an empty table":     {Puts: []state.Write{put("", "1", "x")}},
		"a slash in a table": {Deletes: []state.Key{key("a/b", "1")}},
		"a key put twice":    {Puts: []state.Write{put("a", "1", "x"), put("a", "1", "y")}},
		"put and deleted":    {Puts: []state.Write{put("a", "1", "x")}, Deletes: []state.Key{key("a", "1")}},
		"an unnamed check":   {Checks: []state.Check{{Key: key("a", "")}}},
	} {
		if _, err := s.Transact(t.Context(), txn); err == nil || errors.Is(err, state.ErrUnavailable) || errors.Is(err, state.ErrConflict) {
			t.Errorf("%s: %v, want a refusal", name, err)
		}
	}
	if items, _ := list(t, s); len(items) != 0 {
		t.Errorf("%d items were written", len(items))
	}
}

// watched follows the store from rev in the background. next gives its events; the test's end stops it.
func watched(t *testing.T, s state.Store, from state.Revision) (next func() state.Event) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	events := make(chan state.Event)
	var wg sync.WaitGroup
	wg.Go(func() {
		defer close(events)
		err := s.Watch(ctx, from, func(e state.Event) {
			select {
			case events <- e:
			case <-ctx.Done():
			}
		})
		if ctx.Err() == nil {
			t.Errorf("Watch: %v", err)
		}
	})
	t.Cleanup(func() { cancel(); wg.Wait() })
	return func() state.Event {
		t.Helper()
		select {
		case e, ok := <-events:
			if !ok {
				t.Fatal("the watch ended")
			}
			return e
		case <-time.After(patience):
			t.Fatal("no event")
		}
		panic("unreachable")
	}
}

func large(t *testing.T, s state.Store) {
	const n = 2000
	next := watched(t, s, commit(t, s, state.Txn{Puts: []state.Write{put("z", "1", "x")}}))
	var txn state.Txn
	for i := range n {
		txn.Puts = append(txn.Puts, put("a", fmt.Sprintf("%04d", i), "some value"))
		txn.Checks = append(txn.Checks, state.Check{Key: txn.Puts[i].Key})
	}
	rev := commit(t, s, txn)
	if e := next(); e.Revision != rev || len(e.Puts) != n {
		t.Fatalf("event %d with %d puts, want %d with %d", e.Revision, len(e.Puts), rev, n)
	}
}

func manyPages(t *testing.T, s state.Store) {
	const transactions, each = 12, 1000
	for i := range transactions {
		var txn state.Txn
		for j := range each {
			txn.Puts = append(txn.Puts, put("a", fmt.Sprintf("%05d", i*each+j), strconv.Itoa(i)))
		}
		commit(t, s, txn)
	}
	items, _ := list(t, s)
	if len(items) != transactions*each {
		t.Fatalf("%d items, want %d", len(items), transactions*each)
	}
	for i, it := range items {
		if it.Key.ID != fmt.Sprintf("%05d", i) || string(it.Value) != strconv.Itoa(i/each) {
			t.Fatalf("item %d is %s = %s", i, it.Key.ID, it.Value)
		}
	}
	if pages, ok := s.(state.PageLister); ok {
		sameInPages(t, s, pages)
	}
}

// sameInPages compares what is listed in pages with what is listed at once, and looks for the error of who reads them.
func sameInPages(t *testing.T, s state.Store, pages state.PageLister) {
	t.Helper()
	want, wantRev, err := s.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var got []state.Item
	rev, err := pages.ListPages(t.Context(), func(page []state.Item) error {
		got = append(got, page...)
		return nil
	})
	if err != nil || rev != wantRev {
		t.Fatalf("as of %d, %v; want %d", rev, err, wantRev)
	}
	same(t, got, want)
	enough := errors.New("enough")
	if _, err := pages.ListPages(t.Context(), func([]state.Item) error { return enough }); !errors.Is(err, enough) {
		t.Fatalf("ended with %v, want the reader's own error", err)
	}
}

func watchConcurrent(t *testing.T, s state.Store) {
	const writers, each = 16, 30
	_, from := list(t, s)
	next := watched(t, s, from)
	var mu sync.Mutex
	want := map[state.Revision]string{}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range each {
				v := fmt.Sprintf("%d-%d", w, i)
				// Three writes a transaction, the first two of them shared by all writers, the third deleted later.
				txn := state.Txn{Puts: []state.Write{put("a", "shared", v), put("b", "shared", v), put("a", v, v)}}
				if i > 0 {
					txn.Deletes = []state.Key{key("a", fmt.Sprintf("%d-%d", w, i-1))}
				}
				rev, err := s.Transact(t.Context(), txn)
				if err != nil {
					t.Errorf("Transact: %v", err)
					return
				}
				mu.Lock()
				want[rev] = v
				mu.Unlock()
			}
		})
	}
	var got []state.Event
	for range writers * each {
		got = append(got, next())
	}
	wg.Wait()
	last := from
	for _, e := range got {
		if e.Revision <= last {
			t.Fatalf("event %d after %d", e.Revision, last)
		}
		last = e.Revision
		if len(e.Puts) != 3 {
			t.Fatalf("event %d has %d puts of 3", e.Revision, len(e.Puts))
		}
		for _, p := range e.Puts {
			if string(p.Value) != want[e.Revision] || p.Revision != e.Revision {
				t.Fatalf("event %d holds %q of %d, want %q", e.Revision, p.Value, p.Revision, want[e.Revision])
			}
		}
	}
}

func watchOld(t *testing.T, s state.Store) {
	var revs []state.Revision
	for i := range 5 {
		revs = append(revs, commit(t, s, state.Txn{Puts: []state.Write{put("a", strconv.Itoa(i), "x")}}))
	}
	revs = append(revs, commit(t, s, state.Txn{Deletes: []state.Key{key("a", "0")}}))
	for from := range revs {
		next := watched(t, s, revs[from])
		for _, want := range revs[from+1:] {
			if e := next(); e.Revision != want {
				t.Fatalf("from %d: event %d, want %d", revs[from], e.Revision, want)
			}
		}
	}
	next := watched(t, s, revs[4])
	same(t, next(), state.Event{Revision: revs[5], Deletes: []state.Key{key("a", "0")}})
}

func watchCancelled(t *testing.T, s state.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	seen := make(chan struct{}, 1)
	go func() { ended <- s.Watch(ctx, 0, func(state.Event) { seen <- struct{}{} }) }()
	commit(t, s, state.Txn{Puts: []state.Write{put("a", "1", "x")}})
	<-seen
	cancel()
	select {
	case err := <-ended:
		if !errors.Is(err, context.Canceled) {
			t.Fatalf("Watch: %v, want context.Canceled", err)
		}
	case <-time.After(patience):
		t.Fatal("the watch goes on")
	}
}

func incrementStorm(t *testing.T, s state.Store) {
	const workers, each = 16, 25
	k := key("counter", "n")
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for done := 0; done < each; {
				items, _, err := s.List(t.Context())
				if err != nil {
					t.Errorf("List: %v", err)
					return
				}
				n, rev := 0, state.Revision(0)
				for _, it := range items {
					n, _ = strconv.Atoi(string(it.Value)) // written below
					rev = it.Revision
				}
				_, err = s.Transact(t.Context(), state.Txn{
					Checks: []state.Check{{Key: k, Revision: rev}}, Puts: []state.Write{put(k.Table, k.ID, strconv.Itoa(n+1))},
				})
				switch {
				case err == nil:
					done++
				case !errors.Is(err, state.ErrConflict):
					t.Errorf("Transact: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	items, _ := list(t, s)
	if len(items) != 1 || string(items[0].Value) != strconv.Itoa(workers*each) {
		t.Fatalf("counted %s, want %d", items[0].Value, workers*each)
	}
}

func closed(t *testing.T, s state.Store) {
	ended := make(chan error, 1)
	seen := make(chan struct{}, 1)
	go func() { ended <- s.Watch(t.Context(), 0, func(state.Event) { seen <- struct{}{} }) }()
	commit(t, s, state.Txn{Puts: []state.Write{put("a", "1", "x")}})
	<-seen
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatalf("Close: %v", err)
		}
	}
	select {
	case err := <-ended:
		if !errors.Is(err, state.ErrUnavailable) {
			t.Errorf("Watch: %v, want ErrUnavailable", err)
		}
	case <-time.After(patience):
		t.Fatal("the watch goes on")
	}
	if _, err := s.Transact(t.Context(), state.Txn{}); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("Transact: %v, want ErrUnavailable", err)
	}
	if _, _, err := s.List(t.Context()); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("List: %v, want ErrUnavailable", err)
	}
	if err := s.Watch(t.Context(), 0, func(state.Event) {}); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("Watch: %v, want ErrUnavailable", err)
	}
}

func cancelled(t *testing.T, s state.Store) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := s.Transact(ctx, state.Txn{Puts: []state.Write{put("a", "1", "x")}}); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("Transact: %v, want ErrUnavailable", err)
	}
	if _, _, err := s.List(ctx); !errors.Is(err, state.ErrUnavailable) {
		t.Errorf("List: %v, want ErrUnavailable", err)
	}
}

func readYourWrites(t *testing.T, s state.Store) {
	db := follow(t, s)
	var wg sync.WaitGroup
	for w := range 16 {
		wg.Go(func() {
			for i := range 20 {
				id := fmt.Sprintf("vpc-%d-%d", w, i)
				rev, err := db.Update(t.Context(), func(tx *state.Tx) error {
					v := &state.VPC{CIDR: "10.0.0.0/16"}
					v.ID = ident.VPCID(id)
					state.Put(tx, state.VPCs, v)
					return nil
				})
				if err != nil {
					t.Errorf("Update: %v", err)
					return
				}
				snap := db.Snapshot()
				got, ok := state.Get(snap, state.VPCs, id)
				if !ok || got.Revision != rev || snap.Revision() < rev {
					t.Errorf("after the update to %d, snapshot %d has %v", rev, snap.Revision(), got)
					return
				}
			}
		})
	}
	wg.Wait()
}

func twoDBs(t *testing.T, s state.Store) {
	const workers, each = 8, 10
	dbs := []*state.DB{follow(t, s), follow(t, s)}
	count := func(tx *state.Tx) error {
		v, ok := state.Get(tx, state.VPCs, "vpc-count")
		if !ok {
			v = &state.VPC{}
			v.ID = ident.VPCID("vpc-count")
		}
		v = state.Clone(v)
		n, _ := strconv.Atoi(v.CIDR)
		v.CIDR = strconv.Itoa(n + 1)
		state.Put(tx, state.VPCs, v)
		return nil
	}
	var wg sync.WaitGroup
	for w := range workers {
		wg.Go(func() {
			for done := 0; done < each; {
				switch _, err := dbs[w%2].Update(t.Context(), count); {
				case err == nil:
					done++
				case !errors.Is(err, state.ErrConflict):
					t.Errorf("Update: %v", err)
					return
				}
			}
		})
	}
	wg.Wait()
	_, rev := list(t, s)
	for _, db := range dbs {
		if err := db.Wait(t.Context(), rev); err != nil {
			t.Fatal(err)
		}
		if v, ok := state.Get(db.Snapshot(), state.VPCs, "vpc-count"); !ok || v.CIDR != strconv.Itoa(workers*each) {
			t.Fatalf("counted %+v, want %d", v, workers*each)
		}
	}
}

// follow is a running DB that the end of the test stops.
func follow(t *testing.T, s state.Store) *state.DB {
	t.Helper()
	db, err := state.Open(t.Context(), s, clock.System{})
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
	t.Cleanup(func() { cancel(); wg.Wait() })
	return db
}
