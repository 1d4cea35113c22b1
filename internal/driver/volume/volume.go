// Package volume keeps desktops' disks on this host: qcow2 files with LUKS inside, each under a fresh key of its own that
// exists on disk only wrapped by a master key, and whose destruction is how a volume is erased.
//
// It refuses to look into a volume's contents, to store a path inside one (what lies under a root volume is said by its record,
// each time it is opened), and to have a file's format guessed.
package volume

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"carrel/internal/clock"
	"carrel/internal/driver"
	"carrel/internal/durable"
	"carrel/internal/ident"
)

// Config is what Volumes are made of. All fields but MaxGiB are needed.
type Config struct {
	// Dir is where the volumes are; it is made with mode 0700.
	Dir string
	// Images are what root volumes lie on.
	Images driver.ImageOpener
	// Keys wrap the volumes' own keys.
	Keys Wrapper
	// Tool runs qemu-img.
	Tool   Tool
	Clock  clock.Clock
	Random io.Reader
	// MaxGiB is the largest volume; 2000 when 0 (aws-behaviour: the largest that WorkSpaces has).
	MaxGiB int
}

// Volumes is driver.Volumes and driver.VolumeOpener on this host's disk. What exists is what the directory holds: there is no list
// beside it that could say something else.
type Volumes struct {
	cfg Config

	mu   sync.Mutex
	busy map[driver.VolumeID]bool
}

var (
	_ driver.Volumes      = (*Volumes)(nil)
	_ driver.VolumeOpener = (*Volumes)(nil)
	_ driver.VolumeLayers = (*Volumes)(nil)
)

// record is volume.json.
type record struct {
	driver.Volume
	ImageID     ident.ImageID `json:",omitempty"`
	ImageDigest string        `json:",omitempty"`
	// WrappingKey is the customer's key that wraps this volume's key besides the host's, empty: none.
	WrappingKey string `json:",omitempty"`
	// Begun: it may have been written to. Layer is what it lies on above its image (driver.VolumeLayers).
	Begun bool   `json:",omitempty"`
	Layer string `json:",omitempty"`
	// Header is where the LUKS header is in the disk file.
	Header  region
	Erasure *driver.Erasure `json:",omitempty"`
}

// The files of a volume, in Dir/<WorkSpace id>/<role>/.
const (
	recordFile = "volume.json"
	keyFile    = "key"
	diskFile   = "disk.qcow2"
)

// Open finds the volumes that are in cfg.Dir. What a call that was cut off left behind is removed.
func Open(cfg Config) (*Volumes, error) {
	if cfg.Dir == "" || cfg.Images == nil || cfg.Keys == nil || cfg.Tool == nil || cfg.Clock == nil || cfg.Random == nil {
		return nil, errors.New("volume: Dir, Images, Keys, Tool, Clock and Random are needed")
	}
	if cfg.MaxGiB == 0 {
		cfg.MaxGiB = 2000
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("volume: %w", err)
	}
	for _, pattern := range []string{filepath.Join(cfg.Dir, "*", halfMade+"*"), filepath.Join(cfg.Dir, "*", "*", durable.Prefix+"*")} {
		half, err := filepath.Glob(pattern)
		if err != nil {
			return nil, err
		}
		for _, path := range half {
			if err := os.RemoveAll(path); err != nil {
				return nil, fmt.Errorf("volume: removing what a call that was cut off left: %w", err)
			}
		}
	}
	return &Volumes{cfg: cfg, busy: map[driver.VolumeID]bool{}}, nil
}

// Dir is where the volumes are.
func (v *Volumes) Dir() string { return v.cfg.Dir }

// halfMade begins the names of directories that are not volumes yet, and releasing those that are none any more.
const (
	halfMade  = ".new-"
	releasing = ".new-released-"
)

// split takes an id apart and refuses everything that could be another path.
func split(id driver.VolumeID) (ident.WorkspaceID, driver.VolumeRole, error) {
	ws, role, _ := strings.Cut(string(id), "/")
	workspace, err := ident.ParseWorkspaceID(ws)
	if err != nil || driver.VolumeRole(role) != driver.RootVolume && driver.VolumeRole(role) != driver.UserVolume {
		return "", "", driver.Permanent("InvalidVolume", fmt.Errorf("volume: %q is no volume id", id))
	}
	return workspace, driver.VolumeRole(role), nil
}

func (v *Volumes) dir(id driver.VolumeID) string {
	return filepath.Join(v.cfg.Dir, filepath.FromSlash(string(id)))
}

// exclusively runs fn unless another call works on the same volume.
func (v *Volumes) exclusively(id driver.VolumeID, fn func() error) error {
	if _, _, err := split(id); err != nil {
		return err
	}
	v.mu.Lock()
	taken := v.busy[id]
	v.busy[id] = true
	v.mu.Unlock()
	if taken {
		return driver.ErrBusy
	}
	defer func() {
		v.mu.Lock()
		delete(v.busy, id)
		v.mu.Unlock()
	}()
	return fn()
}

