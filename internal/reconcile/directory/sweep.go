package directory

import (
	"context"
	"errors"
	"fmt"

	"carrel/internal/state"
)

// Sweep removes domains that no record stands for. Domains are listed first: a record is there before its domain and until after it.
func (r *Reconciler) Sweep(ctx context.Context) error {
	domains, err := r.domain.List(ctx)
	if err != nil {
		return fmt.Errorf("list domains: %w", err)
	}
	snap := r.db.Snapshot()
	var errs []error
	for _, d := range domains {
		if _, ok := state.Get(snap, state.Directories, string(d.DirectoryID)); ok {
			continue
		}
		r.log.WarnContext(ctx, "a domain without a directory record is being removed", "id", d.DirectoryID)
		if err := r.domain.Remove(ctx, d.DirectoryID); err != nil {
			errs = append(errs, fmt.Errorf("remove domain %s, which has no record: %w", d.DirectoryID, err))
		}
	}
	return errors.Join(errs...)
}
