// Package samba runs directories' domains: Samba Active Directory domain controllers, each a jailed process of its own uid inside its
// directory's VPC, and the users in them.
//
// It refuses to run one as root, to keep or pass on a password (the control plane's way in is a socket that only this host role reaches,
// where it is the system itself), to let anybody outside change administrators, and to write where a controller could: what a
// controller writes is in a directory that this package only deletes.
//
// One process serves all addresses of a directory: its DNS answers on each, and each leads to it. A second process that replicates from the
// first does not exist yet, so a directory lives as long as this host.
package samba

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"carrel/internal/driver"
	"carrel/internal/ident"
)

// Issuer is the installation's certificate authority.
type Issuer interface {
	// Issue makes a key and the certificate of a server that stands for these names and addresses. Both are PEM; the key is not kept.
	Issue(names []string, addresses []netip.Addr) (certificate, key []byte, err error)
	// CertificatePEM is the authority's own certificate.
	CertificatePEM() []byte
}

// Timing is how patient the supervisor is. The zero value of a field is its default.
type Timing struct {
	// Check is how often a controller is asked for a sign of life (2 s), Answer how long it may take (3 s).
	Check, Answer time.Duration
	// Hang is how long a controller may be silent before it is replaced (30 s).
	Hang time.Duration
	// Start is how long a new controller may take to answer (60 s).
	Start time.Duration
	// Retry is the pause before a controller that ended is started again (500 ms); it doubles up to RetryMost (30 s).
	Retry, RetryMost time.Duration
}

// Config is what Domains are made of. Dir, Networks, Certificates, FirstUID, UIDs, Random and Log are needed.
type Config struct {
	// Dir is where the domains are; it is made with mode 0700. It must be short: a socket under it has a path of 107 bytes at most.
	Dir string
	// Networks are the VPCs.
	Networks driver.Networks
	// Certificates signs the controllers' certificates.
	Certificates Issuer
	// FirstUID is the first of UIDs user and group ids that nothing else on the host has. Each domain takes one.
	FirstUID, UIDs int
	// Random is where passwords that nobody is told come from.
	Random io.Reader
	Log    *slog.Logger
	Timing Timing
	// Samba and Python are the programs; /usr/sbin/samba and /usr/bin/python3 when "". Another Python has no samba module.
	Samba, Python string
}

// Domains is driver.Domain on this host.
type Domains struct {
	cfg Config

	mu      sync.Mutex
	domains map[ident.DirectoryID]*domain
	busy    map[ident.DirectoryID]bool
	// arrived is told that domains has a new one, for Run.
	arrived chan struct{}
}

// The files of a domain, in Dir/<directory id>/. All but what is in state is root's (the host role's).
const (
	recordFile = "domain.json"
	// madeFile is written last: without it the domain was never finished and is begun again.
	madeFile    = "made"
	processFile = "process.json"
	confDir     = "etc"
	tlsDir      = "tls"
	// stateDir is the controller's own, and the only one it can write to.
	stateDir = "state"
	// removed begins the names of directories that are no domains any more.
	removed = ".removed-"
)

// socket is where a controller takes us for the system, below a domain's directory.
const socket = stateDir + "/private/ldap_priv/ldapi"

// longest is the longest name of a socket that a controller makes, below a domain's directory.
const longest = stateDir + "/run/ncalrpc/np/protected_storage"

// CheckDir says what, if anything, is wrong with the name of a directory for domains: Samba binds the whole path of its sockets, of which the kernel takes
// 107 bytes (unix(7)), and its configuration gives some characters a meaning.
func CheckDir(dir string) error {
	if n := len(filepath.Join(dir, "d-0123456789", longest)); n > 107 {
		return fmt.Errorf("samba: %s is too long a directory name by %d characters: sockets are made under it", dir, n-107)
	}
	if strings.ContainsAny(dir, " %\n\r;#\"\\") {
		return fmt.Errorf("samba: %q has a character that Samba's configuration gives a meaning to", dir)
	}
	return nil
}

// record is domain.json.
type record struct {
	DirectoryID ident.DirectoryID
	Type        string
	Name        string
	ShortName   string
	// Host is the controller's name in the domain.
	Host      string
	VPC       ident.VPCID
	VPCCIDR   string
	Addresses []netip.Addr
	// UID is also the group id.
	UID int
	// Removing: Remove has begun and must be finished.
	Removing bool `json:",omitempty"`
}

func (r *record) network() driver.Network {
	cidr, _ := netip.ParsePrefix(r.VPCCIDR) // checked before it was recorded
	return driver.Network{VPC: r.VPC, CIDR: cidr}
}

