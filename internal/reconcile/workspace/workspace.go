// Package workspace holds the plans of a WorkSpace: how its record and its desktop become what they should be, a file per step.
//
// It refuses to know a hypervisor (driver) or an API (service/workspaces). What it never does: free a desktop's record, name or address
// while memory of it may still exist, or say AVAILABLE of a desktop that does not run.
package workspace

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"golang.org/x/sync/errgroup"

	"carrel/internal/clock"
	"carrel/internal/driver"
	"carrel/internal/reconcile"
	"carrel/internal/state"
)

// The states of a WorkSpace that the plans know (aws-behaviour 4.20).
const (
	Pending     = "PENDING"
	Available   = "AVAILABLE"
	Unhealthy   = "UNHEALTHY"
	Rebooting   = "REBOOTING"
	Starting    = "STARTING"
	Stopping    = "STOPPING"
	Stopped     = "STOPPED"
	Terminating = "TERMINATING"
	Terminated  = "TERMINATED"
	Error       = "ERROR"
)

// Drivers are what desktops are made with.
type Drivers struct {
	Hypervisor driver.Hypervisor
	Volumes    driver.Volumes
	Fabric     driver.Fabric
	Display    driver.Display
}

// Config is what the reconciler of WorkSpaces needs; all but the last four.
type Config struct {
	DB      *state.DB
	Clock   clock.Clock
	Random  io.Reader
	Log     *slog.Logger
	Drivers Drivers
	// Evidence keeps the scrub certificates: an *evidence.Log.
	Evidence Evidence

	// Workers is how many desktops are worked on at once; 16 when 0.
	Workers int
	// Resync is how often every record is looked at; 5 minutes when 0.
	Resync time.Duration
	// Sweep is how often drivers and records are compared; 5 minutes when 0.
	Sweep time.Duration
	// Observe is told of every step; may be nil.
	Observe func(reconcile.Event)
}

// Reconciler carries out the plans of all WorkSpaces.
type Reconciler struct {
	*planner
	engine *reconcile.Engine[state.Workspace]
	sweep  time.Duration
	// now asks for a sweep.
	now chan struct{}
}

// New makes the reconciler. Call it before the DB's Run, then Run it.
func New(cfg Config) (*Reconciler, error) {
	d := cfg.Drivers
	if cfg.Random == nil || cfg.Evidence == nil || d.Hypervisor == nil || d.Volumes == nil || d.Fabric == nil || d.Display == nil {
		return nil, errors.New("workspace: a reconciler needs Random, Evidence and all drivers")
	}
	p := newPlanner(cfg)
	engine, err := reconcile.New(reconcile.Config[state.Workspace]{
		Name: "workspace", DB: cfg.DB, Clock: cfg.Clock, Log: cfg.Log, Table: state.Workspaces, Choose: p.choose,
		Workers: cfg.Workers, Resync: cfg.Resync, Observe: cfg.Observe,
	})
	if err != nil {
		return nil, err
	}
	return &Reconciler{planner: p, engine: engine, sweep: cfg.Sweep, now: make(chan struct{}, 1)}, nil
}

// Look compares drivers and records soon instead of at the next sweep: for whoever has seen that a desktop is not what its record says.
func (r *Reconciler) Look() {
	select {
	case r.now <- struct{}{}:
	default: // It is asked for already.
	}
}

// Depth is how many WorkSpaces are ready to be worked on, being worked on, and waiting for their time.
func (r *Reconciler) Depth() (ready, working, waiting int) { return r.engine.Depth() }

// Run reconciles and sweeps until ctx ends, and returns nil then.
func (r *Reconciler) Run(ctx context.Context) error {
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return r.engine.Run(ctx) })
	sweeper := &reconcile.Sweeper{Sweep: r.Sweep, Clock: r.clock, Log: r.log, Every: r.sweep, Now: r.now}
	g.Go(func() error { return sweeper.Run(ctx) })
	return g.Wait()
}

// planner builds the plans and chooses between them.
type planner struct {
	db       *state.DB
	clock    clock.Clock
	random   io.Reader
	log      *slog.Logger
	drivers  Drivers
	certify  *certifier
	create   *plan
	start    *plan
	recover  *plan
	stop     *plan
	autostop *plan
	reboot   *plan
	end      *plan
}

