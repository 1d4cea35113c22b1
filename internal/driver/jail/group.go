package jail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// groups are the control groups of one program, and which limit each holds ("cgroup v2", "cgroup v1" or "").
type groups struct {
	dirs                   []string
	memory, cpu, processes string
}

// hierarchy is where groups for a controller can be made: below this process's own group, so that its own limits hold for all together.
type hierarchy struct {
	version int
	dir     string
	// root is the highest group in sight; version 2 only.
	root string
}

func (h hierarchy) String() string { return "cgroup v" + strconv.Itoa(h.version) }

// setting is one file of a group. Optional ones need not exist (no swap accounting).
type setting struct {
	file, value string
	optional    bool
}

var controllers = []string{"memory", "cpu", "pids"}

// joinGroups puts a process into groups of its name. A limit that cannot be had is left out: the caller sees it in Walls.
func joinGroups(name string, pid int, l Limits) groups {
	return join(hierarchies(), name, pid, l)
}

func join(where map[string]hierarchy, name string, pid int, l Limits) groups {
	var g groups
	held := map[string]string{}
	for _, controller := range controllers {
		h, ok := where[controller]
		if !ok {
			continue
		}
		set := settings(h.version, controller, l)
		if len(set) == 0 {
			continue
		}
		dir := filepath.Join(h.dir, groupPrefix+name)
		if err := apply(dir, set, pid); err != nil {
			if !slices.Contains(g.dirs, dir) {
				_ = os.Remove(dir)
			}
			continue
		}
		if !slices.Contains(g.dirs, dir) {
			g.dirs = append(g.dirs, dir)
		}
		held[controller] = h.String()
	}
	g.memory, g.cpu, g.processes = held["memory"], held["cpu"], held["pids"]
	return g
}

// apply makes the group, or takes the one an earlier crash has left, and moves pid in.
func apply(dir string, set []setting, pid int) error {
	if err := os.Mkdir(dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	for _, s := range append(set, setting{file: "cgroup.procs", value: strconv.Itoa(pid)}) {
		err := write(filepath.Join(dir, s.file), s.value)
		if err != nil && !s.optional {
			return err
		}
	}
	return nil
}

// write does not create: a missing file means a missing controller.
func write(name, value string) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

// settings of one controller; none when it has nothing to limit.
func settings(version int, controller string, l Limits) []setting {
	const period = 100000 // Microseconds; the kernel's default.
	memory, quota := strconv.FormatInt(l.Memory, 10), strconv.Itoa(l.CPU*period/1000)
	switch {
	case controller == "memory" && l.Memory > 0 && version == 1:
		// In this order: memory and swap together may not be less than memory. Equal: nothing is swapped out.
		return []setting{{"memory.limit_in_bytes", memory, false}, {"memory.memsw.limit_in_bytes", memory, true}, {"memory.swappiness", "0", true}}
	case controller == "memory" && l.Memory > 0:
		return []setting{{"memory.max", memory, false}, {"memory.swap.max", "0", true}, {"memory.oom.group", "1", true}}
	case controller == "cpu" && l.CPU > 0 && version == 1:
		return []setting{{"cpu.cfs_period_us", strconv.Itoa(period), false}, {"cpu.cfs_quota_us", quota, false}}
	case controller == "cpu" && l.CPU > 0:
		return []setting{{"cpu.max", quota + " " + strconv.Itoa(period), false}}
	case controller == "pids" && l.Processes > 0:
		return []setting{{"pids.max", strconv.Itoa(l.Processes), false}}
	}
	return nil
}

// remove gives the groups back. Gone already: success.
func (g groups) remove() error {
	var all error
	for _, dir := range g.dirs {
		if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
			all = errors.Join(all, fmt.Errorf("control group: %w", err))
		}
		if above := filepath.Dir(dir); filepath.Base(above) == topGroup {
			_ = os.Remove(above) // If it was the last.
		}
	}
	return all
}

// hierarchies finds where this process may make groups, for each controller; v2 before v1.
func hierarchies() map[string]hierarchy {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	own, _ := os.ReadFile("/proc/self/cgroup")
	all := findHierarchies(string(mounts), string(own))
	for controller, h := range all {
		if h.version != 2 || enable(h.dir, controller) == nil {
			continue
		}
		// Our own group has processes, so none below it can have limits. Root can still make one at the top, as on a host where
		// the service was started by hand.
		h.dir = filepath.Join(h.root, topGroup)
		if err := os.Mkdir(h.dir, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
			delete(all, controller)
		} else if enable(h.root, controller) != nil || enable(h.dir, controller) != nil {
			_ = os.Remove(h.dir)
			delete(all, controller)
		} else {
			all[controller] = h
		}
	}
	return all
}

const (
	// topGroup holds the groups of jails when they cannot be below our own.
	topGroup = "carrel"
	// groupPrefix begins the names of all groups made here.
	groupPrefix = "carrel-"
	// hostGroup is where Delegate moves the host role.
	hostGroup = groupPrefix + "host"
)

