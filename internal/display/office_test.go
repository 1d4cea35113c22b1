package display_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"image"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"carrel/internal/clock"
	"carrel/internal/display"
	"carrel/internal/driver"
	"carrel/internal/driver/sim"
	"carrel/internal/ident"
	"carrel/internal/rfb"
	"carrel/internal/rfb/rfbtest"
	"carrel/internal/ticket"

	"github.com/coder/websocket"
)

const (
	desktop = ident.WorkspaceID("ws-000000001")
	origin  = "https://desk.example.com"
)

// frozen is a clock that stands still, so that pictures of one desktop can be compared.
type frozen struct{}

func (frozen) Now() time.Time { return time.Date(2026, 11, 25, 9, 30, 0, 0, time.UTC) }
func (frozen) After(time.Duration) (<-chan time.Time, func()) {
	return make(chan time.Time), func() {}
}

// office is a handler with everything around it: a simulated desktop behind it and a server before it.
type office struct {
	*display.Handler
	sim *sim.Sim
	dir string
	url string
	log lines

	mu      sync.Mutex
	policy  display.Policy
	refuse  error
	acts    []display.Act
	changes []string
	from    ticket.Binding
}

// lines is a log that may be written from anywhere.
type lines struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

func ada() ticket.Claims {
	return ticket.Claims{UserSID: "S-1-5-21-1-2-3-1103", UserName: "ada", Directory: "d-90670a1b2c", WorkspaceID: desktop,
		Binding: ticket.Binding{Session: sha256.Sum256([]byte("cookie")), Address: netip.MustParseAddr("127.0.0.1")}}
}

func newOffice(t testing.TB, policy display.Policy) *office {
	t.Helper()
	dir := t.TempDir()
	s, err := sim.Open(sim.Config{Dir: dir, Clock: frozen{}, Random: rand.Reader, Times: sim.Times{Remove: time.Nanosecond}})
	if err != nil {
		t.Fatal(err)
	}
	boot(t, s, desktop)
	tickets, err := ticket.NewOffice(ticket.Config{Now: time.Now, Random: rand.Reader, PerUser: 10_000})
	if err != nil {
		t.Fatal(err)
	}
	o := &office{sim: s, dir: dir, policy: policy, from: ada().Binding}
	o.Handler = &display.Handler{Tickets: tickets, Screens: s.Display(), Registry: &display.Registry{}, Origins: []string{"https://other.example.com", origin},
		Clock: clock.System{}, Random: rand.Reader, Log: slog.New(slog.NewTextHandler(&o.log, nil)),
		Policy: func(context.Context, ticket.Claims) (display.Policy, error) {
			o.mu.Lock()
			defer o.mu.Unlock()
			p := o.policy
			p.Audit = o.audit
			return p, o.refuse
		},
		Connected:    func(i display.Info) { o.change("connected " + i.UserName) },
		Disconnected: func(i display.Info, why display.Reason) { o.change("disconnected " + i.UserName + " " + string(why)) },
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { o.Serve(w, r, o.place()) }))
	o.url = server.URL
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := o.Registry.Shutdown(ctx); err != nil {
			t.Errorf("sessions are left: %v", err)
		}
		server.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return o
}

func boot(t testing.TB, s *sim.Sim, id ident.WorkspaceID) {
	t.Helper()
	ctx := t.Context()
	for _, role := range []driver.VolumeRole{driver.RootVolume, driver.UserVolume} {
		if _, err := s.Volumes().Create(ctx, driver.VolumeSpec{ID: driver.VolumeOf(id, role), WorkspaceID: id, Role: role, GiB: 10}); err != nil {
			t.Fatal(err)
		}
	}
	nic := driver.NICSpec{InterfaceID: ident.InterfaceID("eni-" + string(id)), WorkspaceID: id, VPC: "vpc-1", Address: "10.0.0." + string(id[len(id)-1:]), MAC: "02:00:00:00:00:01"}
	if _, err := s.Fabric().Attach(ctx, nic); err != nil {
		t.Fatal(err)
	}
	spec := driver.MachineSpec{WorkspaceID: id, Root: driver.VolumeOf(id, driver.RootVolume), User: driver.VolumeOf(id, driver.UserVolume), Interface: nic.InterfaceID,
		ComputerName: "EC2-ADA01", UserName: "ada"}
	if _, err := s.Hypervisor().Start(ctx, spec); err != nil {
		t.Fatal(err)
	}
}

func (o *office) audit(a display.Act) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.acts = append(o.acts, a)
}

func (o *office) change(what string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.changes = append(o.changes, what)
}

func (o *office) changed() []string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return append([]string(nil), o.changes...)
}

