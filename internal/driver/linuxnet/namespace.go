package linuxnet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	"golang.org/x/sys/unix"
)

// enter runs fn on an OS thread of its own that has been moved into the namespace. The thread is moved back before others may use it; when
// that fails it stays locked, so that the runtime ends it with its goroutine.
func enter(ns *os.File, fn func() error) error {
	return onThread(func() error { return unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET) }, fn)
}

// onThread runs move and then fn on a thread whose network namespace is restored afterwards.
func onThread(move, fn func() error) error {
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		home, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
		if err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("open own network namespace: %w", err)
			return
		}
		defer unix.Close(home)
		if err := move(); err != nil {
			runtime.UnlockOSThread()
			done <- fmt.Errorf("enter network namespace: %w", err)
			return
		}
		err = fn()
		if unix.Setns(home, unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread()
		}
		done <- err
	}()
	return <-done
}

// makeNamespace makes a network namespace and holds it by a bind mount at path, so that it outlives this process.
func makeNamespace(path string) error {
	file, err := os.OpenFile(path, os.O_RDONLY|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	if err := file.Close(); err != nil {
		return err
	}
	err = onThread(func() error { return unix.Unshare(unix.CLONE_NEWNET) }, func() error {
		if err := unix.Mount("/proc/thread-self/ns/net", path, "none", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("hold network namespace at %s: %w", path, err)
		}
		return nil
	})
	if err != nil {
		return errors.Join(err, os.Remove(path))
	}
	return nil
}

// isNamespace tells whether a network namespace is mounted at path.
func isNamespace(path string) (bool, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(path, &st); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return false, nil
		}
		return false, fmt.Errorf("linuxnet: %s: %w", path, err)
	}
	return st.Type == unix.NSFS_MAGIC, nil
}

// dropNamespace lets go of a namespace; it ends with the last process and socket in it.
func dropNamespace(path string) error {
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("let go of %s: %w", path, err)
	}
	return remove(path)
}

// remove removes a file that need not be there.
func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// setting is one file under /proc/sys/net and what is written to it.
type setting struct{ name, value string }

// apply writes settings; which namespace they mean is decided by the thread, so it is called inside enter. A file that is absent is passed over
// when its setting is about IPv6: a kernel without IPv6 needs none of them.
func apply(settings []setting) error {
	for _, s := range settings {
		err := os.WriteFile(filepath.Join("/proc/sys/net", s.name), []byte(s.value), 0)
		if errors.Is(err, fs.ErrNotExist) && len(s.name) > 5 && s.name[:5] == "ipv6/" {
			continue
		}
		if err != nil {
			return fmt.Errorf("set net/%s: %w", s.name, err)
		}
	}
	return nil
}

// vpcSettings are those of a VPC's namespace.
var vpcSettings = []setting{
	{"ipv4/ip_forward", "1"},
	// A packet whose source is not behind the device it came by is not a packet, even where no rule says so.
	{"ipv4/conf/all/rp_filter", "1"}, {"ipv4/conf/default/rp_filter", "1"},
	{"ipv4/conf/all/accept_redirects", "0"}, {"ipv4/conf/default/accept_redirects", "0"},
	{"ipv4/conf/all/send_redirects", "0"}, {"ipv4/conf/default/send_redirects", "0"},
	{"ipv4/conf/all/accept_source_route", "0"}, {"ipv4/conf/default/accept_source_route", "0"},
	// Addresses are IPv4 only for now; a second stack that nobody filters would be a way around everything here.
	{"ipv6/conf/all/disable_ipv6", "1"}, {"ipv6/conf/default/disable_ipv6", "1"},
	{"ipv6/conf/all/forwarding", "0"}, {"ipv6/conf/all/accept_ra", "0"}, {"ipv6/conf/default/accept_ra", "0"},
	// A domain controller runs unprivileged in here and listens on 53, 88, 389...; nobody but what the host role starts is in here.
	{"ipv4/ip_unprivileged_port_start", "53"},
}

// conntrackSettings exist only once a rule has asked for connection tracking.
var conntrackSettings = []setting{
	// Else the next packet of a flow that was cut would make it anew.
	{"netfilter/nf_conntrack_tcp_loose", "0"},
}
