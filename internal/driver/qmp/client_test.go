package qmp

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// connect gives a client of a monitor that answers with handle.
func connect(t testing.TB, o Options, handle func(request) []string) *Client {
	t.Helper()
	ours, theirs := net.Pipe()
	startMonitor(t, theirs, handle)
	c, g, err := Connect(t.Context(), ours, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	if want := (Greeting{7, 2, 22, "Debian"}); g != want {
		t.Fatalf("greeting %+v, want %+v", g, want)
	}
	return c
}

func TestACommandGetsItsAnswer(t *testing.T) {
	c := connect(t, Options{}, func(q request) []string {
		if q.Execute != "query-status" || q.Arguments != nil {
			return []string{refusing(q, "CommandNotFound", "no")}
		}
		return []string{"\r\n", returning(q, `{"status": "running"}`)}
	})
	var s struct{ Status string }
	if err := c.Execute(t.Context(), "query-status", nil, &s); err != nil || s.Status != "running" {
		t.Fatalf("%+v, %v", s, err)
	}
}

func TestAnswersMayComeInAnyOrder(t *testing.T) {
	const n = 20
	var held []request
	c := connect(t, Options{}, func(q request) (out []string) {
		if held = append(held, q); len(held) < n {
			return nil
		}
		for i := range held {
			q := held[len(held)-1-i]
			out = append(out, event("RTC_CHANGE", `{}`), returning(q, string(q.Arguments)))
		}
		return out
	})
	type arg struct{ N int }
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() {
			var got arg
			if err := c.Execute(t.Context(), "echo", arg{i}, &got); err != nil || got.N != i {
				t.Errorf("command %d got the answer %+v, %v", i, got, err)
			}
		})
	}
	wg.Wait()
}

func TestARefusalIsTypedAndTheConnectionGoesOn(t *testing.T) {
	c := connect(t, Options{}, func(q request) []string {
		if q.Execute == "bad" {
			return []string{refusing(q, "DeviceNotFound", "no \x1b[2J\"device\"")}
		}
		return []string{returning(q, `{}`)}
	})
	err := c.Execute(t.Context(), "bad", nil, nil)
	var e *Error
	if !errors.As(err, &e) || e.Command != "bad" || !IsClass(err, "DeviceNotFound") || IsClass(err, "GenericError") {
		t.Fatalf("%v", err)
	}
	if strings.ContainsAny(err.Error(), "\x1b\n") {
		t.Errorf("the peer's control characters reach the log: %q", err.Error())
	}
	if err := c.Execute(t.Context(), "good", nil, nil); err != nil {
		t.Fatal(err)
	}
}

