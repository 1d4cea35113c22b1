package app

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"fmt"
	"time"

	"carrel/internal/api/cloudtrail"
	"carrel/internal/api/ds"
	"carrel/internal/api/dsdata"
	"carrel/internal/api/ec2"
	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/api/workspaces"
	"carrel/internal/audit"
	"carrel/internal/authz"
	"carrel/internal/awsproto"
	"carrel/internal/bootstrap"
	"carrel/internal/clock"
	"carrel/internal/config"
	"carrel/internal/driver"
	"carrel/internal/driver/sim"
	"carrel/internal/front"
	"carrel/internal/gateway"
	"carrel/internal/ident"
	"carrel/internal/identity"
	"carrel/internal/metrics"
	"carrel/internal/operator"
	"carrel/internal/reconcile"
	"carrel/internal/reconcile/network"
	"carrel/internal/region"
	"carrel/internal/service"
	svccloudtrail "carrel/internal/service/cloudtrail"
	svcds "carrel/internal/service/ds"
	svcdsdata "carrel/internal/service/dsdata"
	svcec2 "carrel/internal/service/ec2"
	svciam "carrel/internal/service/iam"
	svcsts "carrel/internal/service/sts"
	svcworkspaces "carrel/internal/service/workspaces"
	"carrel/internal/state"
	"carrel/internal/throttle"
)

// APIs are the services that the API door decodes.
func APIs() []*shape.Service {
	return []*shape.Service{workspaces.Service, ds.Service, dsdata.Service, sts.Service, iam.Service, ec2.Service, cloudtrail.Service}
}

// initialise makes the first records, or checks that the configuration is still the one they were made with; then it sees to it that
// the simulated domains of the directories exist.
func (h *house) initialise(ctx context.Context) error {
	c := h.conf
	r, err := bootstrap.Ensure(ctx, h.db, bootstrap.Options{AccountID: c.AccountID, Region: c.Region, Partition: c.Partition, Simulate: c.Simulate, Rand: random})
	if err != nil {
		return err
	}
	h.installation, h.rootKey = r.Installation, r.RootKey
	if r.First {
		h.log.Info("a new installation was made", "account", r.Installation.AccountID, "region", r.Installation.Region, "state", c.State.Dir)
	}
	if c.Simulate {
		for d := range state.All(h.db.Snapshot(), state.Directories) {
			if err := h.provision(ctx, d); err != nil {
				return err
			}
		}
	}
	return nil
}

// provision makes the simulated domain of a directory that was written as Active: there its reconciler has nothing to do.
func (h *house) provision(ctx context.Context, d *state.Directory) error {
	if d.Status.Stage != "Active" {
		return nil
	}
	spec := driver.DomainSpec{DirectoryID: d.ID, Type: d.Spec.Type, Name: d.Spec.Name, ShortName: d.Spec.ShortName, VPC: d.Spec.VPCID}
	for i, subnet := range d.Spec.SubnetIDs {
		if i < len(d.Status.DNSAddresses) {
			spec.Controllers = append(spec.Controllers, driver.DomainController{Subnet: subnet, Address: d.Status.DNSAddresses[i]})
		}
	}
	if _, err := h.desks.Domain.Provision(ctx, spec); err != nil {
		return fmt.Errorf("simulated domain of %s: %w", d.ID, err)
	}
	return h.firstPasswords(ctx, d.ID)
}

// simTimes spreads the times that the configuration gives for whole plans over the simulated drivers' steps.
func simTimes(c config.Simulation) sim.Times {
	t := sim.DefaultTimes()
	// A create is three volumes' worth of small steps, a start and a display: the start takes what is left.
	small := 2*t.Volume + t.Attach + t.Display
	t.Start = max(c.Create-small, time.Millisecond)
	t.Resume = max(c.Start-t.Display, time.Millisecond)
	t.Stop = c.Stop
	t.Reboot = max(c.Reboot-t.Display, time.Millisecond)
	t.Scrub = max(c.Terminate-2*t.Erase-t.Detach, time.Millisecond)
	return t
}

