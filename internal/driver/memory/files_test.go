package memory

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
)

// ends is a connected pair of sockets.
func ends(t *testing.T) (ours, theirs *os.File) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	ours, theirs = os.NewFile(uintptr(fds[0]), "ours"), os.NewFile(uintptr(fds[1]), "theirs")
	t.Cleanup(func() { _ = ours.Close(); _ = theirs.Close() })
	return ours, theirs
}

// said checks that what is written at one end comes out of the other.
func said(t *testing.T, to, from *os.File, word string) {
	t.Helper()
	if _, err := to.WriteString(word); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, len(word))
	if _, err := from.Read(b); err != nil || string(b) != word {
		t.Errorf("%q, %v: want %q", b, err, word)
	}
}

func TestFilesBesideABlockOutliveTheHostRoleAndTheKeeper(t *testing.T) {
	dir, ctx := runDir(t), context.Background()
	k, err := Connect(ctx, dir)
	if err != nil {
		t.Fatal(err)
	}
	put(t, k, "run-1")
	ours, theirs := ends(t)
	for _, name := range []string{"monitor", "monitor"} {
		if err := k.PutFile(ctx, "run-1", name, ours); err != nil {
			t.Fatal(err)
		}
	}
	// The new keeper is given it with the block.
	killAndWait(t, keeperPID(t, k))
	if entries, err := k.held(ctx); err != nil || len(entries) != 1 || fmt.Sprint(entries[0].Files) != "[monitor]" {
		t.Fatalf("the new keeper holds %+v, %v", entries, err)
	}
	if err := errors.Join(ours.Close(), k.Close()); err != nil {
		t.Fatal(err)
	}
	again := connect(t, dir)
	for range 2 { // It is there as often as it is asked for.
		f, err := again.GetFile(ctx, "run-1", "monitor")
		if err != nil {
			t.Fatal(err)
		}
		said(t, theirs, f, "out")
		said(t, f, theirs, "in")
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	}
	if _, err := again.GetFile(ctx, "run-1", "agent"); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("a file that is not held: %v", err)
	}
	if _, err := again.Scrub(ctx, "run-1", ScrubOptions{}); err != nil {
		t.Fatal(err)
	}
	if _, err := again.GetFile(ctx, "run-1", "monitor"); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("beside a block that is gone: %v", err)
	}
	// Nobody holds the other end any more.
	_ = unix.SetNonblock(int(theirs.Fd()), false)
	if n, err := theirs.Read(make([]byte, 1)); n != 0 || err == nil {
		t.Errorf("read %d, %v: want the end", n, err)
	}
}

func TestWhatIsHeldBesideABlockDoesNotChangeHowItBlocks(t *testing.T) {
	k, ctx := connect(t, runDir(t)), context.Background()
	put(t, k, "run-1")
	ours, _ := ends(t)
	conn, err := net.FileConn(ours)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	twin, err := conn.(*net.UnixConn).File() // Its Fd would make all of them block.
	if err != nil {
		t.Fatal(err)
	}
	defer twin.Close()
	if err := k.PutFile(ctx, "run-1", "agent", twin); err != nil {
		t.Fatal(err)
	}
	f, err := k.GetFile(ctx, "run-1", "agent")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	// The deadline works only as long as the descriptor does not block.
	if err := conn.SetReadDeadline(time.Unix(1, 0)); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestTheKeeperHoldsFewFilesAndOnlyConnections(t *testing.T) {
	k, ctx := connect(t, runDir(t)), context.Background()
	b := put(t, k, "run-1")
	ours, _ := ends(t)
	plain, err := os.Create(filepath.Join(t.TempDir(), "plain"))
	if err != nil {
		t.Fatal(err)
	}
	defer plain.Close()
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: "unix"})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	listening, err := listener.File()
	if err != nil {
		t.Fatal(err)
	}
	defer listening.Close()
	directory, err := os.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer directory.Close()
	for what, f := range map[string]*os.File{"a plain file": plain, "a listener": listening, "a directory": directory, "a block": b.File()} {
		if err := k.PutFile(ctx, "run-1", "x", f); err == nil {
			t.Errorf("the host role took %s", what)
		}
		if _, _, err := k.call(ctx, request{Op: opPutFile, ID: "run-1", Name: "x"}, f); err == nil {
			t.Errorf("the keeper took %s", what)
		}
	}
	if _, _, err := k.call(ctx, request{Op: opPutFile, ID: "run-1", Name: "x"}, nil); err == nil {
		t.Error("the keeper took nothing for something")
	}
	for _, name := range []string{"", "../x", "X", "a/b", "a\n"} {
		if err := k.PutFile(ctx, "run-1", name, ours); err == nil {
			t.Errorf("the name %q was taken", name)
		}
		if _, _, err := k.call(ctx, request{Op: opPutFile, ID: "run-1", Name: name}, ours); err == nil {
			t.Errorf("the keeper took the name %q", name)
		}
	}
	if err := k.PutFile(ctx, "run-2", "x", ours); !errors.Is(err, driver.ErrNotFound) {
		t.Errorf("beside an unknown block: %v", err)
	}
	for i := range maxFiles {
		if err := k.PutFile(ctx, "run-1", fmt.Sprintf("f%d", i), ours); err != nil {
			t.Fatal(err)
		}
	}
	if err := k.PutFile(ctx, "run-1", "one-more", ours); !errors.Is(err, driver.ErrOrder) {
		t.Errorf("one too many: %v", err)
	}
	if err := k.PutFile(ctx, "run-1", "f0", ours); err != nil {
		t.Errorf("one in another's place: %v", err)
	}
}
