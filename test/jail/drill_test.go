package jail

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"

	"carrel/internal/driver/jail"
)

func runCommand(path string, args ...string) (string, error) {
	out, err := exec.Command(path, args...).Output()
	return string(out), err
}

// setUp makes everything that a hostile program could want, open to everybody.
func setUp(t *testing.T, program string, uid uint32) targets {
	t.Helper()
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	g := targets{Dir: filepath.Dir(program), Abstract: "carrel-drill-" + filepath.Base(filepath.Dir(program)), Scratch: "/tmp"}
	for _, name := range []string{"disk", "memory"} {
		must(os.WriteFile(filepath.Join(g.Dir, name), []byte("another desktop"), 0o600))
		must(os.Chmod(filepath.Join(g.Dir, name), 0o666))
	}
	accept := func(l net.Listener, err error) net.Listener {
		must(err)
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
		return l
	}
	accept(net.Listen("unix", g.Dir+"/socket"))
	must(os.Chmod(g.Dir+"/socket", 0o777))
	accept(net.Listen("unix", "@"+g.Abstract))
	g.Port = accept(net.Listen("tcp", "127.0.0.1:0")).Addr().(*net.TCPAddr).Port

	victim := exec.Command("busybox", "sleep", "1000")
	victim.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	must(victim.Start())
	t.Cleanup(func() { _ = victim.Process.Kill(); _ = victim.Wait() })
	g.Victim = victim.Process.Pid
	maps, err := os.ReadFile(proc(g, "maps"))
	must(err)
	_, err = fmt.Sscanf(string(maps), "%x-", &g.VictimAddress)
	must(err)

	handle, _, err := unix.NameToHandleAt(unix.AT_FDCWD, "/etc/shadow", 0)
	must(err)
	g.HandleType, g.Handle = handle.Type(), handle.Bytes()
	id, _, e := unix.Syscall(unix.SYS_SHMGET, unix.IPC_PRIVATE, 4096, unix.IPC_CREAT|0o666)
	if e != 0 {
		t.Fatal(e)
	}
	t.Cleanup(func() { unix.Syscall(unix.SYS_SHMCTL, id, unix.IPC_RMID, 0) })
	g.Segment = int(id)
	return g
}

// terminal is a terminal's slave, to be inherited.
func terminal() (*os.File, func(), error) {
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil, nil, err
	}
	n, err := unix.IoctlGetInt(int(master.Fd()), unix.TIOCGPTN)
	if err == nil {
		zero := 0
		_, _, e := unix.Syscall(unix.SYS_IOCTL, master.Fd(), unix.TIOCSPTLCK, uintptr(unsafe.Pointer(&zero)))
		if e != 0 {
			err = e
		}
	}
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	slave, err := os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		master.Close()
		return nil, nil, err
	}
	return slave, func() { slave.Close(); master.Close() }, nil
}

// inJail has one act done in a jail as QEMU gets it, and more: all programs of the host are readable inside. It gives what came of it.
func inJail(program string, a act, g targets) (string, error) {
	// A terminal where one can be had, else any descriptor 3.
	tty, closeTTY, err := terminal()
	if err != nil {
		if tty, err = os.Open(os.DevNull); err != nil {
			return "", err
		}
		closeTTY = func() { tty.Close() }
	}
	defer closeTTY()
	text, err := json.Marshal(g)
	if err != nil {
		return "", err
	}
	var out bytes.Buffer
	s := spec(program, fmt.Sprintf("act-%d", os.Getpid()), "act", a.name, string(text))
	s.Proc, s.Scratch, s.Stdout, s.Files = true, 8<<20, &out, []*os.File{tty}
	s.ReadOnly = append(jail.SystemLibraries(), "/usr/bin", "/bin", "/usr/sbin")
	s.Limits = jail.Limits{Memory: 256 << 20, Processes: 40}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	p, err := jail.Start(ctx, s)
	if err != nil {
		return "", err
	}
	exit, err := p.Wait(ctx)
	if err != nil {
		return "", errors.Join(err, p.Kill())
	}
	return verdict(out.String(), exit), nil
}