// handlers binds every handler. The test of docs/divergences.md asks it which operations are carried out; then the DB may be missing.
func (h *house) handlers() service.Table {
	i := h.installation
	limits := svcworkspaces.DefaultLimits()
	users := telling{h.desks.Users, h.watch.endSessionsOf}
	limits.Workspaces, limits.IPGroups, limits.Directories = h.conf.Limits.Workspaces, h.conf.Limits.IPGroups, h.conf.Limits.Directories
	t := service.Table{}
	svcworkspaces.New(svcworkspaces.Deps{DB: h.db, Directory: h.desks.Users, Clock: h.clock, Rand: random, Limits: limits,
		Account: i.AccountID, Region: i.Region, Partition: i.Partition, TokenKey: h.tokenKey()}).Bind(t)
	(&svcds.Service{DB: h.db, Users: users, Seal: h.seal, Rand: random, MaxDirectories: h.conf.Limits.Directories}).Bind(t)
	(&svcdsdata.Service{DB: h.db, Users: users}).Bind(t)
	sessions := &svcsts.Service{DB: h.db, Tokens: h.tokens, Clock: clock.System{}, Rand: random, AccountID: i.AccountID, Partition: i.Partition}
	sessions.Bind(t)
	h.federation(sessions).Bind(t)
	(&svciam.Service{DB: h.db, AccountID: i.AccountID, Partition: i.Partition, Rand: random,
		MaxUsers: h.conf.Limits.Users, MaxGroups: h.conf.Limits.Groups, MaxRoles: h.conf.Limits.Roles, MaxPolicies: h.conf.Limits.Policies,
		LastUsed:     func(id ident.AccessKeyID) (svciam.LastUse, bool) { return h.lastUse(string(id)) },
		RoleLastUsed: func(id ident.RoleID) (svciam.LastUse, bool) { return h.lastUse(string(id)) }}).Bind(t)
	(&svcec2.Service{DB: h.db, AccountID: i.AccountID, Region: i.Region, Partition: i.Partition, Zones: region.Zones(i.Region)}).Bind(t)
	var records svccloudtrail.Records
	if h.audit != nil {
		records = h.audit.Reader()
	}
	// Records are stamped by the machine's clock, whatever the simulation's time is.
	svccloudtrail.New(svccloudtrail.Deps{Records: records, Clock: clock.System{}, Rand: random, TokenKey: h.tokenKey(),
		AccountID: i.AccountID, Region: i.Region, Partition: i.Partition}).Bind(t)
	return t
}

// lastUse is what iam tells of a key or role.
func (h *house) lastUse(id string) (svciam.LastUse, bool) {
	use, ok := h.uses.Last(id)
	return svciam.LastUse{At: use.At, Service: use.Service, Region: use.Region}, ok
}

// tokenKey is the same on every node and after every restart, so that a page token outlives both.
func (h *house) tokenKey() (key [32]byte) {
	mac := hmac.New(sha256.New, []byte(h.rootKey.Secret.Reveal()))
	mac.Write([]byte("carrel page tokens"))
	copy(key[:], mac.Sum(nil))
	return key
}

// background are the parts behind the doors.
func (h *house) background() []func(context.Context) error {
	return []func(context.Context) error{
		h.audit.Run,
		h.workspaces.Run,
		h.directories.Run,
		func(ctx context.Context) error {
			return h.certificates.Run(ctx, func(err error) { h.log.Error("certificates not renewed", "error", err) })
		},
		h.watchStore,
		h.watch.Run,
		h.sweepNetworks,
		h.presence.Run,
		h.tokens.Run,
		h.uses.Run,
		collect,
	}
}

// sweepNetworks ends the networks of VPCs that are no more. Simulated hosts have none.
func (h *house) sweepNetworks(ctx context.Context) error {
	if h.desks.VPCs == nil {
		<-ctx.Done()
		return nil
	}
	s := &reconcile.Sweeper{Clock: h.clock, Log: h.log, Sweep: func(ctx context.Context) error { return network.Sweep(ctx, h.db, h.desks.VPCs, h.log) }}
	return s.Run(ctx)
}

// farewell waits for the end and then tells everybody at a screen that Carrel is shutting down: an HTTP server forgets the connections that
// became WebSockets.
func (h *house) farewell(ctx context.Context) error {
	<-ctx.Done()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), front.Grace)
	defer cancel()
	if err := h.sessions.Shutdown(end); err != nil {
		h.log.Warn("not everybody at a screen has answered the farewell", "error", err)
	}
	return nil
}

