package image

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"
)

// cloneFile makes `to` have the contents of the regular file `from`, read-only: by reflink, else by hard link, else by copying.
func cloneFile(ctx context.Context, from, to string) error {
	in, err := openRegular(from)
	if err != nil {
		return err
	}
	defer in.Close()
	out, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	defer out.Close()
	if unix.IoctlFileClone(int(out.Fd()), int(in.Fd())) == nil {
		return out.Sync()
	}
	// A hard link shares the file with the cache; both are read-only, and a change shows against the seal.
	if err := os.Remove(to); err != nil {
		return err
	}
	if os.Link(from, to) == nil {
		return nil
	}
	copied, err := os.OpenFile(to, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return err
	}
	_, err = copyContext(ctx, copied, in)
	return errors.Join(err, copied.Sync(), copied.Close())
}
