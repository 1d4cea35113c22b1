package doctor

import (
	"errors"
	"fmt"
	"io/fs"

	"golang.org/x/sys/unix"
)

// kvmGetAPIVersion is KVM_GET_API_VERSION of Documentation/virt/kvm/api.rst, the same on every architecture but MIPS, PowerPC and SPARC.
const kvmGetAPIVersion = 0xae00

// openKVM opens the device. It wraps fs.ErrNotExist when there is none.
func openKVM() (int, error) {
	fd, err := unix.Open("/dev/kvm", unix.O_RDWR|unix.O_CLOEXEC, 0)
	switch {
	case errors.Is(err, unix.ENXIO), errors.Is(err, unix.ENODEV): // a node without a driver behind it
		return -1, fmt.Errorf("open /dev/kvm: %w (%w)", fs.ErrNotExist, err)
	case err != nil:
		return -1, fmt.Errorf("open /dev/kvm: %w", err)
	}
	return fd, nil
}

func kvmVersion() (int, error) {
	fd, err := openKVM()
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	v, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), kvmGetAPIVersion, 0)
	if errno != 0 {
		return 0, fmt.Errorf("ask /dev/kvm for its API version: %w", errno)
	}
	return int(v), nil
}
