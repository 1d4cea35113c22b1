package volume

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"carrel/internal/driver"
	"carrel/internal/durable"
)

// EraseMethod is what the reports of this package say was done.
const EraseMethod = "luks-keyslot-and-header-zeroed"

// ErrNotErased: the volume's old key still opened it, or its header did not read back as zero.
var ErrNotErased = errors.New("volume: not erased")

// Erase destroys the volume's key in all the places it is kept: the LUKS key slot in the disk file, then the whole LUKS header, then
// the wrapped key. In between the disk is tried with the old key. Each step may be the last before a crash, and finds what it needs
// when Erase is called again: the wrapped key goes only after the report that needed it is on disk.
func (v *Volumes) Erase(ctx context.Context, id driver.VolumeID) (driver.Erasure, error) {
	var out driver.Erasure
	err := v.exclusively(id, func() error {
		r, err := v.read(id)
		if err != nil {
			return err
		}
		if r.Erasure == nil {
			if err := v.eraseDisk(ctx, r); err != nil {
				return fmt.Errorf("erase %s: %w", id, err)
			}
			r.Erasure = &driver.Erasure{VolumeID: id, KeyID: r.KeyID, Method: EraseMethod, Verified: true, At: v.cfg.Clock.Now().UTC()}
			if err := v.write(v.dir(id), r); err != nil {
				return fmt.Errorf("erase %s: %w", id, err)
			}
		}
		if !r.Erased {
			if err := destroy(filepath.Join(v.dir(id), keyFile)); err != nil {
				return fmt.Errorf("erase %s: its wrapped key: %w", id, err)
			}
			r.Erased = true
			if err := v.write(v.dir(id), r); err != nil {
				return fmt.Errorf("erase %s: %w", id, err)
			}
		}
		out = *r.Erasure
		return nil
	})
	return out, err
}

// eraseDisk makes the disk one that the volume's key does not open.
func (v *Volumes) eraseDisk(ctx context.Context, r *record) error {
	disk, err := lock(filepath.Join(v.dir(r.ID), diskFile))
	if errors.Is(err, driver.ErrBusy) {
		return driver.ErrOrder // A machine has it open.
	}
	if err != nil {
		return err
	}
	defer disk.Close()
	wrapped, err := os.ReadFile(filepath.Join(v.dir(r.ID), keyFile))
	if err != nil {
		return fmt.Errorf("its wrapped key: %w", err)
	}
	key, err := v.cfg.Keys.Unwrap(r.WrappingKey, binding(r), wrapped)
	if err != nil {
		return err
	}
	defer clear(key)
	// A slot that is inactive already, or a header that is gone, is what an Erase that was cut off leaves.
	if err := v.cfg.Tool.Kill(ctx, disk, key); err != nil && !errors.Is(err, ErrRefused) {
		return err
	}
	if err := v.tryRefused(ctx, disk, key); err != nil {
		return err
	}
	if err := zero(disk, r.Header); err != nil {
		return err
	}
	return v.tryRefused(ctx, disk, key)
}

// tryRefused wants the key to be refused.
func (v *Volumes) tryRefused(ctx context.Context, disk *os.File, key []byte) error {
	err := v.cfg.Tool.Try(ctx, disk, key)
	if err == nil {
		return fmt.Errorf("%w: its old key still opens it", ErrNotErased)
	}
	if !errors.Is(err, ErrRefused) {
		return err
	}
	return nil
}

// zero overwrites a region where it is (no hole is punched, which would leave the old blocks on the disk), and reads it back from
// the file system.
func zero(f *os.File, r region) error {
	if r.Length <= 0 {
		return fmt.Errorf("%w: its record does not say where the header is", ErrNotErased)
	}
	if _, err := f.WriteAt(make([]byte, r.Length), r.Offset); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	back := make([]byte, r.Length)
	if _, err := f.ReadAt(back, r.Offset); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	for _, b := range back {
		if b != 0 {
			return fmt.Errorf("%w: its header does not read back as zero", ErrNotErased)
		}
	}
	return nil
}

// destroy overwrites a small file and removes it. Gone already: success.
func destroy(path string) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	info, err := f.Stat()
	if err == nil {
		_, err = f.WriteAt(make([]byte, info.Size()), 0)
	}
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := os.Remove(path); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(path))
}

// Release removes an erased volume.
func (v *Volumes) Release(_ context.Context, id driver.VolumeID) error {
	return v.exclusively(id, func() error {
		r, err := v.read(id)
		if errors.Is(err, driver.ErrNotFound) {
			return nil
		}
		if err != nil {
			return err
		}
		if !r.Erased {
			return driver.ErrOrder
		}
		// Moved out of its place first: a release that is cut off must not leave a volume without a record.
		parent := filepath.Dir(v.dir(id))
		away, err := os.MkdirTemp(parent, releasing)
		if err != nil {
			return fmt.Errorf("release %s: %w", id, err)
		}
		if err := os.Rename(v.dir(id), filepath.Join(away, string(r.Role))); err != nil {
			return fmt.Errorf("release %s: %w", id, err)
		}
		if err := os.RemoveAll(away); err != nil {
			return fmt.Errorf("release %s: %w", id, err)
		}
		_ = os.Remove(parent) // Only when nothing else of the desktop is in it.
		return nil
	})
}
