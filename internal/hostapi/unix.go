package hostapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"slices"

	"golang.org/x/sys/unix"
)

// Listen opens the host role's Unix socket at path, for processes of one of the users (numeric ids) only: the kernel says who has
// connected (SO_PEERCRED), whatever the file's mode has become. A socket that an earlier host role left there is replaced.
func Listen(path string, users ...uint32) (net.Listener, error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("hostapi: %w", err)
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("hostapi: %w", err)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("hostapi: %w", err), l.Close())
	}
	return &peers{l.(*net.UnixListener), users}, nil
}

// peers is a listener that lets only processes of some users in.
type peers struct {
	*net.UnixListener
	users []uint32
}

// Accept gives the next connection of somebody who may; others are closed without a word.
func (p *peers) Accept() (net.Conn, error) {
	for {
		c, err := p.AcceptUnix()
		if err != nil {
			return nil, err
		}
		if uid, err := peerUser(c); err == nil && slices.Contains(p.users, uid) {
			return c, nil
		}
		_ = c.Close()
	}
}

func peerUser(c *net.UnixConn) (uint32, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return 0, err
	}
	var cred *unix.Ucred
	var asked error
	if err := raw.Control(func(fd uintptr) { cred, asked = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED) }); err != nil {
		return 0, err
	}
	if asked != nil {
		return 0, asked
	}
	return cred.Uid, nil
}

// Dial gives the dial function of a Client for the host role's socket at path.
func Dial(path string) func(context.Context) (net.Conn, error) {
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "unix", path)
	}
}
