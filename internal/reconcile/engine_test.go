package reconcile

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"carrel/internal/clock"
	"carrel/internal/ident"
	"carrel/internal/state"
	"carrel/internal/state/memory"
)

// house is an engine over IP groups, whose Description is their state.
type house struct {
	t     *testing.T
	db    *state.DB
	clock *clock.Movable
	stop  func()
}

type group = state.IPGroup

func newHouse(t *testing.T, store state.Store, prepare func(*Config[group])) *house {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	h := &house{t: t, clock: &clock.Movable{}}
	var err error
	log := slog.New(slog.DiscardHandler)
	if h.db, err = state.Open(ctx, store, h.clock, state.WithLogger(log)); err != nil {
		t.Fatal(err)
	}
	cfg := Config[group]{Name: "test", DB: h.db, Clock: h.clock, Log: log, Table: state.IPGroups, Jitter: func(d time.Duration) time.Duration { return d }}
	prepare(&cfg)
	e, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = h.db.Run(ctx) })
	wg.Go(func() {
		if err := e.Run(ctx); err != nil {
			t.Error(err)
		}
	})
	h.stop = func() { cancel(); wg.Wait() }
	t.Cleanup(h.stop)
	return h
}

func (h *house) put(id, is string) {
	h.t.Helper()
	_, err := h.db.Update(context.Background(), func(tx *state.Tx) error {
		state.Put(tx, state.IPGroups, &group{ID: ident.IPGroupID(id), Description: is})
		return nil
	})
	if err != nil {
		h.t.Fatal(err)
	}
}

func (h *house) is(id string) string {
	g, ok := state.Get(h.db.Snapshot(), state.IPGroups, id)
	if !ok {
		return ""
	}
	return g.Description
}

// noBackoff is for plans whose account nobody looks at: IP groups have no place for one.
func noBackoff(*group) *state.Backoff { return &state.Backoff{} }

// to is the effect of a new state.
func to(is string) Effect[group] {
	return func(_ *state.Tx, g *group) error {
		g.Description = is
		return nil
	}
}

// when chooses p for records that are in the state is.
func when(is string, p *Plan[group]) func(*group, time.Time) Choice[group] {
	return func(g *group, _ time.Time) Choice[group] {
		if g.Description == is {
			return Choice[group]{Plan: p}
		}
		return Choice[group]{}
	}
}

func TestOneIDIsWorkedOnByOneWorkerHoweverManyThereAre(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		working, most, total, now := map[string]int{}, 0, 0, 0
		p := &Plan[group]{Name: "p", Backoff: noBackoff, Steps: []Step[group]{{Name: "s", Do: func(_ context.Context, g *group) (Effect[group], error) {
			mu.Lock()
			working[string(g.ID)]++
			total, now = total+1, now+1
			if working[string(g.ID)] > 1 {
				t.Errorf("%s is worked on twice at once", g.ID)
			}
			most = max(most, now)
			mu.Unlock()
			time.Sleep(time.Second) // of the bubble: the step's work
			mu.Lock()
			working[string(g.ID)]--
			now--
			mu.Unlock()
			return to("done"), nil
		}}}}
		h := newHouse(t, memory.New(), func(c *Config[group]) { c.Workers, c.Choose = 4, when("new", p) })
		for round := range 5 {
			for i := range 8 {
				h.put(fmt.Sprint("wsipg-", i), "new")
			}
			time.Sleep(time.Duration(round) * 300 * time.Millisecond) // of the bubble
		}
		time.Sleep(time.Minute) // of the bubble
		synctest.Wait()
		for i := range 8 {
			if is := h.is(fmt.Sprint("wsipg-", i)); is != "done" {
				t.Errorf("%d is %s", i, is)
			}
		}
		if most != 4 || total < 8 || total > 40 {
			t.Errorf("%d at once, %d in all", most, total)
		}
	})
}

