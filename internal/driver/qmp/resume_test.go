package qmp

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

const version = `{"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": "Debian"}`

// usedMonitor is a monitor whose client went away: it has before to say, then answers commands. It behaves like QEMU's parser: what stands before a
// flush byte is an error.
func usedMonitor(t testing.TB, before string, handle func(request) []string) net.Conn {
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		in := bufio.NewReader(theirs)
		if _, err := io.WriteString(theirs, before); err != nil {
			return
		}
		for {
			line, err := in.ReadBytes('\n')
			if err != nil {
				return
			}
			if i := bytes.LastIndexByte(line, flush); i >= 0 {
				line = line[i+1:]
				if _, err := io.WriteString(theirs, `{"error": {"class": "GenericError", "desc": "JSON parse error, stray '\ufffd'"}}`+"\r\n"); err != nil {
					return
				}
			}
			q := parse(line)
			if q.ID == nil {
				return
			}
			answers := []string{returning(q, version)}
			if q.Execute != "query-version" {
				answers = handle(q)
			}
			for _, a := range answers {
				if _, err := io.WriteString(theirs, a); err != nil {
					return
				}
			}
		}
	}()
	t.Cleanup(func() { theirs.Close(); <-done })
	return ours
}

func TestAConnectionIsTakenOverFromAClientThatEndedInTheMiddle(t *testing.T) {
	left := `tatus": "running"}, "id": 7}` + "\r\n" + event("SHUTDOWN", `{}`) + `{"return": {}, "id": 8}` + "\r\n" +
		`{"id": 1, "error": {"class": "GenericError", "desc": "no"}}` + "\r\n"
	conn := usedMonitor(t, left, func(q request) []string { return []string{event("STOP", `{}`), returning(q, `{"status": "paused"}`)} })
	c, g, err := Resume(t.Context(), conn, Options{})
	if err != nil || g != (Greeting{7, 2, 22, "Debian"}) {
		t.Fatalf("%+v, %v", g, err)
	}
	defer c.Close()
	for range 3 {
		var s struct{ Status string }
		if err := c.Execute(t.Context(), "query-status", nil, &s); err != nil || s.Status != "paused" {
			t.Fatalf("%+v, %v", s, err)
		}
		if e, err := c.Event(t.Context()); err != nil || e.Name != "STOP" {
			t.Errorf("%+v, %v", e, err)
		}
	}
}

func TestAMonitorThatDoesNotAnswerItsNewClientIsGivenUp(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	go func() { _, _ = io.Copy(io.Discard, theirs) }()
	ctx, cancel := context.WithDeadline(t.Context(), time.Unix(1, 0))
	defer cancel()
	if _, _, err := Resume(ctx, ours, Options{}); !errors.Is(err, ErrSilent) {
		t.Errorf("%v", err)
	}
	if _, err := ours.Write([]byte("x")); err == nil {
		t.Error("the connection is still open")
	}
	ours, theirs = net.Pipe()
	theirs.Close()
	if _, _, err := Resume(t.Context(), ours, Options{}); err == nil {
		t.Error("a monitor that has hung up was taken over")
	}
}

func TestAMonitorThatNeverComesToTheAnswerIsGivenUp(t *testing.T) {
	flood := strings.Repeat(event("RTC_CHANGE", `{"x": "`+strings.Repeat("y", 60<<10)+`"}`), maxStale/(60<<10)+1)
	for name, before := range map[string]string{"a flood of events": flood, "one endless line": strings.Repeat("z", maxLine+1)} {
		if _, _, err := Resume(t.Context(), usedMonitor(t, before, nil), Options{}); !errors.Is(err, ErrProtocol) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestAnAnswerWithoutAVersionIsNotBelieved(t *testing.T) {
	for _, answer := range []string{`{"return": "x", "id": %d}`, `{"id": %d, "error": {"class": "GenericError", "desc": "no"}}`, `{"id": %d}`} {
		ours, theirs := net.Pipe()
		go func() {
			line, _ := bufio.NewReader(theirs).ReadBytes('\n')
			if q := parse(line[1:]); q.ID != nil {
				_, _ = fmt.Fprintf(theirs, answer+"\r\n", *q.ID)
			}
			theirs.Close()
		}()
		if c, _, err := Resume(t.Context(), ours, Options{}); err == nil {
			t.Errorf("%s was taken for a version: %+v", answer, c)
		}
	}
}

// Whatever a monitor has left to say, a client that takes over answers for itself or fails; it never hangs and never takes one answer for another.
func FuzzResume(f *testing.F) {
	for _, s := range []string{"", "\r\n", `{"return": {}, "id": 1}` + "\n", "\xff\xff{", `{"QMP": {}}` + "\n", `{"event": "X", "timestamp": {}}` + "\n", "[[[[", `"id": 1}` + "\n"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, before string) {
		conn := usedMonitor(t, before, func(q request) []string { return []string{returning(q, `{"status": "running"}`)} })
		c, g, err := Resume(t.Context(), conn, Options{})
		if err != nil {
			return
		}
		defer c.Close()
		if g.Major != 7 {
			t.Fatalf("%+v", g)
		}
		var s struct{ Status string }
		if err := c.Execute(t.Context(), "query-status", nil, &s); err == nil && s.Status != "running" {
			t.Fatalf("%+v", s)
		}
	})
}
