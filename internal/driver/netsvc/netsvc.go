// Package netsvc holds the services that every desktop finds in its VPC: DHCP, DNS and instance metadata.
//
// It refuses to ask a guest who it is. Its sockets are opened inside the VPC's namespace by the host role; the tap that a packet came by, or an
// address that the fabric lets only one tap send with, says whose question it is. No answer holds a credential.
package netsvc

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"carrel/internal/driver"
	"carrel/internal/ident"
)

// Port is a desktop's connection, as the fabric tells it (linuxnet.Port has the same fields).
type Port struct {
	NIC driver.NIC
	// Device is the tap's name inside the VPC's namespace.
	Device string
	// Index is the device's: another after it was made anew.
	Index            int
	VPCCIDR, Subnet  netip.Prefix
	Router, Resolver netip.Addr
	MTU              int
}

// Guest is what the services tell a desktop about itself beside its connection.
type Guest struct {
	// Hostname without a domain ("WSAMZN-0A1B2C3D"); "": ip-10-0-1-10.
	Hostname string
	// Domain is searched for names without dots; "": the region's internal one.
	Domain string
	// Zone is the availability zone ("eu-central-1a") and its id ("euc1-az2").
	Zone, ZoneID string
}

// Zone is a part of the names that a VPC's own servers answer for: a directory's domain.
type Zone struct {
	// Name without a dot at the end ("corp.example.com").
	Name string
	// Servers inside the VPC, in order of preference.
	Servers []netip.Addr
	// Hosts are the names of addresses, for the reverse lookup that Kerberos clients do ("dc1.corp.example.com").
	Hosts map[netip.Addr]string
}

// Config is what the services are made from.
type Config struct {
	// Ports gives all connections and a channel that is closed when there is something new to ask for.
	Ports func() ([]Port, <-chan struct{})
	// Enter runs a function on a thread inside a VPC's namespace.
	Enter func(ctx context.Context, vpc ident.VPCID, fn func() error) error
	// Describe tells more about a desktop; nil: what its connection was attached with.
	Describe func(Port) Guest
	// Zones gives a VPC's own zones; nil: none.
	Zones func(ident.VPCID) []Zone
	// Region ("eu-central-1") and Partition's DNS suffix ("amazonaws.com"), as metadata gives them.
	Region, Suffix string
	// Resolvers answer for the rest of the world, from the host's own network; none: the rest of the world has no names.
	Resolvers []netip.AddrPort
	// Lease is how long a DHCP client may go without asking again; 0: one hour. The address is the interface's, whatever the lease.
	Lease time.Duration
	// Now is the time, for tokens' ends; nil: time.Now.
	Now func() time.Time
	Log *slog.Logger
}

// Server is the services of all VPCs of a host.
type Server struct {
	cfg    Config
	tokens *tokens
	// retry is how long a service that could not be opened is left alone.
	retry time.Duration

	mu    sync.RWMutex
	ports map[place]Port
	names map[name]netip.Addr
}

// name is what a desktop is called, in lower case, within its VPC.
type name struct {
	vpc   ident.VPCID
	label string
}

// place is where a desktop is: its address means something within its VPC only.
type place struct {
	vpc     ident.VPCID
	address netip.Addr
}

const defaultLease = time.Hour

