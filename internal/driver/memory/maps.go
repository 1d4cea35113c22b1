package memory

import (
	"bytes"
	"errors"
	"fmt"
	"os"
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
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return nil, err
	}
	var found []holder
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		// The start time is read first: should the number change hands between, openProcess refuses what this gives.
		start, err := StartTime(pid)
		if err != nil {
			continue
		}
		b, err := os.ReadFile("/proc/" + p.Name() + "/maps")
		if err != nil {
			continue
		}
		regions, err := parseMaps(b)
		if err != nil {
			continue
		}
		for _, r := range regions {
			if r.file == id && r.shared() && r.writable() {
				comm, _ := os.ReadFile("/proc/" + p.Name() + "/comm")
				found = append(found, holder{pid, start, strings.TrimSpace(string(comm))})
				break
			}
		}
	}
	return found, nil
}

// findBlock looks for a block among the open descriptors of a process that still has it, for when every keeper of it is gone.
func findBlock(pid int, id fileID) (*os.File, error) {
	dir := fmt.Sprintf("/proc/%d/fd", pid)
	names, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		path := dir + "/" + n.Name()
		var st unix.Stat_t
		if unix.Stat(path, &st) != nil || (fileID{st.Dev, st.Ino}) != id {
			continue
		}
		if f, err := os.OpenFile(path, os.O_RDWR|unix.O_CLOEXEC, 0); err == nil {
			return f, nil
		}
	}
	return nil, os.ErrNotExist
}
