package qemu

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sync/errgroup"

	"carrel/internal/driver"
)

// portPair is a port and the guest's end of it.
func portPair(t *testing.T) (*port, net.Conn) {
	t.Helper()
	ours, theirs, err := pair("session")
	if err != nil {
		t.Fatal(err)
	}
	guest, err := net.FileConn(theirs)
	if err = errors.Join(err, theirs.Close()); err != nil {
		t.Fatal(err)
	}
	p := newPort(ours)
	t.Cleanup(func() { _, _ = p.close(), guest.Close() })
	return p, guest
}

func join(t *testing.T, p *port) (net.Conn, *bufio.Reader) {
	t.Helper()
	c, err := p.join()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		t.Fatal(err)
	}
	return c, bufio.NewReader(c)
}

func says(t *testing.T, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatal(err)
	}
}

func hears(t *testing.T, r *bufio.Reader, want string) {
	t.Helper()
	if line, err := r.ReadString('\n'); err != nil || line != want {
		t.Fatalf("%q, %v; not %q", line, err, want)
	}
}

// hear has all of them read at once: each is written to in turn, in no certain order, and a turn ends when that one has read.
func hear(t *testing.T, want string, all ...*bufio.Reader) {
	t.Helper()
	var g errgroup.Group
	for _, r := range all {
		g.Go(func() error {
			if line, err := r.ReadString('\n'); err != nil || line != want {
				return fmt.Errorf("%q, %w; not %q", line, err, want)
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		t.Fatal(err)
	}
}

func TestEverybodyWhoHasJoinedASessionHearsItAndIsHeard(t *testing.T) {
	p, guest := portPair(t)
	one, oneHears := join(t, p)
	two, twoHears := join(t, p)
	says(t, guest, "hello 1\n")
	hear(t, "hello 1\n", oneHears, twoHears)
	// Lines stay whole, however they are written; the first begins with an end, because an earlier host may have left half a line.
	g := bufio.NewReader(guest)
	says(t, one, "clip YQ")
	says(t, two, "hello\n")
	hears(t, g, "\n")
	hears(t, g, "hello\n")
	says(t, one, "==\n")
	hears(t, g, "clip YQ==\n")
	// One who leaves is forgotten, the other goes on.
	if err := one.Close(); err != nil {
		t.Fatal(err)
	}
	says(t, guest, "taken\ntaken\n")
	hears(t, twoHears, "taken\n")
	hears(t, twoHears, "taken\n")
	if n := len(p.audience()); n != 1 {
		t.Errorf("%d are listening", n)
	}
	// What a guest says too long at once is nobody's to hear.
	go func() { _, _ = io.WriteString(guest, strings.Repeat("x", 400<<10)+"\nhello 1\n") }()
	hears(t, twoHears, "hello 1\n")
	if err := guest.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := twoHears.ReadString('\n'); err == nil {
		t.Error("the port is gone, and nobody is told")
	}
	for {
		c, err := p.join()
		if err == nil {
			_ = c.Close() // The end is being noticed.
			continue
		}
		if !errors.Is(err, driver.ErrUnavailable) {
			t.Errorf("%v", err)
		}
		return
	}
}

func TestAGuestThatTakesNothingHoldsNobodyUpForLong(t *testing.T) {
	p, guest := portPair(t)
	c, _ := join(t, p)
	line := "clip " + strings.Repeat("YWFh", 80<<10/3) + "\n"
	began := time.Now()
	for range 4 { // More than the socket between them holds.
		says(t, c, line)
	}
	if took := time.Since(began); took > 4*sessionPatience+10*time.Second {
		t.Errorf("it took %v", took)
	}
	// What is whole of it arrives whole; what was cut is cut by a line's end, not glued to the next.
	go func() { _, _ = io.WriteString(c, "hello\n") }()
	whole := 0
	for r := bufio.NewReader(guest); ; {
		got, err := r.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if got == line {
			whole++
		}
		if strings.Contains(got, "hello") {
			if got != "hello\n" {
				t.Errorf("glued: %d bytes", len(got))
			}
			break
		}
	}
	if whole == 0 {
		t.Error("nothing has arrived")
	}
}

// A guest that talks without an end is read as fast as a person copies, and no faster.
func TestAGuestThatTalksWithoutAnEndIsSlowedDown(t *testing.T) {
	_, guest := portPair(t)
	text := []byte(strings.Repeat("noise\n", 1<<10))
	if err := guest.SetWriteDeadline(time.Now().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
	sent := 0
	for {
		n, err := guest.Write(text)
		sent += n
		if errors.Is(err, os.ErrDeadlineExceeded) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if most := sessionBurst + 3*sessionRate + 1<<20; sent > most {
		t.Errorf("%d bytes in a second", sent)
	}
}

func TestAMachineGoesOnWithTheDevicesThatItsSavedMemoryKnows(t *testing.T) {
	for version, want := range map[int]bool{0: false, 1: false, hardwareVersion: true} {
		p := &parts{}
		if err := p.connect(version); err != nil {
			t.Fatal(err)
		}
		h := machineOf(t)
		h.session = p.hardware.session
		if got := strings.Contains(strings.Join(h.build().args, " "), sessionPort); got != want {
			t.Errorf("hardware %d has a session's port: %t", version, got)
		}
		p.close()
	}
}
