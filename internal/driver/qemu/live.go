package qemu

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
	"carrel/internal/driver/jail"
	"carrel/internal/driver/qmp"
)

// live are the ways to a machine that runs.
type live struct {
	process *jail.Process
	monitor *qmp.Client
	agent   *qmp.Agent
	console *tail
	// session is nil when the machine has no port for it.
	session *port

	// screens counts the names given to screen connections.
	mu      sync.Mutex
	screens int
	// over is closed when the process has ended.
	over chan struct{}
	exit jail.Exit
}

// agentTimeout is how long the guest's agent may take for one answer; under emulation the guest is slow.
const agentTimeout = 60 * time.Second

func (l *live) alive() bool {
	if l == nil {
		return false
	}
	select {
	case <-l.over:
		return false
	default:
		return l.monitor != nil && l.monitor.Err() == nil
	}
}

// watch waits for the process's end.
func (l *live) watch() {
	defer close(l.over)
	if exit, err := l.process.Wait(context.Background()); err == nil {
		l.exit = exit
	}
}

// spacePause is how long a machine whose disk was full waits before it tries again.
const spacePause = 2 * time.Second

// attend lets a guest go on that was stopped because the host had no space for what it wrote: what it was writing is tried again, and it is
// stopped again as long as there is none. It ends with the connection to the machine.
func (l *live) attend(log func(text string)) {
	for full := false; ; {
		e, err := l.monitor.Event(context.Background())
		if err != nil {
			return
		}
		var b struct {
			NoSpace bool   `json:"nospace"`
			Action  string `json:"action"`
		}
		if e.Name != "BLOCK_IO_ERROR" || json.Unmarshal(e.Data, &b) != nil || !b.NoSpace || b.Action != "stop" {
			continue
		}
		if !full {
			full = true
			log("the host's disk is full: the desktop waits for space")
		}
		select {
		case <-l.over:
			return
		case <-l.monitor.Done():
			return
		case <-time.After(spacePause):
		}
		if status, err := l.status(context.Background()); err == nil && status == "io-error" {
			_ = l.monitor.Execute(context.Background(), "cont", nil, nil) // What it says of a machine that is going away changes nothing.
		}
	}
}

// during is a context that ends with the machine too.
func (l *live) during(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() { // Ends with what this is for, or the machine.
		select {
		case <-l.over:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// close gives up the ways to a machine whose process has ended.
func (l *live) close() error {
	if l == nil {
		return nil
	}
	<-l.over
	var err error
	if l.monitor != nil {
		err = l.monitor.Close()
	}
	if l.agent != nil {
		err = errors.Join(err, l.agent.Close())
	}
	if l.session != nil {
		err = errors.Join(err, l.session.close())
	}
	return err
}

// status asks the machine what it does.
func (l *live) status(ctx context.Context) (string, error) {
	var s struct {
		Status string `json:"status"`
	}
	err := l.monitor.Execute(ctx, "query-status", nil, &s)
	return s.Status, err
}

// pair makes a connected pair of sockets: one end as a connection of ours, the other as a file for the machine.
func pair(name string) (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("socketpair for %s: %w", name, err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), name), os.NewFile(uintptr(fds[1]), name)
	conn, err := net.FileConn(ours)
	if err = errors.Join(err, ours.Close()); err != nil {
		return nil, nil, errors.Join(fmt.Errorf("socketpair for %s: %w", name, err), theirs.Close())
	}
	return conn, theirs, nil
}

// keyPipe is a pipe that a passphrase can be read from once, by user uid: the machine opens it by its name under /proc.
func keyPipe(passphrase []byte, uid int) (*os.File, error) {
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	// It is far smaller than a pipe, so this waits for nobody.
	_, err = w.Write(passphrase)
	err = errors.Join(err, w.Close())
	if os.Geteuid() == 0 {
		err = errors.Join(err, r.Chown(uid, uid))
	}
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	return r, nil
}

// tail keeps the last of what a machine prints, to be looked at when it does not start.
type tail struct {
	mu   sync.Mutex
	last []byte
}

const tailBytes = 32 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, p...)
	if over := len(t.last) - tailBytes; over > 0 {
		t.last = append(t.last[:0], t.last[over:]...)
	}
	return len(p), nil
}

// end is the last of it, in quotes where it is not plain text: a guest chooses what it prints.
func (t *tail) end(n int) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return fmt.Sprintf("%q", t.last[max(0, len(t.last)-n):])
}

// modelName is what QEMU calls a machine type of one of its versions, Ubuntu's ("pc-q35-noble") included.
var modelName = regexp.MustCompile(`^(pc-q35-[a-z0-9._-]{1,40})-machine$`)

// model asks for the machine type that the machine runs as ("pc-q35-7.2").
func (l *live) model(ctx context.Context) (string, error) {
	var name string
	if err := l.monitor.Execute(ctx, "qom-get", map[string]string{"path": "/machine", "property": "type"}, &name); err != nil {
		return "", err
	}
	found := modelName.FindStringSubmatch(name)
	if found == nil {
		return "", fmt.Errorf("%w: a machine of type %q", driver.ErrUnavailable, name)
	}
	return found[1], nil
}
