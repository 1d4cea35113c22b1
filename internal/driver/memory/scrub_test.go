package memory

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
)

const testBytes = 3<<20 + 8192 // Not a whole number of chunks.

// held puts a new block with a running machine.
func heldMachine(t *testing.T, k *Keeper, id string) (*child, *Block, string) {
	t.Helper()
	b := allocate(t, testBytes)
	if err := k.Put(context.Background(), id, b, Meta{WorkspaceID: "ws-abcdefgh1", Run: id, Host: "host-1", Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	marker := newMarker(t)
	m := start(t, "machine", marker, b.File())
	if err := k.SetProcess(context.Background(), id, m.pid()); err != nil {
		t.Fatal(err)
	}
	return m, b, marker
}

// witness opens a block for reading in a way that outlives the scrub.
func witness(t *testing.T, b *Block) []byte {
	t.Helper()
	m, err := mapReadonly(b.file, b.size)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Munmap(m) })
	return m
}

func TestScrubLeavesNothingInProcessAndBlock(t *testing.T) {
	k := connect(t, runDir(t))
	m, b, marker := heldMachine(t, k, "run-1")
	w := witness(t, b)

	// Control: the search finds the marker everywhere where it was put.
	before := search(t, m.pid(), marker)
	for _, where := range []string{"rw-s memfd:carrel-memory", "rw-p .", "rw-p memory.test", "rw-s zero", "r-xp ."} {
		if before[where] == 0 {
			t.Errorf("the marker is not in %q before: %v", where, before)
		}
	}
	if n := bytes.Count(w, []byte(marker)); n < testBytes/512 {
		t.Errorf("the marker is %d times in the block before", n)
	}
	observe := func(point string) {
		switch point {
		case "frozen":
			if s := threadStates(t, m.pid()); strings.Trim(s, "T") != "" || len(s) < 4 {
				t.Errorf("threads are %s after freezing: want all stopped", s)
			}
		case "process noted":
			after := search(t, m.pid(), marker)
			delete(after, "rw-s memfd:carrel-memory") // Zeroed when the process has ended.
			if len(after) != 0 {
				t.Errorf("the marker is still in the process: %v", after)
			}
		}
	}
	r, err := k.Scrub(context.Background(), "run-1", ScrubOptions{Rescan: true, Observe: observe})
	if err != nil {
		t.Fatal(err)
	}
	wantClean(t, r, testBytes)
	if r.ProcessEnded || r.ProcessBytes < 2<<20 || r.WorkspaceID != "ws-abcdefgh1" || r.Host != "host-1" || r.Run != "run-1" {
		t.Errorf("report %+v", r)
	}
	for reason, n := range r.ProcessSkipped {
		t.Errorf("%d bytes of the process were not overwritten: %s", n, reason)
	}
	if n := bytes.Count(w, []byte(marker)); n != 0 || countNonZero(w) != 0 {
		t.Errorf("the marker is %d times in the block after", n)
	}
	if !m.ended() {
		t.Error("the machine still runs")
	}
	again, err := k.Scrub(context.Background(), "run-1", ScrubOptions{})
	if err != nil || again.Digest != r.Digest || !again.Finished.Equal(r.Finished) {
		t.Errorf("the second scrub gave %+v, %v: want the same report", again, err)
	}
	if err := k.Forget(context.Background(), "run-1"); err != nil {
		t.Error(err)
	}
	if _, err := k.Scrub(context.Background(), "run-1", ScrubOptions{}); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("a forgotten block gave %v", err)
	}
	if entries, err := k.List(context.Background()); err != nil || len(entries) != 0 {
		t.Errorf("left over: %v, %v", entries, err)
	}
}

func (c *child) ended() bool {
	var s unix.Siginfo
	return unix.Waitid(unix.P_PID, c.pid(), &s, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil) == nil && s.Signo != 0
}

