package jail

import (
	"context"
	"fmt"
	"os"
	"strconv"
)

// Walls says what stands around a program: what differs between kernels and between root and rootless. Everything else (namespaces of mounts,
// processes, network, IPC, host name and cgroup, the read-only root, no capabilities, no new privileges, seccomp, resource limits) always stands,
// or Start fails.
type Walls struct {
	// UserNamespace: not even the second stage had a capability over anything of the host.
	UserNamespace bool
	// OwnUID: the host sees the program under ids of its own. Without it, it is the host role's own user to the kernel outside, and
	// what keeps it from that user's files and processes is everything else.
	OwnUID bool
	// GroupsKept: rootless, the caller's supplementary groups cannot be given up.
	GroupsKept bool
	// Landlock is the ABI in force; 0: this kernel has none. Below 4 TCP, and below 6 abstract sockets and signals, are kept in by namespaces alone.
	Landlock int
	// Memory, CPU and Processes say what holds each limit: "cgroup v2", "cgroup v1", "rlimit", or "" when nothing does or no limit is asked for.
	// A memory limit by rlimit is per process and counts private memory only.
	Memory, CPU, Processes string
}

func wallsOf(p plan, r report, g groups) Walls {
	w := Walls{UserNamespace: p.UserNamespace, OwnUID: p.OwnUID, GroupsKept: r.GroupsKept, Landlock: r.Landlock, Memory: g.memory, CPU: g.cpu, Processes: g.processes}
	if p.DataLimit {
		w.Memory = "rlimit"
	}
	if w.Processes == "" {
		w.Processes = "rlimit"
	}
	return w
}

// Kernel is what a host has for jails.
type Kernel struct {
	// Works is nil when a jail could be built, else the step that failed and why. The rest is then what is known without one.
	Works error
	// Proc is nil when a jail can have its own /proc, without which QEMU does not run.
	Proc error
	// Walls are those of a program with every limit asked for.
	Walls Walls
}

// Probe builds a jail as Start would for a program under these ids, up to the execution, and tells what came of it. It leaves nothing behind.
func Probe(ctx context.Context, uid, gid int) Kernel {
	self, err := os.Executable()
	if err != nil {
		return Kernel{Works: err, Proc: err}
	}
	spec := Spec{Name: "probe-" + strconv.Itoa(os.Getpid()), Program: self, UID: uid, GID: gid, Proc: true, Limits: Limits{CPU: 1000, Memory: 1 << 30}}
	k := Kernel{}
	if k.Walls, k.Proc = dry(ctx, spec); k.Proc != nil {
		spec.Proc = false
		k.Walls, k.Works = dry(ctx, spec)
	}
	if k.Works != nil {
		k.Walls = Walls{UserNamespace: userNamespaces(), OwnUID: ownIDs(uid, gid), Landlock: landlockABI()}
	}
	return k
}

func dry(ctx context.Context, spec Spec) (Walls, error) {
	p, err := spec.plan()
	if err != nil {
		return Walls{}, err
	}
	p.Dry = true
	proc, err := launch(ctx, spec, p)
	if err != nil {
		return Walls{}, err
	}
	exit, err := proc.Wait(ctx)
	if err != nil {
		return Walls{}, err
	}
	if exit.Code != 0 || exit.Signal != 0 {
		return Walls{}, fmt.Errorf("second stage: %s", exit)
	}
	return proc.walls, nil
}
