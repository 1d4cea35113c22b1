package bootstrap

import (
	"context"
	"crypto/rand"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"

	"carrel/internal/clock"
	"carrel/internal/ident"
	"carrel/internal/policy"
	"carrel/internal/state"
	"carrel/internal/state/memory"
	"carrel/internal/state/statetest"
)

func ensure(t *testing.T, db *state.DB, o Options) Result {
	t.Helper()
	o.Rand = rand.Reader
	r, err := Ensure(t.Context(), db, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTheFirstStartMakesEverythingInOneTransaction(t *testing.T) {
	store := memory.New()
	db := statetest.OpenDB(t, store, clock.System{})
	r := ensure(t, db, Options{Simulate: true})
	items, rev, err := store.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, item := range items {
		if item.Revision != rev {
			t.Errorf("%v was written by another transaction", item.Key)
		}
	}
	i := r.Installation
	if !r.First || len(i.AccountID) != 12 || i.Region != DefaultRegion || i.Partition != DefaultPartition || !i.Simulated || i.Created.IsZero() {
		t.Errorf("%+v", r)
	}
	if len(r.RootKey.Secret.Reveal()) != 40 || r.RootKey.UserID != "" || !r.RootKey.Active {
		t.Errorf("root key %+v", r.RootKey)
	}
	snap := db.Snapshot()
	if state.Count(snap, state.VPCs) != 1 || state.Count(snap, state.Subnets) != 2 || state.Count(snap, state.Images) != 1 ||
		state.Count(snap, state.Bundles) != 5 || state.Count(snap, state.Directories) != 1 || state.Count(snap, state.SecurityGroups) != 3 ||
		state.Count(snap, state.AccessKeys) != 1 || state.Count(snap, state.Users) != 0 ||
		state.Count(snap, state.Roles) != 1 {
		t.Error("not the records expected")
	}
}

func TestTheRoleOfWorkSpacesIsThere(t *testing.T) {
	db := statetest.NewDB(t)
	ensure(t, db, Options{Partition: "aws-cn"})
	snap := db.Snapshot()
	owner, _ := state.Owner(snap, state.RoleClaim("WORKSPACES_defaultrole"))
	role, ok := state.Get(snap, state.Roles, owner)
	if !ok {
		t.Fatal("its name is nobody's")
	}
	want := []string{"arn:aws-cn:iam::aws:policy/AmazonWorkSpacesPoolServiceAccess", "arn:aws-cn:iam::aws:policy/AmazonWorkSpacesSelfServiceAccess", "arn:aws-cn:iam::aws:policy/AmazonWorkSpacesServiceAccess"}
	if role.Name != "workspaces_DefaultRole" || role.Path != "/" || role.Service != "" || role.MaxSession != 3600 || !slices.Equal(role.Attached, want) {
		t.Errorf("%+v", role)
	}
	if _, err := ident.ParseRoleID(string(role.ID)); err != nil {
		t.Error(err)
	}
	doc, err := policy.Parse(policy.Trust, role.Trust)
	if err != nil || doc.String() != role.Trust {
		t.Errorf("its trust policy is not as it would be stored: %v, %v", doc, err)
	}
}

func TestTheDefaultNetwork(t *testing.T) {
	db := statetest.NewDB(t)
	ensure(t, db, Options{Region: "eu-west-1"})
	snap := db.Snapshot()
	var vpc *state.VPC
	for v := range state.All(snap, state.VPCs) {
		vpc = v
	}
	if _, err := ident.ParseVPCID(string(vpc.ID)); err != nil || !vpc.Default || vpc.CIDR != "172.31.0.0/16" {
		t.Errorf("%+v, %v", vpc, err)
	}
	whole, zones := netip.MustParsePrefix(vpc.CIDR), map[string]string{}
	var ranges []netip.Prefix
	for s := range state.All(snap, state.Subnets) {
		p := netip.MustParsePrefix(s.CIDR)
		if s.VPCID != vpc.ID || p.Bits() != 20 || !whole.Contains(p.Addr()) || !s.Default {
			t.Errorf("%+v", s)
		}
		zones[s.Zone], ranges = s.ZoneID, append(ranges, p)
	}
	if !maps.Equal(zones, map[string]string{"eu-west-1a": "euw1-az1", "eu-west-1b": "euw1-az2"}) || ranges[0].Overlaps(ranges[1]) {
		t.Errorf("%v %v", zones, ranges)
	}
	for g := range state.All(snap, state.SecurityGroups) {
		if g.Name != "default" || g.VPCID != vpc.ID {
			t.Errorf("%+v", g)
		}
	}
	t.Run("without simulation there is no directory", func(t *testing.T) {
		if state.Count(snap, state.Directories)+state.Count(snap, state.Interfaces) != 0 {
			t.Error("there is one")
		}
	})
}

func TestTheBundlesAreThoseOfEveryInstallation(t *testing.T) {
	db := statetest.NewDB(t)
	ensure(t, db, Options{})
	snap := db.Snapshot()
	want := map[ident.BundleID][3]any{
		BundleValue: {"VALUE", 80, 10}, BundleStandard: {"STANDARD", 80, 50}, BundlePerformance: {"PERFORMANCE", 80, 100},
		BundlePower: {"POWER", 175, 100}, BundlePowerPro: {"POWERPRO", 175, 100},
	}
	for b := range state.All(snap, state.Bundles) {
		if _, err := ident.ParseBundleID(string(b.ID)); err != nil {
			t.Error(err)
		}
		if want[b.ID] != [3]any{b.Compute, b.RootGiB, b.UserGiB} || b.Owner != "AMAZON" || b.State != "AVAILABLE" || !strings.HasSuffix(b.Name, " with Debian 12 (Carrel)") {
			t.Errorf("%+v", b)
		}
		if _, ok := state.Get(snap, state.Images, string(b.ImageID)); !ok {
			t.Errorf("image %s of %s does not exist", b.ImageID, b.ID)
		}
	}
	if _, err := ident.ParseImageID(string(ImageDebian)); err != nil || len(ImageDebian) < len("wsi-")+9 {
		t.Errorf("image id %s: %v", ImageDebian, err)
	}
}

func TestTheSimulatedDirectoryIsWhole(t *testing.T) {
	db := statetest.NewDB(t)
	ensure(t, db, Options{Simulate: true, Region: "us-west-2"})
	snap := db.Snapshot()
	d, ok := state.Get(snap, state.Directories, string(SimulatedDirectory))
	if !ok {
		t.Fatal("there is none")
	}
	if _, err := ident.ParseDirectoryID(string(d.ID)); err != nil || len(d.ID) != 12 {
		t.Errorf("id %s: %v", d.ID, err)
	}
	r := d.Registration
	if d.Spec.Type != "SimpleAD" || d.Status.Stage != "Active" || r.State != "REGISTERED" || r.Tenancy != "SHARED" || len(d.Status.DNSAddresses) != 2 ||
		!slices.Equal(r.SubnetIDs, d.Spec.SubnetIDs) {
		t.Errorf("%+v %+v", d, r)
	}
	if !strings.HasPrefix(r.Code, "WSpdx+") || len(r.Code) != 12 {
		t.Errorf("registration code %s", r.Code)
	}
	if owner, _ := state.Owner(snap, "registration-code/"+strings.ToUpper(r.Code)); owner != string(d.ID) {
		t.Errorf("the code belongs to %q", owner)
	}
	for _, id := range []ident.SecurityGroupID{d.Status.SecurityGroupID, r.MembersGroupID} {
		if g, ok := state.Get(snap, state.SecurityGroups, string(id)); !ok || g.VPCID != d.Spec.VPCID {
			t.Errorf("group %s: %+v", id, g)
		}
	}
	for i, id := range d.Spec.SubnetIDs {
		subnet, _ := state.Get(snap, state.Subnets, string(id))
		if !netip.MustParsePrefix(subnet.CIDR).Contains(netip.MustParseAddr(d.Status.DNSAddresses[i])) {
			t.Errorf("%s is not in %s", d.Status.DNSAddresses[i], subnet.CIDR)
		}
		for nic := range state.AllBy(snap, state.Interfaces, state.InterfacesBySubnet, string(id)) {
			if nic.Address != d.Status.DNSAddresses[i] || nic.DirectoryID != d.ID || nic.ID == "" {
				t.Errorf("%+v", nic)
			}
		}
		if n := state.CountBy(snap, state.Interfaces, state.InterfacesBySubnet, string(id)); n != 1 {
			t.Errorf("%d addresses taken in %s", n, id)
		}
	}
}

func TestALaterStartChangesNothing(t *testing.T) {
	made := Options{AccountID: "123456789012", Region: "eu-west-1", Partition: "aws-cn"}
	cases := []struct {
		name  string
		again Options
		flag  string // "": fits
	}{
		{"the same flags fit", made, ""},
		{"no flags fit", Options{}, ""},
		{"another account is refused", Options{AccountID: "210987654321"}, "--account-id"},
		{"another region is refused", Options{AccountID: "123456789012", Region: "us-east-1"}, "--region"},
		{"another partition is refused", Options{Partition: "aws"}, "partition"},
		{"simulation is refused", Options{Simulate: true}, "--simulate"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			store := memory.New()
			db := statetest.OpenDB(t, store, clock.System{})
			first := ensure(t, db, made)
			before := db.Snapshot().Revision()
			c.again.Rand = rand.Reader
			r, err := Ensure(t.Context(), db, c.again)
			if c.flag == "" {
				if err != nil || r.First || r.Installation.AccountID != made.AccountID || r.RootKey.ID != first.RootKey.ID || r.RootKey.Secret != first.RootKey.Secret {
					t.Errorf("%+v, %v", r, err)
				}
			} else {
				var m *MismatchError
				if !errors.As(err, &m) || m.Flag != c.flag || !strings.Contains(err.Error(), c.flag) {
					t.Errorf("error %v, want one that names %s", err, c.flag)
				}
			}
			if _, rev, err := store.List(t.Context()); err != nil || rev != before {
				t.Errorf("something was written: revision %d, before %d, %v", rev, before, err)
			}
		})
	}
	t.Run("a simulated state is refused without simulation", func(t *testing.T) {
		db := statetest.NewDB(t)
		ensure(t, db, Options{Simulate: true})
		_, err := Ensure(t.Context(), db, Options{Rand: rand.Reader})
		var m *MismatchError
		if !errors.As(err, &m) || m.Flag != "--simulate" {
			t.Error(err)
		}
	})
}

func TestAStateThatCannotBeUsedIsRefused(t *testing.T) {
	cases := []struct {
		name string
		make func(*testing.T, *state.DB)
		want string
	}{
		{"with records but no installation", func(t *testing.T, db *state.DB) {
			put(t, db, func(tx *state.Tx) { state.Put(tx, state.Users, &state.User{ID: "AIDAAAAAAAAAAAAAAAAAA", Name: "ada"}) })
		}, "table user"},
		{"of a newer Carrel", func(t *testing.T, db *state.DB) {
			put(t, db, func(tx *state.Tx) { state.Put(tx, state.Installations, &state.Installation{Version: version + 1}) })
		}, "newer"},
		{"of a layout that was never released", func(t *testing.T, db *state.DB) {
			put(t, db, func(tx *state.Tx) { state.Put(tx, state.Installations, &state.Installation{Version: version - 1}) })
		}, "no released"},
		{"without an active root key", func(t *testing.T, db *state.DB) {
			r := ensure(t, db, Options{})
			put(t, db, func(tx *state.Tx) {
				key, _ := state.Get(tx, state.AccessKeys, string(r.RootKey.ID))
				key = state.Clone(key)
				key.Active = false
				state.Put(tx, state.AccessKeys, key)
			})
		}, "root access key"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			db := statetest.NewDB(t)
			c.make(t, db)
			before := db.Snapshot().Revision()
			_, err := Ensure(t.Context(), db, Options{Rand: rand.Reader})
			if !errors.Is(err, ErrForeign) || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
			if db.Snapshot().Revision() != before {
				t.Error("something was written")
			}
		})
	}
}