// read gives a volume's record: ErrNotFound when there is none.
func (v *Volumes) read(id driver.VolumeID) (*record, error) {
	b, err := os.ReadFile(filepath.Join(v.dir(id), recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, driver.ErrNotFound
	}
	if err != nil {
		return nil, fmt.Errorf("volume %s: %w", id, err)
	}
	r := new(record)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("volume %s: its %s cannot be read: %w", id, recordFile, err)
	}
	if r.ID != id {
		return nil, fmt.Errorf("volume %s: its %s is that of %q", id, recordFile, r.ID)
	}
	return r, nil
}

// List gives all volumes in order of id.
func (v *Volumes) List(context.Context) ([]driver.Volume, error) {
	records, err := v.records()
	if err != nil {
		return nil, err
	}
	var all []driver.Volume
	for _, r := range records {
		all = append(all, r.Volume)
	}
	return all, nil
}

// records reads all records in order of id.
func (v *Volumes) records() ([]*record, error) {
	paths, err := filepath.Glob(filepath.Join(v.cfg.Dir, "ws-*", "*", recordFile))
	if err != nil {
		return nil, err
	}
	var all []*record
	for _, p := range paths {
		rel, err := filepath.Rel(v.cfg.Dir, filepath.Dir(p))
		if err != nil {
			return nil, err
		}
		id := driver.VolumeID(filepath.ToSlash(rel))
		if _, _, err := split(id); err != nil {
			continue // A create or release that is going on.
		}
		r, err := v.read(id)
		if errors.Is(err, driver.ErrNotFound) {
			continue // Released in the meantime.
		}
		if err != nil {
			return nil, err
		}
		all = append(all, r)
	}
	slices.SortFunc(all, func(a, b *record) int { return strings.Compare(string(a.ID), string(b.ID)) })
	return all, nil
}

// OpenVolume opens a volume for its machine. The lock that it takes belongs to the open file, so the machine that is handed the
// file holds it for as long as it runs, whatever becomes of this process.
func (v *Volumes) OpenVolume(ctx context.Context, id driver.VolumeID) (*driver.OpenVolume, error) {
	var out *driver.OpenVolume
	err := v.exclusively(id, func() error {
		r, err := v.read(id)
		if err != nil {
			return err
		}
		if r.Erased || r.Erasure != nil {
			return driver.ErrOrder
		}
		o := &driver.OpenVolume{ID: id, Role: r.Role, GiB: r.GiB, ImageID: r.ImageID, Layer: r.Layer, Fresh: !r.Begun}
		if o.File, err = lock(filepath.Join(v.dir(id), diskFile)); err != nil {
			return fmt.Errorf("volume %s: %w", id, err)
		}
		if err := v.openRest(ctx, r, o); err != nil {
			return errors.Join(err, o.Close())
		}
		out = o
		return nil
	})
	return out, err
}

// openRest opens what lies under the volume and unwraps its key.
func (v *Volumes) openRest(ctx context.Context, r *record, o *driver.OpenVolume) error {
	if r.ImageID != "" {
		image, err := v.image(ctx, r.ImageID)
		if err != nil {
			return err
		}
		if image.Digest != r.ImageDigest {
			return errors.Join(driver.Permanent(driver.CodeImageUnusable, fmt.Errorf("volume %s lies on content %s of image %s, which now is %s", r.ID, r.ImageDigest, r.ImageID, image.Digest)), image.Close())
		}
		disk := image.Disk
		o.Backing = append(o.Backing, disk)
		image.Disk = nil
		if err := closeOthers(image); err != nil {
			return err
		}
	}
	wrapped, err := os.ReadFile(filepath.Join(v.dir(r.ID), keyFile))
	if err != nil {
		return fmt.Errorf("volume %s: its key: %w", r.ID, err)
	}
	o.Passphrase, err = v.cfg.Keys.Unwrap(r.WrappingKey, binding(r), wrapped)
	if err != nil {
		return fmt.Errorf("volume %s: its key: %w", r.ID, err)
	}
	return nil
}

// image opens the image under root volumes. One that does not exist will not come to exist by asking again.
func (v *Volumes) image(ctx context.Context, id ident.ImageID) (*driver.OpenImage, error) {
	i, err := v.cfg.Images.OpenImage(ctx, id)
	if errors.Is(err, driver.ErrNotFound) {
		return nil, driver.Permanent(driver.CodeImageUnusable, fmt.Errorf("this host has no image %s", id))
	}
	return i, err
}

// closeOthers closes what an image has besides its disk, which the caller has taken.
func closeOthers(i *driver.OpenImage) error {
	var err error
	for _, f := range []*os.File{i.Kernel, i.Initrd} {
		if f != nil {
			err = errors.Join(err, f.Close())
		}
	}
	return err
}

// lock opens a disk for reading and writing and locks the open file. ErrBusy: somebody has it open.
func lock(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|unix.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, unix.EWOULDBLOCK) {
			return nil, driver.ErrBusy
		}
		return nil, fmt.Errorf("lock: %w", err)
	}
	return f, nil
}
