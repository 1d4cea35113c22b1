package workspace

import (
	"context"
	"errors"
	"fmt"

	"carrel/internal/driver"
	"carrel/internal/ident"
)

// erase destroys the keys of the desktop's disks. It comes before the signature, which names them.
func (p *planner) erase() step {
	return step{
		Name:   "erase",
		Needed: uncertified,
		Do: func(ctx context.Context, rec *record) (effect, error) {
			_, err := p.erased(ctx, rec.ID)
			return nil, err
		},
	}
}

// erased gives the reports of a desktop's volumes; a volume that was never made has none.
func (p *planner) erased(ctx context.Context, id ident.WorkspaceID) ([]driver.Erasure, error) {
	var out []driver.Erasure
	for _, role := range []driver.VolumeRole{driver.RootVolume, driver.UserVolume} {
		e, err := p.drivers.Volumes.Erase(ctx, driver.VolumeOf(id, role))
		if errors.Is(err, driver.ErrNotFound) {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("erase the %s volume of %s: %w", role, id, err)
		}
		if !e.Verified {
			return nil, fmt.Errorf("erase the %s volume of %s: its key still opens it", role, id)
		}
		out = append(out, e)
	}
	return out, nil
}

// releaseVolumes gives the space of the erased volumes back.
func (p *planner) releaseVolumes() step {
	return step{
		Name: "release-volumes",
		Do: func(ctx context.Context, rec *record) (effect, error) {
			return nil, p.volumesReleased(ctx, rec.ID)
		},
	}
}

func (p *planner) volumesReleased(ctx context.Context, id ident.WorkspaceID) error {
	for _, role := range []driver.VolumeRole{driver.RootVolume, driver.UserVolume} {
		if err := p.drivers.Volumes.Release(ctx, driver.VolumeOf(id, role)); err != nil {
			return fmt.Errorf("release the %s volume of %s: %w", role, id, err)
		}
	}
	return nil
}
