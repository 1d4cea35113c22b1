package volume

import (
	"context"
	"fmt"
	"slices"

	"carrel/internal/driver"
)

// BeginVolume notes that a fresh volume is about to be written to, and what it lies on.
func (v *Volumes) BeginVolume(_ context.Context, id driver.VolumeID, layer string) error {
	return v.exclusively(id, func() error {
		r, err := v.read(id)
		switch {
		case err != nil:
			return err
		case r.Begun && r.Layer == layer:
			return nil
		case r.Begun || r.Erased || r.Erasure != nil:
			return fmt.Errorf("volume %s: %w: it has been written to", id, driver.ErrOrder)
		case layer != "" && r.Role != driver.RootVolume:
			return fmt.Errorf("volume %s: %w: only a root volume lies on something", id, driver.ErrOrder)
		}
		r.Begun, r.Layer = true, layer
		return v.write(v.dir(id), r)
	})
}

// Layers are the layers that volumes lie on.
func (v *Volumes) Layers(context.Context) ([]string, error) {
	records, err := v.records()
	if err != nil {
		return nil, err
	}
	var all []string
	for _, r := range records {
		// An erased volume's clusters are never read again.
		if r.Layer != "" && !r.Erased {
			all = append(all, r.Layer)
		}
	}
	slices.Sort(all)
	return slices.Compact(all), nil
}
