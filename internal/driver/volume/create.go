package volume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"carrel/internal/driver"
	"carrel/internal/durable"
)

// Create makes a volume in a directory beside its place and moves it there when all of it is on disk.
func (v *Volumes) Create(ctx context.Context, spec driver.VolumeSpec) (driver.Volume, error) {
	var out driver.Volume
	err := v.exclusively(spec.ID, func() error {
		if err := v.check(spec); err != nil {
			return err
		}
		r, err := v.read(spec.ID)
		switch {
		case err == nil && (r.Erased || r.Erasure != nil):
			return driver.ErrOrder
		case err == nil:
			out = r.Volume
			return nil
		case !errors.Is(err, driver.ErrNotFound):
			return err
		}
		out, err = v.make(ctx, spec)
		return err
	})
	return out, err
}

func (v *Volumes) check(spec driver.VolumeSpec) error {
	wrong := func(format string, args ...any) error {
		return driver.Permanent("InvalidVolume", fmt.Errorf("volume %s: "+format, append([]any{spec.ID}, args...)...))
	}
	switch {
	case spec.ID != driver.VolumeOf(spec.WorkspaceID, spec.Role):
		return wrong("it is not %s's %s volume", spec.WorkspaceID, spec.Role)
	case spec.GiB < 1 || spec.GiB > v.cfg.MaxGiB:
		return wrong("%d GiB is not between 1 and %d", spec.GiB, v.cfg.MaxGiB)
	case spec.Role == driver.RootVolume && spec.ImageID == "":
		return wrong("a root volume lies on an image")
	case spec.Role == driver.UserVolume && spec.ImageID != "":
		return wrong("a user volume lies on no image")
	case spec.Encrypted != (spec.WrappingKey != ""):
		return wrong("encryption was asked for without a key, or a key without encryption")
	}
	return nil
}

func (v *Volumes) make(ctx context.Context, spec driver.VolumeSpec) (driver.Volume, error) {
	r := &record{ImageID: spec.ImageID, WrappingKey: spec.WrappingKey,
		Volume: driver.Volume{ID: spec.ID, WorkspaceID: spec.WorkspaceID, Role: spec.Role, GiB: spec.GiB, KeyID: newKeyID(v.cfg.Random)}}
	if spec.ImageID != "" {
		image, err := v.image(ctx, spec.ImageID)
		if err != nil {
			return driver.Volume{}, err
		}
		r.ImageDigest = image.Digest
		size := image.VirtualBytes
		if err := image.Close(); err != nil {
			return driver.Volume{}, err
		}
		if size > int64(spec.GiB)<<30 {
			return driver.Volume{}, driver.Permanent("InvalidVolume", fmt.Errorf("volume %s: image %s is %d bytes, more than %d GiB", spec.ID, spec.ImageID, size, spec.GiB))
		}
	}
	parent := filepath.Dir(v.dir(spec.ID))
	if err := os.MkdirAll(parent, 0o700); err != nil {
		return driver.Volume{}, fmt.Errorf("volume %s: %w", spec.ID, err)
	}
	dir, err := os.MkdirTemp(parent, halfMade)
	if err != nil {
		return driver.Volume{}, fmt.Errorf("volume %s: %w", spec.ID, err)
	}
	if err := v.fill(ctx, dir, r); err != nil {
		return driver.Volume{}, errors.Join(fmt.Errorf("volume %s: %w", spec.ID, err), os.RemoveAll(dir))
	}
	if err := os.Rename(dir, v.dir(spec.ID)); err != nil {
		return driver.Volume{}, errors.Join(fmt.Errorf("volume %s: %w", spec.ID, err), os.RemoveAll(dir))
	}
	return r.Volume, errors.Join(durable.SyncDir(parent), durable.SyncDir(v.cfg.Dir))
}

// fill writes the three files of a volume into dir.
func (v *Volumes) fill(ctx context.Context, dir string, r *record) error {
	key, err := newKey(v.cfg.Random)
	if err != nil {
		return err
	}
	defer clear(key)
	wrapped, err := v.cfg.Keys.Wrap(r.WrappingKey, binding(r), key)
	if err != nil {
		return fmt.Errorf("wrap its key: %w", err)
	}
	if err := durable.WriteFile(filepath.Join(dir, keyFile), wrapped, 0o600); err != nil {
		return err
	}
	disk, err := os.OpenFile(filepath.Join(dir, diskFile), os.O_RDWR|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	err = v.cfg.Tool.Format(ctx, disk, int64(r.GiB)<<30, key)
	if err == nil {
		r.Header, err = cryptoHeader(disk)
	}
	if err = errors.Join(err, disk.Sync(), disk.Close()); err != nil {
		return err
	}
	return v.write(dir, r)
}

func (v *Volumes) write(dir string, r *record) error {
	b, err := json.Marshal(r)
	if err != nil {
		return err
	}
	return durable.WriteFile(filepath.Join(dir, recordFile), b, 0o600)
}