// beHost is a host role that is killed at a point of its scrub: point, directory and marker.
func beHost() {
	line, err := bufio.NewReader(os.Stdin).ReadString('\n')
	must(err)
	say := strings.Split(strings.TrimSpace(line), "\t")
	point, dir, marker := say[0], say[1], say[2]
	ctx := context.Background()
	k, err := Connect(ctx, dir)
	must(err)
	b, err := Allocate(testBytes, PagesSmall)
	must(err)
	must(k.Put(ctx, "run-1", b, Meta{WorkspaceID: "ws-abcdefgh1", Run: "run-1", Host: "host-1", Created: time.Now()}))
	m := exec.Command("/proc/self/exe")
	m.Env = append(os.Environ(), roleVariable+"=machine")
	m.ExtraFiles = []*os.File{b.File()}
	in, err := m.StdinPipe()
	must(err)
	out, err := m.StdoutPipe()
	must(err)
	must(m.Start())
	_, err = fmt.Fprintln(in, marker)
	must(err)
	_, err = bufio.NewReader(out).ReadString('\n')
	must(err)
	if point != "unnoted" {
		must(k.SetProcess(ctx, "run-1", m.Process.Pid))
	}
	fmt.Println("ready")
	observe := func(p string) {
		if p == point {
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		}
	}
	if point == "running" || point == "unnoted" {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
	}
	_, err = k.Scrub(ctx, "run-1", ScrubOptions{Observe: observe})
	must(err)
	must(errors.New("the point was not reached"))
}

// Every point of the sequence at which the host role may be killed; "running" is before a scrub, "unnoted" before the process was noted.
func TestScrubIsCompletedAfterTheHostRoleWasKilledAtAnyPoint(t *testing.T) {
	for _, point := range append([]string{"unnoted", "running"}, Points[:]...) {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			dir := runDir(t)
			marker := newMarker(t)
			host := start(t, "host", point+"\t"+dir+"\t"+marker, nil)
			if err := host.cmd.Wait(); host.cmd.ProcessState.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
				t.Fatalf("the host role ended with %v", err)
			}
			k := connect(t, dir)
			entries, err := k.List(context.Background())
			if err != nil || len(entries) != 1 || entries[0].Lost || entries[0].ID != "run-1" || entries[0].Meta.WorkspaceID != "ws-abcdefgh1" {
				t.Fatalf("found %+v, %v: want the leftover", entries, err)
			}
			if begun := point != "running" && point != "unnoted"; entries[0].Scrubbing != begun {
				t.Errorf("scrubbing is %v", entries[0].Scrubbing)
			}
			var w []byte
			if b, _, err := k.Get("run-1"); err == nil {
				w = witness(t, b)
			} else if point != "deleted" {
				t.Error(err)
			}
			r, err := k.Scrub(context.Background(), "run-1", ScrubOptions{Rescan: true})
			if err != nil {
				t.Fatal(err)
			}
			wantClean(t, r, testBytes)
			if r.ProcessEnded || r.ProcessBytes < 2<<20 {
				t.Errorf("report %+v: want a zeroed process", r)
			}
			if n := countNonZero(w); n != 0 {
				t.Errorf("%d bytes are not zero", n)
			}
			if pid := entries[0].Meta.PID; pid != 0 && alive(pid, entries[0].Meta.StartTime) {
				t.Error("the machine still runs")
			}
			if held, err := k.held(context.Background()); err != nil || len(held) != 0 {
				t.Errorf("the keeper still has %v, %v", held, err)
			}
		})
	}
}

func TestScrubIsCompletedWhenTheMachineIsKilledAtAnyPoint(t *testing.T) {
	for _, point := range append([]string{"before"}, Points[:5]...) {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			k := connect(t, runDir(t))
			m, _, _ := heldMachine(t, k, "run-1")
			observe := func(p string) {
				if p == point {
					m.kill()
				}
			}
			observe("before")
			r, err := k.Scrub(context.Background(), "run-1", ScrubOptions{Observe: observe})
			if err != nil {
				t.Fatal(err)
			}
			wantClean(t, r, testBytes)
			early := point == "before" || point == "begun" || point == "frozen"
			if r.ProcessEnded != early || (r.ProcessBytes == 0) != early {
				t.Errorf("process ended %v, %d bytes of it overwritten", r.ProcessEnded, r.ProcessBytes)
			}
		})
	}
}

