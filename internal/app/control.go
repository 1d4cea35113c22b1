package app

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"sync"
	"time"

	"carrel/internal/directory"
	"carrel/internal/directory/ad"
	"carrel/internal/driver"
	"carrel/internal/hostapi"
	"carrel/internal/ident"
	"carrel/internal/state"
)

// openHost reaches the host role of this machine: its drivers, and by way of it the directories inside the VPCs.
func (h *house) openHost(ctx context.Context) error {
	c := hostapi.NewClient(hostapi.Dial(filepath.Join(h.conf.State.Dir, hostSocket)))
	h.later(func() error { c.Close(); return nil })
	if err := h.await(ctx, c); err != nil {
		return err
	}
	people := &directories{db: h.db, host: c}
	client, err := ad.New(ad.Config{Directories: people.settings})
	if err != nil {
		return err
	}
	screens := c.Display()
	h.desks = desks{Hypervisor: c.Hypervisor(), Volumes: c.Volumes(), Fabric: c.Fabric(), Display: screens, Domain: c.Domain(), VPCs: c.VPCs(), Users: c.Users(), Auth: client, Passwords: c}
	var ok bool
	if h.desks.Screens, ok = screens.(driver.Screens); !ok {
		return errors.New("app: the host's display has no screens")
	}
	if h.desks.Sessions, ok = screens.(driver.Sessions); !ok {
		return errors.New("app: the host's display has no sessions")
	}
	return h.openReconcilers()
}

// hostPatience is how long the host role may take to answer: it scrubs what an earlier one left first.
const hostPatience = 5 * time.Minute

// await waits for the host role.
func (h *house) await(ctx context.Context, c *hostapi.Client) error {
	ctx, cancel := context.WithTimeout(ctx, hostPatience)
	defer cancel()
	for told := false; ; {
		_, err := c.Fabric().List(ctx)
		if err == nil {
			return nil
		}
		if !told {
			told = true
			h.log.Info("waiting for the host role")
		}
		t := time.NewTimer(100 * time.Millisecond)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return fmt.Errorf("the host role does not answer: %w", err)
		}
	}
}

// directories tell the directory client how each is reached.
type directories struct {
	db   *state.DB
	host *hostapi.Client

	mu        sync.Mutex
	authority []byte
}

// ldapsPort is LDAP over TLS.
const ldapsPort = 636

// settings are those of a directory that Carrel runs: its controllers inside its VPC, believed by the host's own authority only.
func (d *directories) settings(id ident.DirectoryID) (ad.Settings, error) {
	rec, ok := state.Get(d.db.Snapshot(), state.Directories, string(id))
	if !ok {
		return ad.Settings{}, fmt.Errorf("%w: %s", directory.ErrNoDirectory, id)
	}
	authority, err := d.trusted()
	if err != nil {
		return ad.Settings{}, fmt.Errorf("%w: %w", directory.ErrUnavailable, err)
	}
	s := ad.Settings{Domain: rec.Spec.Name, NetBIOS: rec.Spec.ShortName, RootCAs: authority,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			return d.host.Networks().Dial(ctx, rec.Spec.VPCID, network, address)
		}}
	for _, text := range rec.Status.DNSAddresses {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return ad.Settings{}, fmt.Errorf("%w: %s has %q among its addresses", directory.ErrUnavailable, id, text)
		}
		s.Servers = append(s.Servers, ad.Server{Address: netip.AddrPortFrom(a, ldapsPort).String()})
	}
	return s, nil
}

// trusted gives the authority's certificate, asked for once.
func (d *directories) trusted() ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.authority == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		pem, err := d.host.Authority(ctx)
		if err != nil {
			return nil, err
		}
		d.authority = pem
	}
	return d.authority, nil
}
