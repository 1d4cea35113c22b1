// Package app builds Carrel from its configuration: it is the only place where parts are wired together.
//
// It refuses to decide anything that a part should: it opens, connects, starts in order, and stops in the reverse one.
package app

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"

	"golang.org/x/sync/errgroup"

	"carrel/internal/config"
	"carrel/internal/operator"
	"carrel/internal/pki"
)

// Process is what the command gives: its version and where to write.
type Process struct {
	Version        string
	Stdout, Stderr io.Writer
}

// Serve runs all of Carrel until ctx ends, and returns nil after an orderly stop. conf is complete and valid.
// It writes "carrel: ready" to Stdout once both doors accept.
func Serve(ctx context.Context, conf *config.Config, p Process) error {
	if err := prepareDir(conf.State.Dir); err != nil {
		return err
	}
	// The doors listen first of all, so that a port that is taken is found before anything is made; nobody is answered yet.
	l, err := listen(conf)
	if err != nil {
		return err
	}
	defer l.close()
	h, err := open(ctx, conf, pki.Subject{Names: l.names(), CRL: l.crlURL()}, p)
	if err != nil {
		return err
	}
	defer h.close()
	return h.run(ctx, l, p)
}

// listeners are the sockets of the doors.
type listeners struct {
	conf         *config.Config
	api, portal  net.Listener
	metrics, ops net.Listener
}

func listen(conf *config.Config) (l *listeners, err error) {
	l = &listeners{conf: conf}
	// l itself is nil by the time an error is returned.
	defer func(opened *listeners) {
		if err != nil {
			opened.close()
		}
	}(l)
	if l.api, err = net.Listen("tcp", conf.API.Address); err != nil {
		return nil, fmt.Errorf("API door: %w (choose another with --api-addr)", err)
	}
	if l.portal, err = net.Listen("tcp", conf.Portal.Address); err != nil {
		return nil, fmt.Errorf("portal door: %w (choose another with --portal-addr)", err)
	}
	return l, nil
}

// listenInside opens the two listeners that only the owner of the state directory may open: the caller holds the directory's lock.
func (l *listeners) listenInside(log *slog.Logger) (err error) {
	if l.ops, err = operator.Listen(l.conf.State.Dir); err != nil {
		return err
	}
	if l.conf.Metrics.Address == config.MetricsOff {
		return nil
	}
	if l.metrics, err = net.Listen("tcp", l.conf.Metrics.Address); err != nil {
		// Two installations on one machine are ordinary in tests; the default address is the first one's.
		log.Warn("metrics are not served", "error", err, "remedy", "set metrics.address in the configuration file")
	}
	return nil
}

func (l *listeners) close() {
	for _, c := range []net.Listener{l.api, l.portal, l.metrics, l.ops} {
		if c != nil {
			_ = c.Close()
		}
	}
}

// names are the DNS names and addresses that certificates must hold.
func (l *listeners) names() []string {
	names := []string{"localhost", "127.0.0.1", "::1"}
	for _, a := range []net.Listener{l.api, l.portal} {
		if host, _, err := net.SplitHostPort(a.Addr().String()); err == nil && !net.ParseIP(host).IsUnspecified() {
			names = append(names, host)
		}
	}
	return append(names, l.conf.API.Names...)
}

// run starts every part, says so, and stops the doors before what stands behind them.
func (h *house) run(ctx context.Context, l *listeners, p Process) error {
	if err := l.listenInside(h.log); err != nil {
		return err
	}
	// Behind the doors: these go on while the doors finish their last requests.
	behind, stopBehind := context.WithCancel(context.WithoutCancel(ctx))
	defer stopBehind()
	back, backCtx := errgroup.WithContext(behind)
	back.Go(func() error { return h.db.Run(backCtx) })
	// A part behind that fails takes the doors down: Carrel does not serve what it cannot carry out.
	doorsCtx, stopDoors := context.WithCancel(ctx)
	defer stopDoors()
	context.AfterFunc(backCtx, stopDoors)
	front, frontCtx := errgroup.WithContext(doorsCtx)
	err := h.start(doorsCtx, l, p, parts{
		behind: func(run func(context.Context) error) { back.Go(func() error { return run(backCtx) }) },
		door:   func(run func(context.Context) error) { front.Go(func() error { return run(frontCtx) }) },
	})
	if err != nil {
		stopDoors()
	}
	err = errors.Join(err, front.Wait())
	stopBehind()
	if err := errors.Join(err, back.Wait()); err != nil && !onlyCanceled(err, ctx) {
		return err
	}
	h.log.Info("stopped")
	return nil
}

