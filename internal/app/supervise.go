package app

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"carrel/internal/config"
)

// Arguments are how this program is run again for one of its roles.
type Arguments struct {
	// Host runs the host role, for a control plane with a user id: Host(uid, deny). deny are networks of this machine that the host role does not
	// see and desktops must not reach. Control runs the control plane.
	Host    func(uid uint32, deny []netip.Prefix) []string
	Control []string
	// Input is the standard input of both.
	Input []byte
}

// Supervise runs Carrel as processes of their own: the host role, and everything that listens or decides, which is an ordinary user. As root the
// host role keeps its privilege; without root it is root in namespaces of its own, where desktops live. It ends when the control plane does, or
// ctx. A host role that ends by itself is started again; its desktops go on meanwhile.
func Supervise(ctx context.Context, conf *config.Config, args Arguments, p Process) error {
	s := &supervisor{conf: conf, args: args, log: newLog(conf.Log, p.Stderr), p: p}
	if os.Geteuid() != 0 {
		return s.withoutRoot(ctx)
	}
	uid, gid, err := ordinaryUser(conf.Host.User)
	if err != nil {
		return err
	}
	if err := give(conf.State.Dir, uid, gid); err != nil {
		return err
	}
	if err := checkForeign(conf.State.Dir); err != nil {
		return err
	}
	host := func(ctx context.Context) error {
		return roleCommand(ctx, self, role{args.Host(uid, nil), args.Input}, p).Run()
	}
	return s.run(ctx, host, &syscall.Credential{Uid: uid, Gid: gid, Groups: []uint32{}})
}

// supervisor runs the roles.
type supervisor struct {
	conf *config.Config
	args Arguments
	log  *slog.Logger
	p    Process
}

// self is the name by which every user finds this program, also where the directories above it are closed to them.
const self = "/proc/self/exe"

// run runs both roles until the control plane or ctx ends. Without a user the control plane is who this process is.
func (s *supervisor) run(ctx context.Context, host func(context.Context) error, user *syscall.Credential) error {
	// It is stopped after the control plane, which says farewell to people whose screens come by way of it.
	hostCtx, stopHost := context.WithCancel(context.WithoutCancel(ctx))
	// Started again it is only until somebody asks for the end: a service manager may stop both at once.
	keepCtx, stopKeeping := context.WithCancel(ctx)
	hostDone := make(chan struct{})
	go func() {
		defer close(hostDone)
		keepHost(keepCtx, s.log, func() error { return host(hostCtx) })
	}()
	control := roleCommand(ctx, self, role{s.args.Control, s.args.Input}, s.p)
	control.Stdout = s.p.Stdout
	control.SysProcAttr.Credential = user
	if user != nil {
		s.log.Info("control plane", "user", user.Uid)
	}
	err := control.Run()
	stopKeeping()
	stopHost()
	<-hostDone
	if ctx.Err() != nil {
		var exit *exec.ExitError
		if err == nil || errors.Is(err, context.Canceled) || errors.As(err, &exit) && exit.ExitCode() == 0 {
			return nil
		}
	}
	if err != nil {
		return fmt.Errorf("control plane: %w", err)
	}
	return nil
}

// stopPatience is how long a role may take to stop in order.
const stopPatience = 8 * time.Second

// role is how this program is run again.
type role struct {
	args  []string
	input []byte
}

// roleCommand is this program in another role. It is asked to stop when ctx ends, and dies with this process.
func roleCommand(ctx context.Context, self string, r role, p Process) *exec.Cmd {
	c := exec.CommandContext(ctx, self, r.args...)
	c.Args[0] = "carrel"
	c.Stdin = bytes.NewReader(r.input)
	c.Stderr = p.Stderr
	c.Cancel = func() error { return c.Process.Signal(syscall.SIGTERM) }
	c.WaitDelay = stopPatience
	// In a process group of its own: Ctrl-C on a terminal reaches this process only, which stops the others in order.
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGTERM}
	return c
}

// keepHost runs the host role, and starts it again when it ends before ctx does.
func keepHost(ctx context.Context, log *slog.Logger, run func() error) {
	for pause := time.Second; ; pause = min(2*pause, 30*time.Second) {
		began := time.Now()
		err := run()
		if ctx.Err() != nil {
			return
		}
		log.Error("the host role has ended and is being started again", "error", err)
		if time.Since(began) > time.Minute {
			pause = time.Second
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return
		}
	}
}

// fallbackUID is who the control plane runs as when nobody else is named: a number that no distribution gives out.
const fallbackUID = 64098

// ordinaryUser is who the control plane runs as: never root.
func ordinaryUser(setting string) (uid, gid uint32, err error) {
	if setting == "" {
		if sudo := os.Getenv("SUDO_UID"); sudo != "" && sudo != "0" {
			setting = sudo
		} else if u, err := user.Lookup("carrel"); err == nil {
			setting = u.Uid
		} else {
			return fallbackUID, fallbackUID, nil
		}
	}
	u, err := user.Lookup(setting)
	if err != nil {
		u, err = user.LookupId(setting)
	}
	if err != nil {
		n, bad := strconv.ParseUint(setting, 10, 31)
		if bad != nil {
			return 0, 0, fmt.Errorf("host.user: there is no user %q", setting)
		}
		u = &user.User{Uid: strconv.FormatUint(n, 10), Gid: strconv.FormatUint(n, 10)}
	}
	id, err := strconv.ParseUint(u.Uid, 10, 31)
	group, err2 := strconv.ParseUint(u.Gid, 10, 31)
	if err = errors.Join(err, err2); err != nil {
		return 0, 0, fmt.Errorf("host.user: %w", err)
	}
	if id == 0 {
		return 0, 0, errors.New("host.user: root cannot be the user of the doors: name another, or leave it out")
	}
	return uint32(id), uint32(group), nil
}

// give makes the state directory the ordinary user's: one that is new, or root's. What is in it stays whose it is.
func give(dir string, uid, gid uint32) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		if err = os.MkdirAll(filepath.Dir(dir), 0o755); err == nil {
			err = os.Mkdir(dir, 0o700)
		}
		if err == nil {
			info, err = os.Stat(dir)
		}
	}
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	owner := info.Sys().(*syscall.Stat_t).Uid
	if owner == uid {
		return nil
	}
	if owner != 0 {
		return fmt.Errorf("state directory: %s belongs to user %d, not to user %d who Carrel would run as: set host.user, or give another --state", dir, owner, uid)
	}
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	return nil
}
