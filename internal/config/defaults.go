package config

import (
	"cmp"
	"os"
	"path/filepath"
	"time"
)

// MetricsOff is the metrics address that opens no listener.
const MetricsOff = "off"

// Values of requests.throttle.
const (
	ThrottleOff = "off"
	ThrottleAWS = "aws"
)

// Complete fills every zero field with its default, but for those fixed at the first start (region, accountID, partition): there
// zero means "as it was", so that a restart needs no flags. It may be called again after fields were changed.
func (c *Config) Complete() {
	fill(&c.State.Dir, DefaultStateDir(os.Geteuid(), os.Getenv))
	fill(&c.API.Address, "127.0.0.1:8443")
	fill(&c.Portal.Address, "127.0.0.1:8444")
	fill(&c.Portal.Recheck, 30*time.Second)
	fill(&c.Portal.DirectoryGrace, 5*time.Minute)
	fill(&c.TLS.MinVersion, "1.2")
	fill(&c.Simulation.Create, 300*time.Millisecond)
	fill(&c.Simulation.Start, 100*time.Millisecond)
	fill(&c.Simulation.Stop, 100*time.Millisecond)
	fill(&c.Simulation.Reboot, 100*time.Millisecond)
	fill(&c.Simulation.Terminate, 100*time.Millisecond)
	fill(&c.Host.Accelerator, "auto")
	fill(&c.Host.Uplink, "off")
	if c.Host.Templates == nil {
		on := true
		c.Host.Templates = &on
	}
	fill(&c.Metrics.Address, "127.0.0.1:9464")
	fill(&c.Log.Level, "info")
	fill(&c.Log.Format, "text")
	c.Limits.complete()
	fill(&c.Audit.Dir, filepath.Join(c.State.Dir, "audit"))
	fill(&c.Audit.MaxFileBytes, 64<<20)
	fill(&c.Audit.OnFailure, "stop")
	fill(&c.Requests.MaxBodyBytes, 1<<20)
	fill(&c.Requests.HeaderTimeout, 10*time.Second)
	fill(&c.Requests.BodyTimeout, 30*time.Second)
	fill(&c.Requests.Deadline, 30*time.Second)
	fill(&c.Requests.IdleTimeout, 2*time.Minute)
	fill(&c.Requests.Throttle, ThrottleOff)
}

func (l *Limits) complete() {
	d := Limits{Workspaces: 100_000, IPGroups: 100, Directories: 1000, Users: 100_000, Groups: 100_000, Roles: 100_000, Policies: 100_000}
	if l.AWSLike {
		d = Limits{Workspaces: 1, IPGroups: 100, Directories: 50, Users: 5000, Groups: 300, Roles: 1000, Policies: 1500}
	}
	fill(&l.Workspaces, d.Workspaces)
	fill(&l.IPGroups, d.IPGroups)
	fill(&l.Directories, d.Directories)
	fill(&l.Users, d.Users)
	fill(&l.Groups, d.Groups)
	fill(&l.Roles, d.Roles)
	fill(&l.Policies, d.Policies)
}

func fill[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// DefaultStateDir is where the state is when nothing says otherwise, for the effective user id and the environment given
// (os.Geteuid(), os.Getenv): /var/lib/carrel for root, else the user's state directory (XDG Base Directory Specification 0.8).
func DefaultStateDir(uid int, getenv func(string) string) string {
	if uid == 0 {
		return "/var/lib/carrel"
	}
	// The specification says that a relative XDG_STATE_HOME is to be ignored.
	if dir := getenv("XDG_STATE_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "carrel")
	}
	return filepath.Join(cmp.Or(getenv("HOME"), "/"), ".local", "state", "carrel")
}
