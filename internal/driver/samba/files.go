package samba

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
)

// writeFile replaces a file in a directory of ours as a whole, durably, with this mode; owner 0 leaves it with us.
func writeFile(path string, data []byte, mode os.FileMode, owner int) (err error) {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+".*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, f.Close(), os.Remove(f.Name()))
		}
	}()
	if _, err = f.Write(data); err != nil {
		return err
	}
	if err = f.Chmod(mode); err != nil {
		return err
	}
	if owner != 0 {
		if err = give(f.Chown(owner, owner)); err != nil {
			return err
		}
	}
	if err = f.Sync(); err != nil {
		return err
	}
	if err = os.Rename(f.Name(), path); err != nil {
		return err
	}
	_ = f.Close()
	return syncDir(filepath.Dir(path))
}

// give forgives a chown that a rootless host role cannot do: there the controller's id is our own outside its jail, and all is well.
func give(err error) error {
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EPERM) {
		return nil
	}
	return err
}

func syncDir(dir string) error {
	f, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

func (d *domain) save() error {
	b, err := json.MarshalIndent(d.rec, "", "\t")
	if err == nil {
		err = writeFile(filepath.Join(d.dir, recordFile), b, 0o600, 0)
	}
	if err != nil {
		return fmt.Errorf("samba: write the record of %s: %w", d.id, err)
	}
	return nil
}

// lay makes the directories of a new domain. What was there is gone before.
func (d *domain) lay() error {
	if err := os.RemoveAll(d.dir); err != nil {
		return err
	}
	if err := os.Mkdir(d.dir, 0o700); err != nil {
		return err
	}
	for _, name := range []string{confDir, tlsDir} {
		if err := os.Mkdir(filepath.Join(d.dir, name), 0o755); err != nil {
			return err
		}
	}
	for _, name := range []string{stateDir, stateDir + "/run", stateDir + "/run/ncalrpc", stateDir + "/log", stateDir + "/cache"} {
		path := filepath.Join(d.dir, name)
		if err := os.Mkdir(path, 0o700); err != nil {
			return err
		}
		if err := give(os.Lchown(path, d.rec.UID, d.rec.UID)); err != nil {
			return err
		}
	}
	return syncDir(d.dir)
}