// Names that would break out of a command line or of JSON put together as text.
var nastyNames = []string{"a,b", `a"b`, "a\nb", "a\r\n{\"execute\":\"quit\"}", `\`, `","execute":"quit","x":"`, "\u2028", "日本", "a=b,file=/etc/shadow", "</script>", "\x7f", "é", strings.Repeat("x", 5000)}

func TestVMM4ArgumentsArriveAsTheyAreWhateverTheyContain(t *testing.T) {
	type args struct {
		Name string `json:"name"`
	}
	commands := 0
	c := connect(t, Options{}, func(q request) []string {
		commands++
		return []string{returning(q, string(q.Arguments))}
	})
	for _, name := range nastyNames {
		var got args
		if err := c.Execute(t.Context(), "echo", args{name}, &got); err != nil || got.Name != name {
			t.Errorf("%q came back as %q, %v", name, got.Name, err)
		}
	}
	if commands != len(nastyNames) {
		t.Errorf("%d commands arrived, %d were sent", commands, len(nastyNames))
	}
}

func TestVMM4WhatIsNotACommandIsNotSent(t *testing.T) {
	c := connect(t, Options{}, func(q request) []string { t.Errorf("%s arrived", q.Execute); return nil })
	for _, name := range append([]string{"", "quit\n", `x","y":"`, strings.Repeat("a", 65)}, nastyNames...) {
		if err := c.Execute(t.Context(), name, nil, nil); err == nil {
			t.Errorf("%q was sent as a command", name)
		}
	}
	for _, args := range []any{"text", 1, []string{"a"}, json.RawMessage(`{"a":`), func() {}, json.Number("x")} {
		if err := c.Execute(t.Context(), "ok", args, nil); err == nil {
			t.Errorf("%v was sent as arguments", args)
		}
	}
	if err := c.Err(); err != nil {
		t.Errorf("the connection suffered: %v", err)
	}
}

func TestASilentPeerEndsTheConnectionAndThatIsSaid(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, Options{Timeout: 5 * time.Second}, func(q request) []string { return nil })
		start := time.Now()
		err := c.Execute(t.Context(), "stop", nil, nil)
		if !errors.Is(err, ErrSilent) || !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != 5*time.Second {
			t.Fatalf("after %s: %v", time.Since(start), err)
		}
		if err := c.Execute(t.Context(), "cont", nil, nil); !errors.Is(err, ErrClosed) || !errors.Is(err, ErrSilent) || !strings.Contains(err.Error(), "stop") {
			t.Errorf("afterwards: %v", err)
		}
		if _, err := c.Event(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("events afterwards: %v", err)
		}
		<-c.Done()
	})
}

func TestAPeerThatDoesNotEvenReadIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		var wg sync.WaitGroup
		wg.Go(func() {
			_, _ = theirs.Write([]byte(hello))
			line, _ := bufio.NewReader(theirs).ReadBytes('\n')
			var q request
			_ = json.Unmarshal(line, &q)
			_, _ = theirs.Write([]byte(returning(q, "{}")))
		})
		c, _, err := Connect(t.Context(), ours, Options{Timeout: time.Second})
		if err != nil {
			t.Fatal(err)
		}
		wg.Wait()
		if err := c.Execute(t.Context(), "stop", nil, nil); !errors.Is(err, ErrSilent) {
			t.Errorf("%v", err)
		}
		c.Close()
	})
}

func TestAPeerThatNeverGreetsIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer theirs.Close()
		if _, _, err := Connect(t.Context(), ours, Options{Timeout: time.Second}); !errors.Is(err, ErrSilent) {
			t.Errorf("%v", err)
		}
	})
}

func TestCancellingWhileQueuedToWriteDoesNoHarm(t *testing.T) {
	c := connect(t, Options{}, func(q request) []string { return []string{returning(q, "{}")} })
	ctx, cancel := context.WithCancel(t.Context())
	c.writing <- struct{}{}
	cancel()
	if err := c.Execute(ctx, "stop", nil, nil); !errors.Is(err, context.Canceled) || errors.Is(err, ErrSilent) {
		t.Errorf("%v", err)
	}
	<-c.writing
	if err := c.Execute(t.Context(), "cont", nil, nil); err != nil {
		t.Error(err)
	}
}

func TestACallerThatGoesAwayBeforeTheAnswerLeavesTheConnectionToTheOthers(t *testing.T) {
	asked, held := make(chan struct{}), make(chan struct{})
	c := connect(t, Options{}, func(q request) []string {
		if q.Execute == "stop" {
			close(asked)
			<-held
		}
		return []string{returning(q, `{"status": "`+q.Execute+`"}`)}
	})
	ctx, cancel := context.WithCancel(t.Context())
	gone := make(chan error, 1)
	go func() { gone <- c.Execute(ctx, "stop", nil, nil) }()
	<-asked
	cancel()
	if err := <-gone; !errors.Is(err, context.Canceled) || errors.Is(err, ErrSilent) {
		t.Errorf("%v", err)
	}
	close(held)
	var s struct{ Status string }
	if err := c.Execute(t.Context(), "query-status", nil, &s); err != nil || s.Status != "query-status" {
		t.Errorf("the next command got %q, %v", s.Status, err)
	}
	if err := c.Err(); err != nil {
		t.Error(err)
	}
}

func TestAPeerThatNeverAnswersACallerWhoHasGoneAwayIsSilent(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := connect(t, Options{Timeout: 5 * time.Second}, func(q request) []string { return nil })
		ctx, cancel := context.WithCancel(t.Context())
		time.AfterFunc(time.Second, cancel)
		if err := c.Execute(ctx, "stop", nil, nil); !errors.Is(err, context.Canceled) || c.Err() != nil {
			t.Errorf("%v, %v", err, c.Err())
		}
		time.Sleep(4*time.Second + time.Millisecond)
		synctest.Wait()
		if err := c.Err(); !errors.Is(err, ErrSilent) {
			t.Errorf("five seconds after the command: %v", err)
		}
	})
}

func TestAHostilePeerEndsTheConnectionAndNothingElse(t *testing.T) {
	for name, answer := range map[string]func(request) string{
		"not JSON":                func(request) string { return "%$&\n" },
		"an array":                func(request) string { return "[]\n" },
		"an answer nobody waits":  func(q request) string { return fmt.Sprintf(`{"return":{},"id":%d}`+"\n", *q.ID+7) },
		"an answer without an id": func(request) string { return `{"return":{}}` + "\n" },
		"a textual id":            func(request) string { return `{"return":{},"id":"1"}` + "\n" },
		"a second greeting":       func(request) string { return hello },
		"an error without an id":  func(request) string { return `{"error":{"class":"GenericError","desc":"x"}}` + "\n" },
		"neither":                 func(q request) string { return fmt.Sprintf(`{"id":%d}`+"\n", *q.ID) },
		"an unknown object":       func(request) string { return "{}\n" },
		"nested too deep":         func(q request) string { return returning(q, strings.Repeat("[", 100)+strings.Repeat("]", 100)) },
		"nested very deep":        func(q request) string { return returning(q, strings.Repeat(`{"a":`, 100000)) },
		"a line without end":      func(request) string { return strings.Repeat("x", maxLine+1<<16) },
	} {
		t.Run(name, func(t *testing.T) {
			c := connect(t, Options{}, func(q request) []string { return []string{answer(q)} })
			if err := c.Execute(t.Context(), "query-status", nil, nil); !errors.Is(err, ErrClosed) || !errors.Is(err, ErrProtocol) {
				t.Errorf("%v", err)
			}
		})
	}
}

func TestAnAnswerOfTheWrongTypeIsAProtocolError(t *testing.T) {
	c := connect(t, Options{}, func(q request) []string { return []string{returning(q, `[1]`)} })
	var s struct{ Status string }
	if err := c.Execute(t.Context(), "query-status", nil, &s); !errors.Is(err, ErrProtocol) {
		t.Errorf("%v", err)
	}
}

func TestHangingUpEndsEveryCommandUnderWay(t *testing.T) {
	ours, theirs := net.Pipe()
	seen := 0
	startMonitor(t, theirs, func(request) []string {
		if seen++; seen == 3 {
			theirs.Close()
		}
		return nil
	})
	c, _, err := Connect(t.Context(), ours, Options{})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if err := c.Execute(t.Context(), "stop", nil, nil); !errors.Is(err, ErrClosed) || errors.Is(err, ErrSilent) {
				t.Errorf("%v", err)
			}
		})
	}
	wg.Wait()
	c.Close()
}

func TestEventsComeInOrderAndAFloodOfOneDoesNotPushOutAnother(t *testing.T) {
	c := connect(t, Options{}, func(q request) (out []string) {
		for range 10000 {
			out = append(out, event("RTC_CHANGE", `{"offset": 1}`))
		}
		return append(out, event("SHUTDOWN", `{"guest": true}`), event("HUGE", `"`+strings.Repeat("x", maxEventSize)+`"`), returning(q, `{}`))
	})
	if err := c.Execute(t.Context(), "cont", nil, nil); err != nil {
		t.Fatal(err)
	}
	var names []string
	for range maxOfOneName + 1 {
		e, err := c.Event(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		names = append(names, e.Name)
		if want := time.Unix(1700000000, 500000000).UTC(); e.Time != want {
			t.Errorf("time %s, want %s", e.Time, want)
		}
	}
	want := append(slicesRepeat("RTC_CHANGE", maxOfOneName), "SHUTDOWN")
	if d := cmp.Diff(want, names); d != "" {
		t.Error(d)
	}
	if n := c.Dropped(); n != 10000-maxOfOneName+1 {
		t.Errorf("%d dropped", n)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Event(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("an empty queue: %v", err)
	}
}

func slicesRepeat(s string, n int) (out []string) {
	for range n {
		out = append(out, s)
	}
	return out
}

func TestOnlyWantedEventsAreKeptAndTheLastAreReadAfterTheEnd(t *testing.T) {
	ours, theirs := net.Pipe()
	startMonitor(t, theirs, func(q request) []string {
		return []string{event("RESET", `{}`), event("SHUTDOWN", `{}`), returning(q, "{}")}
	})
	c, _, err := Connect(t.Context(), ours, Options{Events: []string{"SHUTDOWN"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Execute(t.Context(), "quit", nil, nil); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if e, err := c.Event(t.Context()); err != nil || e.Name != "SHUTDOWN" {
		t.Errorf("%+v, %v", e, err)
	}
	if _, err := c.Event(t.Context()); !errors.Is(err, ErrClosed) {
		t.Errorf("%v", err)
	}
}

// unixPair is a connected pair of unix sockets.
func unixPair(t testing.TB) (a, b *net.UnixConn) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "socket")
		c, err := net.FileConn(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		ends[i] = c.(*net.UnixConn)
	}
	return ends[0], ends[1]
}

// catcher keeps the files that come with what is read.
type catcher struct {
	*net.UnixConn
	files chan *os.File
}

func (c catcher) Read(b []byte) (int, error) {
	oob := make([]byte, 256)
	n, oobn, _, _, err := c.ReadMsgUnix(b, oob)
	if messages, e := unix.ParseSocketControlMessage(oob[:oobn]); e == nil {
		for _, m := range messages {
			fds, _ := unix.ParseUnixRights(&m)
			for _, fd := range fds {
				c.files <- os.NewFile(uintptr(fd), "passed")
			}
		}
	}
	return max(n, 0), err
}

func TestFilesArePassedWithTheirCommand(t *testing.T) {
	ours, theirs := unixPair(t)
	caught := catcher{theirs, make(chan *os.File, 4)}
	var arguments []string
	startMonitor(t, caught, func(q request) []string {
		arguments = append(arguments, q.Execute+string(q.Arguments))
		return []string{returning(q, `{"fdset-id": 4, "fd": 20}`)}
	})
	c, _, err := Connect(t.Context(), ours, Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for i, give := range []func(*os.File) error{
		func(f *os.File) error { return c.GetFD(t.Context(), "mig,x", f) },
		func(f *os.File) error { return c.AddFD(t.Context(), 4, "disk", f) },
	} {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := give(w); err != nil {
			t.Fatal(err)
		}
		w.Close()
		passed := <-caught.files
		fmt.Fprintf(passed, "hello %d", i)
		passed.Close()
		b := make([]byte, 16)
		if n, _ := r.Read(b); string(b[:n]) != fmt.Sprintf("hello %d", i) {
			t.Errorf("read %q through the passed file", b[:n])
		}
		r.Close()
	}
	want := []string{`getfd{"fdname":"mig,x"}`, `add-fd{"fdset-id":4,"opaque":"disk"}`}
	if d := cmp.Diff(want, arguments); d != "" {
		t.Error(d)
	}
}

func TestFilesNeedAUnixSocket(t *testing.T) {
	c := connect(t, Options{}, func(q request) []string { return []string{returning(q, "{}")} })
	if err := c.GetFD(t.Context(), "x", os.Stdin); err == nil {
		t.Error("a file was passed through a pipe in memory")
	}
}

func BenchmarkRoundTrip(b *testing.B) {
	ours, theirs := unixPair(b)
	startMonitor(b, theirs, func(q request) []string { return []string{returning(q, `{"status": "running"}`)} })
	c, _, err := Connect(b.Context(), ours, Options{})
	if err != nil {
		b.Fatal(err)
	}
	defer c.Close()
	b.ReportAllocs()
	for b.Loop() {
		var s struct{ Status string }
		if err := c.Execute(b.Context(), "query-status", nil, &s); err != nil {
			b.Fatal(err)
		}
	}
}

// FuzzClient lets QEMU say anything after the negotiation.
func FuzzClient(f *testing.F) {
	f.Add([]byte(`{"return": {"status": "running"}, "id": 2}` + "\n"))
	f.Add([]byte(event("SHUTDOWN", `{"guest": true}`)))
	f.Add([]byte(`{"error": {"class": "GenericError", "desc": "x"}, "id": 2}` + "\n"))
	f.Add([]byte("{\"id\":2,\"return\":" + strings.Repeat("[", 70) + "\n"))
	f.Add([]byte(hello))
	f.Fuzz(func(t *testing.T, said []byte) {
		ours, theirs := net.Pipe()
		startMonitor(t, theirs, func(request) []string { theirs.Write(said); theirs.Close(); return nil })
		c, _, err := Connect(t.Context(), ours, Options{})
		if err != nil {
			t.Fatal(err)
		}
		var s struct{ Status string }
		err = c.Execute(t.Context(), "query-status", nil, &s)
		var refusal *Error
		if err != nil && !errors.Is(err, ErrClosed) && !errors.Is(err, ErrProtocol) && !errors.As(err, &refusal) {
			t.Errorf("an untyped error: %v", err)
		}
		c.Close()
		for n := 0; ; n++ {
			if _, err := c.Event(t.Context()); err != nil {
				break
			}
			if n > maxEvents {
				t.Fatal("more events than the bound")
			}
		}
	})
}