func TestScrubIsCompletedWhenTheKeeperIsKilledAtAnyPoint(t *testing.T) {
	for _, point := range Points {
		t.Run(point, func(t *testing.T) {
			t.Parallel()
			k := connect(t, runDir(t))
			heldMachine(t, k, "run-1")
			first := keeperPID(t, k)
			r, err := k.Scrub(context.Background(), "run-1", ScrubOptions{Observe: func(p string) {
				if p == point {
					killAndWait(t, first)
				}
			}})
			if err != nil {
				t.Fatal(err)
			}
			wantClean(t, r, testBytes)
			entries, err := k.List(context.Background())
			if err != nil || len(entries) != 1 || entries[0].Report == nil {
				t.Errorf("left %+v, %v: want the report", entries, err)
			}
			if err := k.Forget(context.Background(), "run-1"); err != nil {
				t.Error(err)
			}
			if keeperPID(t, k) == first {
				t.Error("the keeper was not killed")
			}
		})
	}
}

func TestScrubOfAMachineThatGotAnOldNumberIsRefused(t *testing.T) {
	k := connect(t, runDir(t))
	innocent := start(t, "machine", "text", allocate(t, testBytes).File())
	began, err := StartTime(innocent.pid())
	if err != nil {
		t.Fatal(err)
	}
	m := Meta{Run: "run-1", PID: innocent.pid(), StartTime: began - 1, Created: time.Now()}
	if err := k.Put(context.Background(), "run-1", allocate(t, testBytes), m); err != nil {
		t.Fatal(err)
	}
	r, err := k.Scrub(context.Background(), "run-1", ScrubOptions{})
	if err != nil || !r.ProcessEnded || r.ProcessBytes != 0 {
		t.Errorf("report %+v, %v: want an ended process", r, err)
	}
	if s := threadStates(t, innocent.pid()); strings.ContainsAny(s, "TZ") {
		t.Errorf("the process with the same number was touched: %s", s)
	}
	if _, err := openProcess(innocent.pid(), began); err != nil {
		t.Errorf("the right start time gave %v", err)
	}
}

func TestScrubIsRefusedWhileSomebodyMapsTheBlock(t *testing.T) {
	k := connect(t, runDir(t))
	_, b, _ := heldMachine(t, k, "run-1")
	holder := start(t, "holder", "", b.File())
	r, err := k.Scrub(context.Background(), "run-1", ScrubOptions{Patience: 100 * time.Millisecond})
	if !errors.Is(err, driver.ErrUnclean) || !strings.Contains(err.Error(), fmt.Sprintf("process %d (", holder.pid())) {
		t.Errorf("gave %+v, %v: want ErrUnclean naming process %d", r, err, holder.pid())
	}
	if r.Clean() == nil {
		t.Error("the report is clean")
	}
	if entries, err := k.List(context.Background()); err != nil || len(entries) != 1 || !entries[0].Scrubbing || entries[0].Report != nil {
		t.Errorf("left %+v, %v: want the block still held", entries, err)
	}
	if err := k.Forget(context.Background(), "run-1"); !errors.Is(err, driver.ErrOrder) {
		t.Errorf("forgetting it gave %v", err)
	}
	holder.kill()
	if r, err = k.Scrub(context.Background(), "run-1", ScrubOptions{}); err != nil {
		t.Fatal(err)
	}
	wantClean(t, r, testBytes)
	if r.ProcessEnded || r.ProcessBytes == 0 {
		t.Errorf("report %+v: the first scrub had zeroed the process", r)
	}
}