// Delegate makes limits possible where a service manager has handed this service a control group of version 2 (systemd: Delegate=yes).
// There a group has either processes or limited groups below it, so every process of the service moves into a group beside those of the jails.
// To be called once when the host role starts. Where nothing is delegated it does nothing; what limits are then in force, Walls says.
func Delegate() error {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	own, _ := os.ReadFile("/proc/self/cgroup")
	for controller, h := range findHierarchies(string(mounts), string(own)) {
		if h.version != 2 || !delegated(h.dir) || enable(h.dir, controller) == nil {
			continue
		}
		if err := makeRoom(h.dir); err != nil {
			return fmt.Errorf("jail: control group %s: %w", h.dir, err)
		}
		if err := enable(h.dir, controller); err != nil {
			return fmt.Errorf("jail: control group %s: enable %s: %w", h.dir, controller, err)
		}
	}
	return nil
}

// Sweep removes the groups of programs that ended while nobody was there to do it: those of a Tool have new names each time, so no later
// start takes them over. To be called when the host role starts, before it starts anything. A group with processes in it stays.
func Sweep() {
	mounts, _ := os.ReadFile("/proc/self/mountinfo")
	own, _ := os.ReadFile("/proc/self/cgroup")
	for _, h := range findHierarchies(string(mounts), string(own)) {
		sweep(h.dir)
		if h.version == 2 {
			sweep(filepath.Join(h.root, topGroup))
		}
	}
}

func sweep(dir string) {
	found, _ := filepath.Glob(filepath.Join(dir, groupPrefix+"*"))
	for _, group := range found {
		_ = os.Remove(group) // The kernel refuses while somebody is in it.
	}
}

// delegated reads the mark that systemd puts on groups it leaves to a service: without it the processes in there may be anybody's.
func delegated(dir string) bool {
	for _, name := range []string{"user.delegate", "trusted.delegate"} {
		var value [8]byte
		if n, err := unix.Getxattr(dir, name, value[:]); err == nil && string(value[:n]) == "1" {
			return true
		}
	}
	return false
}

// makeRoom moves the processes of a group into one below it.
func makeRoom(dir string) error {
	leaf := filepath.Join(dir, hostGroup)
	if err := os.Mkdir(leaf, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	list, err := os.ReadFile(filepath.Join(dir, "cgroup.procs"))
	if err != nil {
		return err
	}
	for _, pid := range strings.Fields(string(list)) {
		if err := write(filepath.Join(leaf, "cgroup.procs"), pid); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("move process %s: %w", pid, err)
		}
	}
	return nil
}

// enable lets groups below dir have a controller. It fails while dir itself has processes, but for the root group.
func enable(dir, controller string) error {
	if slices.Contains(enabled(dir), controller) {
		return nil
	}
	return write(filepath.Join(dir, "cgroup.subtree_control"), "+"+controller)
}

// enabled are the controllers that groups below dir have.
func enabled(dir string) []string {
	text, _ := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control"))
	return strings.Fields(string(text))
}

// findHierarchies reads mountinfo and cgroup of a process (proc(5), cgroups(7)). For v2 it takes the controllers that the own group has.
func findHierarchies(mountinfo, own string) map[string]hierarchy {
	paths := map[string]string{} // Controller, or "" for v2, to own group.
	for line := range strings.Lines(own) {
		parts := strings.SplitN(strings.TrimSpace(line), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for _, c := range strings.Split(parts[1], ",") {
			paths[c] = parts[2]
		}
	}
	found := map[string]hierarchy{}
	for line := range strings.Lines(mountinfo) {
		before, after, _ := strings.Cut(line, " - ")
		fields, kind := strings.Fields(before), strings.Fields(after)
		if len(fields) < 5 || len(kind) < 3 {
			continue
		}
		root, at := fields[3], fields[4]
		for _, c := range controllers {
			switch {
			case kind[0] == "cgroup2":
				dir := filepath.Join(at, strings.TrimPrefix(paths[""], strings.TrimSuffix(root, "/")))
				if filepath.Base(dir) == hostGroup {
					dir = filepath.Dir(dir)
				}
				have, _ := os.ReadFile(filepath.Join(dir, "cgroup.controllers"))
				if slices.Contains(strings.Fields(string(have)), c) {
					found[c] = hierarchy{2, dir, at}
				}
			case kind[0] == "cgroup" && found[c].version == 0 && slices.Contains(strings.Split(kind[2], ","), c):
				dir := filepath.Join(at, strings.TrimPrefix(paths[c], strings.TrimSuffix(root, "/")))
				if _, err := os.Stat(dir); err != nil {
					dir = at
				}
				found[c] = hierarchy{version: 1, dir: dir}
			}
		}
	}
	return found
}
