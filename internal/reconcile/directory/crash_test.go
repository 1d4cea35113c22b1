package directory

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"path/filepath"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"carrel/internal/clock"
	"carrel/internal/directory"
	"carrel/internal/driver/sim"
	"carrel/internal/ident"
	"carrel/internal/reconcile"
	"carrel/internal/seal"
	"carrel/internal/state"
	"carrel/internal/state/memory"
)

const (
	subject = ident.DirectoryID("d-90670a1b2c")
	subnetA = ident.SubnetID("subnet-0a1b2c3d4e5f6071a")
	subnetB = ident.SubnetID("subnet-0a1b2c3d4e5f6071b")
	testVPC = ident.VPCID("vpc-0a1b2c3d4e5f60718")
)

// world is what outlives a process.
type world struct {
	t     *testing.T
	dir   string
	store *memory.Store
	clock *clock.Movable
	sim   *sim.Sim
	seal  *seal.Key
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{t: t, dir: t.TempDir(), store: memory.New(), clock: &clock.Movable{}}
	w.open()
	var err error
	if w.seal, err = seal.Open(filepath.Join(t.TempDir(), "seal.key"), rand.Reader); err != nil {
		t.Fatal(err)
	}
	p := w.run(nil)
	p.update(func(tx *state.Tx) error {
		state.Put(tx, state.Installations, &state.Installation{AccountID: "914230417712", Region: "us-east-1"})
		state.Put(tx, state.Subnets, &state.Subnet{ID: subnetA, VPCID: testVPC, CIDR: "10.0.1.0/24"})
		state.Put(tx, state.Subnets, &state.Subnet{ID: subnetB, VPCID: testVPC, CIDR: "10.0.2.0/24"})
		return nil
	})
	p.stop()
	return w
}

func (w *world) open() {
	w.t.Helper()
	s, err := sim.Open(sim.Config{Dir: w.dir, Clock: w.clock, Random: rand.Reader})
	if err != nil {
		w.t.Fatal(err)
	}
	w.sim = s
	w.t.Cleanup(func() { _ = s.Close() })
}

// process is one run of the control plane.
type process struct {
	world   *world
	db      *state.DB
	rec     *Reconciler
	observe func(reconcile.Event)
	changed chan struct{}
	ctx     context.Context
	kill    context.CancelFunc
	done    sync.WaitGroup
}

func (w *world) run(prepare func(*process)) *process {
	w.t.Helper()
	ctx, kill := context.WithCancel(context.Background())
	p := &process{world: w, changed: make(chan struct{}, 1), ctx: ctx, kill: kill, observe: func(reconcile.Event) {}}
	w.t.Cleanup(p.stop)
	log := slog.New(slog.DiscardHandler)
	var err error
	if p.db, err = state.Open(ctx, w.store, w.clock, state.WithLogger(log)); err != nil {
		w.t.Fatal(err)
	}
	p.db.Subscribe(state.DirectoryTable, func(string, bool) {
		select {
		case p.changed <- struct{}{}:
		default:
		}
	})
	p.rec, err = New(Config{DB: p.db, Clock: w.clock, Random: rand.Reader, Log: log, Domain: w.sim.Domain(), Seal: w.seal,
		Observe: func(e reconcile.Event) { p.observe(e) }})
	if err != nil {
		w.t.Fatal(err)
	}
	if prepare != nil {
		prepare(p)
	}
	p.done.Go(func() {
		if err := p.db.Run(ctx); err != nil {
			w.t.Error(err)
		}
	})
	p.done.Go(func() {
		if err := p.rec.Run(ctx); err != nil {
			w.t.Error(err)
		}
	})
	return p
}

func (p *process) stop() {
	p.kill()
	p.done.Wait()
}

func (p *process) update(fn func(*state.Tx) error) {
	p.world.t.Helper()
	_, err := p.db.Update(context.Background(), fn)
	if errors.Is(err, state.ErrUnavailable) && p.ctx.Err() != nil {
		return // the step that was to be cut off came before the answer to this write, so it was written
	}
	if err != nil {
		p.world.t.Fatal(err)
	}
}

func (p *process) change(fn func(*state.Directory)) {
	p.world.t.Helper()
	p.update(func(tx *state.Tx) error {
		rec, ok := state.Get(tx, state.Directories, string(subject))
		if !ok {
			p.world.t.Fatal("no directory")
		}
		next := state.Clone(rec)
		fn(next)
		state.Put(tx, state.Directories, next)
		return nil
	})
}

