// Package linuxnet holds the fabric of a Linux host: every VPC is a network namespace, every desktop a routed tap in it, and nftables
// decides which of their packets exist.
//
// It refuses to keep a journal that could disagree with the kernel: what exists is the devices, and their aliases say whose they are. It runs
// no programs; everything is netlink, ioctl and /proc/sys/net. The same code runs as root and in a user namespace.
package linuxnet

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"carrel/internal/driver"
	"carrel/internal/ident"
)

// Config is what a host's fabric is made from. Only Dir is needed.
type Config struct {
	// Dir keeps the namespaces (bind mounts) and what the kernel has no room for. 0700; made when there is none. The mount namespace of
	// the process that calls Open must outlive it, or the next process finds no networks.
	Dir string
	// Uplink is the way out; without one desktops reach their VPC only.
	Uplink Uplink
	// MTU of a desktop's network, bytes; 0: 1500.
	MTU int
	// TunDevice; "": /dev/net/tun.
	TunDevice string
}

const (
	defaultMTU = 1500
	minMTU     = 576 // Every IPv4 host must take that much (RFC 791).
	maxMTU     = 9001
)

// Fabric is driver.Fabric, driver.TapOpener, driver.Networks and driver.VPCs of this host.
type Fabric struct {
	cfg    Config
	lock   *os.File
	uplink *uplink

	mu      sync.Mutex
	nets    map[ident.VPCID]*network
	where   map[ident.InterfaceID]ident.VPCID
	busy    map[ident.InterfaceID]bool
	changed chan struct{}
}

var (
	_ driver.Fabric    = (*Fabric)(nil)
	_ driver.TapOpener = (*Fabric)(nil)
	_ driver.Networks  = (*Fabric)(nil)
	_ driver.VPCs      = (*Fabric)(nil)
)

// Facts are what an operator should know about the fabric of a host.
type Facts struct {
	// Uplink is the interface that desktops leave the host by; "" when they cannot.
	Uplink string
	// NoUplink says why not.
	NoUplink string
	// UserNamespace: the process is root in a user namespace only.
	UserNamespace bool
	MTU           int
}

// Open takes the fabric of this host, with all that an earlier process left in it. Its rules are written anew, so that they are what this
// version of Carrel says. An error: the directory cannot be used or is in use, the kernel lacks something, an uplink is named that does not exist.
func Open(cfg Config) (*Fabric, error) {
	if cfg.MTU == 0 {
		cfg.MTU = defaultMTU
	}
	if cfg.MTU < minMTU || cfg.MTU > maxMTU {
		return nil, fmt.Errorf("linuxnet: an MTU of %d is not between %d and %d", cfg.MTU, minMTU, maxMTU)
	}
	if cfg.TunDevice == "" {
		cfg.TunDevice = "/dev/net/tun"
	}
	if !filepath.IsAbs(cfg.Dir) {
		return nil, fmt.Errorf("linuxnet: state directory %q is not an absolute path", cfg.Dir)
	}
	if err := probe(cfg.TunDevice); err != nil {
		return nil, err
	}
	lock, err := takeDir(cfg.Dir)
	if err != nil {
		return nil, err
	}
	f := &Fabric{cfg: cfg, lock: lock, nets: map[ident.VPCID]*network{}, where: map[ident.InterfaceID]ident.VPCID{},
		busy: map[ident.InterfaceID]bool{}, changed: make(chan struct{})}
	if f.uplink, err = openUplink(cfg); err == nil {
		err = f.adopt()
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// probe checks what no later message would explain well.
func probe(tun string) error {
	fd, err := syscall.Open(tun, syscall.O_RDWR|syscall.O_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("linuxnet: open %s, which desktops' network cards are made with: %w", tun, err)
	}
	return syscall.Close(fd)
}

// takeDir makes the state directory and locks it: two drivers on one set of namespaces would undo each other's rules.
func takeDir(dir string) (*os.File, error) {
	for _, d := range []string{dir, filepath.Join(dir, "netns"), filepath.Join(dir, "vpc"), filepath.Join(dir, "eni")} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, fmt.Errorf("linuxnet: make state directory: %w", err)
		}
	}
	info, err := os.Stat(dir)
	if err != nil {
		return nil, fmt.Errorf("linuxnet: %w", err)
	}
	// Who can write here decides which addresses and groups a desktop has.
	if info.Mode().Perm()&0o077 != 0 {
		return nil, fmt.Errorf("linuxnet: %s is open to others (%#o); it must be 0700", dir, info.Mode().Perm())
	}
	lock, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("linuxnet: %w", err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		return nil, errors.Join(fmt.Errorf("linuxnet: %s is in use by another process: %w", dir, err), lock.Close())
	}
	return lock, nil
}

