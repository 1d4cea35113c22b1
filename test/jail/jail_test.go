package jail

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/driver/jail"
)

// startIdle starts a jailed program that has some threads and stays.
func startIdle(t *testing.T, s jail.Spec) *jail.Process {
	t.Helper()
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	var stderr bytes.Buffer
	s.Stdout, s.Stderr = w, &stderr
	p, err := jail.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	type end struct {
		exit jail.Exit
		err  error
	}
	ended := make(chan end, 1)
	go func() {
		exit, err := p.Wait(context.Background())
		w.Close()
		ended <- end{exit, err}
	}()
	t.Cleanup(func() {
		if err := p.Kill(); err != nil {
			t.Error(err)
		}
		if e := <-ended; e.err != nil || t.Failed() {
			t.Errorf("the program: %s, %v: %s", e.exit, e.err, stderr.String())
		}
	})
	if line, err := bufio.NewReader(r).ReadString('\n'); err != nil || line != "ready\n" {
		t.Fatalf("the program said %q, %v", line, err)
	}
	return p
}

// status are the fields of /proc/PID/status of every thread.
func status(t *testing.T, pid int) []map[string]string {
	t.Helper()
	tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
	if err != nil || len(tasks) == 0 {
		t.Fatalf("threads of %d: %v", pid, err)
	}
	var all []map[string]string
	for _, name := range tasks {
		text, err := os.ReadFile(name)
		if err != nil {
			continue // A thread that has just ended.
		}
		fields := map[string]string{}
		for line := range strings.Lines(string(text)) {
			key, value, _ := strings.Cut(line, ":")
			fields[key] = strings.Join(strings.Fields(value), " ")
		}
		all = append(all, fields)
	}
	return all
}

func TestVMM2EveryThreadHasNoCapabilitiesItsOwnUIDAndASeccompFilter(t *testing.T) {
	p := startIdle(t, spec(testBinary(t), "status", "idle"))
	threads := status(t, p.PID())
	if len(threads) < 4 {
		t.Errorf("only %d threads: the test shows little", len(threads))
	}
	id := fmt.Sprint(jailedUID)
	want := map[string]string{
		"CapEff": "0000000000000000", "CapPrm": "0000000000000000", "CapInh": "0000000000000000", "CapBnd": "0000000000000000", "CapAmb": "0000000000000000",
		"NoNewPrivs": "1", "Seccomp": "2", "Uid": strings.Join([]string{id, id, id, id}, " "), "Gid": strings.Join([]string{id, id, id, id}, " "), "Groups": "",
	}
	for _, fields := range threads {
		for key, value := range want {
			if fields[key] != value {
				t.Errorf("thread %s: %s is %q, want %q", fields["Pid"], key, fields[key], value)
			}
		}
		if inside := strings.Fields(fields["NStgid"]); inside[len(inside)-1] != "1" {
			t.Errorf("thread %s: NStgid %v: not process 1 of its own namespace", fields["Pid"], inside)
		}
	}
}

func TestVMM2TheProgramHasNamespacesOfItsOwn(t *testing.T) {
	p := startIdle(t, spec(testBinary(t), "namespaces", "idle"))
	kinds := []string{"mnt", "pid", "net", "ipc", "uts", "cgroup"}
	if p.Walls().UserNamespace {
		kinds = append(kinds, "user")
	}
	for _, kind := range kinds {
		host, err := os.Readlink("/proc/self/ns/" + kind)
		if err != nil {
			t.Fatal(err)
		}
		inside, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/%s", p.PID(), kind))
		if err != nil || inside == host {
			t.Errorf("%s: inside %s, on the host %s, %v", kind, inside, host, err)
		}
	}
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/limits", p.PID()))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"Max core file size        1                    1 ", "Max open files            256                  256 ", "Max processes             64                   64 ", "Max realtime priority     0                    0 "} {
		if !strings.Contains(string(text), line) {
			t.Errorf("no limit %q in\n%s", line, text)
		}
	}
	if text, err := os.ReadFile(fmt.Sprintf("/proc/%d/coredump_filter", p.PID())); err != nil || strings.TrimSpace(string(text)) != "00000000" {
		t.Errorf("VMM-6: core dumps hold %s, %v", text, err)
	}
	if _, err := os.Stat(fmt.Sprintf("/proc/%d/root/etc", p.PID())); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("there is an /etc inside: %v", err)
	}
}

