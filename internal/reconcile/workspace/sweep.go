package workspace

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"carrel/internal/driver"
	"carrel/internal/ident"
	"carrel/internal/state"
)

// found is what the drivers have of one desktop.
type found struct {
	running bool
	nics    []ident.InterfaceID
}

// Sweep compares drivers and records once. What exists without a record is scrubbed, certified and destroyed like a terminated desktop;
// an AVAILABLE desktop whose machine or network is gone becomes UNHEALTHY, which restarts it.
func (r *Reconciler) Sweep(ctx context.Context) error {
	// Drivers first, records second: a record is there before its desktop and until after it, so what is seen in a
	// driver and has no record afterwards has none at all.
	there, err := r.survey(ctx)
	if err != nil {
		return err
	}
	snap := r.db.Snapshot()
	var errs []error
	for _, id := range slices.Sorted(maps.Keys(there)) {
		if _, ok := state.Get(snap, state.Workspaces, string(id)); ok {
			continue
		}
		r.log.WarnContext(ctx, "a desktop without a record is being destroyed", "id", id)
		if err := r.destroy(ctx, id, there[id]); err != nil {
			errs = append(errs, fmt.Errorf("destroy desktop %s, which has no record: %w", id, err))
		}
	}
	var gone []*record
	for rec := range state.All(snap, state.Workspaces) {
		if rec.Status.State == Available && !there[rec.ID].serves(rec) {
			gone = append(gone, rec)
		}
	}
	if len(gone) > 0 {
		errs = append(errs, r.missing(ctx, gone))
	}
	return errors.Join(errs...)
}

// serves tells whether the desktop is what an AVAILABLE record promises.
func (f *found) serves(rec *record) bool {
	return f != nil && f.running && slices.Contains(f.nics, rec.Status.Interface)
}

// survey lists what exists, by desktop.
func (r *Reconciler) survey(ctx context.Context) (map[ident.WorkspaceID]*found, error) {
	out := map[ident.WorkspaceID]*found{}
	of := func(id ident.WorkspaceID) *found {
		if out[id] == nil {
			out[id] = &found{}
		}
		return out[id]
	}
	machines, err := r.drivers.Hypervisor.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list machines: %w", err)
	}
	for _, m := range machines {
		of(m.WorkspaceID).running = m.State == driver.MachineRunning
	}
	volumes, err := r.drivers.Volumes.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list volumes: %w", err)
	}
	for _, v := range volumes {
		of(v.WorkspaceID)
	}
	nics, err := r.drivers.Fabric.List(ctx)
	if err != nil {
		return nil, fmt.Errorf("list network interfaces: %w", err)
	}
	for _, n := range nics {
		f := of(n.WorkspaceID)
		f.nics = append(f.nics, n.InterfaceID)
	}
	return out, nil
}

// destroy is the terminate plan for a desktop that has no record.
func (r *Reconciler) destroy(ctx context.Context, id ident.WorkspaceID, f *found) error {
	// Nothing says that it ever booted, so a machine that is not there is one that never was.
	if _, err := r.certified(ctx, id, false); err != nil {
		return err
	}
	// For a desktop without a machine that has not happened yet.
	if _, err := r.erased(ctx, id); err != nil {
		return err
	}
	if err := r.drivers.Hypervisor.Release(ctx, id); err != nil {
		return fmt.Errorf("release machine: %w", err)
	}
	for _, nic := range f.nics {
		if err := r.drivers.Fabric.Detach(ctx, nic); err != nil {
			return fmt.Errorf("detach %s: %w", nic, err)
		}
	}
	if err := r.volumesReleased(ctx, id); err != nil {
		return err
	}
	r.certify.forget(id)
	return nil
}

// missing makes AVAILABLE desktops UNHEALTHY if they are still missing in a second survey, made after their records were read: they may
// have been started after the first one.
func (r *Reconciler) missing(ctx context.Context, recs []*record) error {
	there, err := r.survey(ctx)
	if err != nil {
		return err
	}
	var errs []error
	for _, was := range recs {
		if there[was.ID].serves(was) {
			continue
		}
		_, err := r.db.Update(ctx, func(tx *state.Tx) error {
			rec, ok := state.Get(tx, state.Workspaces, string(was.ID))
			if !ok || rec.Revision != was.Revision {
				return nil
			}
			next := state.Clone(rec)
			enter(next, Unhealthy, tx.Now())
			next.Status.ErrorCode, next.Status.ErrorMessage = "MachineMissing", "the desktop is gone from its host and is being started again"
			state.Put(tx, state.Workspaces, next)
			return nil
		})
		if err != nil {
			errs = append(errs, err)
			continue
		}
		r.log.WarnContext(ctx, "desktop is gone from its host and is being started again", "id", was.ID)
	}
	return errors.Join(errs...)
}
