package display_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/json"
	"io"
	"log"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"carrel/internal/clock"
	"carrel/internal/display"
	"carrel/internal/driver"
	"carrel/internal/driver/sim"
	"carrel/internal/rfb"
	"carrel/internal/ticket"
)

const desktop = "ws-000000001"

// claims are those of the only person here.
var claims = ticket.Claims{UserSID: "S-1-5-21-1-2-3-1103", UserName: "ada", Directory: "d-90670a1b2c", WorkspaceID: desktop,
	Binding: ticket.Binding{Session: sha256.Sum256([]byte("cookie")), Address: netip.MustParseAddr("127.0.0.1")}}

// serve runs a page server with the relay before screens. The test's end waits for all of it.
func serve(t *testing.T, screens driver.Screens, policy display.Policy) (url string) {
	t.Helper()
	tickets, err := ticket.NewOffice(ticket.Config{Now: time.Now, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	h := &display.Handler{Tickets: tickets, Screens: screens, Registry: &display.Registry{}, Clock: clock.System{}, Random: rand.Reader,
		Log:    slog.New(slog.NewTextHandler(t.Output(), nil)),
		Policy: func(context.Context, ticket.Claims) (display.Policy, error) { return policy, nil }}
	mux := http.NewServeMux()
	mux.Handle("/", http.FileServer(http.Dir("page")))
	mux.Handle("/novnc/", http.StripPrefix("/novnc/", http.FileServer(http.Dir("node_modules/@novnc/novnc"))))
	mux.HandleFunc("/channel.js", func(w http.ResponseWriter, r *http.Request) { http.ServeFile(w, r, "../../web/portal/channel.js") })
	mux.HandleFunc("POST /ticket", func(w http.ResponseWriter, _ *http.Request) {
		token, _, err := tickets.Issue(claims)
		if err != nil {
			t.Error(err)
		}
		_ = json.NewEncoder(w).Encode(map[string]string{"ticket": token})
	})
	mux.HandleFunc("/display", func(w http.ResponseWriter, r *http.Request) { h.Serve(w, r, claims.Binding) })
	// The portal's policy for its pages: noVNC must work with no inline script and no inline style.
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data: blob:; base-uri 'none'; frame-ancestors 'none'")
		mux.ServeHTTP(w, r)
	}))
	server.Config.ErrorLog = log.New(io.Discard, "", 0) // Chromium grumbles at the test's certificate.
	server.StartTLS()
	h.Origins = []string{server.URL}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		if err := h.Registry.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		server.Close()
	})
	return server.URL
}

// install puts noVNC and the browser's driver into node_modules, as the lock file says.
func install(t *testing.T) {
	t.Helper()
	need(t, map[string]string{"node": "nodejs", "npm": "npm", "chromium": "chromium"})
	if _, err := os.Stat("node_modules/@novnc/novnc/core/rfb.js"); err == nil {
		return
	}
	if out, err := exec.CommandContext(t.Context(), "npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund").CombinedOutput(); err != nil {
		t.Fatalf("npm ci: %v\n%s", err, out)
	}
}

// folder is where screenshots go: CARREL_SCREENSHOTS, or a folder that goes with the test.
func folder(t *testing.T) string {
	t.Helper()
	keep := os.Getenv("CARREL_SCREENSHOTS")
	if keep == "" {
		return t.TempDir()
	}
	dir, err := filepath.Abs(keep)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestAPersonUsesADesktopInTheBrowser(t *testing.T) {
	install(t)
	dir := t.TempDir()
	s, err := sim.Open(sim.Config{Dir: dir, Clock: clock.System{}, Random: rand.Reader})
	if err != nil {
		t.Fatal(err)
	}
	boot(t, s)
	url := serve(t, s.Display(), display.Policy{Title: "Ada's desktop", Clipboard: display.ClipboardBoth, Largest: rfb.Size{Width: 2560, Height: 1600}})
	shots := folder(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "node", "look.js", url, shots)
	cmd.WaitDelay = 10 * time.Second
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	_ = os.RemoveAll(filepath.Join(shots, "profile"))
	if err != nil {
		t.Fatalf("%v\n%s%s", err, out, stderr.String())
	}
	var saw struct {
		Opened struct {
			Title     string
			Clipboard string
		}
		Latency               float64
		Rectangles            map[string]int
		Continuous, Scancodes bool
		First                 string
		Second                *string
		Errors, Violations    []string
	}
	if err := json.Unmarshal(out, &saw); err != nil {
		t.Fatalf("%v in %s", err, out)
	}
	if saw.Opened.Title != "Ada's desktop" || saw.Opened.Clipboard != "both" || !saw.Continuous || !saw.Scancodes || saw.Latency <= 0 || saw.Rectangles["7"] == 0 {
		t.Errorf("%s", out)
	}
	if saw.First != string(display.ReasonTakenOver) || saw.Second != nil {
		t.Errorf("two windows: the first is told %q, the second %v", saw.First, saw.Second)
	}
	if len(saw.Errors) != 0 || len(saw.Violations) != 0 {
		t.Errorf("errors of the page: %q, against the content security policy: %q", saw.Errors, saw.Violations)
	}
	typed, err := os.ReadFile(filepath.Join(dir, "screens", desktop))
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"hello from the browser, z and y; {}|~", "pasted: gr"} {
		if !strings.Contains(string(typed), text) {
			t.Errorf("the desktop was not told %q: %s", text, typed)
		}
	}
	t.Logf("latency %v ms, rectangles %v", saw.Latency, saw.Rectangles)
}

func boot(t *testing.T, s *sim.Sim) {
	t.Helper()
	ctx := t.Context()
	for _, role := range []driver.VolumeRole{driver.RootVolume, driver.UserVolume} {
		if _, err := s.Volumes().Create(ctx, driver.VolumeSpec{ID: driver.VolumeOf(desktop, role), WorkspaceID: desktop, Role: role, GiB: 10}); err != nil {
			t.Fatal(err)
		}
	}
	nic := driver.NICSpec{InterfaceID: "eni-00000000000000001", WorkspaceID: desktop, VPC: "vpc-1", Address: "10.0.0.9", MAC: "02:00:00:00:00:01"}
	if _, err := s.Fabric().Attach(ctx, nic); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Hypervisor().Start(ctx, driver.MachineSpec{WorkspaceID: desktop, Root: driver.VolumeOf(desktop, driver.RootVolume),
		User: driver.VolumeOf(desktop, driver.UserVolume), Interface: nic.InterfaceID, ComputerName: "EC2-ADA01", UserName: "ada"}); err != nil {
		t.Fatal(err)
	}
}