// Open finds the domains in cfg.Dir; Run starts their controllers, or finds them still running. What a removal that was cut off left is removed.
func Open(cfg Config) (*Domains, error) {
	if cfg.Dir == "" || cfg.Networks == nil || cfg.Certificates == nil || cfg.FirstUID <= 0 || cfg.UIDs <= 0 || cfg.Random == nil || cfg.Log == nil {
		return nil, errors.New("samba: Dir, Networks, Certificates, FirstUID, UIDs, Random and Log are needed")
	}
	cfg.complete()
	var err error
	if cfg.Dir, err = filepath.Abs(cfg.Dir); err != nil {
		return nil, fmt.Errorf("samba: %w", err)
	}
	if err := CheckDir(cfg.Dir); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(cfg.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("samba: %w", err)
	}
	s := &Domains{cfg: cfg, domains: map[ident.DirectoryID]*domain{}, busy: map[ident.DirectoryID]bool{}, arrived: make(chan struct{}, 1)}
	entries, err := os.ReadDir(cfg.Dir)
	if err != nil {
		return nil, fmt.Errorf("samba: %w", err)
	}
	for _, e := range entries {
		if err := s.load(e.Name()); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func (c *Config) complete() {
	defaults := func(d *time.Duration, value time.Duration) {
		if *d <= 0 {
			*d = value
		}
	}
	t := &c.Timing
	defaults(&t.Check, 2*time.Second)
	defaults(&t.Answer, 3*time.Second)
	defaults(&t.Hang, 30*time.Second)
	defaults(&t.Start, time.Minute)
	defaults(&t.Retry, 500*time.Millisecond)
	defaults(&t.RetryMost, 30*time.Second)
	if c.Samba == "" {
		c.Samba = "/usr/sbin/samba"
	}
	if c.Python == "" {
		c.Python = "/usr/bin/python3"
	}
}

// load takes one entry of Dir in.
func (s *Domains) load(name string) error {
	dir := filepath.Join(s.cfg.Dir, name)
	if strings.HasPrefix(name, removed) {
		if err := os.RemoveAll(dir); err != nil {
			return fmt.Errorf("samba: removing what a removal that was cut off left: %w", err)
		}
		return nil
	}
	id, err := ident.ParseDirectoryID(name)
	if err != nil {
		return nil // not ours
	}
	b, err := os.ReadFile(filepath.Join(dir, recordFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil // cut off before anything was made; Provision begins with an empty directory
	}
	d := s.newDomain(id)
	if err == nil {
		err = json.Unmarshal(b, &d.rec)
	}
	if err == nil && d.rec.DirectoryID != id {
		err = fmt.Errorf("it is %s's", d.rec.DirectoryID)
	}
	if err != nil {
		return fmt.Errorf("samba: the record of %s: %w", id, err)
	}
	if _, err := os.Stat(filepath.Join(dir, madeFile)); err == nil {
		d.made = true
	} else if !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("samba: %s: %w", id, err)
	}
	s.domains[id] = d
	return nil
}

// exclusively runs fn unless another call works on the same domain.
func (s *Domains) exclusively(id ident.DirectoryID, fn func() error) error {
	if _, err := ident.ParseDirectoryID(string(id)); err != nil {
		// The id becomes a path.
		return driver.Permanent("InvalidDirectory", fmt.Errorf("samba: %q is no directory id", id))
	}
	s.mu.Lock()
	taken := s.busy[id]
	s.busy[id] = true
	s.mu.Unlock()
	if taken {
		return fmt.Errorf("samba: %s: %w", id, driver.ErrBusy)
	}
	defer func() {
		s.mu.Lock()
		delete(s.busy, id)
		s.mu.Unlock()
	}()
	return fn()
}

// get gives a domain: ErrNotFound.
func (s *Domains) get(id ident.DirectoryID) (*domain, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d, ok := s.domains[id]; ok {
		return d, nil
	}
	return nil, fmt.Errorf("samba: domain %s: %w", id, driver.ErrNotFound)
}

// all gives the domains in order of id.
func (s *Domains) all() []*domain {
	s.mu.Lock()
	defer s.mu.Unlock()
	var out []*domain
	for _, d := range s.domains {
		out = append(out, d)
	}
	slices.SortFunc(out, func(a, b *domain) int { return strings.Compare(string(a.id), string(b.id)) })
	return out
}

// enter takes a domain that is to be made in, with the lowest user id that no other has. PermanentError: there is none.
func (s *Domains) enter(rec record) (*domain, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d := s.domains[rec.DirectoryID]
	if d != nil {
		rec.UID = d.rec.UID
		d.rec = rec
		return d, nil
	}
	taken := map[int]bool{}
	for _, other := range s.domains {
		taken[other.rec.UID] = true
	}
	for uid := s.cfg.FirstUID; uid < s.cfg.FirstUID+s.cfg.UIDs; uid++ {
		if !taken[uid] {
			d = s.newDomain(rec.DirectoryID)
			rec.UID = uid
			d.rec = rec
			s.domains[d.id] = d
			return d, nil
		}
	}
	return nil, driver.Permanent("TooManyDirectories", fmt.Errorf("samba: all %d user ids for domains are taken", s.cfg.UIDs))
}

// Inspect asks the controller.
func (s *Domains) Inspect(ctx context.Context, id ident.DirectoryID) (driver.DomainInfo, error) {
	d, err := s.get(id)
	if err != nil {
		return driver.DomainInfo{}, err
	}
	return d.info(ctx), nil
}

// List asks all controllers at once.
func (s *Domains) List(ctx context.Context) ([]driver.DomainInfo, error) {
	all := s.all()
	out := make([]driver.DomainInfo, len(all))
	var wait sync.WaitGroup
	for i, d := range all {
		wait.Go(func() { out[i] = d.info(ctx) })
	}
	wait.Wait()
	return out, nil
}
