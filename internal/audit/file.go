package audit

import (
	"errors"
	"io"
	"os"
	"path/filepath"

	"carrel/internal/durable"
)

// file is what the chain needs of an os.File; tests put one that fails between.
type file interface {
	io.WriterAt
	Sync() error
	Truncate(size int64) error
	Close() error
}

// disk opens and removes files of the chain; path is relative, with slashes.
type disk interface {
	// open opens or creates a file for writing, so that its name survives a crash.
	open(path string) (file, error)
	remove(path string) error
}

type osDisk struct{ dir string }

func (d osDisk) open(path string) (file, error) {
	full := filepath.Join(d.dir, filepath.FromSlash(path))
	if err := os.MkdirAll(filepath.Dir(full), 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(full, os.O_WRONLY|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	// The file's name, its day's, month's and year's, and the directory's own entries.
	for dir, n := filepath.Dir(full), 0; n < 5; dir, n = filepath.Dir(dir), n+1 {
		if err := durable.SyncDir(dir); err != nil {
			return nil, errors.Join(err, f.Close())
		}
	}
	return f, nil
}

func (d osDisk) remove(path string) error {
	full := filepath.Join(d.dir, filepath.FromSlash(path))
	if err := os.Remove(full); err != nil {
		return err
	}
	return durable.SyncDir(filepath.Dir(full))
}
