package workspace

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"carrel/internal/clock"
	"carrel/internal/driver"
	"carrel/internal/driver/sim"
	"carrel/internal/evidence"
	"carrel/internal/ident"
	"carrel/internal/reconcile"
	"carrel/internal/state"
	"carrel/internal/state/memory"
)

const (
	testDirectory = ident.DirectoryID("d-90670a1b2c")
	testBundle    = ident.BundleID("wsb-bh8rsxt14")
	testSubnet    = ident.SubnetID("subnet-0a1b2c3d4e5f60718")
	testVPC       = ident.VPCID("vpc-0a1b2c3d4e5f60718")
)

// world is what outlives a process: the store, the simulated host, the evidence, the time.
type world struct {
	t     *testing.T
	dir   string
	store *memory.Store
	clock *clock.Movable
	key   evidence.PrivateKey
	sim   *sim.Sim
	log   *evidence.Log
}

// newWorld must be called in the bubble of the test.
func newWorld(t *testing.T) *world {
	t.Helper()
	key, err := evidence.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	w := &world{t: t, dir: t.TempDir(), store: memory.New(), clock: &clock.Movable{}, key: key}
	w.open()
	t.Cleanup(w.close)
	p := w.run(nil)
	p.update(func(tx *state.Tx) error {
		state.Put(tx, state.VPCs, &state.VPC{ID: testVPC, CIDR: "10.0.0.0/16"})
		state.Put(tx, state.Subnets, &state.Subnet{ID: testSubnet, VPCID: testVPC, CIDR: "10.0.1.0/24"})
		state.Put(tx, state.Bundles, &state.Bundle{ID: testBundle, ImageID: "wsi-0a1b2c3d4"})
		state.Put(tx, state.Directories, &state.Directory{ID: testDirectory, Spec: state.DirectorySpec{VPCID: testVPC},
			Registration: &state.Registration{State: "REGISTERED", SubnetIDs: []ident.SubnetID{testSubnet}, MembersGroupID: "sg-0a1b2c3d4e5f60718"}})
		return nil
	})
	p.stop()
	return w
}

func (w *world) open() {
	w.t.Helper()
	var err error
	if w.sim, err = sim.Open(sim.Config{Dir: filepath.Join(w.dir, "sim"), Clock: w.clock, Random: rand.Reader}); err != nil {
		w.t.Fatal(err)
	}
	if w.log, err = evidence.Open(filepath.Join(w.dir, "evidence"), w.key, w.clock); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) close() {
	if err := w.sim.Close(); err != nil {
		w.t.Error(err)
	}
	if err := w.log.Close(); err != nil {
		w.t.Error(err)
	}
}

// process is one run of the control plane.
type process struct {
	world *world
	db    *state.DB
	rec   *Reconciler
	// changed receives after every change of a WorkSpace.
	changed chan struct{}
	ctx     context.Context
	kill    context.CancelFunc
	done    sync.WaitGroup
}

