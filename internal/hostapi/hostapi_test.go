package hostapi

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"syscall"
	"testing"

	"carrel/internal/clock"
	"carrel/internal/directory"
	"carrel/internal/driver"
	"carrel/internal/driver/drivertest"
	"carrel/internal/driver/sim"
	"carrel/internal/ident"
)

// serve runs a host role and gives a client of it.
func serve(t *testing.T, h *Host) *Client {
	t.Helper()
	dir, err := os.MkdirTemp("", "hostapi")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "s")
	l, err := Listen(path, uint32(os.Getuid()))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h.Handler()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	c := NewClient(Dial(path))
	t.Cleanup(func() {
		c.Close()
		_ = s.Close()
		<-done
	})
	return c
}

// The contracts hold through the wire as they do without it.
func TestConformance(t *testing.T) {
	drivertest.Run(t, func(t *testing.T) drivertest.Set {
		dir := t.TempDir()
		var current *sim.Sim
		t.Cleanup(func() { _ = current.Close() })
		var set func(*testing.T) drivertest.Set
		set = func(t *testing.T) drivertest.Set {
			if current != nil {
				_ = current.Close()
			}
			var err error
			current, err = sim.Open(sim.Config{Dir: dir, Clock: clock.System{}, Random: rand.Reader, Times: sim.Times{Start: 1}})
			if err != nil {
				t.Fatal(err)
			}
			c := serve(t, &Host{Hypervisor: current.Hypervisor(), Volumes: current.Volumes(), Fabric: current.Fabric(), Display: current.Display(), Domain: current.Domain()})
			return drivertest.Set{Hypervisor: c.Hypervisor(), Volumes: c.Volumes(), Fabric: c.Fabric(), Display: c.Display(), Domain: c.Domain(), Image: "wsi-000000001", Reopen: set}
		}
		return set(t)
	})
}

func TestErrorsKeepTheirIdentity(t *testing.T) {
	for name, kind := range kinds {
		if got := decodeError(encodeError(fmt.Errorf("start ws-000000001: %w", kind))); !errors.Is(got, kind) || got.Error() != "start ws-000000001: "+kind.Error() {
			t.Errorf("%s: %v", name, got)
		}
	}
	p := driver.AsPermanent(decodeError(encodeError(fmt.Errorf("create: %w", driver.Permanent("ImageUnusable", errors.New("cut off"))))))
	if p == nil || p.Code != "ImageUnusable" || p.Err.Error() != "cut off" {
		t.Errorf("%v", p)
	}
	full := &os.PathError{Op: "write", Path: "/x", Err: syscall.ENOSPC}
	if got := decodeError(encodeError(fmt.Errorf("save: %w: %w", driver.ErrUnavailable, full))); !driver.OutOfSpace(got) {
		t.Errorf("a full file system: %v", got)
	}
	var login *directory.LoginError
	if got := decodeError(encodeError(&directory.LoginError{Reason: directory.ReasonLocked})); !errors.As(got, &login) || login.Reason != directory.ReasonLocked {
		t.Errorf("%v", got)
	}
	if got := decodeError(&failure{Kind: "newer"}); !errors.Is(got, driver.ErrUnavailable) {
		t.Errorf("a kind of another version: %v", got)
	}
}

// manager is a directory.Manager that keeps what it was given.
type manager struct {
	directory.Manager
	password directory.Password
	user     directory.NewUser
}

func (m *manager) CreateUser(_ context.Context, _ ident.DirectoryID, u directory.NewUser) (directory.User, error) {
	m.user = u
	return directory.User{Name: u.Name, SID: "S-1-5-21-1"}, nil
}

func (m *manager) SetPassword(_ context.Context, _ ident.DirectoryID, _ string, p directory.Password) error {
	m.password = p
	return fmt.Errorf("set: %w", directory.ErrWeakPassword)
}

func TestUsersAndPasswordsArriveWhole(t *testing.T) {
	m := &manager{}
	c := serve(t, &Host{Users: m})
	want := directory.NewUser{Name: "ada", GivenName: "Ada", Surname: "Lovelace", Email: "ada@example.com", Attributes: map[string]string{"title": "Countess"}}
	u, err := c.Users().CreateUser(t.Context(), "d-90670a1b2c", want)
	if err != nil || u.SID != "S-1-5-21-1" || !reflect.DeepEqual(m.user, want) {
		t.Errorf("%+v, %+v, %v", u, m.user, err)
	}
	err = c.Users().SetPassword(t.Context(), "d-90670a1b2c", "ada", directory.NewPassword("Pä\"ss\x00"))
	if !errors.Is(err, directory.ErrWeakPassword) || m.password.Reveal() != "Pä\"ss\x00" {
		t.Errorf("%q, %v", m.password.Reveal(), err)
	}
}

// screens answers with a connection to an echo.
type screens struct{ ended chan struct{} }

func (s screens) Connect(_ context.Context, id ident.WorkspaceID) (net.Conn, error) {
	if id != "ws-000000001" {
		return nil, fmt.Errorf("connect %s: %w", id, driver.ErrNotFound)
	}
	here, there := net.Pipe()
	go func() {
		defer close(s.ended)
		_, _ = io.WriteString(there, "RFB 003.008\n")
		_, _ = io.Copy(there, there)
		_ = there.Close()
	}()
	return here, nil
}