// adopt takes over every namespace that is still there.
func (f *Fabric) adopt() error {
	files, err := os.ReadDir(filepath.Join(f.cfg.Dir, "netns"))
	if err != nil {
		return fmt.Errorf("linuxnet: %w", err)
	}
	for _, file := range files {
		id, err := ident.ParseVPCID(file.Name())
		if err != nil {
			continue
		}
		live, err := isNamespace(f.path(id))
		if err != nil {
			return err
		}
		if !live {
			// The machine was started anew: the name is left, the network is not.
			if err := errors.Join(os.Remove(f.path(id)), remove(f.recordPath(id))); err != nil {
				return fmt.Errorf("linuxnet: clear %s: %w", id, err)
			}
			continue
		}
		n, err := f.openNetwork(id)
		if err != nil {
			return fmt.Errorf("linuxnet: take over %s: %w", id, err)
		}
		f.nets[id] = n
		if err := n.restore(); err != nil {
			return fmt.Errorf("linuxnet: take over %s: %w", id, err)
		}
		for eni := range n.ports {
			f.where[eni] = id
		}
	}
	// When all are known: a VPC from before there was an uplink gets a number that no other has.
	for _, n := range f.nets {
		if err := f.wire(n); err != nil {
			return fmt.Errorf("linuxnet: take over %s: %w", n.id, err)
		}
	}
	return f.sweepRecords()
}

// sweepRecords removes what was written for interfaces that were never made or are gone.
func (f *Fabric) sweepRecords() error {
	files, err := os.ReadDir(filepath.Join(f.cfg.Dir, "eni"))
	if err != nil {
		return fmt.Errorf("linuxnet: %w", err)
	}
	for _, file := range files {
		id := ident.InterfaceID(strings.TrimSuffix(file.Name(), ".json"))
		if _, ok := f.where[id]; !ok {
			if err := os.Remove(filepath.Join(f.cfg.Dir, "eni", file.Name())); err != nil {
				return fmt.Errorf("linuxnet: %w", err)
			}
		}
	}
	return nil
}

// Close lets go of the fabric. The networks stay as they are.
func (f *Fabric) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	var err error
	for _, n := range f.nets {
		n.mu.Lock()
		err = errors.Join(err, n.close())
		n.mu.Unlock()
	}
	clear(f.nets)
	return errors.Join(err, f.uplink.close(), f.lock.Close())
}

// Facts tells what the fabric can do here.
func (f *Fabric) Facts() Facts {
	facts := Facts{MTU: f.cfg.MTU, UserNamespace: inUserNamespace()}
	if f.uplink != nil {
		facts.Uplink = f.cfg.Uplink.Interface
		return facts
	}
	facts.NoUplink = "no uplink is configured: desktops reach their own VPC only"
	if facts.UserNamespace {
		facts.NoUplink = "the host role runs in a user namespace without an uplink: desktops reach their own VPC only"
	}
	return facts
}

// inUserNamespace tells whether root here is somebody else outside.
func inUserNamespace() bool {
	b, err := os.ReadFile("/proc/self/uid_map")
	if err != nil {
		return false
	}
	return !slices.Equal(strings.Fields(string(b)), []string{"0", "0", "4294967295"})
}

// claim makes this call the only one on an interface until the function it gives is called. ErrBusy.
func (f *Fabric) claim(id ident.InterfaceID) (release func(), err error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.busy[id] {
		return nil, driver.ErrBusy
	}
	f.busy[id] = true
	return func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.busy, id)
	}, nil
}

// find gives the network that an interface is in, nil when there is none.
func (f *Fabric) find(id ident.InterfaceID) *network {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nets[f.where[id]]
}

// settle notes where an interface is now ("" for nowhere) and wakes who watches.
func (f *Fabric) settle(id ident.InterfaceID, vpc ident.VPCID) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if vpc == "" {
		delete(f.where, id)
	} else {
		f.where[id] = vpc
	}
	close(f.changed)
	f.changed = make(chan struct{})
}

// networks gives all networks in order of id.
func (f *Fabric) networks() []*network {
	f.mu.Lock()
	defer f.mu.Unlock()
	all := make([]*network, 0, len(f.nets))
	for _, n := range f.nets {
		all = append(all, n)
	}
	slices.SortFunc(all, func(a, b *network) int { return strings.Compare(string(a.id), string(b.id)) })
	return all
}

// Port is what the services inside a VPC have to know of a connection.
type Port struct {
	NIC driver.NIC
	// Device is the tap's name inside the VPC's namespace: the one thing about a packet that a guest cannot choose.
	Device string
	// Index is the device's: another after it was made anew, which a socket bound to the device must be, too.
	Index            int
	VPCCIDR, Subnet  netip.Prefix
	Router, Resolver netip.Addr
	MTU              int
}

// Ports gives all connections and a channel that is closed when there is something new to ask for.
func (f *Fabric) Ports() ([]Port, <-chan struct{}) {
	f.mu.Lock()
	changed := f.changed
	f.mu.Unlock()
	var all []Port
	for _, n := range f.networks() {
		n.mu.Lock()
		for _, p := range n.ports {
			all = append(all, Port{NIC: p.nic(), Device: p.device, Index: p.index, VPCCIDR: n.rec.CIDR, Subnet: p.rec.Subnet, Router: router(p.rec.Subnet),
				Resolver: resolver(n.rec.CIDR), MTU: f.cfg.MTU})
		}
		n.mu.Unlock()
	}
	slices.SortFunc(all, func(a, b Port) int { return strings.Compare(string(a.NIC.InterfaceID), string(b.NIC.InterfaceID)) })
	return all, changed
}

// Enter runs fn on a thread inside the VPC's namespace: sockets that fn opens are in the VPC, whatever uses them later. ErrNotFound.
func (f *Fabric) Enter(ctx context.Context, vpc ident.VPCID, fn func() error) error {
	f.mu.Lock()
	n := f.nets[vpc]
	f.mu.Unlock()
	if n == nil {
		return driver.ErrNotFound
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	return enter(n.ns, fn)
}
