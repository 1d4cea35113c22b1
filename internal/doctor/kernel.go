package doctor

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"

	"carrel/internal/firewall"
)

// enoughLandlock is the Landlock ABI from which TCP can be restricted too (Linux 6.7).
const enoughLandlock = 4

// kernel tries what the jails of desktops and the networks of VPCs are made of.
func (e *examiner) kernel(ctx context.Context) {
	add := func(c Check, err error) { c.Group = GroupKernel; e.settle(c, err) }
	add(Check{Name: "namespaces", Needed: true, Detail: "user, net, mount and pid namespaces were entered",
		Remedy: "boot a kernel with CONFIG_NAMESPACES and CONFIG_USER_NS; inside a container, allow clone with namespace flags"}, e.Probes.Namespaces(ctx))
	e.unprivileged(ctx)
	e.rootless(ctx)
	add(Check{Name: "memfd seals", Needed: true, Detail: "MFD_NOEXEC_SEAL, F_SEAL_FUTURE_WRITE and F_SEAL_WRITE hold",
		Remedy: "use Linux 6.3 or newer: without seals nothing proves that scrubbed memory stayed scrubbed"}, e.Probes.Memfd())
	e.landlock()
	add(Check{Name: "seccomp", Needed: true, Detail: "filters with KILL_PROCESS are available", Remedy: "boot a kernel with CONFIG_SECCOMP_FILTER"}, e.Probes.Seccomp())
	e.devices(ctx)
	e.firewall()
	e.cgroup()
}

func (e *examiner) unprivileged(ctx context.Context) {
	c := Check{Group: GroupKernel, Name: "unprivileged user namespaces", Status: OK, Detail: "an ordinary user enters a user namespace",
		Remedy: "needed only to run desktops without root: sysctl user.max_user_namespaces=16384 kernel.unprivileged_userns_clone=1 kernel.apparmor_restrict_unprivileged_userns=0 (those that exist)"}
	if err := e.Probes.Unprivileged(ctx); err != nil {
		c.Status, c.Detail = Warning, err.Error()
	}
	e.add(c)
}

// rootless tries what a host role without root begins with. The remedy is the error's: what is missing is one of several things.
func (e *examiner) rootless(ctx context.Context) {
	c := Check{Group: GroupKernel, Name: "desktops without root", Status: OK, Detail: "helper processes get ids of their own (" + rootlessMeans + ")",
		Remedy: "needed only to run desktops without root: " + rootlessMeans + ", or run carrel serve with sudo"}
	if e.Rootless == nil {
		c.Detail = "not needed: this is root. Ask as the user who is to run desktops without"
		e.add(c)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, quickDeadline)
	defer cancel()
	if err := e.Rootless(ctx); err != nil {
		c.Status, c.Detail = Warning, err.Error()
	}
	e.add(c)
}

const rootlessMeans = "apt install uidmap, and 1301 or more ids for the user in /etc/subuid and /etc/subgid"

func (e *examiner) landlock() {
	c := Check{Group: GroupKernel, Name: "Landlock", Needed: true, Remedy: "boot a kernel with CONFIG_SECURITY_LANDLOCK, and landlock in its lsm= list"}
	abi, err := e.Probes.Landlock()
	switch {
	case err != nil:
		c.Status, c.Detail = Missing, err.Error()
	case abi < enoughLandlock:
		c.Status, c.Detail = Warning, fmt.Sprintf("ABI version %d cannot restrict TCP", abi)
		c.Remedy = "use Linux 6.7 or newer (ABI version 4)"
	default:
		c.Status, c.Detail = OK, fmt.Sprintf("ABI version %d", abi)
	}
	e.add(c)
}

