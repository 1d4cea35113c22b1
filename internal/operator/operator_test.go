package operator

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// bench is a simulation that remembers.
type bench struct {
	offset time.Duration
	faults []Fault
	users  []string
}

func (b *bench) Advance(by time.Duration) error { b.offset += by; return nil }
func (b *bench) Fail(f Fault) error {
	if f.Driver != "hypervisor" {
		return errors.New("there is no step; there are: hypervisor start")
	}
	b.faults = append(b.faults, f)
	return nil
}
func (b *bench) Clear()          { b.faults = nil }
func (b *bench) Faults() []Fault { return append([]Fault{}, b.faults...) }
func (b *bench) AddUser(directory, name string) error {
	b.users = append(b.users, directory+"/"+name)
	return nil
}

// serve runs a door on dir's socket.
func serve(t *testing.T, dir string, d *Door) *Client {
	t.Helper()
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: d.Handler()}
	ended := make(chan struct{})
	go func() { defer close(ended); _ = srv.Serve(l) }()
	t.Cleanup(func() { _ = srv.Close(); <-ended })
	return Dial(dir)
}

func TestOperatorCommandsReachTheSimulation(t *testing.T) {
	b := &bench{}
	c := serve(t, t.TempDir(), &Door{Status: func() Status { return Status{PID: 7, ClockOffset: b.offset.String()} }, Simulation: b})
	ctx := t.Context()
	s, err := c.Advance(ctx, 20*time.Minute)
	if err != nil || s.ClockOffset != "20m0s" {
		t.Errorf("advance answers the clock as it was before: %+v %v", s, err)
	}
	if _, err := c.Advance(ctx, -time.Minute); err == nil || !strings.Contains(err.Error(), "forward") {
		t.Errorf("back in time: %v", err)
	}
	if err := c.Fail(ctx, Fault{"hypervisor", "start", 3}); err != nil {
		t.Error(err)
	}
	if err := c.Fail(ctx, Fault{"warp", "start", 3}); err == nil || !strings.Contains(err.Error(), "hypervisor start") {
		t.Errorf("an unknown driver: %v", err)
	}
	if f, err := c.Faults(ctx); err != nil || len(f) != 1 || f[0] != (Fault{"hypervisor", "start", 3}) {
		t.Errorf("%v %v", f, err)
	}
	if err := c.Clear(ctx); err != nil || len(b.faults) != 0 {
		t.Errorf("%v %v", b.faults, err)
	}
	if err := c.AddUser(ctx, "d-0123456789", "eve"); err != nil || len(b.users) != 1 || b.users[0] != "d-0123456789/eve" {
		t.Errorf("%v %v", b.users, err)
	}
	if s, err := c.Status(ctx); err != nil || s.PID != 7 {
		t.Errorf("%+v %v", s, err)
	}
}

func TestWhatTheDoorDoesNotKnowIsRefused(t *testing.T) {
	b := &bench{}
	c := serve(t, t.TempDir(), &Door{Status: func() Status { return Status{} }, Simulation: b})
	for name, body := range map[string]string{
		"an unknown field": `{"By":"20m","Twice":true}`, "a wrong type": `{"By":20}`, "no JSON": `20m`, "nothing": ``, "two documents": `{"By":"20m"}{"By":"20m"}`,
		"something behind it": `{"By":"20m"}]`, "no duration": `{"By":"soon"}`, "no field": `{}`, "more than 64 KiB": `{"By":"` + strings.Repeat("2", 70<<10) + `m"}`,
	} {
		r, err := c.http.Post("http://operator/v1/simulate/advance", "application/json", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		text, _ := io.ReadAll(r.Body)
		r.Body.Close()
		if r.StatusCode != http.StatusBadRequest || !strings.Contains(string(text), `"error"`) {
			t.Errorf("%s: %d %s", name, r.StatusCode, text)
		}
	}
	if b.offset != 0 {
		t.Errorf("the clock was moved by %v", b.offset)
	}
}

func TestRealInstallationsAreNotSimulated(t *testing.T) {
	c := serve(t, t.TempDir(), &Door{Status: func() Status { return Status{} }})
	ctx := t.Context()
	_, advance := c.Advance(ctx, time.Minute)
	_, faults := c.Faults(ctx)
	for name, err := range map[string]error{"advance": advance, "faults": faults, "fail": c.Fail(ctx, Fault{}), "clear": c.Clear(ctx), "user": c.AddUser(ctx, "", "eve")} {
		if err == nil || !strings.Contains(err.Error(), "--simulate") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestBackupIsStreamedAndNeverLooksWholeWhenItIsNot(t *testing.T) {
	line := strings.Repeat("x", 1<<16) + "\n"
	ready := make(chan struct{})
	d := &Door{Backup: func(w io.Writer) error {
		// The first part must be on its way before the last one is made.
		if _, err := io.WriteString(w, line); err != nil {
			return err
		}
		<-ready
		_, err := io.WriteString(w, line)
		return err
	}}
	c := serve(t, t.TempDir(), d)
	var whole bytes.Buffer
	if err := c.Backup(t.Context(), opener{&whole, ready}); err != nil || whole.String() != line+line {
		t.Errorf("%d bytes, %v", whole.Len(), err)
	}
	d.Backup = func(w io.Writer) error {
		_, _ = io.WriteString(w, line)
		return errors.New("the store has failed")
	}
	if err := c.Backup(t.Context(), io.Discard); err == nil || !strings.Contains(err.Error(), "broke off") {
		t.Errorf("a backup cut off: %v", err)
	}
}

// opener closes ready at the first byte it gets.
type opener struct {
	to    *bytes.Buffer
	ready chan struct{}
}

func (o opener) Write(p []byte) (int, error) {
	if o.to.Len() == 0 {
		close(o.ready)
	}
	return o.to.Write(p)
}

func TestSocketIsTheOwnersAlone(t *testing.T) {
	dir := t.TempDir()
	c := serve(t, dir, &Door{Status: func() Status { return Status{PID: 1} }})
	info, err := os.Stat(filepath.Join(dir, socketName))
	if err != nil || info.Mode().Perm() != 0o600 || info.Mode()&os.ModeSocket == 0 {
		t.Fatalf("%v %v", info.Mode(), err)
	}
	if _, err := c.Status(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestSocketOfADeadProcessIsReplaced(t *testing.T) {
	dir := t.TempDir()
	l, err := Listen(dir)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := Dial(dir).Status(t.Context()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("a socket nobody listens on: %v", err)
	}
	c := serve(t, dir, &Door{Status: func() Status { return Status{PID: 2} }})
	if s, err := c.Status(t.Context()); err != nil || s.PID != 2 {
		t.Errorf("%+v %v", s, err)
	}
}

func TestStateDirectoryMayHaveALongName(t *testing.T) {
	dir := t.TempDir()
	for range 3 {
		dir = filepath.Join(dir, strings.Repeat("long", 50))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	c := serve(t, dir, &Door{Status: func() Status { return Status{PID: 3} }})
	if s, err := c.Status(t.Context()); err != nil || s.PID != 3 {
		t.Errorf("a path of %d bytes: %+v %v", len(dir), s, err)
	}
}

func TestNobodyRunsThere(t *testing.T) {
	if _, err := Dial(t.TempDir()).Status(context.Background()); !errors.Is(err, ErrNotRunning) {
		t.Errorf("%v", err)
	}
	if _, err := Dial(filepath.Join(t.TempDir(), "nothing")).Status(context.Background()); err == nil || !strings.Contains(err.Error(), "open state directory") {
		t.Errorf("%v", err)
	}
}
