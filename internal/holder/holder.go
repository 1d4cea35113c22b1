// Package holder keeps the namespaces in which a host role without root is root. A process that does nothing holds them, so that desktops, their
// networks and their memory outlive the host role and whoever started it; each new host role is started inside.
//
// It refuses to give helper processes an id that /etc/subuid and /etc/subgid do not give the user, and to go on without: machines under one id
// could reach each other.
package holder

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/driver/jail"
	"carrel/internal/driver/memory"
)

// IDs are the user and group ids that helper processes have inside: Count from First on.
type IDs struct{ First, Count int }

// Config says whose namespaces are held. All of it is needed.
type Config struct {
	// Dir is where it is written down which process holds them; the user's own.
	Dir string
	// Witness is a file that some process inside has as its standard error for as long as there is something to be kept (the memory keeper's log).
	Witness string
	// Self is this program with the arguments that make it call Hold.
	Self []string
	IDs  IDs
	Log  *slog.Logger
}

// Holder is the way into the namespaces. They exist at least until Close, whatever becomes of the process that holds them.
type Holder struct {
	cfg     Config
	nsenter string
	process atomic.Pointer[jail.Process]
	// child is the same when this process has started it.
	child *exec.Cmd
	// namespaces are the user, mount and network namespace, in the order of kinds.
	namespaces []*os.File
}

// recordFile holds the jail.Identity of the process that holds the namespaces.
const recordFile = "holder.json"

// Open finds the namespaces of an earlier run, or makes new ones. The error says what the machine lacks and what to do about it.
func Open(ctx context.Context, cfg Config) (*Holder, error) {
	h := &Holder{cfg: cfg}
	found, err := h.find(ctx)
	if err == nil && !found {
		err = h.create(ctx)
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("namespaces for desktops without root: %w", err), h.Close())
	}
	return h, nil
}

// Probe tries all that Open would do for this user, with namespaces of its own, and leaves nothing behind.
func Probe(ctx context.Context, self []string, ids IDs) error {
	h := &Holder{cfg: Config{Self: self, IDs: ids, Log: slog.New(slog.DiscardHandler)}}
	begun, err := h.begin(ctx)
	if err == nil {
		err = begun.give()
		begun.end()
	}
	return errors.Join(err, h.Close())
}

// Close lets go of the namespaces in this process. The one that holds them stays.
func (h *Holder) Close() error {
	var err error
	for _, f := range h.namespaces {
		err = errors.Join(err, f.Close())
	}
	h.namespaces = nil
	return err
}

// End ends the process that holds the namespaces. They end with the last process that is in them.
func (h *Holder) End(ctx context.Context) error {
	p := h.process.Load()
	if err := p.Kill(); err != nil {
		return err
	}
	_, err := p.Wait(ctx)
	return err
}

// PID is the process that holds the namespaces.
func (h *Holder) PID() int { return h.process.Load().PID() }

// Paths give the user and the network namespace to a program of this user outside that joins them itself, the user namespace first: from there it
// can look into the process that holds them, and not into this one.
func (h *Holder) Paths() (user, network string) {
	return fmt.Sprintf("/proc/%d/ns/user", h.PID()), fmt.Sprintf("/proc/%d/ns/net", h.PID())
}

// path leads to a namespace by way of this process, so that programs do not inherit it.
func (h *Holder) path(i int) string {
	return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), h.namespaces[i].Fd())
}

// Inside gives the command line that runs a program inside, as root of the namespaces.
func (h *Holder) Inside(program string, args ...string) []string {
	argv := []string{h.nsenter}
	for i := range h.namespaces {
		argv = append(argv, kinds[i].option+"="+h.path(i))
	}
	return append(append(argv, "--", program), args...)
}

