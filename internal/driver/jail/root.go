package jail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// basicDevices are in every jail.
var basicDevices = []string{"/dev/null", "/dev/zero", "/dev/random", "/dev/urandom"}

// source is a mount taken from the host, not attached anywhere yet, or a link to be made again.
type source struct {
	path string
	link string
	dir  bool
	tree int
}

// buildRoot replaces the root by an empty one and puts in what the plan names. What is taken from the host is taken first, as
// detached mounts and with the ids that may see it; then the old root is given up, and only then is anything made: so no link inside
// the new root can lead a name back to the host.
func buildRoot(p *plan, answer *report) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make mounts private: %w", err)
	}
	sources, err := take(p)
	if err != nil {
		return err
	}
	if err := become(p, answer); err != nil {
		return err
	}
	if err := unix.Sethostname([]byte("carrel")); err != nil {
		return fmt.Errorf("set the host name: %w", err)
	}
	if err := unix.Unshare(unix.CLONE_NEWCGROUP); err != nil {
		return fmt.Errorf("new cgroup namespace: %w", err)
	}
	unix.Umask(0o022)
	root, err := newMount("tmpfs", 0, "mode", "755", "size", "1m", "nr_inodes", "4096")
	if err != nil {
		return fmt.Errorf("root file system: %w", err)
	}
	proc := -1
	if p.Proc {
		// Made while the host's /proc is still in sight: without one a user namespace may not have its own.
		if proc, err = newMount("proc", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC, "subset", "pid", "hidepid", "invisible"); err != nil {
			return fmt.Errorf("/proc: %w (something covers parts of the host's own /proc?)", err)
		}
	}
	if err := changeRoot(root); err != nil {
		return err
	}
	if p.Scratch > 0 {
		// First, so that it does not cover what comes from a place below /tmp.
		if err := scratch(p.Scratch); err != nil {
			return fmt.Errorf("/tmp: %w", err)
		}
	}
	for _, s := range sources {
		if err := s.attach(); err != nil {
			return fmt.Errorf("%s: %w", s.path, err)
		}
	}
	if p.Proc {
		if err := (source{path: "/proc", dir: true, tree: proc}).attach(); err != nil {
			return fmt.Errorf("/proc: %w", err)
		}
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY | unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_NOEXEC}
	if err := unix.MountSetattr(unix.AT_FDCWD, "/", 0, &attr); err != nil {
		return fmt.Errorf("make the root read-only: %w", err)
	}
	return nil
}

// take detaches a copy of everything the plan names, with its flags set before anybody can reach it.
func take(p *plan) ([]source, error) {
	const plain = unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NODEV
	var all []source
	add := func(path string, flags uint64) error {
		s, err := takeOne(path, flags)
		if err != nil {
			return fmt.Errorf("take %s: %w", path, err)
		}
		all = append(all, s)
		return nil
	}
	for i, path := range p.ReadOnly {
		if covered(path, p.ReadOnly[:i]) {
			continue
		}
		if err := add(path, plain|unix.MOUNT_ATTR_RDONLY); err != nil {
			return nil, err
		}
	}
	for _, path := range []string{p.Program, p.Loader} {
		if path == "" || covered(path, p.ReadOnly) {
			continue
		}
		s := source{path: path}
		var err error
		if s.tree, err = detach(path, plain|unix.MOUNT_ATTR_RDONLY); err != nil {
			return nil, fmt.Errorf("take %s: %w", path, err)
		}
		all = append(all, s)
	}
	for _, path := range p.Writable {
		if err := add(path, plain|unix.MOUNT_ATTR_NOEXEC); err != nil {
			return nil, err
		}
	}
	for _, path := range append(basicDevices, p.Devices...) {
		// Read-only for the node itself (its mode, its owner); what it leads to is written all the same.
		if err := add(path, unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NOEXEC|unix.MOUNT_ATTR_RDONLY); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func takeOne(path string, flags uint64) (source, error) {
	s := source{path: path, tree: -1}
	info, err := os.Lstat(path)
	if err != nil {
		return s, err
	}
	if info.Mode()&os.ModeSymlink != 0 {
		s.link, err = os.Readlink(path)
		return s, err
	}
	s.dir = info.IsDir()
	s.tree, err = detach(path, flags)
	return s, err
}

// detach takes what a path leads to, through links. Recursive: a user namespace may not take a directory without what is mounted in it, which
// could uncover something.
func detach(path string, flags uint64) (int, error) {
	tree, err := unix.OpenTree(unix.AT_FDCWD, path, unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_RECURSIVE)
	if err != nil {
		return -1, fmt.Errorf("open_tree: %w", err)
	}
	attr := unix.MountAttr{Attr_set: flags}
	if err := unix.MountSetattr(tree, "", unix.AT_EMPTY_PATH|unix.AT_RECURSIVE, &attr); err != nil {
		return -1, fmt.Errorf("mount_setattr: %w", err)
	}
	return tree, nil
}

// changeRoot makes a detached mount the root and gives the old one up.
func changeRoot(root int) error {
	// Any directory will do; this namespace is our own and nobody looks at it.
	const at = "/tmp"
	if err := unix.MoveMount(root, "", unix.AT_FDCWD, at, unix.MOVE_MOUNT_F_EMPTY_PATH); err != nil {
		return fmt.Errorf("attach the root: %w", err)
	}
	if err := unix.Chdir(at); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("pivot_root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("give up the old root: %w", err)
	}
	return unix.Chdir("/")
}

// attach puts a source where it was on the host.
func (s source) attach() error {
	if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil {
		return err
	}
	if s.tree < 0 {
		err := os.Symlink(s.link, s.path)
		if errors.Is(err, os.ErrExist) {
			err = nil
		}
		return err
	}
	if _, err := os.Lstat(s.path); errors.Is(err, os.ErrNotExist) {
		if s.dir {
			err = os.Mkdir(s.path, 0o755)
		} else {
			err = os.WriteFile(s.path, nil, 0o444)
		}
		if err != nil {
			return err
		}
	}
	defer unix.Close(s.tree)
	return unix.MoveMount(s.tree, "", unix.AT_FDCWD, s.path, unix.MOVE_MOUNT_F_EMPTY_PATH)
}

// scratch mounts /tmp: no programs, no devices, and few enough names that not they fill the memory instead of the data.
func scratch(bytes int64) error {
	inodes := max(bytes>>12, 64)
	fd, err := newMount("tmpfs", unix.MOUNT_ATTR_NOSUID|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_NOEXEC,
		"mode", "700", "size", strconv.FormatInt(bytes, 10), "nr_inodes", strconv.FormatInt(inodes, 10))
	if err != nil {
		return err
	}
	return source{path: "/tmp", dir: true, tree: fd}.attach()
}

// newMount makes a file system, not attached anywhere. Options are pairs of key and value.
func newMount(kind string, flags int, options ...string) (int, error) {
	fs, err := unix.Fsopen(kind, unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("fsopen: %w", err)
	}
	defer unix.Close(fs)
	for i := 0; i+1 < len(options); i += 2 {
		if err := unix.FsconfigSetString(fs, options[i], options[i+1]); err != nil {
			return -1, fmt.Errorf("option %s: %w", strings.Join(options[i:i+2], "="), err)
		}
	}
	if err := unix.FsconfigCreate(fs); err != nil {
		return -1, fmt.Errorf("fsconfig: %w", err)
	}
	fd, err := unix.Fsmount(fs, unix.FSMOUNT_CLOEXEC, flags)
	if err != nil {
		return -1, fmt.Errorf("fsmount: %w", err)
	}
	return fd, nil
}
