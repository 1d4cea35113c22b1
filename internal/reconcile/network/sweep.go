package network

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"carrel/internal/driver"
	"carrel/internal/state"
)

// Sweep ends the networks of VPCs that no record stands for, as soon as nothing is in them any more: the desktops and domains that still are have
// sweeps of their own. Networks are listed first: a record is there before its network.
func Sweep(ctx context.Context, db *state.DB, vpcs driver.VPCs, log *slog.Logger) error {
	all, err := vpcs.ListNetworks(ctx)
	if err != nil {
		return fmt.Errorf("list networks: %w", err)
	}
	snap := db.Snapshot()
	var errs []error
	for _, id := range all {
		if _, ok := state.Get(snap, state.VPCs, string(id)); ok {
			continue
		}
		switch err := vpcs.RemoveNetwork(ctx, id); {
		case err == nil:
			log.InfoContext(ctx, "the network of a VPC without a record is gone", "vpc", id)
		case errors.Is(err, driver.ErrOrder):
			log.WarnContext(ctx, "a VPC without a record still has something in it", "vpc", id)
		default:
			errs = append(errs, fmt.Errorf("remove the network of %s, which has no record: %w", id, err))
		}
	}
	return errors.Join(errs...)
}
