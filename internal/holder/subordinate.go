package holder

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/user"
	"slices"
	"strconv"
	"strings"
)

// span is count ids of the host from first on.
type span struct{ first, count int }

// mapping are the arguments of newuidmap and newgidmap after the process id: inside, outside and count of each line.
type mapping struct{ users, groups []string }

// The files that say which further ids a user has (subuid(5)), and the programs that map them: only they may, being set-uid root.
const (
	subUsers  = "/etc/subuid"
	subGroups = "/etc/subgid"
	mapUsers  = "newuidmap"
	mapGroups = "newgidmap"
)

// plan maps this user to root, and the helper processes' ids to those that the host's administrator has given him.
func plan(ids IDs) (mapping, error) {
	var m mapping
	for _, program := range []string{mapUsers, mapGroups} {
		if _, err := exec.LookPath(program); err != nil {
			return m, fmt.Errorf("%w; install the package uidmap", err)
		}
	}
	names := identify()
	for _, kind := range []struct {
		file string
		self int
		args *[]string
	}{{subUsers, os.Geteuid(), &m.users}, {subGroups, os.Getegid(), &m.groups}} {
		f, err := os.Open(kind.file)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return m, err
		}
		var have []span
		if err == nil {
			have = spans(bufio.NewScanner(f), names)
			f.Close()
		}
		if *kind.args, err = lines(kind.self, ids, have); err != nil {
			return m, fmt.Errorf("%s: %w: run usermod --add-subuids 100000-165535 --add-subgids 100000-165535 %s as root (another range where this one is taken)", kind.file, err, names[0])
		}
	}
	return m, nil
}

// identify gives what this user is called in subuid(5): by name or number. Directories other than /etc/passwd are not asked, so that
// the environment's word counts there too; newuidmap does not take it.
func identify() []string {
	number := strconv.Itoa(os.Geteuid())
	if u, err := user.LookupId(number); err == nil && u.Username != "" {
		return []string{u.Username, number}
	}
	if name := os.Getenv("USER"); name != "" {
		return []string{name, number}
	}
	return []string{number}
}

// spans reads the ids of a user of these names. Lines that say nothing are passed over, as by newuidmap.
func spans(file *bufio.Scanner, names []string) []span {
	var all []span
	for file.Scan() {
		f := strings.Split(strings.TrimSpace(file.Text()), ":")
		if len(f) != 3 || !slices.Contains(names, f[0]) {
			continue
		}
		first, err := strconv.ParseUint(f[1], 10, 32)
		count, err2 := strconv.ParseUint(f[2], 10, 32)
		if err == nil && err2 == nil && count > 0 {
			all = append(all, span{int(first), int(count)})
		}
	}
	return all
}

// lines maps self to 0 and the wanted ids to the first that there are.
func lines(self int, want IDs, have []span) ([]string, error) {
	args := []string{"0", strconv.Itoa(self), "1"}
	inside, left := want.First, want.Count
	for _, s := range have {
		n := min(s.count, left)
		if n == 0 {
			break
		}
		args = append(args, strconv.Itoa(inside), strconv.Itoa(s.first), strconv.Itoa(n))
		inside, left = inside+n, left-n
	}
	if left > 0 {
		return nil, fmt.Errorf("gives this user %d ids, and desktops' helper processes need %d", want.Count-left, want.Count)
	}
	return args, nil
}

// apply maps the ids into the user namespace of a process.
func (m mapping) apply(pid int) error {
	for program, args := range map[string][]string{mapUsers: m.users, mapGroups: m.groups} {
		out, err := exec.Command(program, append([]string{strconv.Itoa(pid)}, args...)...).CombinedOutput()
		if err != nil {
			return fmt.Errorf("%s: %w: %s", program, err, strings.TrimSpace(string(out)))
		}
	}
	return nil
}
