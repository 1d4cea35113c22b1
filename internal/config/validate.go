package config

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Problem is one thing that is wrong.
type Problem struct {
	// Path is the field's place in the file: "api.address", "etcd.endpoints[1]".
	Path string
	// Text says what is wrong with it and what would be right.
	Text string
}

// Problems are all things that are wrong with a configuration, in the order of the struct.
type Problems []Problem

// Error puts each problem on a line.
func (p Problems) Error() string {
	lines := make([]string, len(p))
	for i, problem := range p {
		lines[i] = problem.Path + ": " + problem.Text
	}
	return strings.Join(lines, "\n")
}

func (p *Problems) add(path, format string, args ...any) {
	*p = append(*p, Problem{path, fmt.Sprintf(format, args...)})
}

var (
	regionPattern    = regexp.MustCompile(`^[a-z][a-z0-9]*(-[a-z0-9]+)*$`)
	accountPattern   = regexp.MustCompile(`^[0-9]{12}$`)
	partitionPattern = regexp.MustCompile(`^aws[a-z-]{0,7}$`)
	dnsPattern       = regexp.MustCompile(`^(\*\.)?([a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?\.)*[a-zA-Z0-9]([a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?$`)
)

// Validate reports all that is wrong, as Problems, or nil. Zero fields are checked as their defaults; c is not changed.
// Files that it names must exist.
func (c *Config) Validate() error {
	full := *c
	full.Complete()
	var p Problems
	full.doors(&p)
	full.place(&p)
	full.Portal.validate(&p)
	full.Simulation.validate(&p)
	full.Host.validate(&p)
	full.Etcd.validate(&p)
	full.Metrics.validate(&p)
	oneOf(&p, "log.level", full.Log.Level, "debug", "info", "warn", "error")
	oneOf(&p, "log.format", full.Log.Format, "text", "json")
	full.Limits.validate(&p)
	between(&p, "audit.maxFileBytes", full.Audit.MaxFileBytes, span[int64]{64 << 10, 1 << 40})
	oneOf(&p, "audit.onFailure", full.Audit.OnFailure, "stop", "stop-all", "continue")
	full.Requests.validate(&p)
	if len(p) > 0 {
		return p
	}
	return nil
}

func (h *Host) validate(p *Problems) {
	oneOf(p, "host.accelerator", h.Accelerator, "auto", "kvm", "tcg")
	if h.MemoryMiB < 0 {
		p.add("host.memoryMiB", "%d is negative", h.MemoryMiB)
	}
	for i, entry := range h.Compute {
		if _, _, err := ComputeMiB(entry); err != nil {
			p.add(fmt.Sprintf("host.compute[%d]", i), "%v", err)
		}
	}
	for i, r := range h.Resolvers {
		if _, err := netip.ParseAddrPort(r); err != nil {
			p.add(fmt.Sprintf("host.resolvers[%d]", i), "%q is not IP:PORT", r)
		}
	}
}

// TLSFloor is tls.minVersion as crypto/tls writes it.
func (c *Config) TLSFloor() uint16 {
	if c.TLS.MinVersion == "1.3" {
		return tls.VersionTLS13
	}
	return tls.VersionTLS12
}

func (c *Config) doors(p *Problems) {
	address(p, "api.address", c.API.Address)
	for i, name := range c.API.Names {
		if _, err := netip.ParseAddr(name); err != nil && (len(name) > 253 || !dnsPattern.MatchString(name)) {
			p.add(fmt.Sprintf("api.names[%d]", i), "%q is neither a DNS name nor an IP address", name)
		}
	}
	address(p, "portal.address", c.Portal.Address)
	listeners := []struct{ path, address string }{
		{"api.address", c.API.Address}, {"portal.address", c.Portal.Address}, {"metrics.address", c.Metrics.Address},
	}
	for i, l := range listeners {
		for _, other := range listeners[:i] {
			if l.address == other.address && l.address != MetricsOff && !strings.HasSuffix(l.address, ":0") {
				p.add(l.path, "%q is %s already", l.address, other.path)
			}
		}
	}
	oneOf(p, "tls.minVersion", c.TLS.MinVersion, "1.2", "1.3")
}

func (c *Config) place(p *Problems) {
	if c.Region != "" && (len(c.Region) > 32 || !regionPattern.MatchString(c.Region)) {
		p.add("region", "%q is not a region's name: up to 32 lower-case letters, digits and single hyphens, like us-east-1", c.Region)
	}
	if c.AccountID != "" && !accountPattern.MatchString(c.AccountID) {
		p.add("accountID", "%q is not an account: 12 digits", c.AccountID)
	}
	if c.Partition != "" && !partitionPattern.MatchString(c.Partition) {
		p.add("partition", "%q is not a partition: aws, aws-cn, aws-us-gov or another aws-name of up to 10 letters", c.Partition)
	}
}