// watchStore ends when the store has failed for good.
func (h *house) watchStore(ctx context.Context) error {
	select {
	case <-ctx.Done():
		return nil
	case <-h.store.Failed():
		return fmt.Errorf("the state store failed: %w", h.store.Err())
	}
}

func (h *house) observeStep(e reconcile.Event) {
	switch e.Phase {
	case reconcile.Recorded:
		h.metrics.Step(e.Engine+" "+e.Plan, e.Step, nil)
	case reconcile.Failed:
		h.metrics.Step(e.Engine+" "+e.Plan, e.Step, e.Err)
	}
}

// ready tells what is not well.
func (h *house) ready() error {
	if err := h.db.Health(); err != nil {
		return fmt.Errorf("state: %w", err)
	}
	if err := h.audit.Health(); err != nil {
		return fmt.Errorf("audit: %w", err)
	}
	return nil
}

// doors builds the listeners' servers.
func (h *house) doors(l *listeners, p Process) ([]func(context.Context) error, error) {
	codec, err := awsproto.NewCodec(APIs()...)
	if err != nil {
		return nil, err
	}
	tlsConf, err := h.certificates.ServerTLS(h.conf.TLSFloor())
	if err != nil {
		return nil, err
	}
	r := h.conf.Requests
	limits := front.Limits{Header: r.HeaderTimeout, Body: r.BodyTimeout, Deadline: r.Deadline, Idle: r.IdleTimeout}
	i := h.installation
	h.authz = &authz.Authorizer{DB: h.db, Account: i.AccountID, Region: i.Region, Partition: i.Partition, Encode: h.encode}
	door := &front.Door{
		Codec: codec, Handlers: h.handlers(), Audit: h.audit, AuditFailure: audit.Failure(h.conf.Audit.OnFailure), Strangers: h.strangers, Observer: h.metrics, Clock: clock.System{}, Rand: random, Log: h.log,
		Auth:      identity.New(identity.Config{DB: h.db, Clock: clock.System{}, Tokens: h.tokens, Uses: h.uses, Account: i.AccountID, Region: i.Region, Partition: i.Partition}),
		Authz:     h.authz,
		AccountID: i.AccountID, Region: i.Region, MaxBody: r.MaxBodyBytes, Deadline: r.Deadline,
	}
	if r.Throttle == config.ThrottleAWS {
		door.Throttle = throttle.New(clock.System{}, throttle.AWSLike)
	}
	api := front.NewServer(door, limits, h.log)
	api.TLSConfig = tlsConf.Clone()

	people, err := h.portal(l)
	if err != nil {
		return nil, err
	}
	portal := front.NewServer(people.Handler(), limits, h.log)
	portal.TLSConfig = tlsConf.Clone()
	plain := front.NewServer(people.Plain(), limits, h.log)
	split := gateway.NewSplit(l.portal, r.HeaderTimeout)

	ops := front.NewServer((&operator.Door{Status: func() operator.Status { return h.status(l, p) }, Backup: h.backup, Simulation: h.simulation(), AddUser: h.addUser, Access: access{h}}).Handler(), limits, h.log)
	// A backup takes as long as it takes: backupTimeout bounds it.
	ops.WriteTimeout = 0
	doors := []func(context.Context) error{
		func(ctx context.Context) error { return front.ServeTLS(ctx, l.api, api) },
		split.Run,
		people.Run,
		func(ctx context.Context) error { return front.ServeTLS(ctx, split.TLS(), portal) },
		func(ctx context.Context) error { return front.ServePlain(ctx, split.Plain(), plain) },
		func(ctx context.Context) error { return front.ServePlain(ctx, l.ops, ops) },
		h.farewell,
		func(ctx context.Context) error { return door.Strangers.Run(ctx, door) },
	}
	if l.metrics != nil {
		m := front.NewServer(h.metrics.Handler(h.conf.Metrics.Pprof), limits, h.log)
		// A profile takes as long as it is asked to.
		m.WriteTimeout = 0
		doors = append(doors, func(ctx context.Context) error { return front.ServePlain(ctx, l.metrics, m) })
	}
	return doors, nil
}

var _ front.Observer = (*metrics.Metrics)(nil)

// encode seals a decision for EC2's encoded authorization message, which sts:DecodeAuthorizationMessage opens.
func (h *house) encode(ctx context.Context, text string) (string, error) {
	return h.tokens.SealMessage(ctx, text)
}