// Run has another process hold the namespaces as soon as the one that does has ended. It returns when ctx ends.
func (h *Holder) Run(ctx context.Context) {
	for ctx.Err() == nil {
		if _, err := h.process.Load().Wait(ctx); ctx.Err() != nil {
			return
		} else if err != nil {
			h.cfg.Log.Error("the process that holds the desktops' namespaces cannot be watched", "error", err)
		} else {
			h.cfg.Log.Error("the process that held the desktops' namespaces has ended; another is started", "pid", h.process.Load().PID())
		}
		if h.child != nil {
			_ = h.child.Wait()
			h.child = nil
		}
		begun, err := h.start(ctx, h.Inside(h.cfg.Self[0], h.cfg.Self[1:]...), 0)
		if err == nil {
			err = h.keep(begun)
		}
		if err == nil || ctx.Err() != nil {
			continue
		}
		h.cfg.Log.Error("nobody but this process holds the desktops' namespaces", "error", err)
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
	}
}

// find takes over the namespaces of an earlier run; false: there are none any more.
func (h *Holder) find(ctx context.Context) (bool, error) {
	if err := h.lookup(); err != nil {
		return false, err
	}
	b, err := os.ReadFile(filepath.Join(h.cfg.Dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return h.salvage(ctx)
	}
	var id jail.Identity
	if err == nil {
		err = json.Unmarshal(b, &id)
	}
	if err != nil {
		return false, fmt.Errorf("who holds them: %w", err)
	}
	p, err := jail.Adopt(id)
	if errors.Is(err, jail.ErrGone) {
		return h.salvage(ctx)
	}
	if err != nil {
		return false, err
	}
	h.process.Store(p)
	return true, h.open(id.PID, kinds)
}

// salvage finds the namespaces by a process that is inside, when the one that held them was ended together with whoever would have noticed. The
// network namespace may be gone: all that it had was the way out of the VPCs, which have their own.
func (h *Holder) salvage(ctx context.Context) (bool, error) {
	pid := h.witness()
	if pid == 0 {
		return false, nil
	}
	if err := h.open(pid, kinds[:len(kinds)-1]); err != nil {
		return false, err
	}
	h.cfg.Log.Warn("the process that held the desktops' namespaces has ended unseen; they were found by another", "pid", pid)
	begun, err := h.start(ctx, append(h.Inside("unshare", "--net", "--"), h.cfg.Self...), 0)
	if err != nil {
		return false, err
	}
	if err := h.open(begun.cmd.Process.Pid, kinds[len(kinds)-1:]); err != nil {
		begun.end()
		return false, err
	}
	return true, h.keep(begun)
}

// witness gives the process that has the witness file as its standard error; 0: there is none. Those that cannot be looked into are not in
// namespaces of this user.
func (h *Holder) witness() int {
	file, err := os.Stat(h.cfg.Witness)
	if err != nil {
		return 0
	}
	all, _ := filepath.Glob("/proc/[0-9]*/fd/2")
	for _, path := range all {
		if f, err := os.Stat(path); err == nil && os.SameFile(f, file) {
			pid, _ := strconv.Atoi(strings.Split(path, "/")[2])
			return pid
		}
	}
	return 0
}

// lookup finds nsenter, which joins namespaces before it becomes a program: a Go program has too many threads to do it itself.
func (h *Holder) lookup() (err error) {
	if h.nsenter, err = exec.LookPath("nsenter"); err != nil {
		return fmt.Errorf("%w; install util-linux", err)
	}
	return nil
}

// kind is a kind of namespace: nsenter's option for it and its name under /proc/PID/ns.
type kind struct{ option, name string }

var kinds = []kind{{"--user", "user"}, {"--mount", "mnt"}, {"--net", "net"}}

// open opens namespaces of a process.
func (h *Holder) open(pid int, which []kind) error {
	for _, k := range which {
		f, err := os.Open(fmt.Sprintf("/proc/%d/ns/%s", pid, k.name))
		if err != nil {
			return err
		}
		h.namespaces = append(h.namespaces, f)
	}
	return nil
}

// create makes new namespaces, held by a new process.
func (h *Holder) create(ctx context.Context) error {
	begun, err := h.begin(ctx)
	if err != nil {
		return err
	}
	if err := begun.give(); err != nil {
		begun.end()
		return err
	}
	return h.keep(begun)
}

// begin starts a process in new namespaces, which ends with this one until it is kept, and maps the ids.
func (h *Holder) begin(ctx context.Context) (*beginning, error) {
	if err := h.lookup(); err != nil {
		return nil, err
	}
	m, err := plan(h.cfg.IDs)
	if err != nil {
		return nil, err
	}
	b, err := h.start(ctx, h.cfg.Self, unix.CLONE_NEWUSER|unix.CLONE_NEWNS|unix.CLONE_NEWNET)
	if err != nil {
		if errors.Is(err, unix.EPERM) || errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EUSERS) {
			err = fmt.Errorf("%w: %s", err, remedyKernel)
		}
		return nil, err
	}
	b.plan = m
	if err := h.open(b.cmd.Process.Pid, kinds); err != nil {
		b.end()
		return nil, err
	}
	return b, nil
}