func TestRecordsThatWereThereBeforeTheEngineAreTakenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		store := memory.New()
		h := newHouse(t, store, func(c *Config[group]) { c.Choose = when("never", nil) })
		h.put("wsipg-1", "new")
		h.stop()
		p := &Plan[group]{Name: "p", Backoff: noBackoff, Steps: []Step[group]{{Name: "s", Do: func(context.Context, *group) (Effect[group], error) { return to("done"), nil }}}}
		h = newHouse(t, store, func(c *Config[group]) { c.Choose = when("new", p) })
		synctest.Wait()
		if is := h.is("wsipg-1"); is != "done" {
			t.Errorf("it is %q", is)
		}
	})
}

func TestPermanentFailureUndoesStepsInReverseOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var calls []string
		final := errors.New("final")
		stepOf := func(name string, err error) Step[group] {
			return Step[group]{Name: name,
				Do: func(context.Context, *group) (Effect[group], error) {
					calls = append(calls, name)
					return nil, err
				},
				Undo: func(context.Context, *group) error {
					calls = append(calls, "undo "+name)
					return nil
				}}
		}
		p := &Plan[group]{Name: "p", Backoff: noBackoff,
			Steps: []Step[group]{stepOf("a", nil), stepOf("b", nil), stepOf("c", final), stepOf("d", nil)},
			Failed: func(g *group, _ time.Time, err error) bool {
				if errors.Is(err, final) {
					g.Description = "failed"
					return true
				}
				return false
			}}
		h := newHouse(t, memory.New(), func(c *Config[group]) { c.Choose = when("new", p) })
		h.put("wsipg-1", "new")
		synctest.Wait()
		if got := strings.Join(calls, ", "); got != "a, b, c, undo c, undo b, undo a" || h.is("wsipg-1") != "failed" {
			t.Errorf("%s; it is %s", got, h.is("wsipg-1"))
		}
	})
}

func TestVerifyKeepsAnEffectThatDidNotHappenOutOfTheRecord(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		verified := 0
		p := &Plan[group]{Name: "p", Backoff: noBackoff, Steps: []Step[group]{{Name: "s",
			Do: func(context.Context, *group) (Effect[group], error) { return to("done"), nil },
			Verify: func(context.Context, *group) error {
				if verified++; verified < 3 {
					return errors.New("not there")
				}
				return nil
			}}}}
		h := newHouse(t, memory.New(), func(c *Config[group]) {
			c.Choose = when("new", p)
			c.Observe = func(e Event) {
				if e.Phase == Done && verified < 3 {
					t.Error("done without proof")
				}
			}
		})
		h.put("wsipg-1", "new")
		time.Sleep(time.Minute) // of the bubble
		synctest.Wait()
		if verified != 3 || h.is("wsipg-1") != "done" {
			t.Errorf("verified %d times, it is %s", verified, h.is("wsipg-1"))
		}
	})
}

func TestPlanThatLeadsNowhereIsTriedLessAndLessOften(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		calls := 0
		var account state.Backoff
		p := &Plan[group]{Name: "p", Backoff: func(*group) *state.Backoff { return &account }, Steps: []Step[group]{{Name: "s",
			Do: func(context.Context, *group) (Effect[group], error) { calls++; return nil, nil }}}}
		h := newHouse(t, memory.New(), func(c *Config[group]) { c.Workers, c.Choose = 1, when("new", p) })
		h.put("wsipg-1", "new")
		time.Sleep(10 * time.Minute) // of the bubble
		h.stop()
		if calls < 10 || calls > 20 || account.Step != "p/s" || !strings.Contains(account.Error, "leads nowhere") {
			t.Errorf("%d calls in 10 minutes, %+v", calls, account)
		}
	})
}