func TestAByteThatSomebodyWroteAfterZeroingIsFound(t *testing.T) {
	k := connect(t, runDir(t))
	_, b, _ := heldMachine(t, k, "run-1")
	observe := func(point string) {
		if point == "unmapped" {
			if _, err := b.file.WriteAt([]byte{7, 0, 9}, testBytes-5000); err != nil {
				t.Error(err)
			}
		}
	}
	for range 2 { // Sealed, it stays so.
		r, err := k.Scrub(context.Background(), "run-1", ScrubOptions{Observe: observe})
		if !errors.Is(err, driver.ErrUnclean) || r.NonZero != 2 || !r.Sealed || r.ReadBytes != testBytes || r.Digest == ZeroDigest(testBytes) {
			t.Errorf("report %+v, %v: want two bytes found", r, err)
		}
	}
	if _, _, err := k.call(context.Background(), request{Op: opDelete, ID: "run-1"}, nil); !errors.Is(err, driver.ErrUnclean) {
		t.Errorf("the keeper let a dirty block go: %v", err)
	}
	if _, _, err := k.Get("run-1"); err != nil {
		t.Errorf("the block is not held any more: %v", err)
	}
}

// The host role ended between the start of the machine and noting it, and the machine has the descriptor but has not come to mapping it.
func TestAMachineThatWasNotNotedAndHasNotMappedItsMemoryYetIsEnded(t *testing.T) {
	k := connect(t, runDir(t))
	b := allocate(t, testBytes)
	if err := k.Put(context.Background(), "run-1", b, Meta{Run: "run-1", Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	m := start(t, "opener", "", b.File())
	r, err := k.Scrub(context.Background(), "run-1", ScrubOptions{})
	if err != nil || r.ProcessEnded || r.ProcessBytes == 0 {
		t.Fatalf("%+v, %v", r, err)
	}
	wantClean(t, r, testBytes)
	if !m.ended() {
		t.Error("the machine still runs")
	}
}

func TestScrubOfOneBlockTwiceAtOnceIsBusy(t *testing.T) {
	k := connect(t, runDir(t))
	heldMachine(t, k, "run-1")
	observe := func(point string) {
		if point == "frozen" {
			if _, err := k.Scrub(context.Background(), "run-1", ScrubOptions{}); !errors.Is(err, driver.ErrBusy) {
				t.Errorf("the second gave %v", err)
			}
		}
	}
	if _, err := k.Scrub(context.Background(), "run-1", ScrubOptions{Observe: observe}); err != nil {
		t.Error(err)
	}
}

func TestScrubThatIsCancelledIsCompletedLater(t *testing.T) {
	k := connect(t, runDir(t))
	heldMachine(t, k, "run-1")
	ctx, cancel := context.WithCancel(context.Background())
	observe := func(point string) {
		if point == "frozen" {
			cancel()
		}
	}
	if _, err := k.Scrub(ctx, "run-1", ScrubOptions{Observe: observe}); !errors.Is(err, context.Canceled) {
		t.Errorf("gave %v", err)
	}
	r, err := k.Scrub(context.Background(), "run-1", ScrubOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantClean(t, r, testBytes)
}

func TestMemoryIsTakenFromTheMachineWhenEveryKeeperIsGone(t *testing.T) {
	for _, withMachine := range []bool{true, false} {
		t.Run(fmt.Sprintf("machine alive %v", withMachine), func(t *testing.T) {
			dir := runDir(t)
			k, err := Connect(context.Background(), dir)
			if err != nil {
				t.Fatal(err)
			}
			m, _, _ := heldMachine(t, k, "run-1")
			pid := keeperPID(t, k)
			if err := k.Close(); err != nil {
				t.Fatal(err)
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			_ = k.process.Wait()
			if !withMachine {
				m.kill()
			}
			k = connect(t, dir)
			entries, err := k.List(context.Background())
			if err != nil || len(entries) != 1 || !entries[0].Lost || entries[0].Alive != withMachine {
				t.Fatalf("found %+v, %v: want one that the keeper does not have", entries, err)
			}
			r, err := k.Scrub(context.Background(), "run-1", ScrubOptions{})
			if withMachine {
				if err != nil || r.ProcessBytes == 0 {
					t.Fatalf("report %+v, %v", r, err)
				}
				wantClean(t, r, testBytes)
				return
			}
			if !errors.Is(err, ErrLost) || !errors.Is(err, driver.ErrUnclean) || r.Clean() == nil {
				t.Errorf("lost memory gave %+v, %v", r, err)
			}
			if err := k.Forget(context.Background(), "run-1"); err != nil {
				t.Error(err)
			}
		})
	}
}
