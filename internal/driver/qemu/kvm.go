package qemu

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// kvmDevice is KVM's device node.
const kvmDevice = "/dev/kvm"

// KVMGroup is the group that machines' processes have so that they can open /dev/kvm: 0 when everybody can, an error that says what to do when none
// is enough. That the host role can open it proves nothing about them.
func KVMGroup() (gid int, err error) {
	info, err := os.Stat(kvmDevice)
	if err != nil {
		return 0, err
	}
	overflow := 65534
	if b, err := os.ReadFile("/proc/sys/kernel/overflowgid"); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			overflow = n
		}
	}
	return groupOf(info, overflow)
}

// groupOf is KVMGroup of a node. overflow is what a group shows as that this user namespace does not have.
func groupOf(node os.FileInfo, overflow int) (int, error) {
	const both = 0o6
	gid, mode := int(node.Sys().(*syscall.Stat_t).Gid), node.Mode().Perm()
	switch {
	case mode&both == both:
		return 0, nil
	case mode>>3&both != both:
		return 0, fmt.Errorf("%s has mode %04o, so desktops' processes, which are no root, cannot open it: chgrp kvm %s && chmod 0660 %s", kvmDevice, mode, kvmDevice, kvmDevice)
	case gid == 0:
		return 0, fmt.Errorf("%s is of the group root, which desktops' processes must not have: chgrp kvm %s", kvmDevice, kvmDevice)
	case gid == overflow:
		return 0, errors.New(kvmDevice + " is of a group that a host role without root does not have: chmod 0666 " + kvmDevice + ", or run Carrel as root")
	}
	return gid, nil
}