func TestDescriptorsAreThoseGivenInOrderAndNoOthers(t *testing.T) {
	// What a careless host role has open, without close-on-exec.
	leak, err := unix.Open("/etc/passwd", unix.O_RDONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(leak)
	high, err := unix.FcntlInt(uintptr(leak), unix.F_DUPFD, 900)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(high)
	var out bytes.Buffer
	s := spec(testBinary(t), "fds", "fds")
	s.Stdout = &out
	s.Files = []*os.File{os.Stdin, nil, os.Stdout, nil, nil, os.Stderr}
	if err := jail.Run(t.Context(), s); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); got != "[0 1 2 3 5 8]" {
		t.Errorf("open inside: %s", got)
	}
}

func TestADirectoryIsNotPassed(t *testing.T) {
	dir, err := os.Open("/")
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	s := spec(testBinary(t), "dir", "idle")
	s.Files = []*os.File{dir}
	if _, err := jail.Start(t.Context(), s); err == nil || !strings.Contains(err.Error(), "directory") {
		t.Errorf("%v", err)
	}
}

func TestVMM6AFloodOfOutputIsBoundedAndTheProgramGoesOn(t *testing.T) {
	var out bytes.Buffer
	s := spec(testBinary(t), "flood", "flood")
	s.Stdout = &out
	s.Limits.Output = 100_000
	p, err := jail.Start(t.Context(), s)
	if err != nil {
		t.Fatal(err)
	}
	exit, err := p.Wait(t.Context())
	if err != nil || exit.Code != 0 || exit.Signal != 0 {
		t.Fatalf("%+v, %v", exit, err)
	}
	if out.Len() != 100_000 || exit.Discarded != 64*65536-100_000 {
		t.Errorf("%d bytes passed on, %d discarded", out.Len(), exit.Discarded)
	}
}

func TestAProgramThatEndsBadlyIsDescribed(t *testing.T) {
	program := testBinary(t)
	var e *jail.ExitError
	if err := jail.Run(t.Context(), spec(program, "exit", "act", "no such act", "{}")); !errors.As(err, &e) || e.Exit.Code != 1 {
		t.Errorf("%v", err)
	}
	p := startIdle(t, spec(program, "killed", "idle"))
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if exit, err := p.Wait(t.Context()); err != nil || exit.Signal != unix.SIGKILL || exit.Seccomp {
		t.Errorf("%+v, %v", exit, err)
	}
	if err := p.Kill(); err != nil {
		t.Errorf("killing the dead: %v", err)
	}
	s := spec(program, "gone", "idle")
	s.ReadOnly = []string{"/no/such/place"}
	if _, err := jail.Start(t.Context(), s); err == nil || !strings.Contains(err.Error(), "/no/such/place") {
		t.Errorf("%v", err)
	}
}

func TestRunEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	s := spec(testBinary(t), "context", "idle")
	s.Stdout = w
	ended := make(chan error, 1)
	go func() { ended <- jail.Run(ctx, s); w.Close() }()
	if _, err := r.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	// And a start whose context has ended leaves nothing either.
	if _, err := jail.Start(ctx, s); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

// hostRole starts a jail as a host role would, says who it is, and waits to be killed.
func hostRole(a []string) error {
	s := spec(a[0], "survivor", "idle")
	s.DieWithParent = a[1] == "die"
	s.Limits.Memory = 1 << 30
	p, err := jail.Start(context.Background(), s)
	if err != nil {
		return err
	}
	if err := json.NewEncoder(os.Stdout).Encode(p.Identity()); err != nil {
		return err
	}
	_, err = p.Wait(context.Background())
	return err
}

// startHost gives a host role and the identity of what it has started.
func startHost(t *testing.T, how string) (*exec.Cmd, jail.Identity) {
	t.Helper()
	program := testBinary(t)
	c := exec.Command(program, "host", program, how)
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(out).ReadBytes('\n')
	if err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return c, fromJSON[jail.Identity](t, line)
}

func kill9(t *testing.T, c *exec.Cmd) {
	t.Helper()
	if err := c.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = c.Wait()
}

