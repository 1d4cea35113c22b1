package app

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"path/filepath"

	"carrel/internal/audit"
	"carrel/internal/authz"
	"carrel/internal/clock"
	"carrel/internal/config"
	"carrel/internal/display"
	"carrel/internal/driver/sim"
	"carrel/internal/evidence"
	"carrel/internal/front"
	"carrel/internal/identity"
	"carrel/internal/metrics"
	"carrel/internal/pki"
	"carrel/internal/reconcile/directory"
	"carrel/internal/reconcile/workspace"
	"carrel/internal/seal"
	"carrel/internal/state"
	"carrel/internal/state/etcd"
	"carrel/internal/webui"
)

// house holds the opened parts.
type house struct {
	conf *config.Config
	log  *slog.Logger
	// clock is what records, desktops and directories live by. Signatures, certificates, audit and evidence go by the machine's own:
	// clients live there (docs/adr/0004-two-clocks.md).
	clock *clock.Movable

	store        *etcd.Store
	db           *state.DB
	installation state.Installation
	rootKey      state.AccessKey
	authority    *pki.Authority
	certificates *pki.Server
	evidence     *evidence.Log
	audit        *audit.Writer
	// strangers bounds the records of those whom neither door knows.
	strangers *front.Strangers
	metrics   *metrics.Metrics
	// sim is nil when desktops are real.
	sim   *sim.Sim
	desks desks
	// seal keeps secrets on their way readable to this installation only.
	seal *seal.Key
	// tokens seals session tokens.
	tokens *identity.Tokens
	// uses knows when keys and roles signed last.
	uses *identity.Uses
	// authz decides for the API door; nil before the doors are built.
	authz *authz.Authorizer
	// pages are the portal's; sessions the live screens.
	pages       fs.FS
	sessions    display.Registry
	presence    *presence
	watch       *watch
	workspaces  *workspace.Reconciler
	directories *directory.Reconciler

	closers []func() error
}

// open opens everything that lives in the state directory, or nothing: on an error what was opened is closed again.
func open(ctx context.Context, conf *config.Config, subject pki.Subject, p Process) (h *house, err error) {
	log := newLog(conf.Log, p.Stderr)
	h = &house{conf: conf, log: log, clock: &clock.Movable{}, strangers: front.NewStrangers(clock.System{}), metrics: metrics.New(p.Version), pages: webui.Pages()}
	// h itself is nil by the time an error is returned.
	defer func(opened *house) {
		if err != nil {
			opened.close()
		}
	}(h)
	defer unhurried()()
	if h.store, err = openStore(ctx, conf, log); err != nil {
		return nil, err
	}
	h.later(h.store.Close)
	if h.db, err = state.Open(ctx, h.store, h.clock, state.WithLogger(log)); err != nil {
		return nil, err
	}
	h.tokens = identity.NewTokens(identity.TokensConfig{DB: h.db, Clock: clock.System{}, Rand: random, Log: log})
	h.uses = identity.NewUses(identity.UsesConfig{DB: h.db, Clock: clock.System{}, Log: log})
	h.watch = newWatch(h.db, &h.sessions)
	h.presence = &presence{db: h.db, sessions: &h.sessions, clock: h.clock, log: log, patience: conf.Requests.Deadline}
	if h.authority, err = pki.Open(pki.Options{Dir: filepath.Join(conf.State.Dir, "pki")}); err != nil {
		return nil, err
	}
	if h.seal, err = seal.Open(filepath.Join(conf.State.Dir, sealKey), random); err != nil {
		return nil, err
	}
	if h.evidence, err = openEvidence(conf.State.Dir, clock.System{}); err != nil {
		return nil, err
	}
	h.later(h.evidence.Close)
	if err = h.openAudit(); err != nil {
		return nil, err
	}
	if conf.Simulate {
		err = h.openSimulation()
	} else {
		err = h.openHost(ctx)
	}
	if err != nil {
		return nil, err
	}
	// Last of all, because it may write: a start that is refused leaves everything as it was.
	h.certificates, err = h.authority.Server(subject)
	return h, err
}

// openAudit opens the audit log. The account and the Region in records of its own are known by the time it runs.
func (h *house) openAudit() (err error) {
	conf := h.conf.Audit
	h.audit, err = audit.Open(audit.Config{
		Dir: conf.Dir, Evidence: h.evidence, Clock: clock.System{}, FileBytes: conf.MaxFileBytes, Failure: audit.Failure(conf.OnFailure), Rand: random, Log: h.log,
		Place: func() (account, region string) { return h.installation.AccountID, h.installation.Region },
	})
	if err != nil {
		return fmt.Errorf("%w; restore %s from a backup; nothing was changed in it", err, conf.Dir)
	}
	h.metrics.Gauge("carrel_audit_records_lost", "Audit records that could not be written since the start.", func() float64 { return float64(h.audit.Lost()) })
	return nil
}

func (h *house) later(close func() error) { h.closers = append(h.closers, close) }

// close closes in the reverse order of opening.
func (h *house) close() {
	for i := len(h.closers) - 1; i >= 0; i-- {
		if err := h.closers[i](); err != nil {
			h.log.Error("close", "error", err)
		}
	}
	h.closers = nil
}

func openStore(ctx context.Context, conf *config.Config, log *slog.Logger) (*etcd.Store, error) {
	if len(conf.Etcd.Endpoints) > 0 {
		e := conf.Etcd
		return etcd.External(ctx, etcd.ExternalConfig{Endpoints: e.Endpoints, CAFile: e.CAFile, CertFile: e.CertFile, KeyFile: e.KeyFile, Logger: log})
	}
	return etcd.Embedded(ctx, etcd.EmbeddedConfig{Dir: filepath.Join(conf.State.Dir, "etcd"), Logger: log})
}

// Restore writes a backup into a state directory that has no records yet.
func Restore(ctx context.Context, dir string, r io.Reader) error {
	if err := prepareDir(dir); err != nil {
		return err
	}
	store, err := openStore(ctx, &config.Config{State: config.State{Dir: dir}}, slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	_, err = state.Restore(ctx, store, r)
	return errors.Join(err, store.Close())
}

// openSimulation opens the simulated drivers and prepares the reconcilers.
func (h *house) openSimulation() error {
	var err error
	h.sim, err = sim.Open(sim.Config{Dir: filepath.Join(h.conf.State.Dir, "sim"), Clock: h.clock, Random: random, Times: simTimes(h.conf.Simulation)})
	if err != nil {
		return fmt.Errorf("simulated drivers: %w; restore it from a backup; nothing was changed in it", err)
	}
	h.later(h.sim.Close)
	d := h.sim.Domain()
	h.desks = desks{Hypervisor: h.sim.Hypervisor(), Volumes: h.sim.Volumes(), Fabric: h.sim.Fabric(), Display: h.sim.Display(), Domain: d, Screens: h.sim.Display(), Users: d, Auth: d}
	return h.openReconcilers()
}

// openReconcilers prepares what carries records out.
func (h *house) openReconcilers() (err error) {
	h.workspaces, err = workspace.New(workspace.Config{
		DB: h.db, Clock: h.clock, Random: random, Log: h.log, Evidence: h.evidence, Observe: h.observeStep,
		Drivers: workspace.Drivers{Hypervisor: h.desks.Hypervisor, Volumes: h.desks.Volumes, Fabric: h.desks.Fabric, Display: h.desks.Display},
	})
	if err != nil {
		return err
	}
	h.directories, err = directory.New(directory.Config{DB: h.db, Clock: h.clock, Random: random, Log: h.log, Domain: h.desks.Domain, Seal: h.seal, Observe: h.observeStep})
	return err
}