// run starts a process. prepare may change it before it runs.
func (w *world) run(prepare func(*process)) *process {
	w.t.Helper()
	ctx, kill := context.WithCancel(context.Background())
	p := &process{world: w, changed: make(chan struct{}, 1), ctx: ctx, kill: kill}
	w.t.Cleanup(p.stop)
	log := slog.New(slog.DiscardHandler)
	var err error
	if p.db, err = state.Open(ctx, w.store, w.clock, state.WithLogger(log)); err != nil {
		w.t.Fatal(err)
	}
	p.db.Subscribe(state.WorkspaceTable, func(string, bool) {
		select {
		case p.changed <- struct{}{}:
		default:
		}
	})
	p.rec, err = New(Config{
		DB: p.db, Clock: w.clock, Random: rand.Reader, Log: log, Evidence: w.log,
		Drivers: Drivers{w.sim.Hypervisor(), w.sim.Volumes(), w.sim.Fabric(), w.sim.Display()},
		Observe: func(e reconcile.Event) { p.observed(e) },
	})
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

// observed is replaced by tests through observe.
func (p *process) observed(e reconcile.Event) {
	if f, ok := p.ctx.Value(observerKey{}).(func(reconcile.Event)); ok {
		f(e)
	}
}

type observerKey struct{}

// observe lets f see every step; to be called in prepare.
func (p *process) observe(f func(reconcile.Event)) {
	p.ctx = context.WithValue(p.ctx, observerKey{}, f)
}

// stop ends the process, as a kill does: nothing is finished or said.
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

// change changes a WorkSpace's record as the API would.
func (p *process) change(id ident.WorkspaceID, fn func(*state.Workspace)) {
	p.world.t.Helper()
	p.update(func(tx *state.Tx) error {
		rec, ok := state.Get(tx, state.Workspaces, string(id))
		if !ok {
			p.world.t.Fatalf("no WorkSpace %s", id)
		}
		next := state.Clone(rec)
		fn(next)
		state.Put(tx, state.Workspaces, next)
		return nil
	})
}

// add puts a new WorkSpace as CreateWorkspaces does.
func (p *process) add(id ident.WorkspaceID, user string) {
	p.world.t.Helper()
	p.update(func(tx *state.Tx) error {
		state.Put(tx, state.Workspaces, &state.Workspace{
			Meta: state.Meta{Created: tx.Now()}, ID: id,
			Spec: state.WorkspaceSpec{DirectoryID: testDirectory, UserName: user, BundleID: testBundle, RunningMode: "ALWAYS_ON",
				RootGiB: 80, UserGiB: 50, Compute: "STANDARD", Power: state.PowerRunning},
			Status: state.WorkspaceStatus{State: Pending, Since: tx.Now()},
		})
		return nil
	})
}

func (p *process) get(id ident.WorkspaceID) (*state.Workspace, bool) {
	return state.Get(p.db.Snapshot(), state.Workspaces, string(id))
}

// await waits until the record is as wanted. false: the process was killed before.
func (p *process) await(id ident.WorkspaceID, wanted func(*state.Workspace) bool) bool {
	p.world.t.Helper()
	limit := time.After(24 * time.Hour)
	for {
		rec, _ := p.get(id)
		if wanted(rec) {
			return true
		}
		select {
		case <-p.changed:
		case <-p.ctx.Done():
			return false
		case <-limit:
			p.world.t.Fatalf("WorkSpace %s does not get there: %+v", id, rec)
		}
	}
}

func in(s string) func(*state.Workspace) bool {
	return func(rec *state.Workspace) bool { return rec != nil && rec.Status.State == s }
}

func gone(rec *state.Workspace) bool { return rec == nil }

// lists are the ids of all that the drivers have.
func (w *world) lists() (machines []driver.Machine, volumes []driver.Volume, nics []driver.NIC) {
	w.t.Helper()
	ctx := context.Background()
	var errs [3]error
	machines, errs[0] = w.sim.Hypervisor().List(ctx)
	volumes, errs[1] = w.sim.Volumes().List(ctx)
	nics, errs[2] = w.sim.Fabric().List(ctx)
	for _, err := range errs {
		if err != nil {
			w.t.Fatal(err)
		}
	}
	return machines, volumes, nics
}

// wantDesktop checks that the drivers have exactly one whole desktop, the record's.
func (w *world) wantDesktop(rec *state.Workspace, is driver.MachineState) {
	w.t.Helper()
	machines, volumes, nics := w.lists()
	if len(machines) != 1 || machines[0].WorkspaceID != rec.ID || machines[0].State != is {
		w.t.Errorf("machines: %+v, want one of %s, %s", machines, rec.ID, is)
	}
	if len(volumes) != 2 || volumes[0].Erased || volumes[1].Erased {
		w.t.Errorf("volumes: %+v, want two that are not erased", volumes)
	}
	if len(nics) != 1 || nics[0].InterfaceID != rec.Status.Interface || nics[0].Address != rec.Status.IPAddress {
		w.t.Errorf("network interfaces: %+v, want %s with %s", nics, rec.Status.Interface, rec.Status.IPAddress)
	}
}

// wantNothing checks that nothing is left of any desktop, in the drivers, on the simulated host's disk and in the records.
func (w *world) wantNothing(db *state.DB, users ...string) {
	w.t.Helper()
	machines, volumes, nics := w.lists()
	if len(machines)+len(volumes)+len(nics) != 0 {
		w.t.Errorf("left over: machines %+v, volumes %+v, interfaces %+v", machines, volumes, nics)
	}
	for _, dir := range []string{"memory", "keys"} {
		files, err := os.ReadDir(filepath.Join(w.dir, "sim", dir))
		if err != nil || len(files) != 0 {
			w.t.Errorf("left over in %s: %v, %v", dir, files, err)
		}
	}
	for i := range state.All(db.Snapshot(), state.Interfaces) {
		w.t.Errorf("left over: address %+v", i)
	}
	for _, u := range users {
		for rec := range state.AllBy(db.Snapshot(), state.Workspaces, state.WorkspacesByUser, state.UserKey(testDirectory, u)) {
			w.t.Errorf("%s still has %s", u, rec.ID)
		}
	}
}

// certificates verifies the whole evidence with the public key alone and gives the certificates of a desktop.
func (w *world) certificates(id ident.WorkspaceID) []*evidence.ScrubCertificate {
	w.t.Helper()
	data, err := os.ReadFile(filepath.Join(w.dir, "evidence"))
	if err != nil {
		w.t.Fatal(err)
	}
	if _, err := evidence.Verify(bytes.NewReader(data), w.key.Public(), evidence.Options{}); err != nil {
		w.t.Errorf("the evidence does not verify: %v", err)
	}
	var out []*evidence.ScrubCertificate
	for rec, err := range w.log.Records(evidence.KindScrub, string(id)) {
		if err != nil {
			w.t.Fatal(err)
		}
		c, err := evidence.Scrub(rec)
		if err != nil {
			w.t.Fatal(err)
		}
		out = append(out, c)
	}
	return out
}

// wantCertificate checks that there is one certificate of a desktop, that it is valid and names the keys of both disks.
func (w *world) wantCertificate(id ident.WorkspaceID) {
	w.t.Helper()
	certs := w.certificates(id)
	if len(certs) != 1 {
		w.t.Fatalf("%d certificates of %s, want 1", len(certs), id)
	}
	c := certs[0]
	if err := c.Validate(); err != nil || !c.Simulated {
		w.t.Errorf("certificate %+v: %v", c, err)
	}
	if n := len(c.VolumeKeysDestroyed); n < 2 || n > 3 {
		w.t.Errorf("the certificate names %d destroyed keys: %+v", n, c.VolumeKeysDestroyed)
	}
}