func TestWakeIsOnTheInjectedClock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var due time.Time
		p := &Plan[group]{Name: "p", Backoff: noBackoff, Steps: []Step[group]{{Name: "s", Do: func(context.Context, *group) (Effect[group], error) { return to("done"), nil }}}}
		h := newHouse(t, memory.New(), func(c *Config[group]) {
			due = c.Clock.Now().Add(3 * time.Hour)
			c.Resync = 1000 * time.Hour
			c.Choose = func(g *group, now time.Time) Choice[group] {
				if g.Description != "new" {
					return Choice[group]{}
				}
				if now.Before(due) {
					return Choice[group]{Wake: due}
				}
				return Choice[group]{Plan: p}
			}
		})
		h.put("wsipg-1", "new")
		began := time.Now()
		h.clock.Advance(2*time.Hour + 59*time.Minute)
		synctest.Wait()
		if is := h.is("wsipg-1"); is != "new" {
			t.Errorf("before its time it is %s", is)
		}
		h.clock.Advance(2 * time.Minute)
		synctest.Wait()
		if is := h.is("wsipg-1"); is != "done" {
			t.Errorf("after its time it is %s", is)
		}
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %s of real time", took)
		}
	})
}

func TestStepThatHangsIsCutOff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		hung := 0
		p := &Plan[group]{Name: "p", Backoff: noBackoff, Steps: []Step[group]{{Name: "s", Do: func(ctx context.Context, _ *group) (Effect[group], error) {
			if hung++; hung == 1 {
				<-ctx.Done()
				return nil, ctx.Err()
			}
			return to("done"), nil
		}}}}
		h := newHouse(t, memory.New(), func(c *Config[group]) { c.StepTimeout, c.Choose = time.Minute, when("new", p) })
		h.put("wsipg-1", "new")
		time.Sleep(2 * time.Minute) // of the bubble
		synctest.Wait()
		if is := h.is("wsipg-1"); is != "done" || hung != 2 {
			t.Errorf("it is %s after %d calls", is, hung)
		}
	})
}

func TestQueue(t *testing.T) {
	t.Run("an id added many times is handed out once, and once more if added while worked on", func(t *testing.T) {
		q := newQueue(clock.System{})
		q.add("a")
		q.add("a")
		q.add("b")
		first, _ := q.take()
		q.add("a")
		q.add("a")
		second, _ := q.take()
		if first != "a" || second != "b" {
			t.Fatal(first, second)
		}
		q.done("b", time.Time{})
		if ready, working, waiting := q.depth(); ready != 0 || working != 1 || waiting != 0 {
			t.Errorf("depth %d %d %d", ready, working, waiting)
		}
		q.done("a", time.Time{})
		if third, _ := q.take(); third != "a" {
			t.Errorf("then %s", third)
		}
		q.done("a", time.Time{})
		if len(q.items) != 0 {
			t.Errorf("kept: %v", q.items)
		}
	})
	t.Run("ids come when due, in the order of their times, and a later word replaces an earlier one", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			q := newQueue(clock.System{})
			ctx, cancel := context.WithCancel(t.Context())
			var wg sync.WaitGroup
			wg.Go(func() { q.run(ctx) })
			began := time.Now()
			for id, after := range map[string]time.Duration{"late": 3 * time.Second, "early": time.Second, "moved": 2 * time.Second} {
				q.add(id)
				got, _ := q.take()
				q.done(got, began.Add(after))
			}
			q.add("moved")
			got, _ := q.take()
			q.done(got, began.Add(4*time.Second))
			for i, want := range []string{"early", "late", "moved"} {
				got, _ := q.take()
				if wantAt := []time.Duration{time.Second, 3 * time.Second, 4 * time.Second}[i]; got != want || time.Since(began) != wantAt {
					t.Errorf("%s after %s, want %s after %s", got, time.Since(began), want, wantAt)
				}
				q.done(got, time.Time{})
			}
			cancel()
			wg.Wait()
			if _, ok := q.take(); ok {
				t.Error("a closed queue hands out")
			}
			q.add("x")
			if len(q.ready) != 0 {
				t.Error("a closed queue takes in")
			}
		})
	})
}

func TestNewRefusesWhatCannotWork(t *testing.T) {
	if _, err := New(Config[group]{Name: "x"}); err == nil {
		t.Error("an engine without a DB was made")
	}
}