// parts start a part of the house: behind the doors, or as a door.
type parts struct {
	behind, door func(run func(context.Context) error)
}

// start starts everything in order, and says that all is ready.
func (h *house) start(ctx context.Context, l *listeners, p Process, run parts) error {
	if err := h.initialise(ctx); err != nil {
		return err
	}
	for _, part := range h.background() {
		run.behind(part)
	}
	doors, err := h.doors(l, p)
	if err != nil {
		return err
	}
	for _, door := range doors {
		run.door(door)
	}
	return h.announce(ctx, l, p)
}

// onlyCanceled tells that err is nothing but the end that ctx asked for.
func onlyCanceled(err error, ctx context.Context) bool {
	return ctx.Err() != nil && errors.Is(err, context.Canceled)
}

// announce waits until the state is followed, writes the clients' files and says that all is ready.
func (h *house) announce(ctx context.Context, l *listeners, p Process) error {
	if err := h.writeClientFiles(l); err != nil {
		return err
	}
	if err := h.ready(); err != nil {
		return err
	}
	h.log.Info("ready", "api", l.apiURL(), "portal", l.portalURL(), "account", h.installation.AccountID, "region", h.installation.Region, "simulated", h.installation.Simulated)
	_, err := io.WriteString(p.Stdout, "carrel: ready\n")
	return err
}

// prepareDir makes the state directory, and refuses one that others can look into: it holds keys.
func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	info, err := os.Stat(dir)
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	if !info.IsDir() {
		return fmt.Errorf("state directory: %s is not a directory", dir)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		entries, err := os.ReadDir(dir)
		if err != nil {
			return fmt.Errorf("state directory: %w", err)
		}
		if len(entries) > 0 {
			return fmt.Errorf("state directory %s has mode %04o, so others can read its keys: run chmod 700 %s", dir, mode, dir)
		}
		if err := os.Chmod(dir, 0o700); err != nil {
			return fmt.Errorf("state directory: %w", err)
		}
	}
	return checkForeign(dir)
}

// ours are the names that Carrel makes in a state directory.
var ours = map[string]bool{"etcd": true, "pki": true, "aws": true, "audit": true, "evidence": true, "sim": true, "passwords": true, imagesDir: true, hostSocket: true, "carrel.yaml": true, sealKey: true, "ca.pem": true, "operator.sock": true}

// checkForeign refuses a directory that is somebody else's: --state / would otherwise be filled with our files.
func checkForeign(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("state directory: %w", err)
	}
	known := 0
	var foreign []string
	for _, e := range entries {
		if e.Name() == "lost+found" {
			// What mkfs puts into a file system that is mounted for us.
			continue
		}
		if ours[e.Name()] {
			known++
		} else {
			foreign = append(foreign, e.Name())
		}
	}
	if known == 0 && len(foreign) > 0 {
		return fmt.Errorf("%s is not a Carrel state directory: it is not empty and holds %s; nothing was changed, give an empty or new directory with --state", filepath.Clean(dir), foreign[0])
	}
	return nil
}

func newLog(conf config.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	_ = level.UnmarshalText([]byte(conf.Level)) // Validate has checked it.
	opts := &slog.HandlerOptions{Level: level}
	if conf.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, opts))
	}
	return slog.New(slog.NewTextHandler(w, opts))
}

var random io.Reader = rand.Reader
