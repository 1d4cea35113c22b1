package workspaces

import (
	"context"
	"crypto/rand"
	"errors"
	"io"
	"log/slog"
	"strings"
	"testing"
	"time"

	"carrel/internal/api/shape"
	api "carrel/internal/api/workspaces"
	"carrel/internal/awserr"
	"carrel/internal/clock"
	"carrel/internal/directory"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
	"carrel/internal/state/memory"
)

const (
	account = "123456789012"
	corp    = ident.DirectoryID("d-90670a1b2c") // registered
	other   = ident.DirectoryID("d-90670a1b2d") // Active, not registered
	vpcID   = ident.VPCID("vpc-0a1b2c3d4e5f60718")
	subnetA = ident.SubnetID("subnet-0a1b2c3d4e5f60711")
	subnetB = ident.SubnetID("subnet-0a1b2c3d4e5f60712")
	subnetC = ident.SubnetID("subnet-0a1b2c3d4e5f60713") // in the zone of subnetA
	subnetX = ident.SubnetID("subnet-0a1b2c3d4e5f60714") // in another VPC

	standard = ident.BundleID("wsb-std000001") // 80/50 STANDARD WSP, public
	graphics = ident.BundleID("wsb-gfx000001") // 100/100 GRAPHICS
	tiny     = ident.BundleID("wsb-tiny00001") // 8/2 VALUE: sizes AWS does not have
	mine     = ident.BundleID("wsb-mine00001") // the account's own
	foreign  = ident.BundleID("wsb-else00001") // another account's
	pending  = ident.BundleID("wsb-wait00001")
)

// people is a directory that behaves: names compare without regard to case, and it can be away.
type people struct {
	users map[ident.DirectoryID]map[string]directory.User
	away  map[ident.DirectoryID]bool
}

func (p *people) Lookup(ctx context.Context, id ident.DirectoryID, name string) (directory.User, error) {
	if ctx.Err() != nil || p.away[id] {
		return directory.User{}, directory.ErrUnavailable
	}
	users, ok := p.users[id]
	if !ok {
		return directory.User{}, directory.ErrNoDirectory
	}
	u, ok := users[strings.ToLower(name)]
	if !ok {
		return directory.User{}, directory.ErrNoUser
	}
	return u, nil
}

type world struct {
	*Service
	t     testing.TB
	clock *clock.Movable
	dir   *people
}

// open makes a service on an empty store; change may alter its dependencies.
func open(t testing.TB, change ...func(*Deps)) *world {
	t.Helper()
	clk := &clock.Movable{}
	store := memory.New()
	db, err := state.Open(context.Background(), store, clk, state.WithLogger(slog.New(slog.NewTextHandler(io.Discard, nil))))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- db.Run(ctx) }()
	t.Cleanup(func() {
		if err := db.CheckShared(context.Background()); err != nil {
			t.Error(err)
		}
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
		store.Close()
	})
	dir := &people{away: map[ident.DirectoryID]bool{}, users: map[ident.DirectoryID]map[string]directory.User{
		corp:  {"ada": {Name: "Ada", SID: "S-1-5-21-1-1000", Enabled: true}, "grace": {Name: "grace", SID: "S-1-5-21-1-1001", Enabled: true}},
		other: {"ada": {Name: "ada", SID: "S-1-5-21-2-1000", Enabled: true}},
	}}
	deps := Deps{DB: db, Directory: dir, Clock: clk, Rand: rand.Reader, Account: account, Region: "us-east-1", Partition: "aws"}
	for _, c := range change {
		c(&deps)
	}
	return &world{Service: New(deps), t: t, clock: clk, dir: dir}
}

// furnish opens a service on the network, directories and bundles above.
func furnish(t testing.TB, change ...func(*Deps)) *world {
	t.Helper()
	w := open(t, change...)
	put(w, state.VPCs, &state.VPC{ID: vpcID, CIDR: "10.0.0.0/16"}, &state.VPC{ID: "vpc-0a1b2c3d4e5f60799", CIDR: "10.1.0.0/16"})
	put(w, state.Subnets,
		&state.Subnet{ID: subnetA, VPCID: vpcID, CIDR: "10.0.1.0/24", Zone: "us-east-1a", ZoneID: "use1-az1"},
		&state.Subnet{ID: subnetB, VPCID: vpcID, CIDR: "10.0.2.0/24", Zone: "us-east-1b", ZoneID: "use1-az2"},
		&state.Subnet{ID: subnetC, VPCID: vpcID, CIDR: "10.0.3.0/24", Zone: "us-east-1a", ZoneID: "use1-az1"},
		&state.Subnet{ID: subnetX, VPCID: "vpc-0a1b2c3d4e5f60799", CIDR: "10.1.1.0/24", Zone: "us-east-1b", ZoneID: "use1-az2"})
	registration := NewRegistration([]ident.SubnetID{subnetA, subnetB}, w.clock.Now())
	registration.State, registration.Code, registration.MembersGroupID = "REGISTERED", "WSiad+ABC12D", "sg-0a1b2c3d4e5f60718"
	put(w, state.Directories, activeDirectory(corp, registration), activeDirectory(other, nil))
	bundle := func(id ident.BundleID, owner, compute string, root, user int) *state.Bundle {
		return &state.Bundle{ID: id, Owner: owner, Name: string(id), Description: "a bundle", ImageID: "wsi-0a1b2c3d4", Compute: compute,
			RootGiB: root, UserGiB: user, State: "AVAILABLE", OperatingSystem: "UBUNTU_22_04", Protocols: []string{"WSP"}}
	}
	waiting := bundle(pending, "AMAZON", "STANDARD", 80, 50)
	waiting.State = "PENDING"
	put(w, state.Bundles, bundle(standard, "AMAZON", "STANDARD", 80, 50), bundle(graphics, "AMAZON", "GRAPHICS", 100, 100),
		bundle(tiny, "AMAZON", "VALUE", 8, 2), bundle(mine, account, "POWER", 175, 100), bundle(foreign, "210987654321", "POWER", 175, 100), waiting)
	return w
}

