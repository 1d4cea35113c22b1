package memory

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
)

func put(t *testing.T, k *Keeper, id string) *Block {
	t.Helper()
	b := allocate(t, testBytes)
	if err := k.Put(context.Background(), id, b, Meta{Run: id, Created: time.Now()}); err != nil {
		t.Fatal(err)
	}
	return b
}

func TestKeeperHoldsBlocksBeyondTheHostRole(t *testing.T) {
	dir := runDir(t)
	k, err := Connect(context.Background(), dir)
	if err != nil {
		t.Fatal(err)
	}
	b := put(t, k, "run-1")
	m, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	m[77] = 7
	pid, id := keeperPID(t, k), b.id
	if _, err := Connect(context.Background(), dir); !errors.Is(err, driver.ErrBusy) {
		t.Errorf("a second host role in the same directory gave %v", err)
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	again := connect(t, dir)
	if now := keeperPID(t, again); now != pid {
		t.Errorf("keeper is process %d, was %d: want the one that ran", now, pid)
	}
	b, meta, err := again.Get("run-1")
	if err != nil || b.id != id || meta.Run != "run-1" || meta.Bytes != testBytes || !meta.Gap {
		t.Fatalf("got %+v, %v", meta, err)
	}
	if m, err := b.Bytes(); err != nil || m[77] != 7 {
		t.Errorf("the content is gone: %v", err)
	}
	if err := again.Quit(context.Background()); !errors.Is(err, driver.ErrOrder) {
		t.Errorf("quitting with a block gave %v", err)
	}
}

func TestKeeperThatIsKilledIsReplacedWithAllBlocks(t *testing.T) {
	k := connect(t, runDir(t))
	put(t, k, "run-1")
	put(t, k, "run-2")
	// By the next call.
	first := keeperPID(t, k)
	killAndWait(t, first)
	entries, err := k.List(context.Background())
	if err != nil || len(entries) != 2 || entries[0].Lost || entries[1].Lost || entries[1].ID != "run-2" {
		t.Fatalf("after the keeper was killed: %+v, %v", entries, err)
	}
	// And by whoever watches.
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error)
	go func() { ended <- k.Run(ctx) }()
	second := keeperPID(t, k)
	if err := syscall.Kill(second, syscall.SIGKILL); err != nil || second == first {
		t.Fatal(err, second, first)
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
		if pid := keeperPID(t, k); pid != 0 && pid != second {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("no new keeper")
		}
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run gave %v", err)
	}
	r, err := k.Scrub(context.Background(), "run-2", ScrubOptions{})
	if err != nil {
		t.Fatal(err)
	}
	wantClean(t, r, testBytes)
}

// killAndWait returns when nothing listens any more; the process may stay a zombie until the Keeper waits for it.
func killAndWait(t *testing.T, pid int) {
	t.Helper()
	fd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{pid: pid, fd: fd}
	defer p.close()
	if err := p.kill(context.Background()); err != nil {
		t.Fatal(err)
	}
}

func TestKeeperRefusesToLetABlockGoThatItHasNotSeenClean(t *testing.T) {
	k := connect(t, runDir(t))
	ctx := context.Background()
	b := put(t, k, "run-1")
	m, err := b.Bytes()
	if err != nil {
		t.Fatal(err)
	}
	m[testBytes-1] = 1
	remove := func() error {
		_, _, err := k.call(ctx, request{Op: opDelete, ID: "run-1"}, nil)
		return err
	}
	if err := remove(); !errors.Is(err, driver.ErrUnclean) {
		t.Errorf("an unsealed dirty block: %v", err)
	}
	m[testBytes-1] = 0
	if err := remove(); !errors.Is(err, driver.ErrUnclean) {
		t.Errorf("an unsealed clean block: %v", err)
	}
	m[testBytes-1] = 1
	if err := b.Readonly(); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(b.file.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); err != nil {
		t.Fatal(err)
	}
	if err := remove(); !errors.Is(err, driver.ErrUnclean) || !strings.Contains(err.Error(), "1 of") {
		t.Errorf("a sealed dirty block: %v", err)
	}
	if held, err := k.held(ctx); err != nil || len(held) != 1 {
		t.Errorf("it holds %v, %v", held, err)
	}
	if _, _, err := k.call(ctx, request{Op: opDelete, ID: "run-9"}, nil); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("an unknown block: %v", err)
	}
}

