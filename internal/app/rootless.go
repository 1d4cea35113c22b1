package app

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"sync"

	"carrel/internal/config"
	"carrel/internal/driver/memory"
	"carrel/internal/holder"
)

// helperIDs are the ids of all helper processes together.
var helperIDs = holder.IDs{First: memory.KeeperUser, Count: machineUID + machineUIDs - memory.KeeperUser}

// HoldArgument is the subcommand that calls Hold.
const HoldArgument = "hold"

// Hold is the process that keeps the namespaces of a host role without root.
func Hold() error { return holder.Hold() }

// ProbeRootless tries whether this user could run desktops without root. The error says what is missing and what to do about it.
func ProbeRootless(ctx context.Context) error {
	program, err := os.Executable()
	if err != nil {
		return err
	}
	return holder.Probe(ctx, []string{program, HoldArgument}, helperIDs)
}

// withoutRoot runs the roles for an ordinary user. The control plane is he himself; the host role is root of namespaces in which helper
// processes have ids of their own, and nothing but what is his.
func (s *supervisor) withoutRoot(ctx context.Context) error {
	if user := s.conf.Host.User; user != "" {
		if uid, _, err := ordinaryUser(user); err != nil || int(uid) != os.Geteuid() {
			return fmt.Errorf("host.user: only root can run the doors as another user (%s); this is user %d: leave it out", user, os.Geteuid())
		}
	}
	// By its path: self would be what joins the namespaces.
	program, err := os.Executable()
	if err != nil {
		return fmt.Errorf("supervise: %w", err)
	}
	out, err := findWayOut(s.conf.Host.Uplink)
	if err != nil {
		return err
	}
	if err := prepareDir(s.conf.State.Dir); err != nil {
		return err
	}
	dir := HostDir(s.conf.State.Dir)
	if err := prepareHostDir(dir); err != nil {
		return err
	}
	h, err := holder.Open(ctx, holding(dir, program, s.log))
	if err != nil {
		return fmt.Errorf("%w; carrel doctor tells more. Carrel also runs with root (sudo), and with --simulate, where desktops are simulated", err)
	}
	defer h.Close()
	s.log.Info("without root: desktops live in namespaces of this user", "holder", h.PID())
	watching, stop := context.WithCancel(ctx)
	var done sync.WaitGroup
	done.Go(func() { h.Run(watching) })
	defer done.Wait()
	defer stop()
	return s.run(ctx, func(ctx context.Context) error {
		ctx, stop := context.WithCancel(ctx)
		defer stop()
		over, err := out.start(ctx, h, s.log)
		if err != nil {
			return err
		}
		// The host role makes its rules for an interface that is gone when the way out has ended: they end and begin together.
		go func() { <-over; stop() }()
		// Inside, this user is user 0, and so is the control plane to the socket that asks who is there.
		argv := h.Inside(program, s.args.Host(0, out.deny)...)
		err = roleCommand(ctx, argv[0], role{argv[1:], s.args.Input}, s.p).Run()
		stop()
		<-over
		return err
	}, nil)
}

// holding says how the namespaces of the host role that keeps its things in dir are kept.
func holding(dir, program string, log *slog.Logger) holder.Config {
	return holder.Config{Dir: dir, Witness: filepath.Join(dir, memoryDir, memory.KeeperLog), Self: []string{program, HoldArgument}, IDs: helperIDs, Log: log}
}

// DismantleInside runs this program with the arguments that lead to Dismantle as root of the namespaces of an ordinary user's host role. When that was
// successful nothing is in them any more, and the process that holds them ends.
func DismantleInside(ctx context.Context, state string, args []string, p Process) error {
	dir := HostDir(state)
	if _, err := os.Stat(dir); err != nil {
		return fmt.Errorf("there is nothing to take away: %w", err)
	}
	program, err := os.Executable()
	if err != nil {
		return err
	}
	h, err := holder.Open(ctx, holding(dir, program, newLog(config.Log{}, p.Stderr)))
	if err != nil {
		return err
	}
	defer h.Close()
	argv := h.Inside(program, args...)
	c := roleCommand(ctx, argv[0], role{argv[1:], nil}, p)
	c.Stdout = p.Stdout
	if err := c.Run(); err != nil {
		return fmt.Errorf("nothing, or not all, was taken away: %w", err)
	}
	return h.End(ctx)
}

// withoutRoot tells whether this process is an ordinary user, or root in a user namespace only.
func withoutRoot() bool { return os.Geteuid() != 0 || inUserNamespace() }

// inUserNamespace tells whether root here is somebody else outside.
func inUserNamespace() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	var inside, outside, count uint64
	n, err := fmt.Sscan(string(b), &inside, &outside, &count)
	return err != nil || n != 3 || outside != 0 || count != 1<<32-1
}
