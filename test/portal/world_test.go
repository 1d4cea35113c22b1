// Package portal drives the portal's pages in a real browser: headless Chromium against the real gateway, the real relay and simulated
// desktops. The scenarios are in walk.mjs; this side gives them a world to walk in, and levers to shake it with.
package portal

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"carrel/internal/clock"
	"carrel/internal/directory"
	"carrel/internal/display"
	"carrel/internal/driver"
	"carrel/internal/driver/sim"
	"carrel/internal/gateway"
	"carrel/internal/ident"
	"carrel/internal/rfb"
	"carrel/internal/rfb/rfbtest"
	"carrel/internal/ticket"
	"carrel/internal/webui"
)

const (
	corp = ident.DirectoryID("d-90670a1b2c")
	// code is the directory's registration code.
	code = "WSCORP+7F3K2A"
)

// world is a portal with everything behind it.
type world struct {
	server   *httptest.Server
	gateway  *gateway.Gateway
	registry *display.Registry
	sim      *sim.Sim
	dir      string
	line     *line
	log      *os.File
	work     sync.WaitGroup

	mu       sync.Mutex
	down     bool // the directory does not answer
	refused  bool // a rule forbids every desktop
	clip     display.Clipboard
	deaf     bool // desktops have real guests, in which nobody listens
	password map[string]string
	change   map[string]bool
	desks    []*desk
	// slow is how long a desktop takes to start.
	slow time.Duration
}

// desk is one desktop of somebody.
type desk struct {
	gateway.Desktop
	owner  string
	booted bool
}

func newWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{dir: dir, registry: &display.Registry{}, clip: display.ClipboardBoth, slow: 900 * time.Millisecond,
		password: map[string]string{"ada": "Lovelace-1815", "grace": "Hopper-1906", "linus": "old-Passw0rd", "mary": "Somerville-1780"},
		change:   map[string]bool{"linus": true}}
	var err error
	if w.log, err = os.Create(filepath.Join(dir, "log")); err != nil {
		t.Fatal(err)
	}
	if w.sim, err = sim.Open(sim.Config{Dir: filepath.Join(dir, "sim"), Clock: clock.System{}, Random: rand.Reader}); err != nil {
		t.Fatal(err)
	}
	w.furnish(t)
	tickets, err := ticket.NewOffice(ticket.Config{Now: time.Now, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.line = &line{Listener: listener, open: map[net.Conn]bool{}}
	log := slog.New(slog.NewTextHandler(w.log, nil))
	screens := &display.Handler{Tickets: tickets, Screens: w.sim.Display(), Registry: w.registry, Policy: w.policy, Clock: clock.System{}, Random: rand.Reader, Log: log,
		Origins: []string{"https://" + listener.Addr().String()}}
	deaf := *screens
	deaf.Sessions = nobody{}
	screen := func(out http.ResponseWriter, r *http.Request, from ticket.Binding) {
		w.mu.Lock()
		now := screens
		if w.deaf {
			now = &deaf
		}
		w.mu.Unlock()
		now.Serve(out, r, from)
	}
	w.gateway = &gateway.Gateway{Ready: func() error { return nil }, CRL: func(time.Time) ([]byte, error) { return nil, errors.New("none") }, Pages: webui.Pages(), Clock: clock.System{},
		Directories: func(given string) (ident.DirectoryID, bool) { return corp, given == code }, Auth: w, Passwords: w, Desktops: w, Tickets: tickets, Random: rand.Reader, Log: log,
		Screen: screen,
		Cut:    func(session [32]byte) { w.registry.Cut(display.Match{Session: session}, display.ReasonSignedOut) }}
	w.server = httptest.NewUnstartedServer(w.gateway.Handler())
	_ = w.server.Listener.Close()
	w.server.Listener = w.line
	w.server.Config.ErrorLog = slog.NewLogLogger(log.Handler(), slog.LevelDebug)
	w.server.EnableHTTP2 = true // As the real door.
	w.server.StartTLS()
	t.Cleanup(func() { w.close(t) })
	return w
}

// nobody are sessions in which nobody speaks.
type nobody struct{}

func (nobody) Session(context.Context, ident.WorkspaceID) (net.Conn, error) {
	return nil, driver.ErrUnavailable
}

func (w *world) close(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := w.registry.Shutdown(ctx); err != nil {
		t.Errorf("sessions are left: %v", err)
	}
	w.line.drop()
	w.server.Close()
	w.work.Wait()
	if err := errors.Join(w.sim.Close(), w.log.Close()); err != nil {
		t.Error(err)
	}
}

// furnish gives ada a running desktop, grace a stopped one, linus none and mary one in many states.
func (w *world) furnish(t *testing.T) {
	w.desks = []*desk{
		{owner: "ada", Desktop: gateway.Desktop{ID: "ws-000000001", Name: "Ada's desktop", ComputerName: "CORP-ADA01", Bundle: "Standard with Debian", State: "AVAILABLE", CanRestart: true}},
		{owner: "grace", Desktop: gateway.Desktop{ID: "ws-000000002", Name: "Compiler desk", ComputerName: "CORP-GRACE1", Bundle: "Power with Debian", State: "STOPPED"}},
		{owner: "mary", Desktop: gateway.Desktop{ID: "ws-000000011", Name: "Astronomy", ComputerName: "CORP-MARY01", Bundle: "Performance with Debian", State: "AVAILABLE", CanRestart: true}},
		{owner: "mary", Desktop: gateway.Desktop{ID: "ws-000000012", Name: "Mechanics of the heavens", ComputerName: "CORP-MARY02", Bundle: "Standard with Debian", State: "STOPPED"}},
		{owner: "mary", Desktop: gateway.Desktop{ID: "ws-000000013", Name: "New desk", Bundle: "Standard with Debian", State: "PENDING"}},
		{owner: "mary", Desktop: gateway.Desktop{ID: "ws-000000014", Name: "Old desk", ComputerName: "CORP-MARY03", Bundle: "Value with Debian", State: "UNHEALTHY", CanRestart: true}},
		{owner: "mary", Desktop: gateway.Desktop{ID: "ws-000000015", Name: "Laboratory <b>&amp;", ComputerName: "CORP-MARY04", State: "ERROR", Detail: "There is no room on any host for this desktop. <script>alert(1)</script>"}},
	}
	for _, d := range w.desks {
		if d.State == "AVAILABLE" {
			if err := w.boot(t.Context(), d); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// boot starts a desktop's machine, making it the first time.
func (w *world) boot(ctx context.Context, d *desk) error {
	nic := driver.NICSpec{InterfaceID: ident.InterfaceID("eni-" + string(d.ID)), WorkspaceID: d.ID, VPC: "vpc-1", Address: "10.0.0." + string(d.ID[len(d.ID)-2:]), MAC: "02:00:00:00:00:01"}
	if !d.booted {
		for _, role := range []driver.VolumeRole{driver.RootVolume, driver.UserVolume} {
			if _, err := w.sim.Volumes().Create(ctx, driver.VolumeSpec{ID: driver.VolumeOf(d.ID, role), WorkspaceID: d.ID, Role: role, GiB: 10}); err != nil {
				return err
			}
		}
		nic.Address = fmt.Sprintf("10.0.0.%d", 10+slices.Index(w.desks, d))
		if _, err := w.sim.Fabric().Attach(ctx, nic); err != nil {
			return err
		}
		d.booted = true
	}
	_, err := w.sim.Hypervisor().Start(ctx, driver.MachineSpec{WorkspaceID: d.ID, Root: driver.VolumeOf(d.ID, driver.RootVolume), User: driver.VolumeOf(d.ID, driver.UserVolume),
		Interface: nic.InterfaceID, ComputerName: d.ComputerName, UserName: d.owner})
	return err
}

// policy is what a session may do.
func (w *world) policy(_ context.Context, c ticket.Claims) (display.Policy, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.refused {
		return display.Policy{}, errors.New("a rule says no")
	}
	i := slices.IndexFunc(w.desks, func(d *desk) bool { return d.ID == c.WorkspaceID })
	return display.Policy{Title: w.desks[i].Name, Clipboard: w.clip}, nil
}

// Authenticate is the directory.
func (w *world) Authenticate(_ context.Context, id ident.DirectoryID, name string, pw directory.Password) (directory.User, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch want, known := w.password[name]; {
	case w.down:
		return directory.User{}, fmt.Errorf("bind: %w", directory.ErrUnavailable)
	case id != corp || !known || pw.Reveal() != want:
		return directory.User{}, &directory.LoginError{Reason: directory.ReasonWrong}
	case w.change[name]:
		return directory.User{}, &directory.LoginError{Reason: directory.ReasonMustChange}
	}
	full := map[string]string{"ada": "Ada Lovelace", "grace": "Grace Hopper", "linus": "Linus Pauling", "mary": "Mary Somerville"}
	return directory.User{Name: name, SID: "S-1-5-21-1-2-3-" + name, DisplayName: full[name], Enabled: true}, nil
}

// ChangePassword takes passwords of ten letters and more.
func (w *world) ChangePassword(_ context.Context, _ ident.DirectoryID, name string, old, next directory.Password) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if old.Reveal() != w.password[name] {
		return &directory.LoginError{Reason: directory.ReasonWrong}
	}
	if len(next.Reveal()) < 10 {
		return fmt.Errorf("change: %w", directory.ErrWeakPassword)
	}
	w.password[name] = next.Reveal()
	delete(w.change, name)
	return nil
}

// List and the others are the desktops.
func (w *world) List(_ context.Context, s *gateway.Session) ([]gateway.Desktop, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	var out []gateway.Desktop
	for _, d := range w.desks {
		if d.owner == s.User.Name {
			out = append(out, d.shown())
		}
	}
	return out, nil
}

func (d *desk) shown() gateway.Desktop {
	out := d.Desktop
	out.CanConnect, out.CanStart = d.State == "AVAILABLE", d.State == "STOPPED"
	return out
}

func (w *world) find(s *gateway.Session, id ident.WorkspaceID) (*desk, error) {
	for _, d := range w.desks {
		if d.ID == id && (s == nil || d.owner == s.User.Name) {
			return d, nil
		}
	}
	return nil, gateway.ErrNoDesktop
}

func (w *world) Get(_ context.Context, s *gateway.Session, id ident.WorkspaceID) (gateway.Desktop, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, err := w.find(s, id)
	if err != nil {
		return gateway.Desktop{}, err
	}
	return d.shown(), nil
}

func (w *world) Start(_ context.Context, s *gateway.Session, id ident.WorkspaceID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, err := w.find(s, id)
	if err != nil {
		return err
	}
	if d.State != "STOPPED" {
		return gateway.ErrNotNow
	}
	d.State = "STARTING"
	w.later(w.slow, func() error { return w.boot(context.Background(), d) }, d, "AVAILABLE")
	return nil
}

func (w *world) Restart(_ context.Context, s *gateway.Session, id ident.WorkspaceID) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	d, err := w.find(s, id)
	if err != nil {
		return err
	}
	if !d.CanRestart {
		return gateway.ErrNotAllowed
	}
	d.State = "REBOOTING"
	w.later(w.slow, func() error { return nil }, d, "AVAILABLE")
	return nil
}

// later does something to a desktop's machine and gives it another state then.
func (w *world) later(wait time.Duration, do func() error, d *desk, state string) {
	w.work.Go(func() {
		time.Sleep(wait)
		err := do()
		w.mu.Lock()
		defer w.mu.Unlock()
		d.State = state
		if err != nil {
			d.State, d.Detail = "ERROR", err.Error()
		}
	})
}

// stop saves and stops a desktop, the way an administrator does.
func (w *world) stop(id ident.WorkspaceID) error {
	w.mu.Lock()
	d, err := w.find(nil, id)
	if err == nil {
		d.State = "STOPPING"
	}
	w.mu.Unlock()
	if err != nil {
		return err
	}
	w.registry.Cut(display.Match{WorkspaceID: id}, display.ReasonStopping)
	w.later(300*time.Millisecond, func() error { _, err := w.sim.Hypervisor().Stop(context.Background(), id); return err }, d, "STOPPED")
	return nil
}

// screen gives what is on a desktop's terminal, its clipboard and its size. The simulation may be writing it: half of it is nothing yet.
func (w *world) screen(id ident.WorkspaceID) (json.RawMessage, error) {
	data, err := os.ReadFile(filepath.Join(w.dir, "sim", "screens", string(id)))
	if errors.Is(err, os.ErrNotExist) || err == nil && !json.Valid(data) {
		return json.RawMessage(`{"Size":{},"Terminal":{"Line":""}}`), nil
	}
	return data, err
}

// copied puts a text on a desktop's clipboard, as a program there does.
func (w *world) copied(ctx context.Context, id ident.WorkspaceID, text string) error {
	conn, err := w.sim.Display().Connect(ctx, id)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	v, err := rfbtest.Connect(conn, []rfb.Encoding{rfb.Raw, rfb.PseudoDesktopSize})
	if err != nil {
		return err
	}
	go func() {
		for err := error(nil); err == nil; {
			_, err = v.Next()
		}
	}()
	if err := v.Send(rfb.AppendClientClip(nil, rfb.Clip{Action: rfb.ClipPlain, HasText: true, Text: []byte(text)})); err != nil {
		return err
	}
	// The simulation has taken it when it is in its file.
	for ctx.Err() == nil {
		var d struct{ Clipboard string }
		if data, err := w.screen(id); err == nil && json.Unmarshal(data, &d) == nil && d.Clipboard == text {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return ctx.Err()
}

// levers is a plain server on loopback with which the scenarios shake the world.
func (w *world) levers(t *testing.T) string {
	lever := func(fn func(r *http.Request) (any, error)) http.HandlerFunc {
		return func(out http.ResponseWriter, r *http.Request) {
			v, err := fn(r)
			if err != nil {
				http.Error(out, err.Error(), http.StatusInternalServerError)
				return
			}
			_ = json.NewEncoder(out).Encode(v)
		}
	}
	set := func(fn func(on string)) http.HandlerFunc {
		return lever(func(r *http.Request) (any, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			fn(r.FormValue("to"))
			return true, nil
		})
	}
	id := func(r *http.Request) ident.WorkspaceID { return ident.WorkspaceID(r.FormValue("id")) }
	mux := http.NewServeMux()
	mux.HandleFunc("/drop", lever(func(*http.Request) (any, error) { return w.line.drop(), nil }))
	mux.HandleFunc("/cable", lever(func(r *http.Request) (any, error) { w.line.cut(r.FormValue("to") == "out"); return true, nil }))
	mux.HandleFunc("/stop", lever(func(r *http.Request) (any, error) { return true, w.stop(id(r)) }))
	mux.HandleFunc("/end-sessions", lever(func(r *http.Request) (any, error) { return w.gateway.EndSessions(corp, r.FormValue("sid")), nil }))
	mux.HandleFunc("/cut", lever(func(r *http.Request) (any, error) {
		return w.registry.Cut(display.Match{WorkspaceID: id(r)}, display.Reason(r.FormValue("why"))), nil
	}))
	mux.HandleFunc("/screen", lever(func(r *http.Request) (any, error) { return w.screen(id(r)) }))
	mux.HandleFunc("/copy", lever(func(r *http.Request) (any, error) { return true, w.copied(r.Context(), id(r), r.FormValue("text")) }))
	mux.HandleFunc("/live", lever(func(*http.Request) (any, error) { return len(w.registry.List(display.Match{})), nil }))
	mux.HandleFunc("/size", lever(func(r *http.Request) (any, error) {
		for _, i := range w.registry.List(display.Match{WorkspaceID: id(r)}) {
			return i.Screen, nil
		}
		return rfb.Size{}, nil
	}))
	mux.HandleFunc("/directory", set(func(to string) { w.down = to == "down" }))
	mux.HandleFunc("/rule", set(func(to string) { w.refused = to == "no" }))
	mux.HandleFunc("/deaf", set(func(to string) { w.deaf = to == "yes" }))
	mux.HandleFunc("/clipboard", set(func(to string) { w.clip = display.Clipboard(to) }))
	mux.HandleFunc("/log", lever(func(*http.Request) (any, error) { b, err := os.ReadFile(w.log.Name()); return string(b), err }))
	server := httptest.NewServer(mux)
	t.Cleanup(server.Close)
	return server.URL
}

// line is a listener whose connections can be broken, and which can be dead for a while.
type line struct {
	net.Listener
	mu   sync.Mutex
	open map[net.Conn]bool
	dead bool
}

func (l *line) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		l.mu.Lock()
		dead := l.dead
		if !dead {
			l.open[c] = true
		}
		l.mu.Unlock()
		if dead {
			_ = c.Close()
			continue
		}
		return &held{c, l}, nil
	}
}

func (l *line) drop() int {
	l.mu.Lock()
	defer l.mu.Unlock()
	n := len(l.open)
	for c := range l.open {
		_ = c.Close()
	}
	clear(l.open)
	return n
}

func (l *line) cut(out bool) {
	l.mu.Lock()
	l.dead = out
	l.mu.Unlock()
	if out {
		l.drop()
	}
}

type held struct {
	net.Conn
	line *line
}

func (h *held) Close() error {
	h.line.mu.Lock()
	delete(h.line.open, h.Conn)
	h.line.mu.Unlock()
	return h.Conn.Close()
}