func verdict(said string, exit jail.Exit) string {
	switch {
	case strings.Contains(said, succeeded):
		return succeeded
	case exit.Seccomp || exit.Signal == unix.SIGKILL:
		return exit.String()
	case strings.HasPrefix(said, refused):
		return said
	default:
		// A success of executing prints something else; so does a crash. Neither is a refusal.
		return succeeded + "? it said " + fmt.Sprintf("%q, %s", said, exit)
	}
}

// outside has one act done without a jail, as uid; as root in namespaces that keep its harm from the host. Everything it starts is ended.
func outside(t *testing.T, program string, a act, g targets, uid uint32) bool {
	t.Helper()
	tty, closeTTY, err := terminal()
	if err != nil {
		t.Fatal(err)
	}
	defer closeTTY()
	if uid == 0 {
		g.Scratch = g.Dir
	}
	text, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	c := exec.CommandContext(ctx, program, "act", a.name, string(text))
	leak, err := os.Open("/etc")
	if err != nil {
		t.Fatal(err)
	}
	defer leak.Close()
	c.ExtraFiles = []*os.File{tty, leak}
	c.Dir = "/"
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Cloneflags: unix.CLONE_NEWNS | unix.CLONE_NEWUTS, Unshareflags: unix.CLONE_NEWNS}
	if uid != 0 {
		c.SysProcAttr.Credential = &syscall.Credential{Uid: uid, Gid: uid}
	}
	out, _ := c.Output()
	_ = unix.Kill(-c.Process.Pid, unix.SIGKILL)
	return strings.Contains(string(out), succeeded) || strings.HasPrefix(a.name, "execute") && len(out) > 0 && !strings.HasPrefix(string(out), refused)
}

// drillRole does all acts in jails and prints what came of each: for whoever is not root.
func drillRole(a []string) error {
	var g targets
	if err := json.Unmarshal([]byte(a[1]), &g); err != nil {
		return err
	}
	results := map[string]string{}
	for _, one := range acts {
		r, err := inJail(a[0], one, g)
		if err != nil {
			return fmt.Errorf("%s: %w", one.name, err)
		}
		results[one.name] = r
	}
	return json.NewEncoder(os.Stdout).Encode(results)
}

// judge fails for every act that succeeded, and when the drill was too small.
func judge(t *testing.T, results map[string]string) {
	t.Helper()
	names := map[string]bool{}
	for _, a := range acts {
		if names[a.name] {
			t.Errorf("two acts are called %q", a.name)
		}
		names[a.name] = true
		if r := results[a.name]; r == "" || strings.HasPrefix(r, succeeded) {
			t.Errorf("%s: %s", a.name, r)
		} else {
			t.Logf("%-50s %s", a.name, r)
		}
	}
	if len(results) < 40 {
		t.Errorf("only %d acts", len(results))
	}
}

func TestVMM5AHostileProgramInTheJailSucceedsInNothing(t *testing.T) {
	program := testBinary(t)
	g := setUp(t, program, jailedUID)
	results := map[string]string{}
	for _, a := range acts {
		r, err := inJail(program, a, g)
		if err != nil {
			t.Fatalf("%s: %v", a.name, err)
		}
		results[a.name] = r
	}
	judge(t, results)
}

func TestVMM5AHostileProgramInARootlessJailSucceedsInNothing(t *testing.T) {
	program := testBinary(t)
	needUserNamespaces(t, program)
	// The victim has the uid of whoever jails, which is the jailed program's own on the host.
	g := setUp(t, program, userUID)
	text, err := json.Marshal(g)
	if err != nil {
		t.Fatal(err)
	}
	judge(t, fromJSON[map[string]string](t, []byte(asUser(t, program, "drill", program, string(text)))))
}

func TestVMM5TheSameActsSucceedOutsideOfTheJail(t *testing.T) {
	program := testBinary(t)
	g := setUp(t, program, jailedUID)
	done, failed := 0, []string{}
	for _, a := range acts {
		if a.spare {
			continue
		}
		if outside(t, program, a, g, jailedUID) || outside(t, program, a, g, 0) {
			done++
		} else {
			failed = append(failed, a.name)
		}
	}
	t.Logf("%d of %d acts succeed outside; those that do not: %s", done, done+len(failed), strings.Join(failed, "; "))
	if done < 50 {
		t.Errorf("only %d acts succeed outside of the jail: the drill shows little", done)
	}
}