func activeDirectory(id ident.DirectoryID, r *state.Registration) *state.Directory {
	return &state.Directory{ID: id, Spec: state.DirectorySpec{Type: "SimpleAD", Name: "corp.example.com", VPCID: vpcID, SubnetIDs: []ident.SubnetID{subnetA, subnetB}},
		Status: state.DirectoryStatus{Stage: "Active", DNSAddresses: []string{"10.0.1.10", "10.0.2.10"}}, Registration: r}
}

// put writes records.
func put[T any](w *world, d *state.Definition[T], recs ...*T) {
	w.t.Helper()
	_, err := w.DB.Update(context.Background(), func(tx *state.Tx) error {
		for _, r := range recs {
			state.Put(tx, d, r)
		}
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// alter changes a stored record, as the reconciler would.
func alter[T any](w *world, d *state.Definition[T], id string, change func(*T)) {
	w.t.Helper()
	_, err := w.DB.Update(context.Background(), func(tx *state.Tx) error {
		rec, ok := state.Get(tx, d, id)
		if !ok {
			return errors.New("no record " + id)
		}
		c := state.Clone(rec)
		change(c)
		state.Put(tx, d, c)
		return nil
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

// get reads a record that must exist.
func get[T any](w *world, d *state.Definition[T], id string) *T {
	w.t.Helper()
	rec, ok := state.Get(w.DB.Snapshot(), d, id)
	if !ok {
		w.t.Fatalf("no record %s", id)
	}
	return rec
}

// workspace stores a WorkSpace of a state and running mode.
func (w *world) workspace(id, state_, mode string) ident.WorkspaceID {
	w.t.Helper()
	put(w, state.Workspaces, &state.Workspace{ID: ident.WorkspaceID(id),
		Spec:   state.WorkspaceSpec{DirectoryID: corp, UserName: "user-" + id, BundleID: standard, RunningMode: mode, RootGiB: 80, UserGiB: 50, Compute: "STANDARD", Power: state.PowerRunning},
		Status: state.WorkspaceStatus{State: state_, Since: w.clock.Now(), ErrorCode: "Old", Backoff: state.Backoff{Step: "old", Attempts: 3}}})
	return ident.WorkspaceID(id)
}

// ask is a request for a standard WorkSpace.
func ask(user string, change ...func(*api.WorkspaceRequest)) api.WorkspaceRequest {
	r := api.WorkspaceRequest{DirectoryId: shape.Ptr(string(corp)), UserName: &user, BundleId: shape.Ptr(string(standard))}
	for _, c := range change {
		c(&r)
	}
	return r
}

// with sets a request's properties.
func with(p api.WorkspaceProperties) func(*api.WorkspaceRequest) {
	return func(r *api.WorkspaceRequest) { r.WorkspaceProperties = &p }
}

func (w *world) create(requests ...api.WorkspaceRequest) *api.CreateWorkspacesOutput {
	w.t.Helper()
	return must(w.CreateWorkspaces(context.Background(), service.Call{}, &api.CreateWorkspacesInput{Workspaces: requests}))(w.t)
}

// must gives a call's output; it ends the test on an error.
func must[O any](out *O, err error) func(testing.TB) *O {
	return func(t testing.TB) *O {
		t.Helper()
		if err != nil {
			t.Fatalf("unexpected error: %v", err)
		}
		return out
	}
}

// codeOf is the wire code of an error, its kind for the common ones, "" for none.
func codeOf(err error) string {
	if err == nil {
		return ""
	}
	var e *awserr.Error
	if !errors.As(err, &e) {
		return "not an awserr.Error: " + err.Error()
	}
	if e.Kind != awserr.Modelled {
		return e.Kind.String()
	}
	return e.Code
}

// refused checks the code of an error and that it says something.
func refused(t testing.TB, err error, code string) {
	t.Helper()
	if got := codeOf(err); got != code {
		t.Fatalf("error code %q (%v), want %q", got, err, code)
	}
	if err != nil && awserr.From(err).Message == "" {
		t.Fatalf("%s without a message", code)
	}
}

func tag(key, value string) api.Tag { return api.Tag{Key: &key, Value: &value} }

// minutes, gib: pointers to numbers.
func number(n int32) *int32 { return &n }

const settle = 20 * time.Second

// both runs two functions at once and waits for them.
func both(t testing.TB, fns ...func(ctx context.Context)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), settle)
	defer cancel()
	begin, done := make(chan struct{}), make(chan struct{})
	for _, fn := range fns {
		go func() {
			<-begin
			fn(ctx)
			done <- struct{}{}
		}()
	}
	close(begin)
	for range fns {
		<-done
	}
}