func (s *Simulation) validate(p *Problems) {
	const longest = 24 * time.Hour
	between(p, "simulation.create", s.Create, span[time.Duration]{0, longest})
	between(p, "simulation.start", s.Start, span[time.Duration]{0, longest})
	between(p, "simulation.stop", s.Stop, span[time.Duration]{0, longest})
	between(p, "simulation.reboot", s.Reboot, span[time.Duration]{0, longest})
	between(p, "simulation.terminate", s.Terminate, span[time.Duration]{0, longest})
}

func (e *Etcd) validate(p *Problems) {
	for i, endpoint := range e.Endpoints {
		path := fmt.Sprintf("etcd.endpoints[%d]", i)
		u, err := url.Parse(endpoint)
		switch {
		case err != nil || u.Hostname() == "" || u.Scheme != "https" && u.Scheme != "http" || u.Path != "" && u.Path != "/" || u.RawQuery != "" || u.Fragment != "":
			p.add(path, "not a URL like https://etcd-1.example.com:2379")
		case u.User != nil:
			p.add(path, "holds a user or password; use certFile and keyFile") // the value is not repeated: it may be a secret
		case u.Scheme == "http" && !Loopback(u.Hostname()):
			p.add(path, "%q is not encrypted, and the state holds secrets; use https", endpoint)
		}
	}
	files := []struct{ path, file string }{{"etcd.caFile", e.CAFile}, {"etcd.certFile", e.CertFile}, {"etcd.keyFile", e.KeyFile}}
	for _, f := range files {
		if f.file == "" {
			continue
		}
		if len(e.Endpoints) == 0 {
			p.add(f.path, "is set without etcd.endpoints")
		}
		if _, err := os.Stat(f.file); err != nil {
			p.add(f.path, "%v", err)
		}
	}
	if (e.CertFile == "") != (e.KeyFile == "") {
		p.add("etcd.certFile", "and etcd.keyFile go together")
	}
}

func (m *Metrics) validate(p *Problems) {
	if m.Address == MetricsOff {
		return
	}
	if host, ok := address(p, "metrics.address", m.Address); ok && !m.AllowRemote && !Loopback(host) {
		p.add("metrics.address", "%q can be reached from other machines, without encryption or password; set metrics.allowRemote to accept that", m.Address)
	}
}

func (l *Limits) validate(p *Problems) {
	const most = 10_000_000
	between(p, "limits.workspaces", l.Workspaces, span[int]{1, most})
	between(p, "limits.ipGroups", l.IPGroups, span[int]{1, most})
	between(p, "limits.directories", l.Directories, span[int]{1, most})
	between(p, "limits.users", l.Users, span[int]{1, most})
	between(p, "limits.groups", l.Groups, span[int]{1, most})
	between(p, "limits.roles", l.Roles, span[int]{1, most})
	between(p, "limits.policies", l.Policies, span[int]{1, most})
}

func (d *Portal) validate(p *Problems) {
	between(p, "portal.recheck", d.Recheck, span[time.Duration]{time.Second, time.Hour})
	between(p, "portal.directoryGrace", d.DirectoryGrace, span[time.Duration]{time.Second, 12 * time.Hour})
}

func (r *Requests) validate(p *Problems) {
	between(p, "requests.maxBodyBytes", r.MaxBodyBytes, span[int64]{64 << 10, 64 << 20})
	between(p, "requests.headerTimeout", r.HeaderTimeout, span[time.Duration]{100 * time.Millisecond, time.Hour})
	between(p, "requests.bodyTimeout", r.BodyTimeout, span[time.Duration]{100 * time.Millisecond, time.Hour})
	between(p, "requests.deadline", r.Deadline, span[time.Duration]{100 * time.Millisecond, time.Hour})
	between(p, "requests.idleTimeout", r.IdleTimeout, span[time.Duration]{100 * time.Millisecond, 24 * time.Hour})
	oneOf(p, "requests.throttle", r.Throttle, ThrottleOff, ThrottleAWS)
}

// address checks HOST:PORT; an empty host listens everywhere.
func address(p *Problems, path, value string) (host string, ok bool) {
	host, port, err := net.SplitHostPort(value)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	if err == nil && host != "" {
		if _, bad := netip.ParseAddr(host); bad != nil && !dnsPattern.MatchString(host) {
			err = bad
		}
	}
	if err != nil {
		p.add(path, "%q is not an address like 127.0.0.1:8443", value)
		return "", false
	}
	return host, true
}

// Loopback is true only for hosts that no other machine can reach; names other than localhost could resolve to anything (RFC 6761, 6.3).
func Loopback(host string) bool {
	if host == "localhost" {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Unmap().IsLoopback()
}

func oneOf(p *Problems, path, value string, allowed ...string) {
	if !slices.Contains(allowed, value) {
		p.add(path, "%q is not one of %s", value, strings.Join(allowed, ", "))
	}
}

// span is what a number may be, both ends included.
type span[T int | int64 | time.Duration] struct{ least, most T }

func between[T int | int64 | time.Duration](p *Problems, path string, value T, s span[T]) {
	if value < s.least || value > s.most {
		p.add(path, "%v is not from %v to %v", value, s.least, s.most)
	}
}