// remedyKernel is what an administrator does where the kernel or a security module keeps user namespaces from ordinary users.
const remedyKernel = "do ordinary users get no user namespaces here? Then, as root: sysctl user.max_user_namespaces=16384 kernel.unprivileged_userns_clone=1 " +
	"kernel.apparmor_restrict_unprivileged_userns=0 (those that exist)"

// beginning is a process that holds namespaces and that nobody knows of yet: it ends when word is closed without one.
type beginning struct {
	holder *Holder
	cmd    *exec.Cmd
	word   *os.File
	plan   mapping
}

// startPatience is how long it may take to say that it is there.
const startPatience = 20 * time.Second

// start runs a process that calls Hold, and returns when it says that it is there.
func (h *Holder) start(ctx context.Context, argv []string, flags uintptr) (*beginning, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	word, its := os.NewFile(uintptr(fds[0]), "word"), os.NewFile(uintptr(fds[1]), "word")
	defer its.Close()
	// Not exec.CommandContext: it outlives every context.
	b := &beginning{holder: h, word: word, cmd: &exec.Cmd{Path: argv[0], Args: argv, Env: []string{"GOTRACEBACK=none", "PATH=" + os.Getenv("PATH")}, Dir: "/", ExtraFiles: []*os.File{its},
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Cloneflags: flags}}}
	if err := b.cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the process that holds them: %w", err), word.Close())
	}
	its.Close()
	err = word.SetReadDeadline(time.Now().Add(startPatience))
	if err == nil {
		_, err = io.ReadFull(word, make([]byte, 1))
	}
	if err != nil {
		b.end()
		return nil, fmt.Errorf("the process that is to hold them does not answer: %w", err)
	}
	return b, nil
}

// give maps the ids and sees whether the namespaces can be used.
func (b *beginning) give() error {
	if err := b.plan.apply(b.cmd.Process.Pid); err != nil {
		return err
	}
	argv := b.holder.Inside("true")
	out, err := exec.Command(argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("enter them: %w: %s: %s", err, strings.TrimSpace(string(out)), remedyKernel)
	}
	return nil
}

func (b *beginning) end() {
	_ = b.word.Close()
	_ = b.cmd.Process.Kill()
	_ = b.cmd.Wait()
}

// keep writes down who holds the namespaces, and then tells it to.
func (h *Holder) keep(b *beginning) error {
	pid := b.cmd.Process.Pid
	started, err := memory.StartTime(pid)
	id := jail.Identity{Name: "holder", PID: pid, Started: started, BootID: memory.Host{}.Boot()}
	var p *jail.Process
	if err == nil {
		p, err = jail.Adopt(id)
	}
	if err == nil {
		err = h.write(id)
	}
	if err == nil {
		_, err = b.word.Write([]byte{1})
	}
	if err != nil {
		b.end()
		return fmt.Errorf("hold them: %w", err)
	}
	h.process.Store(p)
	h.child = b.cmd
	return b.word.Close()
}

func (h *Holder) write(id jail.Identity) error {
	b, err := json.Marshal(id)
	if err != nil {
		return err
	}
	f, err := os.CreateTemp(h.cfg.Dir, "."+recordFile+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(b)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), filepath.Join(h.cfg.Dir, recordFile))
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}
