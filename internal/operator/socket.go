// Package operator is the door for the operator on the machine itself: a Unix socket in the state directory, which only the
// state directory's owner can reach. The carrel subcommands talk to the running process through it.
//
// It refuses to be a network door: there is no authentication but the file's permissions.
package operator

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

const socketName = "operator.sock"

// Listen opens the socket in dir, mode 0600. A socket left by a process that died is replaced: the state directory's lock, which the
// caller holds, says that nobody else uses it.
func Listen(dir string) (net.Listener, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	defer d.Close()
	path := filepath.Join(dir, socketName)
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("replace operator socket: %w", err)
	}
	l, err := net.Listen("unix", throughDir(d))
	if err != nil {
		return nil, fmt.Errorf("listen on operator socket %s: %w", path, err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	if err := os.Chmod(path, 0o600); err != nil {
		l.Close()
		return nil, fmt.Errorf("protect operator socket: %w", err)
	}
	return l, nil
}

// ErrNotRunning: no carrel process answers for this state directory.
var ErrNotRunning = errors.New("no carrel process is running on this state directory")

func dial(ctx context.Context, dir string) (net.Conn, error) {
	d, err := os.Open(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("open state directory: %w: start an installation in it with: carrel serve --state %s", err, dir)
	}
	if err != nil {
		return nil, fmt.Errorf("open state directory: %w", err)
	}
	defer d.Close()
	var dialer net.Dialer
	c, err := dialer.DialContext(ctx, "unix", throughDir(d))
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w (%s): start it with: carrel serve --state %s", ErrNotRunning, dir, dir)
	}
	return c, err
}

// throughDir names the socket by the open directory: a socket's own path may not be longer than 107 bytes (unix(7)), a state directory's may.
func throughDir(d *os.File) string {
	return "/proc/self/fd/" + strconv.Itoa(int(d.Fd())) + "/" + socketName
}
