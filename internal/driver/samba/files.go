package samba

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"carrel/internal/durable"
)

// writeFile replaces a file in a directory of ours as a whole, durably, with this mode; owner 0 leaves it with us.
func writeFile(path string, data []byte, mode os.FileMode, owner int) error {
	return durable.WriteFile(path, data, mode, func(f *os.File) error {
		if owner == 0 {
			return nil
		}
		return give(f.Chown(owner, owner))
	})
}

// give forgives a chown that a rootless host role cannot do: there the controller's id is our own outside its jail, and all is well.
func give(err error) error {
	if errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.EPERM) {
		return nil
	}
	return err
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
	return durable.SyncDir(d.dir)
}