func put(t *testing.T, db *state.DB, fn func(*state.Tx)) {
	t.Helper()
	if _, err := db.Update(t.Context(), func(tx *state.Tx) error { fn(tx); return nil }); err != nil {
		t.Fatal(err)
	}
}

func TestTwoProcessesAtOnceMakeOneInstallation(t *testing.T) {
	store := memory.New()
	var dbs [8]*state.DB
	for i := range dbs {
		dbs[i] = statetest.OpenDB(t, shared{store}, clock.System{})
	}
	var wait sync.WaitGroup
	var results [len(dbs)]Result
	for i, db := range dbs {
		wait.Go(func() {
			var err error
			if results[i], err = Ensure(context.WithoutCancel(t.Context()), db, Options{Rand: rand.Reader, Simulate: true}); err != nil {
				t.Error(err)
			}
		})
	}
	wait.Wait()
	firsts := 0
	for _, r := range results {
		if r.First {
			firsts++
		}
		if r.Installation.AccountID != results[0].Installation.AccountID || r.RootKey.ID != results[0].RootKey.ID {
			t.Errorf("%+v and %+v", r, results[0])
		}
	}
	if firsts != 1 {
		t.Errorf("%d processes made the installation", firsts)
	}
}

// shared is a store that several DBs use: the last one to close does not close it for the others.
type shared struct{ *memory.Store }

func (shared) Close() error { return nil }

func TestTheRootKeyIsTheOldestActiveOne(t *testing.T) {
	db := statetest.NewDB(t)
	first := ensure(t, db, Options{})
	const newer = ident.AccessKeyID("AKIAAAAAAAAAAAAAAAAA")
	put(t, db, func(tx *state.Tx) {
		state.Put(tx, state.AccessKeys, &state.AccessKey{Meta: state.Meta{Created: first.RootKey.Created.AddDate(0, 0, 1)}, ID: newer, Secret: "x", Active: true})
	})
	if r := ensure(t, db, Options{}); r.RootKey.ID != first.RootKey.ID {
		t.Errorf("key %s", r.RootKey.ID)
	}
	put(t, db, func(tx *state.Tx) { state.Delete(tx, state.AccessKeys, string(first.RootKey.ID)) })
	if r := ensure(t, db, Options{}); r.RootKey.ID != newer {
		t.Errorf("key %s", r.RootKey.ID)
	}
}