func (p *process) await(wanted func(*state.Directory) bool) bool {
	p.world.t.Helper()
	limit := time.After(24 * time.Hour)
	for {
		rec, _ := state.Get(p.db.Snapshot(), state.Directories, string(subject))
		if wanted(rec) {
			return true
		}
		select {
		case <-p.changed:
		case <-p.ctx.Done():
			return false
		case <-limit:
			p.world.t.Fatalf("the directory does not get there: %+v", rec)
		}
	}
}

func stage(s string) func(*state.Directory) bool {
	return func(d *state.Directory) bool { return d != nil && d.Status.Stage == s }
}

func registered(d *state.Directory) bool {
	return d != nil && d.Registration != nil && d.Registration.State == Registered
}

func unregistered(d *state.Directory) bool { return d != nil && d.Registration == nil }

func gone(d *state.Directory) bool { return d == nil }

func (p *process) add() {
	p.update(func(tx *state.Tx) error {
		state.Put(tx, state.Directories, &state.Directory{ID: subject,
			Spec:   state.DirectorySpec{Type: "SimpleAD", Name: "corp.example.com", ShortName: "CORP", VPCID: testVPC, SubnetIDs: []ident.SubnetID{subnetA, subnetB}},
			Status: state.DirectoryStatus{Stage: StageRequested, StageSince: tx.Now()}})
		return nil
	})
}

type scenario struct {
	before  func(*process)
	trigger func(*process)
	ends    func(*state.Directory) bool
}

func scenarios() map[string]scenario {
	active := func(p *process) {
		p.add()
		p.await(stage(StageActive))
	}
	register := func(p *process) {
		p.change(func(d *state.Directory) { d.Registration = &state.Registration{State: Registering} })
	}
	deregister := func(p *process) { p.change(func(d *state.Directory) { d.Registration.State = Deregistering }) }
	return map[string]scenario{
		"create":     {func(*process) {}, (*process).add, stage(StageActive)},
		"register":   {active, register, registered},
		"deregister": {func(p *process) { active(p); register(p); p.await(registered) }, deregister, unregistered},
		"delete":     {active, func(p *process) { p.change(func(d *state.Directory) { d.Status.Stage = StageDeleting }) }, gone},
	}
}

type fault struct {
	name          string
	before, after int
	crash         reconcile.Phase
}

func faults() []fault {
	return []fault{
		{name: "fails once", before: 1},
		{name: "fails three times", before: 3},
		{name: "happens but its answer is lost three times", after: 3},
		{name: "is cut off by a crash before it begins", crash: reconcile.Began},
		{name: "is cut off by a crash before it is recorded", crash: reconcile.Done},
		{name: "is followed by a crash once it is recorded", crash: reconcile.Recorded},
	}
}

func (f fault) inject(p *process, plan, name string) *int {
	struck, before, after := new(int), f.before, f.after
	for _, pl := range p.rec.plans() {
		for i := range pl.Steps {
			s := &pl.Steps[i]
			if pl.Name != plan || s.Name != name {
				continue
			}
			do := s.Do
			s.Do = func(ctx context.Context, rec *record) (effect, error) {
				if before > 0 {
					before, *struck = before-1, *struck+1
					return nil, errors.New("told to fail")
				}
				e, err := do(ctx, rec)
				if after > 0 && err == nil {
					after, *struck = after-1, *struck+1
					return nil, errors.New("told to fail")
				}
				return e, err
			}
		}
	}
	p.observe = func(e reconcile.Event) {
		if e.Plan == plan && e.Step == name && e.Phase == f.crash {
			*struck++
			p.kill()
		}
	}
	return struck
}

// TestEveryStepOfEveryPlanMayFail is the shape of figure R5 for directories; the steps come from the plans themselves.
func TestEveryStepOfEveryPlanMayFail(t *testing.T) {
	all := scenarios()
	for _, pl := range newPlanner(Config{}).plans() {
		sc, ok := all[pl.Name]
		if !ok {
			t.Errorf("plan %s has no scenario", pl.Name)
			continue
		}
		for _, s := range pl.Steps {
			for _, f := range faults() {
				t.Run(fmt.Sprintf("%s/%s/%s", pl.Name, s.Name, f.name), func(t *testing.T) {
					synctest.Test(t, func(t *testing.T) { sc.play(t, f, pl.Name, s.Name) })
				})
			}
		}
	}
}

