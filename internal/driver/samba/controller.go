package samba

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
	"carrel/internal/driver/jail"
	"carrel/internal/ident"
)

// domain is one directory's domain and its controller.
type domain struct {
	all *Domains
	id  ident.DirectoryID
	dir string
	// gone ends when the domain is removed.
	gone   context.Context
	remove context.CancelFunc

	// working is held while the controller is started or stopped.
	working sync.Mutex
	rec     record
	made    bool
	// running is the controller, nil when there is none. Read without the lock by whoever only asks it something.
	running atomic.Pointer[controller]
}

// controller is a Samba process.
type controller struct {
	process *jail.Process
	// ended is closed when it has; exit is set then.
	ended chan struct{}
	exit  jail.Exit
}

func (s *Domains) newDomain(id ident.DirectoryID) *domain {
	gone, remove := context.WithCancel(context.Background())
	return &domain{all: s, id: id, dir: filepath.Join(s.cfg.Dir, string(id)), gone: gone, remove: remove}
}

// errRemoved: the domain is being removed.
var errRemoved = errors.New("samba: the domain is being removed")

// watch waits for the end of a process, in the background; stop waits for that.
func watch(p *jail.Process) *controller {
	c := &controller{process: p, ended: make(chan struct{})}
	go func() {
		defer close(c.ended)
		var err error
		if c.exit, err = p.Wait(context.Background()); err != nil {
			// Nothing more is known of it. Killed it is gone for certain.
			_ = p.Kill()
		}
	}()
	return c
}

func (c *controller) alive() bool {
	select {
	case <-c.ended:
		return false
	default:
		return true
	}
}

// alive gives the running controller; nil when there is none.
func (d *domain) alive() *controller {
	if c := d.running.Load(); c != nil && c.alive() {
		return c
	}
	return nil
}