type (
	plan   = reconcile.Plan[state.Workspace]
	step   = reconcile.Step[state.Workspace]
	effect = reconcile.Effect[state.Workspace]
	record = state.Workspace
)

func newPlanner(cfg Config) *planner {
	p := &planner{db: cfg.DB, clock: cfg.Clock, random: cfg.Random, log: cfg.Log, drivers: cfg.Drivers}
	p.certify = &certifier{log: cfg.Evidence, random: cfg.Random, live: p.live}
	build := []step{p.place(), p.address(), p.volumes(), p.nic(), p.machine(), p.display(), p.announce()}
	p.create = p.plan("create", build)
	p.create.Failed = failedForGood
	p.start = p.plan("start", append([]step{p.begin(Starting)}, build...))
	p.start.Failed = failedForGood
	p.recover = p.plan("recover", []step{p.nic(), p.machine(), p.display(), p.announce()})
	p.stop = p.plan("stop", []step{p.begin(Stopping), p.save(), p.announceStopped()})
	p.autostop = p.plan("autostop", []step{p.idle()})
	p.reboot = p.plan("reboot", []step{p.begin(Rebooting), p.restart(), p.display(), p.announceReboot()})
	p.end = p.plan("terminate", []step{p.begin(Terminating), p.scrub(), p.erase(), p.sign(), p.release(), p.detach(), p.releaseVolumes(),
		p.announceTerminated(), p.forget()})
	return p
}

func (*planner) plan(name string, steps []step) *plan {
	return &plan{Name: name, Steps: steps, Backoff: func(rec *record) *state.Backoff { return &rec.Status.Backoff }, Delayed: delayed}
}

// plans lists all plans.
func (p *planner) plans() []*plan {
	return []*plan{p.create, p.start, p.recover, p.stop, p.autostop, p.reboot, p.end}
}

// choose is the state machine: what to do about a WorkSpace, from its record alone.
func (p *planner) choose(rec *record, now time.Time) reconcile.Choice[record] {
	switch rec.Spec.Power {
	case state.PowerTerminated:
		return reconcile.Choice[record]{Plan: p.end}
	case state.PowerStopped:
		switch rec.Status.State {
		case Pending:
			// It must have been a desktop before it can be stopped.
			return reconcile.Choice[record]{Plan: p.create}
		case Available, Unhealthy, Error, Starting, Stopping, Rebooting:
			return reconcile.Choice[record]{Plan: p.stop}
		}
	case state.PowerRunning:
		switch rec.Status.State {
		case Pending:
			return reconcile.Choice[record]{Plan: p.create}
		case Stopped, Stopping, Starting:
			return reconcile.Choice[record]{Plan: p.start}
		case Rebooting:
			return reconcile.Choice[record]{Plan: p.reboot}
		case Unhealthy:
			return reconcile.Choice[record]{Plan: p.recover}
		case Available:
			if rec.Status.Reboots < rec.Spec.Reboots {
				return reconcile.Choice[record]{Plan: p.reboot}
			}
			return p.chooseIdle(rec, now)
		}
	}
	// ERROR, ADMIN_MAINTENANCE, SUSPENDED and the like wait for somebody to ask for something else.
	return reconcile.Choice[record]{}
}

// failedForGood makes a create or start that cannot succeed end in ERROR. An image that cannot be used is not that: once it is mended all
// desktops that waited for it go on, and nobody has to ask for each of them.
func failedForGood(rec *record, now time.Time, err error) bool {
	final := driver.AsPermanent(err)
	if final == nil || final.Code == driver.CodeImageUnusable {
		return false
	}
	enter(rec, Error, now)
	rec.Status.ErrorCode, rec.Status.ErrorMessage = final.Code, final.Err.Error()
	return true
}

// enter makes the record say that the WorkSpace is now in another state.
func enter(rec *record, to string, now time.Time) {
	if rec.Status.State != to {
		rec.Status.State, rec.Status.Since = to, now
	}
}

// begin is the step that shows what is going on, when the service has not done so already.
func (*planner) begin(to string) step {
	return step{
		Name:   "begin",
		Needed: func(rec *record) bool { return rec.Status.State != to && rec.Status.State != Terminated },
		Do: func(context.Context, *record) (effect, error) {
			return func(tx *state.Tx, rec *record) error {
				enter(rec, to, tx.Now())
				return nil
			}, nil
		},
	}
}
