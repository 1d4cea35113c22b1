package workspace

import (
	"context"
	"fmt"

	"golang.org/x/sync/errgroup"

	"carrel/internal/driver"
	"carrel/internal/state"
)

// volumes makes the root and the user volume. Only before the first boot: a volume that is lost later holds somebody's
// files, and an empty one in its place would hide that.
func (p *planner) volumes() step {
	return step{
		Name:   "volumes",
		Needed: func(rec *record) bool { return rec.Status.Booted.IsZero() },
		Do: func(ctx context.Context, rec *record) (effect, error) {
			bundle, ok := state.Get(p.db.Snapshot(), state.Bundles, string(rec.Spec.BundleID))
			if !ok {
				return nil, driver.Permanent("BundleNotFound", fmt.Errorf("bundle %s does not exist", rec.Spec.BundleID))
			}
			root := driver.VolumeSpec{ID: driver.VolumeOf(rec.ID, driver.RootVolume), WorkspaceID: rec.ID, Role: driver.RootVolume,
				GiB: rec.Spec.RootGiB, ImageID: bundle.ImageID, Encrypted: rec.Spec.EncryptRoot}
			user := driver.VolumeSpec{ID: driver.VolumeOf(rec.ID, driver.UserVolume), WorkspaceID: rec.ID, Role: driver.UserVolume,
				GiB: rec.Spec.UserGiB, Encrypted: rec.Spec.EncryptUser}
			// At once: formatting an encrypted disk is mostly waiting for one processor. When one cannot be made the other is waited for all the
			// same: left alone it would be busy when it is asked for again.
			var g errgroup.Group
			for _, spec := range []driver.VolumeSpec{root, user} {
				if spec.Encrypted {
					spec.WrappingKey = rec.Spec.VolumeEncryptionKey
				}
				g.Go(func() error {
					if _, err := p.drivers.Volumes.Create(ctx, spec); err != nil {
						return fmt.Errorf("create volume %s: %w", spec.ID, err)
					}
					return nil
				})
			}
			return nil, g.Wait()
		},
	}
}
