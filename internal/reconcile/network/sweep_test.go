package network

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"testing"

	"carrel/internal/driver"
	"carrel/internal/ident"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

// host has networks, some of them with something in them.
type host struct {
	networks, full []ident.VPCID
	err            error
}

func (h *host) ListNetworks(context.Context) ([]ident.VPCID, error) {
	return slices.Clone(h.networks), h.err
}

func (h *host) RemoveNetwork(_ context.Context, id ident.VPCID) error {
	if slices.Contains(h.full, id) {
		return driver.ErrOrder
	}
	h.networks = slices.DeleteFunc(h.networks, func(n ident.VPCID) bool { return n == id })
	return nil
}

func TestANetworkGoesWithItsVPCsRecordAndTheLastThingInIt(t *testing.T) {
	db := statetest.NewDB(t)
	if _, err := db.Update(t.Context(), func(tx *state.Tx) error {
		state.Put(tx, state.VPCs, &state.VPC{ID: "vpc-1", CIDR: "10.0.0.0/16"})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	h := &host{networks: []ident.VPCID{"vpc-1", "vpc-2", "vpc-3"}, full: []ident.VPCID{"vpc-3"}}
	log := slog.New(slog.DiscardHandler)
	sweep := func(want ...ident.VPCID) {
		t.Helper()
		if err := Sweep(t.Context(), db, h, log); err != nil || !slices.Equal(h.networks, want) {
			t.Errorf("%v, %v; want %v", h.networks, err, want)
		}
	}
	sweep("vpc-1", "vpc-3")
	h.full = nil
	sweep("vpc-1")
	if _, err := db.Update(t.Context(), func(tx *state.Tx) error { state.Delete(tx, state.VPCs, "vpc-1"); return nil }); err != nil {
		t.Fatal(err)
	}
	sweep()
	h.err = driver.ErrUnavailable
	if err := Sweep(t.Context(), db, h, log); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("%v", err)
	}
}