func TestKeeperRefusesWhatIsNoBlock(t *testing.T) {
	k := connect(t, runDir(t))
	ctx := context.Background()
	b := put(t, k, "run-1")
	if err := k.Put(ctx, "run-1", b, Meta{}); err != nil {
		t.Errorf("the same block again: %v", err)
	}
	if err := k.Put(ctx, "run-1", allocate(t, pageBytes), Meta{}); !errors.Is(err, driver.ErrOrder) {
		t.Errorf("another block under the same id: %v", err)
	}
	if err := k.Put(ctx, "../x", b, Meta{}); err == nil {
		t.Error("an id that is a path was taken")
	}
	readonly, err := reopen(b.file, unix.O_RDONLY)
	if err != nil {
		t.Fatal(err)
	}
	defer readonly.Close()
	plain, err := os.Create(filepath.Join(t.TempDir(), "plain"))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	fd, err := unix.MemfdCreate("unsealed", unix.MFD_ALLOW_SEALING|unix.MFD_CLOEXEC)
	if err != nil {
		t.Fatal(err)
	}
	unsealed := os.NewFile(uintptr(fd), "unsealed")
	defer unsealed.Close()
	for name, f := range map[string]*os.File{"a descriptor that cannot write": readonly, "a plain file": plain, "a block that can be cut": unsealed, "nothing": nil} {
		if _, _, err := k.call(ctx, request{Op: opPut, ID: "run-2", Meta: []byte("{}")}, f); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	if err := k.SetProcess(ctx, "run-9", os.Getpid()); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("the process of an unknown block: %v", err)
	}
}

func TestKeeperSpeaksToItsUserOnly(t *testing.T) {
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unixpacket"})
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(uint32(os.Geteuid()) + 1)
	ended := make(chan error)
	go func() { ended <- s.serve(l) }()
	c, err := net.DialUnix("unixpacket", nil, l.Addr().(*net.UnixAddr))
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = send(c, request{Op: opHello}, nil)
	if packet, _, err := receive(c); err != nil || !strings.Contains(string(packet), "may not speak") {
		t.Errorf("it said %s, %v", packet, err)
	}
	s.once.Do(func() { close(s.quit) })
	_ = l.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestKeeperHasGivenUpWhatItDoesNotNeed(t *testing.T) {
	k := connect(t, runDir(t))
	pid := keeperPID(t, k)
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	status := map[string]string{}
	for line := range strings.Lines(string(b)) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		status[name] = strings.TrimSpace(value)
	}
	want := map[string]string{"CapInh": "0000000000000000", "CapAmb": "0000000000000000", "NoNewPrivs": "1"}
	if info, ok := debug.ReadBuildInfo(); ok && slices.Contains(info.Settings, debug.BuildSetting{Key: "CGO_ENABLED", Value: "1"}) {
		delete(want, "NoNewPrivs") // See dropCapabilities.
	}
	for name, want := range want {
		if status[name] != want {
			t.Errorf("%s is %s, want %s", name, status[name], want)
		}
	}
	if eff := status["CapEff"]; want["NoNewPrivs"] != "" && eff != "0000000000000000" && eff != "0000000000004000" {
		t.Errorf("CapEff is %s: want none, or CAP_IPC_LOCK", eff)
	}
	if os.Geteuid() == 0 && !strings.HasPrefix(status["Uid"], fmt.Sprint(KeeperUser)) {
		t.Errorf("it runs as %s", status["Uid"])
	}
	if sid, err := unix.Getsid(pid); err != nil || sid != pid {
		t.Errorf("its session is %d, %v: want its own", sid, err)
	}
	if os.Geteuid() == 0 {
		own, _ := os.Readlink("/proc/self/ns/net")
		its, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/net", pid))
		if err != nil || own == its {
			t.Errorf("it has the network %s, %v", its, err)
		}
	}
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP} {
		if err := syscall.Kill(pid, s); err != nil {
			t.Skip("another user's process cannot be signalled:", err)
		}
	}
	if now := keeperPID(t, k); now != pid {
		t.Errorf("it ended at a polite signal")
	}
}