func TestAMachineSurvivesTheKillOfItsHostRoleAndIsAdopted(t *testing.T) {
	c, id := startHost(t, "survive")
	kill9(t, c)
	p, err := jail.Adopt(id)
	if err != nil {
		t.Fatal(err)
	}
	if s := status(t, p.PID())[0]; s["Seccomp"] != "2" {
		t.Errorf("adopted something else: %v", s)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := p.Wait(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("it did not live on: %v", err)
	}
	if err := p.Kill(); err != nil {
		t.Fatal(err)
	}
	if exit, err := p.Wait(t.Context()); err != nil || exit.Known {
		t.Errorf("%+v, %v", exit, err)
	}
	if _, err := jail.Adopt(id); !errors.Is(err, jail.ErrGone) {
		t.Errorf("adopting the dead: %v", err)
	}
	other := id
	other.PID = os.Getpid()
	if _, err := jail.Adopt(other); !errors.Is(err, jail.ErrGone) {
		t.Errorf("adopting a stranger with the same number: %v", err)
	}
}

func TestAShortHelperDiesWithItsParent(t *testing.T) {
	c, id := startHost(t, "die")
	if len(id.Groups) == 0 {
		t.Log("no control groups here: the test shows less")
	}
	groups := id.Groups
	p, err := jail.Adopt(id)
	if err != nil {
		t.Fatal(err)
	}
	kill9(t, c)
	// Wait removes the groups of what it waits for, and Sweep those of whom nobody knows any more: here the first is told of none.
	id.Groups = nil
	stranger, err := jail.Adopt(id)
	if err == nil {
		_, err = stranger.Wait(t.Context())
	} else if errors.Is(err, jail.ErrGone) {
		err = nil
	}
	if err != nil {
		t.Error(err)
	}
	jail.Sweep()
	for _, dir := range groups {
		if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if _, err := p.Wait(ctx); err != nil {
		t.Error(err)
		_ = p.Kill()
		_, _ = p.Wait(context.Background())
	}
}

func TestAProgramJoinsTheNetworkNamespaceItIsGiven(t *testing.T) {
	holder := exec.Command("busybox", "sleep", "1000")
	holder.SysProcAttr = &syscall.SysProcAttr{Cloneflags: unix.CLONE_NEWNET}
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = holder.Process.Kill(); _ = holder.Wait() }()
	ns, err := os.Open(fmt.Sprintf("/proc/%d/ns/net", holder.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	home, _ := os.Readlink("/proc/self/ns/net")
	s := spec(testBinary(t), "network", "idle")
	s.NetworkNamespace = ns
	p := startIdle(t, s)
	want, _ := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", holder.Process.Pid))
	got, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", p.PID()))
	if err != nil || got != want || got == home {
		t.Errorf("in %s, want %s (home %s), %v", got, want, home, err)
	}
	if now, _ := os.Readlink("/proc/thread-self/ns/net"); now != home {
		t.Errorf("the caller has moved to %s", now)
	}
}

// probeRole prints what Probe says to whoever runs it.
func probeRole([]string) error {
	k := jail.Probe(context.Background(), jailedUID, jailedUID)
	fmt.Printf("%v|%v|%+v", k.Works, k.Proc, k.Walls)
	return nil
}

// asUser runs a mode of the test binary as somebody without any privilege.
func asUser(t *testing.T, program string, arguments ...string) string {
	t.Helper()
	c := exec.Command(program, arguments...)
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: userUID, Gid: userUID}}
	var stderr bytes.Buffer
	c.Stderr = &stderr
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s%s", arguments[0], err, out, stderr.String())
	}
	return string(out)
}

// needUserNamespaces skips where only root can make namespaces.
func needUserNamespaces(t *testing.T, program string) {
	t.Helper()
	if out := asUser(t, program, "probe"); !strings.HasPrefix(out, "<nil>|") {
		t.Skipf("this kernel lets nobody but root make namespaces: %s", out)
	}
}

func TestProbeTellsWhatThisKernelGives(t *testing.T) {
	k := jail.Probe(t.Context(), jailedUID, jailedUID)
	if k.Works != nil || k.Proc != nil || !k.Walls.OwnUID || k.Walls.Processes == "" || k.Walls.Memory == "" {
		t.Errorf("as root: %+v", k)
	}
	program := testBinary(t)
	needUserNamespaces(t, program)
	out := asUser(t, program, "probe")
	if !strings.Contains(out, "UserNamespace:true OwnUID:false") {
		t.Errorf("without root: %s", out)
	}
	t.Logf("as root: %+v; without root: %s", k, out)
}

func TestLimitsOfMemoryHold(t *testing.T) {
	s := spec(testBinary(t), "memory", "act", "memory bomb", "{}")
	s.Limits.Memory = 128 << 20
	var out bytes.Buffer
	s.Stdout, s.Stderr = &out, io.Discard
	err := jail.Run(t.Context(), s)
	var e *jail.ExitError
	if !errors.As(err, &e) || strings.Contains(out.String(), succeeded) {
		t.Errorf("%v, %s", err, out.String())
	}
}
