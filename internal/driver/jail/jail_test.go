package jail

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func TestASpecIsCheckedAndTheFaultNamed(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	script := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(script, []byte("#!/bin/sh\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	good := func() Spec { return Spec{Name: "ws-1", Program: self, UID: 64100, GID: 64100} }
	s := good()
	if _, err := s.plan(); err != nil {
		t.Fatal(err)
	}
	for want, change := range map[string]func(*Spec){
		"name is not":             func(s *Spec) { s.Name = "../x" },
		"uid 0":                   func(s *Spec) { s.UID = 0 },
		"gid 0":                   func(s *Spec) { s.GID = 0 },
		"uid 65534":               func(s *Spec) { s.UID = 65534 },
		"uid -1":                  func(s *Spec) { s.UID = -1 },
		"contains NUL":            func(s *Spec) { s.Args = []string{"a\x00b"} },
		"not an absolute path":    func(s *Spec) { s.Program = "qemu-img" },
		"no such file":            func(s *Spec) { s.Program = "/no/such/program" },
		"not an ELF":              func(s *Spec) { s.Program = script },
		"ReadOnly: \"/\"":         func(s *Spec) { s.ReadOnly = []string{"/"} },
		"ReadOnly: \"/usr/../x\"": func(s *Spec) { s.ReadOnly = []string{"/usr/../x"} },
		"ReadOnly: \"usr\"":       func(s *Spec) { s.ReadOnly = []string{"usr"} },
		"/no/such/dir":            func(s *Spec) { s.ReadOnly = []string{"/no/such/dir"} },
		"Writable: /dev/null":     func(s *Spec) { s.Writable = []string{"/dev/null"} },
		"Devices: /usr":           func(s *Spec) { s.Devices = []string{"/usr"} },
		"is a directory":          func(s *Spec) { s.Files = []*os.File{nil, dir} },
		"negative":                func(s *Spec) { s.Limits.Memory = -1 },
	} {
		s := good()
		change(&s)
		if _, err := s.plan(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
		if _, err := Start(t.Context(), s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("start, %s: %v", want, err)
		}
	}
}

func TestTheAllowanceOfOutputRefills(t *testing.T) {
	now := time.Unix(1000, 0)
	a := allowance{left: 100, most: 100, perSecond: 10, now: func() time.Time { return now }}
	for i, step := range []struct {
		after time.Duration
		asked int
		want  int
	}{{0, 60, 60}, {0, 60, 40}, {0, 1, 0}, {2 * time.Second, 60, 20}, {1000 * time.Hour, 1000, 100}, {100 * time.Millisecond, 5, 1}} {
		now = now.Add(step.after)
		if got := a.take(step.asked); got != step.want {
			t.Errorf("step %d: %d, want %d", i, got, step.want)
		}
	}
	none := allowance{left: 5, most: 5, now: time.Now}
	if a, b := none.take(10), none.take(10); a != 5 || b != 0 {
		t.Errorf("without refill: %d, %d", a, b)
	}
}

type brokenWriter struct{}

func (brokenWriter) Write([]byte) (int, error) { return 0, errors.New("full") }

func TestOutputIsReadToItsEndEvenWhenNobodyTakesIt(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	o := &outputs{taps: []*tap{{from: r, to: brokenWriter{}, allowance: allowance{left: 1000, most: 1000, now: time.Now}}}}
	o.start()
	for range 4 {
		if _, err := w.Write(bytes.Repeat([]byte("x"), 100)); err != nil {
			t.Fatal(err)
		}
	}
	w.Close()
	o.running.Wait()
}

const mountinfoV1 = `31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 / AT/memory rw,relatime - cgroup cgroup rw,memory
39 31 0:36 /docker/abc AT/pids rw,relatime - cgroup cgroup rw,pids
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
broken line
`

func TestControlGroupsAreFoundOnAHostWithTheFirstVersion(t *testing.T) {
	at := t.TempDir()
	for _, dir := range []string{"memory/carrel.service", "pids/task"} {
		if err := os.MkdirAll(filepath.Join(at, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	found := findHierarchies(strings.ReplaceAll(mountinfoV1, "AT", at), "9:name=systemd:/\n8:pids:/docker/abc/task\n4:memory:/carrel.service\n1:cpu,cpuacct:/gone\n0::/\n")
	want := map[string]hierarchy{"memory": {1, at + "/memory/carrel.service", ""}, "pids": {1, at + "/pids/task", ""}, "cpu": {1, "/sys/fs/cgroup/cpu,cpuacct", ""}}
	for c, h := range want {
		if found[c] != h {
			t.Errorf("%s: %+v, want %+v", c, found[c], h)
		}
	}
}

func TestTheSecondVersionIsPreferredForTheControllersItHas(t *testing.T) {
	at := t.TempDir()
	own := filepath.Join(at, "unified", "carrel")
	if err := os.MkdirAll(own, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(own, "cgroup.controllers"), []byte("memory pids\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	info := strings.ReplaceAll(mountinfoV1, "AT", at) + "41 31 0:38 / " + at + "/unified rw,relatime - cgroup2 cgroup2 rw\n"
	for _, group := range []string{"/carrel", "/carrel/" + hostGroup} {
		found := findHierarchies(info, "4:memory:/\n1:cpu,cpuacct:/\n0::"+group+"\n")
		want := hierarchy{2, own, at + "/unified"}
		if found["memory"] != want || found["pids"] != want || found["cpu"].version != 1 {
			t.Errorf("%s: %+v", group, found)
		}
	}
}

// groupDir is a directory with the files the kernel would make in a new group.
func groupDir(t *testing.T, dir string, files ...string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if err := os.WriteFile(filepath.Join(dir, f), nil, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

func TestALimitIsInForceOnlyWhenItsGroupTookIt(t *testing.T) {
	at := t.TempDir()
	where := map[string]hierarchy{"memory": {2, at, at}, "cpu": {2, at, at}, "pids": {1, filepath.Join(at, "no"), ""}}
	// The kernel would fill the directory when it is made; here it is there, as after a crash. It has no memory.swap.max, which is optional.
	groupDir(t, filepath.Join(at, "carrel-ws-1"), "memory.max", "cpu.max", "cgroup.procs")
	g := join(where, "ws-1", 4711, Limits{Memory: 5 << 20, CPU: 1500, Processes: 10})
	if g.memory != "cgroup v2" || g.cpu != "cgroup v2" || g.processes != "" || len(g.dirs) != 1 {
		t.Errorf("%+v", g)
	}
	for file, want := range map[string]string{"memory.max": "5242880", "cpu.max": "150000 100000", "cgroup.procs": "4711"} {
		if got, err := os.ReadFile(filepath.Join(at, "carrel-ws-1", file)); err != nil || string(got) != want {
			t.Errorf("%s: %q, want %q, %v", file, got, want, err)
		}
	}
	if g := join(where, "ws-2", 1, Limits{}); len(g.dirs) != 0 {
		t.Errorf("groups without a limit: %+v", g)
	}
}

func TestSweepingTakesOnlyEmptyGroupsOfJails(t *testing.T) {
	at := t.TempDir()
	for _, dir := range []string{"carrel-tool-1-1", "carrel-ws-1/busy", "system.slice"} {
		if err := os.MkdirAll(filepath.Join(at, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	sweep(at)
	for dir, want := range map[string]bool{"carrel-tool-1-1": false, "carrel-ws-1": true, "system.slice": true} {
		if _, err := os.Stat(filepath.Join(at, dir)); (err == nil) != want {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

func TestWhatIsNotDelegatedIsLeftAlone(t *testing.T) {
	if delegated(t.TempDir()) || delegated("/no/such/group") {
		t.Error("a directory without the mark counts as delegated")
	}
}

func TestIDsOfThisUserNamespaceAreRecognised(t *testing.T) {
	file := filepath.Join(t.TempDir(), "uid_map")
	if err := os.WriteFile(file, []byte("         0       1000          1\n     64000     100000        200\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	for id, want := range map[int]bool{0: true, 1: false, 1000: false, 63999: false, 64000: true, 64199: true, 64200: false} {
		if mapped(file, id) != want {
			t.Errorf("%d: %v", id, !want)
		}
	}
	if mapped(filepath.Join(t.TempDir(), "none"), 0) {
		t.Error("without a map nothing is mapped")
	}
}

func TestLandlockDeniesWhateverTheABICanDeny(t *testing.T) {
	for abi, want := range map[int][3]uint64{
		1: {0x1fff, 0, 0}, 2: {0x3fff, 0, 0}, 3: {0x7fff, 0, 0}, 4: {0x7fff, 3, 0}, 5: {0xffff, 3, 0}, 6: {0xffff, 3, 3}, 9: {0xffff, 3, 3},
	} {
		attr, _ := rulesetFor(abi, Allow{})
		if got := [3]uint64{attr.Handled_access_fs, attr.Handled_access_net, attr.Scoped}; got != want {
			t.Errorf("ABI %d: %x, want %x", abi, got, want)
		}
	}
	if attr, _ := rulesetFor(6, Allow{Internet: true}); attr.Handled_access_net != 0 {
		t.Error("TCP is denied to a program that may use it")
	}
}

func TestAdoptingWhatIsNotThereAnyMore(t *testing.T) {
	for name, id := range map[string]Identity{
		"another boot":       {Name: "x", PID: os.Getpid(), BootID: "no"},
		"no process":         {Name: "x", BootID: bootID()},
		"a stranger":         {Name: "x", PID: os.Getpid(), Started: 1, BootID: bootID()},
		"a number too large": {Name: "x", PID: 1 << 30, BootID: bootID()},
	} {
		if _, err := Adopt(id); !errors.Is(err, ErrGone) && !errors.Is(err, unix.EINVAL) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestMainReturnsInAProcessThatIsNotTheSecondStage(t *testing.T) { Main() }