// ensure has a controller that answers when it returns nil. One that does not within Timing.Start is ended.
func (d *domain) ensure(ctx context.Context) error {
	d.working.Lock()
	defer d.working.Unlock()
	c := d.alive()
	if c == nil {
		var err error
		if c, err = d.find(ctx); err == nil && c == nil {
			c, err = d.start(ctx)
		}
		if err != nil {
			return fmt.Errorf("samba: controller of %s: %w", d.id, err)
		}
		d.running.Store(c)
	}
	limit, cancel := context.WithTimeout(ctx, d.all.cfg.Timing.Start)
	defer cancel()
	for {
		err := d.answers(limit)
		if err == nil {
			return nil
		}
		select {
		case <-c.ended:
			return fmt.Errorf("samba: controller of %s: %s before it answered; %s says why: %w", d.id, c.exit, filepath.Join(d.dir, stateDir, "log"), driver.ErrUnavailable)
		case <-limit.Done():
			if ctx.Err() == nil {
				c.end() // or it would be found alive, and waited for, for ever
			}
			return fmt.Errorf("samba: controller of %s does not answer (%w): %w", d.id, err, driver.ErrUnavailable)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// find takes a controller over that an earlier host role has started and that is in the VPC's present namespace; nil: there is none any
// more. Every other one is ended, also one whose start was cut off before it was written down.
func (d *domain) find(ctx context.Context) (*controller, error) {
	path := filepath.Join(d.dir, processFile)
	var id jail.Identity
	b, err := os.ReadFile(path)
	if err == nil && json.Unmarshal(b, &id) == nil {
		p, err := jail.Adopt(id)
		if err == nil {
			c := watch(p)
			if d.atHome(ctx, p.PID()) {
				return c, nil
			}
			c.end()
		} else if !errors.Is(err, jail.ErrGone) {
			return nil, err
		}
	}
	if err := os.RemoveAll(path); err != nil {
		return nil, err
	}
	return nil, d.endStranger(ctx)
}

// atHome says whether a process is in the network namespace that the VPC has now.
func (d *domain) atHome(ctx context.Context, pid int) bool {
	ns, err := d.all.cfg.Networks.Namespace(ctx, d.rec.network())
	if err != nil {
		return false
	}
	defer ns.Close()
	now, err := ns.Stat()
	if err != nil {
		return false
	}
	its, err := os.Stat(fmt.Sprintf("/proc/%d/ns/net", pid))
	return err == nil && os.SameFile(now, its)
}

// endStranger kills the process that has this domain's files open as a controller does, if there is one: Samba holds a lock on its pid file for
// as long as it lives, and the kernel says who holds it.
func (d *domain) endStranger(ctx context.Context) error {
	state, err := os.OpenRoot(filepath.Join(d.dir, stateDir))
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer state.Close()
	// Through a root: the directory is the controller's, and a link in it must not lead us to another's lock.
	f, err := state.OpenFile("run/samba.pid", os.O_RDWR, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer f.Close()
	for {
		lock := unix.Flock_t{Type: unix.F_WRLCK}
		if err := unix.FcntlFlock(f.Fd(), unix.F_GETLK, &lock); err != nil {
			return fmt.Errorf("who holds %s: %w", f.Name(), err)
		}
		if lock.Type == unix.F_UNLCK || lock.Pid <= 0 {
			return nil
		}
		d.all.cfg.Log.Warn("ending a domain controller that nobody knew of", "directory", d.id, "pid", lock.Pid)
		if err := unix.Kill(int(lock.Pid), unix.SIGKILL); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("end process %d: %w", lock.Pid, err)
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// start starts the controller in its VPC.
func (d *domain) start(ctx context.Context) (*controller, error) {
	if d.rec.Removing || d.gone.Err() != nil {
		return nil, errRemoved
	}
	if err := d.hold(ctx); err != nil {
		return nil, err
	}
	if err := d.certify(); err != nil {
		return nil, err
	}
	conf := filepath.Join(d.dir, confDir, "smb.conf")
	if err := writeFile(conf, d.conf(), 0o644, 0); err != nil {
		return nil, err
	}
	ns, err := d.all.cfg.Networks.Namespace(ctx, d.rec.network())
	if err != nil {
		return nil, err
	}
	defer ns.Close()
	spec := d.jailed(d.all.cfg.Samba)
	spec.Name = string(d.id)
	spec.Args = []string{"--foreground", "--no-process-group", "--model=single", "--configfile=" + conf, "--log-basename=" + filepath.Join(d.dir, stateDir, "log")}
	spec.ReadOnly = append(spec.ReadOnly, filepath.Join(d.dir, tlsDir))
	spec.NetworkNamespace = ns
	spec.Allow = jail.Allow{Internet: true, Netlink: true}
	spec.Limits = jail.Limits{Memory: 1 << 30, OpenFiles: 4096}
	p, err := jail.Start(ctx, spec)
	if err != nil {
		return nil, err
	}
	c := watch(p)
	b, err := json.Marshal(p.Identity())
	if err == nil {
		err = writeFile(filepath.Join(d.dir, processFile), b, 0o600, 0)
	}
	if err != nil {
		c.end()
		return nil, err
	}
	return c, nil
}

// jailed is what Samba's programs are given: their libraries, a few files that say who root is, and the domain's own directories.
func (d *domain) jailed(program string) jail.Spec {
	s := jail.Spec{Program: program, UID: d.rec.UID, GID: d.rec.UID, Scratch: 16 << 20, Env: []string{"PATH=/usr/sbin:/usr/bin", "LANG=C.UTF-8"},
		ReadOnly: append(jail.SystemLibraries(), filepath.Join(d.dir, confDir)), Writable: []string{filepath.Join(d.dir, stateDir)}}
	for _, path := range []string{"/etc/passwd", "/etc/group", "/etc/nsswitch.conf", "/etc/services", "/etc/protocols", "/etc/gnutls", "/etc/localtime"} {
		if _, err := os.Stat(path); err == nil {
			s.ReadOnly = append(s.ReadOnly, path)
		}
	}
	return s
}

func (d *domain) hold(ctx context.Context) error {
	for _, a := range d.rec.Addresses {
		if err := d.all.cfg.Networks.Hold(ctx, d.rec.network(), a); err != nil {
			return fmt.Errorf("address %s: %w", a, err)
		}
	}
	return nil
}

// end kills a controller and waits for its end.
func (c *controller) end() {
	_ = c.process.Kill()
	<-c.ended
}

// stop ends the controller, in order when it listens.
func (d *domain) stop() {
	c := d.running.Load()
	if c == nil {
		return
	}
	_ = c.process.Signal(unix.SIGTERM)
	select {
	case <-c.ended:
	case <-time.After(5 * time.Second):
		c.end()
	}
	d.running.Store(nil)
}

// info says what exists; it asks the controller.
func (d *domain) info(ctx context.Context) driver.DomainInfo {
	out := driver.DomainInfo{DirectoryID: d.id, Stage: driver.DomainCreating}
	d.all.mu.Lock()
	made, addresses := d.made, d.rec.Addresses
	d.all.mu.Unlock()
	if !made {
		return out
	}
	out.Stage = driver.DomainImpaired
	if d.gone.Err() == nil && d.answers(ctx) == nil {
		out.Stage = driver.DomainActive
	}
	out.DNSAddresses = texts(addresses)
	return out
}

func texts(addresses []netip.Addr) []string {
	var out []string
	for _, a := range addresses {
		out = append(out, a.String())
	}
	return out
}