func TestDirectoryThatOthersMayEnterIsRefused(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	if _, err := Connect(context.Background(), dir); err == nil || !strings.Contains(err.Error(), "0755") {
		t.Errorf("gave %v", err)
	}
	link := dir + "-link"
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	if _, err := Connect(context.Background(), link); err == nil {
		t.Error("a symbolic link was followed")
	}
}

func TestKeeperListsMoreThanAPacketHolds(t *testing.T) {
	s := newServer(0)
	meta := []byte(`"` + strings.Repeat("x", 3000) + `"`)
	for i := range 40 {
		s.blocks[fmt.Sprintf("run-%02d", i)] = &held{meta: meta}
	}
	seen, after := 0, ""
	for {
		r := s.list(after)
		for _, e := range r.Entries {
			if e.ID <= after {
				t.Fatalf("%s after %s", e.ID, after)
			}
			seen, after = seen+1, e.ID
		}
		if !r.More {
			break
		}
	}
	if seen != 40 {
		t.Errorf("%d of 40 listed", seen)
	}
}

func FuzzRequest(f *testing.F) {
	for _, s := range []string{`{"op":"hello"}`, `{"op":"put","id":"run-1","meta":{"a":1}}`, `{"op":"list","after":"x"}`, `{"op":"delete","id":"../../etc"}`, `{"op":"get","id":1}`, `{"op":"put-file","id":"run-1","name":"monitor"}`, `{"op":"get-file","id":"run-1","name":"../x"}`, "", "null"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := decodeRequest(b)
		if err != nil {
			return
		}
		switch r.Op {
		case opPut, opGet, opDelete, opPutFile, opGetFile:
			if checkID(r.ID) != nil {
				t.Fatalf("id %q was accepted", r.ID)
			}
		}
		if (r.Op == opPutFile || r.Op == opGetFile) && checkFile(r.Name) != nil {
			t.Fatalf("name %q was accepted", r.Name)
		}
		if len(r.Meta) > maxMeta {
			t.Fatalf("meta of %d bytes was accepted", len(r.Meta))
		}
		// Whatever is asked for, a server that holds nothing gives and keeps nothing.
		s := newServer(0)
		if _, out, _ := s.answer(b, nil); out != nil || len(s.blocks) != 0 {
			t.Fatal("something was given or kept")
		}
	})
}

func TestKeeperLocksWhatItMayLockAndSaysSo(t *testing.T) {
	b := allocate(t, testBytes)
	file, err := reopen(b.file, unix.O_RDWR)
	if err != nil {
		t.Fatal(err)
	}
	s := newServer(0)
	if keep, err := s.put(request{Op: opPut, ID: "run-1", Meta: []byte("{}")}, file); err != nil || !keep {
		t.Fatal(keep, err)
	}
	h := s.blocks["run-1"]
	<-h.done
	if r, _, err := s.get("run-1"); err != nil || r.Entries[0].Locked != lockable(testBytes) {
		t.Errorf("locked %v, %v: allowed is %v", r.Entries[0].Locked, err, lockable(testBytes))
	}
	if err := b.Readonly(); err != nil {
		t.Fatal(err)
	}
	if _, err := unix.FcntlInt(b.file.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); err != nil {
		t.Errorf("the keeper's mapping is in the way of sealing: %v", err)
	}
	if err := s.delete("run-1"); err != nil || !s.empty() {
		t.Errorf("a clean sealed block was kept: %v", err)
	}
}
