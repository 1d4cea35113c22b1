// Package doctor holds the examination of a machine: what it can and cannot do for Carrel's desktops, each finding with its remedy.
// It tries things rather than reading version numbers: a probe guest must have run before virtualisation counts as usable, seals
// must hold, devices must come up in a network namespace. It changes nothing outside of processes and namespaces of its own, keeps
// to a deadline whatever a kernel does, and imports nothing of Carrel's own but what looks at the firewall.
package doctor

import (
	"context"
	"io/fs"
	"os"
	"time"
)

// Status is the outcome of one check.
type Status string

// The outcomes of a check.
const (
	OK      Status = "ok"      // there, and working as far as it was tried
	Warning Status = "warning" // works less well or less safely, or could not be tested
	Missing Status = "missing" // not there, or not working
)

// Group is the part of the examination that a check belongs to.
type Group string

// The groups, in the order of a report.
const (
	GroupVirtualisation Group = "virtualisation"
	GroupKernel         Group = "kernel"
	GroupHardening      Group = "hardening"
	GroupPrograms       Group = "programs"
	GroupRoom           Group = "room"
)

// Check is one finding. Needed says that real desktops do not run without it (simulated ones need none of this). Remedy is what an
// administrator does about it; it is empty when the status is OK.
type Check struct {
	Group  Group  `json:"group"`
	Name   string `json:"name"`
	Status Status `json:"status"`
	Detail string `json:"detail"`
	Remedy string `json:"remedy,omitempty"`
	Needed bool   `json:"neededForDesktops"`
}

// Report is the whole examination. KVM is the verdict on virtualisation: false means that desktops run in software emulation.
type Report struct {
	KVM    bool    `json:"kvmUsable"`
	Checks []Check `json:"checks"`
}

// Lacks gives the checks that real desktops need and that this machine does not pass.
func (r Report) Lacks() []Check {
	var lacking []Check
	for _, c := range r.Checks {
		if c.Needed && c.Status == Missing {
			lacking = append(lacking, c)
		}
	}
	return lacking
}

// Options say what to examine.
type Options struct {
	StateDir string           // where Carrel's state is or will be; need not exist yet
	Files    fs.FS            // the file system from its root, for /proc, /sys and /boot; nil: this machine's
	Probes   Probes           // what is tried on the running kernel: see ThisMachine
	Now      func() time.Time // nil: the machine's clock, which is the one under examination
	// Rootless tries whether this user could run desktops without root; nil: it is root, who need not.
	Rootless func(context.Context) error
}

// examiner is one examination under way.
type examiner struct {
	Options
	report Report
}

// Examine makes all checks and reports them. It ends within about 40 s on the worst machine (each probe has its own deadline), within
// a second where nothing hangs, and sooner when ctx does.
func Examine(ctx context.Context, o Options) Report {
	if o.Files == nil {
		o.Files = os.DirFS("/")
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	e := &examiner{Options: o}
	e.virtualisation(ctx)
	e.kernel(ctx)
	e.hardening()
	e.programs(ctx)
	e.room()
	return e.report
}

// Virtualisation says whether KVM is usable, and if not, what failed: the part of an examination that decides how desktops run.
func Virtualisation(ctx context.Context, probes Probes) (usable bool, why string) {
	e := &examiner{Options: Options{Files: os.DirFS("/"), Probes: probes, Now: time.Now}}
	e.virtualisation(ctx)
	if e.report.KVM {
		return true, ""
	}
	return false, e.report.Checks[len(e.report.Checks)-1].Detail
}

// add appends a check. A remedy for something that is well would only mislead, so it is left out.
func (e *examiner) add(c Check) {
	if c.Status == OK {
		c.Remedy = ""
	}
	e.report.Checks = append(e.report.Checks, c)
}

// settle is add for a check whose probe either passed, or failed with an error that tells why.
func (e *examiner) settle(c Check, err error) {
	c.Status = OK
	if err != nil {
		c.Status, c.Detail = Missing, err.Error()
	}
	e.add(c)
}
