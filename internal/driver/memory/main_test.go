package memory

import (
	"bufio"
	"bytes"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
)

const roleVariable = "CARREL_MEMORY_TEST_ROLE"

// TestMain is the keeper, a machine, a holder, an opener or a host role when a test started it as one.
func TestMain(m *testing.M) {
	KeeperMain()
	switch os.Getenv(roleVariable) {
	case "machine":
		beMachine()
	case "opener":
		fmt.Println("ready")
		_, _ = io.Copy(io.Discard, os.Stdin)
	case "holder":
		beHolder()
	case "host":
		beHost()
	default:
		os.Exit(m.Run())
	}
}

func must(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, os.Getenv(roleVariable)+": "+err.Error())
		os.Exit(3)
	}
}

// beMachine stands for QEMU: it maps the block of descriptor 3 and leaves the marker, which it is told on its input, where QEMU leaves guest data.
func beMachine() {
	guest := mapThree()
	in := bufio.NewReader(os.Stdin)
	line, err := in.ReadBytes('\n')
	must(err)
	marker := bytes.TrimSpace(line)
	fill := func(b []byte) {
		for i := 0; i+len(marker) <= len(b); i += 512 {
			copy(b[i:], marker)
		}
	}
	fill(guest)
	heap := make([]byte, 1<<20)
	fill(heap)
	self, err := os.Open("/proc/self/exe")
	must(err)
	file, err := unix.Mmap(int(self.Fd()), 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE)
	must(err)
	fill(file[:64<<10]) // The other pages stay the file's.
	shared, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	must(err)
	fill(shared)
	code, err := unix.Mmap(-1, 0, 64<<10, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANONYMOUS)
	must(err)
	fill(code)
	must(unix.Mprotect(code, unix.PROT_READ|unix.PROT_EXEC))
	for range 3 { // Virtual processors.
		go func() {
			runtime.LockOSThread()
			var ts unix.Timespec
			for {
				ts = unix.NsecToTimespec(1e6)
				_ = unix.Nanosleep(&ts, nil)
			}
		}()
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, in)
	select {} // Keeps running when whoever started it has gone.
}

func mapThree() []byte {
	var st unix.Stat_t
	must(unix.Fstat(3, &st))
	m, err := unix.Mmap(3, 0, int(st.Size), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	must(err)
	return m
}

// beHolder maps the block and dirties it for as long as it lives.
func beHolder() {
	m := mapThree()
	fmt.Println("ready")
	for {
		m[len(m)/2]++
		ts := unix.NsecToTimespec(1e5)
		_ = unix.Nanosleep(&ts, nil)
	}
}

// child is a process that a test started.
type child struct {
	cmd  *exec.Cmd
	once sync.Once
}

// start starts this binary in a role, with a block, and waits until it is ready.
func start(t testing.TB, role, say string, block *os.File) *child {
	t.Helper()
	c := &child{cmd: exec.Command("/proc/self/exe")}
	c.cmd.Env = append(os.Environ(), roleVariable+"="+role)
	c.cmd.Stderr = os.Stderr
	if block != nil {
		c.cmd.ExtraFiles = []*os.File{block}
	}
	in, err := c.cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.kill)
	fmt.Fprintln(in, say)
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("%s said %q, %v", role, line, err)
	}
	return c
}

func (c *child) pid() int { return c.cmd.Process.Pid }

func (c *child) kill() {
	c.once.Do(func() {
		_ = c.cmd.Process.Kill()
		_ = c.cmd.Wait()
	})
}

// newMarker is text that is nowhere else, not even in the test's own image.
func newMarker(t testing.TB) string {
	b, err := os.ReadFile("/proc/sys/kernel/random/uuid")
	if err != nil {
		t.Fatal(err)
	}
	return "MARKER-" + hex.EncodeToString(b[:18])
}

// connect gives a keeper that the test ends with.
func connect(t testing.TB, dir string) *Keeper {
	t.Helper()
	k, err := Connect(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		pid := keeperPID(t, k)
		if err := k.Quit(context.Background()); err != nil && pid > 0 {
			_ = syscall.Kill(pid, syscall.SIGKILL)
			if k.process != nil {
				_ = k.process.Wait()
			}
		}
		if err := k.Close(); err != nil {
			t.Error(err)
		}
	})
	return k
}

func runDir(t testing.TB) string { return filepath.Join(t.TempDir(), "run") }

// keeperPID is 0 when none runs.
func keeperPID(t testing.TB, k *Keeper) int {
	t.Helper()
	r, _, err := k.exchange(context.Background(), request{Op: opHello}, nil)
	if err != nil {
		return 0
	}
	return r.PID
}

func allocate(t *testing.T, size int64) *Block {
	t.Helper()
	b, err := Allocate(size, PagesSmall)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = b.Close() })
	return b
}

// search counts a marker in the readable memory of a process, by the name of the mapping.
func search(t *testing.T, pid int, marker string) map[string]int {
	t.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		t.Fatal(err)
	}
	regions, err := parseMaps(text)
	if err != nil {
		t.Fatal(err)
	}
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer mem.Close()
	pagemap, err := os.Open(fmt.Sprintf("/proc/%d/pagemap", pid))
	if err != nil {
		t.Fatal(err)
	}
	defer pagemap.Close()
	found := map[string]int{}
	v := &view{p: &process{pid: pid}, mem: mem, pagemap: pagemap}
	for _, r := range regions {
		if strings.HasPrefix(r.name, "[v") {
			continue
		}
		parts, err := v.pages(r, span{}, true, map[string]int64{})
		if err != nil {
			t.Fatal(err)
		}
		name := r.perms + " " + filepath.Base(r.name)
		if i := strings.IndexByte(name, '('); i > 0 {
			name = strings.TrimSpace(name[:i])
		}
		for _, s := range parts {
			b := make([]byte, s.to-s.from)
			if n, _ := mem.ReadAt(b, int64(s.from)); n > 0 {
				if c := bytes.Count(b[:n], []byte(marker)); c > 0 {
					found[name] += c
				}
			}
		}
	}
	return found
}

// wantClean checks a report of a whole scrub.
func wantClean(t testing.TB, r driver.ScrubReport, size int64) {
	t.Helper()
	if err := r.Clean(); err != nil {
		t.Error(err)
	}
	if r.MemoryBytes != size || r.ReadBytes != size || r.NonZero != 0 || !r.Sealed || r.Method != Method {
		t.Errorf("report %+v: want %d bytes, sealed", r, size)
	}
	if r.Digest != ZeroDigest(size) {
		t.Errorf("digest %s: want that of zeros, %s", r.Digest, ZeroDigest(size))
	}
	if r.RunEnded.Before(r.RunStarted) || r.Finished.Before(r.Started) || r.Started.IsZero() || r.RunEnded.IsZero() {
		t.Errorf("run %s to %s, scrub %s to %s", r.RunStarted, r.RunEnded, r.Started, r.Finished)
	}
}

// threadStates gives the state letters of all threads.
func threadStates(t *testing.T, pid int) string {
	t.Helper()
	tasks, err := os.ReadDir("/proc/" + strconv.Itoa(pid) + "/task")
	if err != nil {
		t.Fatal(err)
	}
	states := ""
	for _, task := range tasks {
		b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/task/" + task.Name() + "/stat")
		if err != nil {
			t.Fatal(err)
		}
		state, _, err := parseStat(b)
		if err != nil {
			t.Fatal(err)
		}
		states += string(state)
	}
	return states
}