func TestAStreamCarriesBothWaysAndEndsWithEitherSide(t *testing.T) {
	s := screens{make(chan struct{})}
	c := serve(t, &Host{Screens: s})
	d := c.Display().(driver.Screens)
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := d.Connect(ctx, "ws-000000001")
	if err != nil {
		t.Fatal(err)
	}
	// The stream outlives the call that opened it.
	cancel()
	b := make([]byte, 12)
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "RFB 003.008\n" {
		t.Fatalf("%q, %v", b, err)
	}
	if _, err := io.WriteString(conn, "hello hello "); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "hello hello " {
		t.Errorf("%q, %v", b, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	<-s.ended
	if _, err := d.Connect(t.Context(), "ws-000000002"); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("%v", err)
	}
}

// sessions is an echo that says first whose it is.
type sessions struct{}

func (sessions) Session(_ context.Context, id ident.WorkspaceID) (net.Conn, error) {
	if id != "ws-000000001" {
		return nil, fmt.Errorf("session of %s: %w", id, driver.ErrOrder)
	}
	here, there := net.Pipe()
	go func() {
		_, _ = io.WriteString(there, "hello 1\n")
		_, _ = io.Copy(there, there)
		_ = there.Close()
	}()
	return here, nil
}

func TestASessionIsAnotherStreamThanAScreen(t *testing.T) {
	d := serve(t, &Host{Sessions: sessions{}}).Display()
	conn, err := d.(driver.Sessions).Session(t.Context(), "ws-000000001")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	b := make([]byte, 8)
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != "hello 1\n" {
		t.Errorf("%q, %v", b, err)
	}
	if _, err := d.(driver.Sessions).Session(t.Context(), "ws-000000002"); !errors.Is(err, driver.ErrOrder) {
		t.Errorf("%v", err)
	}
	if _, err := d.(driver.Screens).Connect(t.Context(), "ws-000000001"); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("a screen: %v", err)
	}
}

func TestAHostWithoutADriverOrWithoutAnswerIsUnavailable(t *testing.T) {
	c := serve(t, &Host{})
	if _, err := c.Hypervisor().List(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("no driver: %v", err)
	}
	gone := NewClient(Dial(filepath.Join(t.TempDir(), "nobody")))
	if err := gone.Fabric().Detach(t.Context(), "eni-1"); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("no host: %v", err)
	}
	if _, err := gone.Networks().Dial(t.Context(), "vpc-1", "tcp", "10.0.0.1:1"); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("no host: %v", err)
	}
	if err := gone.Networks().Hold(t.Context(), driver.Network{CIDR: netip.MustParsePrefix("10.0.0.0/16")}, netip.MustParseAddr("10.0.0.1")); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("no host: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Volumes().List(ctx); !errors.Is(err, context.Canceled) || errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("cancelled: %v", err)
	}
}

func TestAHostThatAnswersNonsenseIsUnavailable(t *testing.T) {
	for name, answer := range map[string]func(http.ResponseWriter){
		"another server":   func(w http.ResponseWriter) { http.Error(w, "no", http.StatusNotFound) },
		"not JSON":         func(w http.ResponseWriter) { _, _ = io.WriteString(w, "<html>") },
		"an error in HTML": func(w http.ResponseWriter) { w.WriteHeader(422); _, _ = io.WriteString(w, "<html>") },
		"too much": func(w http.ResponseWriter) {
			_, _ = w.Write([]byte(`["`))
			_, _ = w.Write(make([]byte, maxMessage))
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { answer(w) }))
			defer s.Close()
			c := NewClient(func(ctx context.Context) (net.Conn, error) {
				var d net.Dialer
				return d.DialContext(ctx, "tcp", s.Listener.Addr().String())
			})
			defer c.Close()
			if _, err := c.Volumes().List(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestNobodyElseIsLetIn(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	l, err := Listen(path, uint32(os.Getuid())+1)
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: (&Host{}).Handler()}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	defer func() { _ = s.Close(); <-done }()
	conn, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if n, err := conn.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d, %v", n, err)
	}
}

func FuzzFailure(f *testing.F) {
	f.Add("permanent", "ImageUnusable", "x")
	f.Add("", "", "")
	f.Fuzz(func(t *testing.T, kind, code, message string) {
		err := decodeError(&failure{kind, code, message})
		if err == nil {
			t.Fatal("an error became none")
		}
		_ = err.Error()
		_ = encodeError(err)
	})
}

// vpcs is a driver.Networks that tells which there are.
type vpcs struct {
	driver.Networks
	all []ident.VPCID
}

func (v *vpcs) ListNetworks(context.Context) ([]ident.VPCID, error) { return v.all, nil }

func (v *vpcs) RemoveNetwork(_ context.Context, id ident.VPCID) error {
	if id == "vpc-full" {
		return fmt.Errorf("remove %s: %w", id, driver.ErrOrder)
	}
	v.all = slices.DeleteFunc(v.all, func(n ident.VPCID) bool { return n == id })
	return nil
}

func TestNetworksAreListedAndRemoved(t *testing.T) {
	c := serve(t, &Host{Networks: &vpcs{all: []ident.VPCID{"vpc-1", "vpc-full"}}}).VPCs()
	if err := c.RemoveNetwork(t.Context(), "vpc-1"); err != nil {
		t.Error(err)
	}
	if err := c.RemoveNetwork(t.Context(), "vpc-full"); !errors.Is(err, driver.ErrOrder) {
		t.Errorf("%v", err)
	}
	if all, err := c.ListNetworks(t.Context()); err != nil || !slices.Equal(all, []ident.VPCID{"vpc-full"}) {
		t.Errorf("%v, %v", all, err)
	}
	if _, err := serve(t, &Host{Networks: struct{ driver.Networks }{}}).VPCs().ListNetworks(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("networks that nobody can list: %v", err)
	}
}