// devices reports what came up in a network namespace of its own.
func (e *examiner) devices(ctx context.Context) {
	lines := []struct {
		key, what string
		needed    bool
		remedy    string
	}{
		{deviceTap, "tap device", true, "modprobe tun; inside a container, pass /dev/net/tun through"},
		{deviceVeth, "veth", true, "modprobe veth (CONFIG_VETH)"},
		{deviceVXLAN, "vxlan", true, "modprobe vxlan (CONFIG_VXLAN)"},
		{deviceBridge, "bridge", false, "modprobe bridge (CONFIG_BRIDGE)"},
		{deviceNftables, "nftables", true, "modprobe nf_tables (CONFIG_NF_TABLES with CONFIG_NF_TABLES_INET)"},
	}
	came, err := e.Probes.Devices(ctx)
	for _, l := range lines {
		c := Check{Group: GroupKernel, Name: l.what, Needed: l.needed, Status: OK, Detail: "made in a network namespace", Remedy: l.remedy}
		problem, tried := came[l.key]
		switch {
		case err != nil:
			c.Status, c.Detail, c.Remedy = Warning, "not tested: "+err.Error(), "run carrel doctor as root, and not in a container"
		case !tried:
			c.Status, c.Detail = Warning, "not tested: the probe did not get to it"
		case problem != "":
			c.Status, c.Detail = Missing, problem
		}
		e.add(c)
	}
}

// firewall reports whether the host's own firewall would drop what desktops send out. It matters to desktops with a way out only (host.uplink).
func (e *examiner) firewall() {
	c := Check{Group: GroupKernel, Name: "firewall", Status: OK, Detail: "nothing of the host's firewall drops what desktops send out", Remedy: firewall.Remedy}
	obstacles, err := e.Probes.Firewall()
	switch {
	case err != nil:
		c.Status, c.Detail, c.Remedy = Warning, "not tested: "+err.Error(), "run carrel doctor as root"
	case len(obstacles) > 0:
		var all []string
		for _, o := range obstacles {
			all = append(all, o.String())
		}
		c.Status, c.Detail = Warning, "desktops' way out (host.uplink) would be dropped by "+strings.Join(all, "; ")
	}
	e.add(c)
}

// cgroup finds the unified hierarchy, also where it stands beside version 1, and what of it this process may hand on.
func (e *examiner) cgroup() {
	c := Check{Group: GroupKernel, Name: "cgroup v2", Status: OK,
		Remedy: "boot with systemd.unified_cgroup_hierarchy=1, and run Carrel as a service with Delegate=yes: desktops are bounded by resource limits of processes only until then"}
	root, own, err := e.ownCgroup()
	if err != nil {
		c.Status, c.Detail = Warning, err.Error()
		e.add(c)
		return
	}
	there, err := fs.ReadFile(e.Files, path.Join(root, own, "cgroup.controllers"))
	if err != nil {
		c.Status, c.Detail = Warning, "controllers of the own group cannot be read: "+err.Error()
		e.add(c)
		return
	}
	controllers := strings.Fields(string(there))
	var lacking []string
	for _, want := range []string{"cpu", "io", "memory", "pids"} {
		if !slices.Contains(controllers, want) {
			lacking = append(lacking, want)
		}
	}
	c.Detail = "controllers " + strings.Join(controllers, " ") + " delegated at /" + path.Join(root, own)
	if len(lacking) > 0 {
		c.Status, c.Detail = Warning, "at /"+path.Join(root, own)+" there is no controller for "+strings.Join(lacking, ", ")
	} else if err := e.Probes.Writable("/" + path.Join(root, own, "cgroup.subtree_control")); err != nil {
		c.Status, c.Detail = Warning, "controllers are there but not delegated: "+err.Error()
	}
	e.add(c)
}

// ownCgroup gives where version 2 is mounted and this process's group in it, both without a leading slash.
func (e *examiner) ownCgroup() (root, own string, err error) {
	for _, dir := range []string{"sys/fs/cgroup", "sys/fs/cgroup/unified"} {
		if _, err := fs.Stat(e.Files, dir+"/cgroup.controllers"); err == nil {
			root = dir
			break
		}
	}
	if root == "" {
		return "", "", errors.New("no unified hierarchy is mounted under /sys/fs/cgroup")
	}
	text, err := fs.ReadFile(e.Files, "proc/self/cgroup")
	if err != nil {
		return "", "", fmt.Errorf("read /proc/self/cgroup: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if group, ok := strings.CutPrefix(strings.TrimSpace(line), "0::"); ok {
			return root, strings.TrimPrefix(path.Clean("/"+group), "/"), nil
		}
	}
	return "", "", errors.New("this process is in no group of the unified hierarchy")
}