func (sc scenario) play(t *testing.T, f fault, plan, step string) {
	w := newWorld(t)
	p := w.run(nil)
	sc.before(p)
	p.stop()
	var struck *int
	p = w.run(func(p *process) { struck = f.inject(p, plan, step) })
	sc.trigger(p)
	p.await(sc.ends)
	synctest.Wait()
	if p.ctx.Err() != nil {
		p.done.Wait()
		w.open()
		p = w.run(nil)
		p.await(sc.ends)
	}
	if *struck == 0 {
		t.Fatal("the fault never struck")
	}
	p.check(w)
	if rec, ok := state.Get(p.db.Snapshot(), state.Directories, string(subject)); ok {
		if rec.Registration != nil {
			p.change(func(d *state.Directory) { d.Registration.State = Deregistering })
			p.await(unregistered)
		}
		p.change(func(d *state.Directory) { d.Status.Stage = StageDeleting })
		p.await(gone)
		p.check(w)
	}
	p.stop()
}

// check compares the record with the domains, users, addresses, security groups and claims there are.
func (p *process) check(w *world) {
	w.t.Helper()
	ctx, snap := w.t.Context(), p.db.Snapshot()
	rec, there := state.Get(snap, state.Directories, string(subject))
	domains, err := w.sim.Domain().List(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	_, err = w.sim.Domain().Lookup(ctx, subject, "ADA")
	if there && (len(domains) != 1 || err != nil) || !there && (len(domains) != 0 || !errors.Is(err, directory.ErrNoDirectory)) {
		w.t.Errorf("directory there: %t, domains %+v, lookup of ADA: %v", there, domains, err)
	}
	addresses, groups := 0, 0
	if there {
		addresses, groups = 2, 1
		if len(rec.Status.DNSAddresses) != 2 {
			w.t.Errorf("name servers %v", rec.Status.DNSAddresses)
		}
	}
	if there && rec.Registration != nil {
		groups++
		g, ok := state.Get(snap, state.SecurityGroups, string(rec.Registration.MembersGroupID))
		if !ok || g.Name != string(subject)+"_workspacesMembers" || g.VPCID != testVPC {
			w.t.Errorf("members' group: %+v", g)
		}
		if owner, _ := state.Owner(snap, codeClaim(rec.Registration.Code)); owner != string(subject) || len(rec.Registration.Code) > 20 {
			w.t.Errorf("registration code %q is %q's", rec.Registration.Code, owner)
		}
	}
	if n := state.Count(snap, state.Interfaces); n != addresses {
		w.t.Errorf("%d addresses are taken, want %d", n, addresses)
	}
	if n := state.Count(snap, state.SecurityGroups); n != groups {
		w.t.Errorf("%d security groups, want %d", n, groups)
	}
	if err := p.db.CheckShared(ctx); err != nil {
		w.t.Error(err)
	}
}

func TestDirectories(t *testing.T) {
	t.Run("a domain without a record is removed", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			p := w.run(nil)
			p.add()
			p.await(stage(StageActive))
			p.stop()
			if _, err := w.store.Transact(t.Context(), state.Txn{Deletes: []state.Key{{Table: state.DirectoryTable, ID: string(subject)}}}); err != nil {
				t.Fatal(err)
			}
			w.run(nil)
			synctest.Wait()
			time.Sleep(time.Second) // of the bubble: the simulated removal takes its time
			if domains, err := w.sim.Domain().List(t.Context()); err != nil || len(domains) != 0 {
				t.Errorf("domains %+v, %v", domains, err)
			}
		})
	})
	t.Run("a domain that cannot ever be made ends in Failed with the reason", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			if err := w.sim.Faults().Fail("domain", "provision", 0); err != nil {
				t.Fatal(err)
			}
			p := w.run(nil)
			p.add()
			p.await(func(d *state.Directory) bool { return stage(StageFailed)(d) && d.Status.StageReason != "" })
		})
	})
	t.Run("a registration waits for its directory and for its WorkSpaces to go", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w := newWorld(t)
			p := w.run(nil)
			p.update(func(tx *state.Tx) error {
				state.Put(tx, state.Workspaces, &state.Workspace{ID: "ws-f9abcdefg", Spec: state.WorkspaceSpec{DirectoryID: subject}})
				return nil
			})
			p.add()
			p.change(func(d *state.Directory) { d.Registration = &state.Registration{State: Registering} })
			p.await(func(d *state.Directory) bool { return registered(d) && d.Status.Stage == StageActive })
			p.change(func(d *state.Directory) { d.Registration.State = Deregistering })
			p.await(func(d *state.Directory) bool { return d.Registration.Backoff.Attempts >= 3 })
			p.update(func(tx *state.Tx) error {
				state.Delete(tx, state.Workspaces, "ws-f9abcdefg")
				return nil
			})
			p.await(unregistered)
		})
	})
}
