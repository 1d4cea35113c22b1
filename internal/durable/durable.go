// Package durable writes a small file so that after a crash of the process or the machine there is all of the new content or all of the old:
// into a file beside it, to the disk, renamed, and the directory to the disk.
//
// It refuses what is not small (the content is in memory), and to know what is written.
package durable

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// Prefix begins the names of files that are being written. One that is older than the process is what a crash has left, and may be removed.
const Prefix = ".writing-"

// WriteFile puts data at path with exactly this mode, in place of what was there. Each of prepare is done to the file before it has its name (an
// owner that it must have from the beginning).
func WriteFile(path string, data []byte, mode fs.FileMode, prepare ...func(*os.File) error) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, Prefix+"*") // Made with mode 0600 and O_EXCL: nobody reads it, and no link is followed.
	if err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(mode)
	}
	for _, fn := range prepare {
		if err == nil {
			err = fn(f)
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("write %s: %w", path, errors.Join(err, os.Remove(f.Name())))
	}
	return SyncDir(dir)
}

// SyncDir makes the names in a directory durable: a file that was made, renamed or removed in it.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
