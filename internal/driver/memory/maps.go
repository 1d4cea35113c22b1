package memory

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// region is one line of /proc/PID/maps.
type region struct {
	from, to uint64
	// perms as the kernel writes them ("rw-s").
	perms string
	file  fileID
	name  string
}

func (r region) shared() bool   { return r.perms[3] == 's' }
func (r region) writable() bool { return r.perms[1] == 'w' }

// parseMaps reads /proc/PID/maps. Names in it are the process's choice; the kernel escapes line ends in them.
func parseMaps(b []byte) ([]region, error) {
	var all []region
	for line := range bytes.Lines(b) {
		r, err := parseRegion(strings.TrimSuffix(string(line), "\n"))
		if err != nil {
			return nil, fmt.Errorf("maps of a process: %.200q: %w", line, err)
		}
		all = append(all, r)
	}
	return all, nil
}

var errMaps = errors.New("not a mapping")

// parseRegion reads "7f00-7f10 rw-s 00000000 00:01 1034  /memfd:x (deleted)".
func parseRegion(line string) (r region, err error) {
	addresses, rest, ok1 := strings.Cut(line, " ")
	perms, rest, ok2 := strings.Cut(rest, " ")
	_, rest, ok3 := strings.Cut(rest, " ")
	device, rest, ok4 := strings.Cut(rest, " ")
	inode, name, _ := strings.Cut(rest, " ")
	from, to, ok5 := strings.Cut(addresses, "-")
	major, minor, ok6 := strings.Cut(device, ":")
	if !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 || len(perms) != 4 {
		return r, errMaps
	}
	number := func(s string, base int) (n uint64) {
		var e error
		n, e = strconv.ParseUint(s, base, 64)
		err = errors.Join(err, e)
		return n
	}
	r = region{from: number(from, 16), to: number(to, 16), perms: perms, name: strings.TrimLeft(name, " ")}
	r.file = fileID{unix.Mkdev(uint32(number(major, 16)), uint32(number(minor, 16))), number(inode, 10)}
	if err == nil && (r.to < r.from || r.from%pageBytes != 0 || r.to%pageBytes != 0) {
		err = errMaps
	}
	return r, err
}

// holder is a process that maps a block in a way that can write.
type holder struct {
	pid   int
	start uint64
	name  string
}

func (h holder) String() string { return fmt.Sprintf("process %d (%s)", h.pid, h.name) }

// holders finds the processes, this one aside, that map the file shared and writable. Those that may not be looked into are left out.
func holders(id fileID) ([]holder, error) {
	return processes(func(pid int) bool { return hasMapped(pid, id) })
}

// openers finds the processes that have the file open, this one and the keeper aside. A machine has it from its birth and maps it a little later.
func openers(id fileID, keeper int) ([]holder, error) {
	return processes(func(pid int) bool { return pid != keeper && eachOpen(pid, id, func(string) bool { return true }) })
}

// hasMapped: the process maps the file shared and writable.
func hasMapped(pid int, id fileID) bool {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return false
	}
	regions, err := parseMaps(b)
	if err != nil {
		return false
	}
	return slices.ContainsFunc(regions, func(r region) bool { return r.file == id && r.shared() && r.writable() })
}

// processes gives those, this one aside, of which is holds.
func processes(is func(pid int) bool) ([]holder, error) {
	all, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []holder
	for _, p := range all {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// The start time is read first: should the number change hands between, openProcess refuses what this gives.
		start, err := StartTime(pid)
		if err != nil {
			continue
		}
		if is(pid) {
			comm, _ := os.ReadFile("/proc/" + p.Name() + "/comm")
			found = append(found, holder{pid, start, strings.TrimSpace(string(comm))})
		}
	}
	return found, nil
}

// findBlock looks for a block among the open descriptors of a process that still has it, for when every keeper of it is gone.
func findBlock(pid int, id fileID) (*os.File, error) {
	var f *os.File
	if _, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid)); err != nil {
		return nil, err
	}
	if !eachOpen(pid, id, func(path string) bool {
		var err error
		f, err = os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0)
		return err == nil
	}) {
		return nil, os.ErrNotExist
	}
	return f, nil
}

// eachOpen calls use with the path of each descriptor of the process that is of the file, until one is used.
func eachOpen(pid int, id fileID, use func(path string) bool) bool {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	names, _ := os.ReadDir(dir)
	for _, n := range names {
		path := dir + "/" + n.Name()
		var st unix.Stat_t
		if unix.Stat(path, &st) == nil && (fileID{st.Dev, st.Ino}) == id && use(path) {
			return true
		}
	}
	return false
}