func (o *office) place() ticket.Binding {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.from
}

// typed waits until a text stands on the desktop.
func (o *office) typed(t testing.TB, text string) {
	t.Helper()
	if err := waitFor(t, func() bool {
		data, err := os.ReadFile(filepath.Join(o.dir, "screens", string(desktop)))
		return err == nil && bytes.Contains(data, []byte(text))
	}); err != nil {
		t.Fatalf("%q does not arrive", text)
	}
}

// acted gives the acts of a kind.
func (o *office) acted(kind display.ActKind) []display.Act {
	o.mu.Lock()
	defer o.mu.Unlock()
	var out []display.Act
	for _, a := range o.acts {
		if a.Kind == kind {
			out = append(out, a)
		}
	}
	return out
}

func (o *office) ticket(t testing.TB, c ticket.Claims) string {
	t.Helper()
	token, _, err := o.Tickets.Issue(c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// page is a browser's page: the WebSocket, what it was told in text, and a viewer on it.
type page struct {
	*rfbtest.Viewer
	ws    *websocket.Conn
	ctx   context.Context
	rest  []byte
	notes []map[string]any
	// pause, when set, is what every read waits for.
	pause chan struct{}
}

func (p *page) Read(b []byte) (int, error) {
	for len(p.rest) == 0 {
		if p.pause != nil {
			<-p.pause
		}
		kind, data, err := p.ws.Read(p.ctx)
		if err != nil {
			return 0, err
		}
		if kind == websocket.MessageText {
			var note map[string]any
			if err := json.Unmarshal(data, &note); err != nil {
				return 0, err
			}
			p.notes = append(p.notes, note)
			continue
		}
		p.rest = data
	}
	n := copy(b, p.rest)
	p.rest = p.rest[n:]
	return n, nil
}

func (p *page) Write(b []byte) (int, error) {
	return len(b), p.ws.Write(p.ctx, websocket.MessageBinary, b)
}

// dial opens a WebSocket the way a browser on the portal's page does.
func (o *office) dial(t testing.TB, header http.Header, protocols ...string) (*page, *http.Response, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	ws, res, err := websocket.Dial(ctx, o.url, &websocket.DialOptions{HTTPHeader: header, Subprotocols: protocols, CompressionMode: websocket.CompressionContextTakeover})
	if err != nil {
		return nil, res, err
	}
	t.Cleanup(func() { _ = ws.CloseNow() })
	ws.SetReadLimit(1 << 20)
	return &page{ws: ws, ctx: ctx}, res, nil
}

// open dials and presents a ticket.
func (o *office) open(t testing.TB, c ticket.Claims) *page {
	t.Helper()
	p, _, err := o.dial(t, http.Header{"Origin": {origin}}, display.Protocol)
	if err != nil {
		t.Fatal(err)
	}
	p.present(t, o.ticket(t, c))
	return p
}

func (p *page) present(t testing.TB, token string) {
	t.Helper()
	if err := p.ws.Write(p.ctx, websocket.MessageText, []byte(`{"ticket":"`+token+`"}`)); err != nil {
		t.Fatal(err)
	}
}

// look opens a session and shakes hands.
func (o *office) look(t testing.TB, encodings []rfb.Encoding) *page {
	t.Helper()
	p := o.open(t, ada())
	p.connect(t, encodings)
	return p
}

func (p *page) connect(t testing.TB, encodings []rfb.Encoding) {
	t.Helper()
	v, err := rfbtest.Connect(p, encodings)
	if err != nil {
		t.Fatal(err)
	}
	p.Viewer = v
}

func (p *page) until(t testing.TB, wanted func() bool) {
	t.Helper()
	for !wanted() {
		if _, err := p.Next(); err != nil {
			t.Fatal(err)
		}
	}
}

// end reads until the session is closed and gives the reason.
func (p *page) end(t testing.TB) display.Reason {
	t.Helper()
	for {
		var err error
		if p.Viewer == nil {
			_, err = p.Read(make([]byte, 4096))
		} else {
			_, err = p.Next()
		}
		var closed websocket.CloseError
		switch {
		case errors.As(err, &closed):
			if closed.Code != display.CloseCode {
				t.Errorf("closed with status %d", closed.Code)
			}
			return display.Reason(closed.Reason)
		case err != nil:
			t.Fatalf("ended without a farewell: %v", err)
		}
	}
}

func manyTickets(t testing.TB) *ticket.Office {
	t.Helper()
	o, err := ticket.NewOffice(ticket.Config{Now: time.Now, Random: rand.Reader, PerUser: 100_000})
	if err != nil {
		t.Fatal(err)
	}
	return o
}

func pt(x, y int) image.Point { return image.Pt(x, y) }
