package network

import (
	"context"
	"crypto/rand"
	"errors"
	"net/netip"
	"sync"
	"testing"

	"carrel/internal/clock"
	"carrel/internal/ident"
	"carrel/internal/state"
	"carrel/internal/state/memory"
)

func openDB(t *testing.T, cidrs map[ident.SubnetID]string) *state.DB {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	db, err := state.Open(ctx, memory.New(), clock.System{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = db.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	_, err = db.Update(ctx, func(tx *state.Tx) error {
		for id, cidr := range cidrs {
			state.Put(tx, state.Subnets, &state.Subnet{ID: id, CIDR: cidr})
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return db
}

func take(t *testing.T, db *state.DB, subnets ...ident.SubnetID) (*state.Interface, error) {
	t.Helper()
	id := ident.NewInterfaceID(rand.Reader)
	var out *state.Interface
	_, err := db.Update(t.Context(), func(tx *state.Tx) error {
		out = &state.Interface{ID: id, WorkspaceID: "ws-f9abcdefg"}
		return Take(tx, subnets, out)
	})
	return out, err
}

func TestTake(t *testing.T) {
	t.Run("every address but the first five and the last is given once, then the subnet is full", func(t *testing.T) {
		db := openDB(t, map[ident.SubnetID]string{"subnet-a": "10.0.1.16/28"})
		seen := map[string]bool{}
		for range 10 {
			i, err := take(t, db, "subnet-a")
			if err != nil {
				t.Fatal(err)
			}
			a := netip.MustParseAddr(i.Address)
			if seen[i.Address] || a.Less(netip.MustParseAddr("10.0.1.21")) || !a.Less(netip.MustParseAddr("10.0.1.31")) || i.SubnetID != "subnet-a" {
				t.Errorf("%+v", i)
			}
			seen[i.Address] = true
		}
		if _, err := take(t, db, "subnet-a"); !errors.Is(err, ErrFull) {
			t.Errorf("the eleventh: %v", err)
		}
	})
	t.Run("an address given back can be had again", func(t *testing.T) {
		db := openDB(t, map[ident.SubnetID]string{"subnet-a": "10.0.1.0/29"})
		var last *state.Interface
		for range 2 {
			var err error
			if last, err = take(t, db, "subnet-a"); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if _, err := db.Update(t.Context(), func(tx *state.Tx) error { Free(tx, last.SubnetID, last.Address, last.ID); return nil }); err != nil {
				t.Fatal(err)
			}
		}
		again, err := take(t, db, "subnet-a")
		if err != nil || again.Address != last.Address {
			t.Errorf("%+v, %v; want %s", again, err, last.Address)
		}
	})
	t.Run("when one subnet is full the next is taken", func(t *testing.T) {
		db := openDB(t, map[ident.SubnetID]string{"subnet-a": "10.0.1.0/29", "subnet-b": "10.0.2.0/24", "subnet-c": "10.0.3.0/30"})
		for i := range 5 {
			got, err := take(t, db, "subnet-c", "subnet-a", "subnet-b")
			if want := []ident.SubnetID{"subnet-a", "subnet-a", "subnet-b", "subnet-b", "subnet-b"}[i]; err != nil || got.SubnetID != want {
				t.Errorf("%d: %+v, %v; want %s", i, got, err, want)
			}
		}
	})
	t.Run("many at once get different addresses", func(t *testing.T) {
		db := openDB(t, map[ident.SubnetID]string{"subnet-a": "10.0.1.0/26"})
		var mu sync.Mutex
		seen := map[string]int{}
		var wg sync.WaitGroup
		for range 58 {
			wg.Go(func() {
				i, err := take(t, db, "subnet-a")
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				defer mu.Unlock()
				seen[i.Address]++
			})
		}
		wg.Wait()
		if len(seen) != 58 {
			t.Errorf("%d addresses for 58", len(seen))
		}
	})
	t.Run("a subnet that is not there or has no range is an error that is not ErrFull", func(t *testing.T) {
		db := openDB(t, map[ident.SubnetID]string{"subnet-a": "what"})
		for _, id := range []ident.SubnetID{"subnet-a", "subnet-x"} {
			if _, err := take(t, db, id); err == nil || errors.Is(err, ErrFull) {
				t.Errorf("%s: %v", id, err)
			}
		}
		if _, err := take(t, db); !errors.Is(err, ErrFull) {
			t.Errorf("no subnets: %v", err)
		}
	})
}

func TestMACIsLocallyAdministeredUnicastAndStable(t *testing.T) {
	a, b := MAC("eni-0a1b2c3d4e5f60718"), MAC("eni-0a1b2c3d4e5f60719")
	if a == b || a != MAC("eni-0a1b2c3d4e5f60718") || a[:3] != "02:" {
		t.Error(a, b)
	}
}
