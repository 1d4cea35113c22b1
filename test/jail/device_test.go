package jail

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"carrel/internal/driver/jail"
)

// A device node like /dev/kvm on Debian, mode 0660 of a group, is opened by a program that has its group, and by no other.
func TestADeviceIsOpenedByItsGroup(t *testing.T) {
	const kvm = 64777
	path := filepath.Join(t.TempDir(), "kvm")
	// /dev/zero's number, under which every machine has something.
	if err := unix.Mknod(path, unix.S_IFCHR|0o660, int(unix.Mkdev(1, 5))); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Chmod(path, 0o660), os.Chown(path, 0, kvm)); err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		gid   int
		opens bool
	}{"its group": {kvm, true}, "another group": {64501, false}} {
		t.Run(name, func(t *testing.T) {
			var said bytes.Buffer
			p, err := jail.Start(t.Context(), jail.Spec{Stderr: &said, Name: "device", Program: "/bin/busybox", Args: []string{"sh", "-c", "exec 3<>" + path}, UID: 64501, GID: c.gid,
				Devices: []string{path}, ReadOnly: jail.SystemLibraries(), Limits: jail.Limits{Memory: 256 << 20}})
			if err != nil {
				t.Fatal(err)
			}
			exit, err := p.Wait(context.Background())
			if err != nil || (exit.Code == 0) != c.opens {
				t.Errorf("%s, %v: %s", exit, err, said.String())
			}
		})
	}
}