// New makes the services; Run runs them.
func New(cfg Config) (*Server, error) {
	switch {
	case cfg.Ports == nil || cfg.Enter == nil:
		return nil, errors.New("netsvc: Ports and Enter are needed")
	case cfg.Region == "":
		return nil, errors.New("netsvc: no region")
	}
	if cfg.Lease == 0 {
		cfg.Lease = defaultLease
	}
	if cfg.Lease < time.Minute || cfg.Lease > 365*24*time.Hour {
		return nil, fmt.Errorf("netsvc: a lease of %s is not between a minute and a year", cfg.Lease)
	}
	if cfg.Suffix == "" {
		cfg.Suffix = "amazonaws.com"
	}
	if cfg.Describe == nil {
		cfg.Describe = func(p Port) Guest {
			return Guest{Hostname: p.NIC.Names.Hostname, Zone: p.NIC.Names.Zone, ZoneID: p.NIC.Names.ZoneID}
		}
	}
	if cfg.Zones == nil {
		cfg.Zones = func(ident.VPCID) []Zone { return nil }
	}
	if cfg.Now == nil {
		cfg.Now = time.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	var key [32]byte
	_, _ = rand.Read(key[:]) // Never fails.
	return &Server{cfg: cfg, tokens: &tokens{key: key[:], now: cfg.Now}, retry: time.Second, ports: map[place]Port{}}, nil
}

// Run serves all VPCs until ctx ends, following the connections as they come and go. It returns nil when all services have ended.
func (s *Server) Run(ctx context.Context) error {
	var all sync.WaitGroup
	defer all.Wait()
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	running := map[string]func(){}
	defer func() {
		for _, end := range running {
			end()
		}
	}()
	for {
		ports, changed := s.cfg.Ports()
		wanted := s.services(ports)
		for name, end := range running {
			if _, ok := wanted[name]; !ok {
				end()
				delete(running, name)
			}
		}
		for name, serve := range wanted {
			if running[name] != nil {
				continue
			}
			here, end := context.WithCancel(ctx)
			running[name] = end
			all.Go(func() { s.keep(here, name, serve) })
		}
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
	}
}

// services takes over who is where and gives the services that must run, by a name that changes with what they are made from.
func (s *Server) services(ports []Port) map[string]func(context.Context) error {
	wanted := map[string]func(context.Context) error{}
	now, names := map[place]Port{}, map[name]netip.Addr{}
	for _, p := range ports {
		a, err := netip.ParseAddr(p.NIC.Address)
		if err != nil {
			continue
		}
		now[place{p.NIC.VPC, a}] = p
		g := s.describe(p)
		if strings.EqualFold(g.Domain, s.internalDomain()) {
			names[name{p.NIC.VPC, strings.ToLower(g.Hostname)}] = a
		}
		wanted[fmt.Sprintf("dhcp %s %d %s.%s", p.NIC.InterfaceID, p.Index, g.Hostname, g.Domain)] = func(ctx context.Context) error { return s.serveDHCP(ctx, p) }
		wanted["dns "+string(p.NIC.VPC)] = func(ctx context.Context) error { return s.serveDNS(ctx, p.NIC.VPC, p.VPCCIDR, p.Resolver) }
		wanted["metadata "+string(p.NIC.VPC)] = func(ctx context.Context) error { return s.serveMetadata(ctx, p.NIC.VPC) }
	}
	s.mu.Lock()
	s.ports, s.names = now, names
	s.mu.Unlock()
	return wanted
}

// keep runs a service again whenever it ends before its time.
func (s *Server) keep(ctx context.Context, name string, serve func(context.Context) error) {
	for {
		err := serve(ctx)
		if ctx.Err() != nil {
			return
		}
		s.cfg.Log.Warn("network service ended; it is started again", "service", name, "error", err)
		select {
		case <-ctx.Done():
			return
		case <-time.After(s.retry):
		}
	}
}

// who gives the desktop that has an address in a VPC. false: none; the host's own processes in the VPC are nobody.
func (s *Server) who(vpc ident.VPCID, a netip.Addr) (Port, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	p, ok := s.ports[place{vpc, a.Unmap()}]
	return p, ok
}

// named gives the address of the desktop that is called so.
func (s *Server) named(vpc ident.VPCID, label string) (netip.Addr, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	a, ok := s.names[name{vpc, strings.ToLower(label)}]
	return a, ok
}

// internalDomain is what the region's internal names end in (VPC User Guide, "DNS hostnames").
func (s *Server) internalDomain() string {
	if s.cfg.Region == "us-east-1" {
		return "ec2.internal"
	}
	return s.cfg.Region + ".compute.internal"
}

// internalName is the name of an address: ip-10-0-1-10.
func internalName(a netip.Addr) string { return "ip-" + strings.ReplaceAll(a.String(), ".", "-") }

// describe completes what is known of a desktop.
func (s *Server) describe(p Port) Guest {
	g := s.cfg.Describe(p)
	if g.Hostname == "" {
		if a, err := netip.ParseAddr(p.NIC.Address); err == nil {
			g.Hostname = internalName(a)
		}
	}
	if g.Domain == "" {
		g.Domain = s.internalDomain()
	}
	return g
}

// listen opens a stream socket inside a VPC. ttl, when not 0, is how many routers an answer survives.
func (s *Server) listen(ctx context.Context, vpc ident.VPCID, address string, ttl int) (l net.Listener, err error) {
	err = s.cfg.Enter(ctx, vpc, func() error {
		l, err = (&net.ListenConfig{Control: socketOptions(ttl, "")}).Listen(ctx, "tcp4", address)
		return err
	})
	return l, err
}

// listenPacket opens a datagram socket inside a VPC; device, when not "", is the only one it hears.
func (s *Server) listenPacket(ctx context.Context, vpc ident.VPCID, address, device string) (*net.UDPConn, error) {
	var conn net.PacketConn
	err := s.cfg.Enter(ctx, vpc, func() (err error) {
		conn, err = (&net.ListenConfig{Control: socketOptions(0, device)}).ListenPacket(ctx, "udp4", address)
		return err
	})
	if err != nil {
		return nil, err
	}
	return conn.(*net.UDPConn), nil
}
