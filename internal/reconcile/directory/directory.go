// Package directory holds the plans of directories: making and removing their domains, registering and deregistering them with WorkSpaces.
//
// It refuses to know a domain controller (driver.Domain), users (directory/ad) and the API (service/*).
package directory

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"carrel/internal/clock"
	"carrel/internal/driver"
	"carrel/internal/reconcile"
	"carrel/internal/seal"
	"carrel/internal/state"
)

// The stages of a directory that the plans know (ds DirectoryStage, aws-behaviour 4.7).
const (
	StageRequested = "Requested"
	StageCreating  = "Creating"
	StageCreated   = "Created"
	StageActive    = "Active"
	StageDeleting  = "Deleting"
	StageFailed    = "Failed"
)

// The states of a registration (WorkspaceDirectoryState).
const (
	Registering   = "REGISTERING"
	Registered    = "REGISTERED"
	Deregistering = "DEREGISTERING"
	RegisterError = "ERROR"
)

// Config is what the reconciler of directories needs; all but the last four.
type Config struct {
	DB     *state.DB
	Clock  clock.Clock
	Random io.Reader
	Log    *slog.Logger
	Domain driver.Domain
	// Seal opens the first passwords of directories that are being made.
	Seal *seal.Key

	// Workers is how many directories are worked on at once; 16 when 0.
	Workers int
	// Resync is how often every record is looked at; 5 minutes when 0.
	Resync time.Duration
	// Sweep is how often domains and records are compared; 5 minutes when 0.
	Sweep time.Duration
	// Observe is told of every step; may be nil.
	Observe func(reconcile.Event)
}

// Reconciler carries out the plans of all directories.
type Reconciler struct {
	*planner
	engine *reconcile.Engine[state.Directory]
	sweep  time.Duration
}

// New makes the reconciler. Call it before the DB's Run, then Run it.
func New(cfg Config) (*Reconciler, error) {
	if cfg.Random == nil || cfg.Domain == nil || cfg.Seal == nil {
		return nil, errors.New("directory: a reconciler needs Random, Domain and Seal")
	}
	p := newPlanner(cfg)
	engine, err := reconcile.New(reconcile.Config[state.Directory]{
		Name: "directory", DB: cfg.DB, Clock: cfg.Clock, Log: cfg.Log, Table: state.Directories, Choose: p.choose,
		Workers: cfg.Workers, Resync: cfg.Resync, Observe: cfg.Observe,
	})
	if err != nil {
		return nil, err
	}
	return &Reconciler{planner: p, engine: engine, sweep: cfg.Sweep}, nil
}

// Depth is how many directories are ready to be worked on, being worked on, and waiting for their time.
func (r *Reconciler) Depth() (ready, working, waiting int) { return r.engine.Depth() }

// Run reconciles and sweeps until ctx ends, and returns nil then.
func (r *Reconciler) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.engine.Run(ctx) })
	sweeper := &reconcile.Sweeper{Sweep: r.Sweep, Clock: r.clock, Log: r.log, Every: r.sweep}
	g.Go(func() error { return sweeper.Run(ctx) })
	return g.Wait()
}

type (
	plan   = reconcile.Plan[state.Directory]
	step   = reconcile.Step[state.Directory]
	effect = reconcile.Effect[state.Directory]
	record = state.Directory
)

// planner builds the plans and chooses between them.
type planner struct {
	db         *state.DB
	clock      clock.Clock
	random     io.Reader
	log        *slog.Logger
	domain     driver.Domain
	seal       *seal.Key
	create     *plan
	remove     *plan
	register   *plan
	deregister *plan
}

func newPlanner(cfg Config) *planner {
	p := &planner{db: cfg.DB, clock: cfg.Clock, random: cfg.Random, log: cfg.Log, domain: cfg.Domain, seal: cfg.Seal}
	stage := func(rec *record) *state.Backoff { return &rec.Status.Backoff }
	registration := func(rec *record) *state.Backoff { return &rec.Registration.Backoff }
	p.create = &plan{Name: "create", Backoff: stage, Failed: createFailed,
		Steps: []step{p.begin(), p.addresses(), p.provision(), p.activate()}}
	p.remove = &plan{Name: "delete", Backoff: stage, Steps: []step{p.removeDomain(), p.forget()}}
	p.register = &plan{Name: "register", Backoff: registration, Failed: registerFailed,
		Steps: []step{p.code(), p.members(), p.announceRegistered()}}
	p.deregister = &plan{Name: "deregister", Backoff: registration, Steps: []step{p.empty(), p.unregister()}}
	return p
}

// plans lists all plans.
func (p *planner) plans() []*plan {
	return []*plan{p.create, p.remove, p.register, p.deregister}
}

// choose is the state machine: what to do about a directory, from its record alone. A registration waits for its directory.
func (p *planner) choose(rec *record, _ time.Time) reconcile.Choice[record] {
	switch reg := rec.Registration; {
	case rec.Status.Stage == StageRequested || rec.Status.Stage == StageCreating || rec.Status.Stage == StageCreated:
		return reconcile.Choice[record]{Plan: p.create}
	case reg != nil && reg.State == Deregistering:
		return reconcile.Choice[record]{Plan: p.deregister}
	case rec.Status.Stage == StageDeleting:
		return reconcile.Choice[record]{Plan: p.remove}
	case reg != nil && reg.State == Registering && rec.Status.Stage == StageActive:
		return reconcile.Choice[record]{Plan: p.register}
	}
	return reconcile.Choice[record]{}
}

func createFailed(rec *record, now time.Time, err error) bool {
	final := driver.AsPermanent(err)
	if final == nil {
		return false
	}
	enterStage(rec, StageFailed, now)
	rec.Spec.AdminPassword = ""
	rec.Status.StageReason = fmt.Sprintf("%s: %v", final.Code, final.Err)
	return true
}

func registerFailed(rec *record, now time.Time, err error) bool {
	if driver.AsPermanent(err) == nil {
		return false
	}
	enter(rec, RegisterError, now)
	// The account is cleared before; this is what is left to read of why.
	rec.Registration.Backoff.Error = err.Error()
	return true
}

func enterStage(rec *record, to string, now time.Time) {
	if rec.Status.Stage != to {
		rec.Status.Stage, rec.Status.StageSince, rec.Status.StageReason = to, now, ""
	}
}

func enter(rec *record, to string, now time.Time) {
	if rec.Registration.State != to {
		rec.Registration.State, rec.Registration.Since = to, now
	}
}
