package samba

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"time"

	"github.com/go-ldap/ldap/v3"
	"golang.org/x/sys/unix"

	"carrel/internal/directory"
	"carrel/internal/directory/ad"
	"carrel/internal/ident"
)

const (
	// asking bounds one question to a controller, listing all its users.
	asking  = 10 * time.Second
	listing = time.Minute
	// maxAnswer and maxList bound, in bytes, what a controller may send in one conversation. It has been made by us, but it talks to desktops.
	maxAnswer = 4 << 20
	maxList   = 256 << 20
)

// ask runs fn on a connection on which the controller takes us for the system itself; nobody logs in. The socket is in the controller's own directory,
// so that a controller that somebody has taken over could put another there: that the peer is the process we started is checked.
// directory.ErrUnavailable.
func (d *domain) ask(ctx context.Context, limit time.Duration, most int, fn func(*ldap.Conn) error) error {
	c := d.alive()
	if c == nil {
		return fmt.Errorf("samba: %s has no controller running: %w", d.id, directory.ErrUnavailable)
	}
	deadline := time.Now().Add(limit)
	dial, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	raw, err := knock(dial, filepath.Join(d.dir, socket))
	if err != nil {
		return fmt.Errorf("samba: controller of %s: %w: %w", d.id, directory.ErrUnavailable, err)
	}
	if err := isProcess(raw, c.process.PID()); err != nil {
		return errors.Join(fmt.Errorf("samba: controller of %s: %w: %w", d.id, directory.ErrUnavailable, err), raw.Close())
	}
	return ad.Converse(ctx, raw, deadline, most, fn)
}

// knock connects to a controller's socket, again and again while its queue of ten is full: connect does not wait there (unix(7)).
func knock(ctx context.Context, path string) (*net.UnixConn, error) {
	for {
		c, err := new(net.Dialer).DialContext(ctx, "unix", path)
		if err == nil {
			return c.(*net.UnixConn), nil
		}
		if !errors.Is(err, unix.EAGAIN) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", err, ctx.Err())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// isProcess checks who listens at the other end.
func isProcess(c *net.UnixConn, pid int) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var peer *unix.Ucred
	var got error
	if err := raw.Control(func(fd uintptr) { peer, got = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return err
	}
	if got != nil {
		return got
	}
	if int(peer.Pid) != pid {
		return fmt.Errorf("its socket is process %d's, not %d's", peer.Pid, pid)
	}
	return nil
}

// answers is nil when the controller answers a question about itself.
func (d *domain) answers(ctx context.Context) error {
	return d.ask(ctx, d.all.cfg.Timing.Answer, maxAnswer, func(conn *ldap.Conn) error {
		r, err := conn.Search(ldap.NewSearchRequest("", ldap.ScopeBaseObject, ldap.NeverDerefAliases, 1, 0, false, "(objectClass=*)", []string{"defaultNamingContext"}, nil))
		if err != nil {
			return fmt.Errorf("samba: controller of %s: %w", d.id, err)
		}
		if len(r.Entries) != 1 || r.Entries[0].GetAttributeValue("defaultNamingContext") == "" {
			return fmt.Errorf("samba: controller of %s gives no answer about itself", d.id)
		}
		return nil
	})
}

// serving gives a domain that is made: directory.ErrNoDirectory.
func (s *Domains) serving(id ident.DirectoryID) (*domain, error) {
	d, err := s.get(id)
	if err != nil || !s.runs(d) {
		return nil, fmt.Errorf("samba: %s: %w", id, directory.ErrNoDirectory)
	}
	return d, nil
}
