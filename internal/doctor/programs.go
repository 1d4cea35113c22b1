package doctor

import (
	"context"
	"strings"
)

// programs looks for what Carrel runs as separate processes from the distribution.
func (e *examiner) programs(ctx context.Context) {
	for _, p := range []struct {
		name, argument, use, remedy string
		needed                      bool
	}{
		{"qemu-system-x86_64", "--version", "runs desktops", "apt install qemu-system-x86", true},
		{"qemu-img", "--version", "makes their disks", "apt install qemu-utils", true},
		{"samba", "--version", "domain controller of managed directories", "apt install samba-ad-dc samba-ad-provision (Ubuntu 22.04: samba)", true},
		{"python3", "--version", "sets up managed directories", "apt install python3", true},
		{"pasta", "--version", "the way out for desktops without root, with host.uplink: auto", "apt install passt", false},
		{"aws", "--version", "for the tests, and for people", "apt install awscli, or pipx install awscli", false},
	} {
		c := Check{Group: GroupPrograms, Name: p.name, Needed: p.needed, Remedy: p.remedy}
		file, err := e.Probes.Lookup(p.name)
		if err != nil {
			c.Status, c.Detail = Missing, "not installed ("+p.use+")"
			e.add(c)
			continue
		}
		version, err := e.Probes.Version(ctx, file, p.argument)
		first, _, _ := strings.Cut(strings.TrimSpace(version), "\n")
		c.Status, c.Detail = OK, file+", "+first
		if err != nil {
			c.Status, c.Detail = Missing, file+" does not run: "+err.Error()
		}
		e.add(c)
	}
}
