package doctor

import (
	"context"
	"strings"
)

// newAWSCLI is how to get one that is new enough: distributions may have an old one.
const newAWSCLI = "install AWS CLI 2.13 or later: pipx install awscli, or AWS's own installer"

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
		{"aws", "--version", "for the tests, and for people", newAWSCLI, false},
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
		} else if p.name == "aws" && OldAWSCLI(first) {
			c.Status, c.Detail = Warning, c.Detail+": it knows neither endpoint_url nor ds-data; carrel env makes up for the former in the shell it is called in"
		}
		e.add(c)
	}
}
