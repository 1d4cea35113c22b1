package jail

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
)

// Tool runs short programs of the host's distribution (qemu-img) on files given open, each in a jail of its own with nothing else. The zero
// value lacks the ids. Its methods may be called concurrently.
type Tool struct {
	// Name begins the names of its jails. UID and GID as in Spec.
	Name     string
	UID, GID int
	Limits   Limits

	count atomic.Uint64
}

// Run runs a program with files as its descriptors 3, 4, ... and gives its standard output and error together. A program without a slash is
// looked for in PATH. How it ended badly is an *ExitError; when ctx ends it is killed.
//
// Such programs can only open descriptors anew, by their name in /proc/self/fd, for which the mode of the file counts. So files and pipes
// that belong to another belong to UID while it runs, if this process may give them away.
func (t *Tool) Run(ctx context.Context, program string, args []string, files []*os.File) ([]byte, error) {
	path, err := exec.LookPath(program)
	if err != nil {
		return nil, fmt.Errorf("jail: %w", err)
	}
	back, err := t.lend(files)
	defer back()
	if err != nil {
		return nil, err
	}
	var out output
	err = Run(ctx, Spec{
		Name: t.Name + "-" + strconv.Itoa(os.Getpid()) + "-" + strconv.FormatUint(t.count.Add(1), 10), Program: path, Args: args, UID: t.UID, GID: t.GID,
		Files: files, ReadOnly: SystemLibraries(), Proc: true, Limits: t.Limits, Stdout: &out, Stderr: &out,
	})
	return out.buffer.Bytes(), err
}

// output collects both streams.
type output struct {
	mu     sync.Mutex
	buffer bytes.Buffer
}

func (o *output) Write(b []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buffer.Write(b)
}

// lend makes files the property of the program's uid, as far as that is needed and possible; back undoes it, also after an error.
func (t *Tool) lend(files []*os.File) (back func(), err error) {
	var undo []func()
	back = func() {
		for _, u := range undo {
			u()
		}
	}
	if !ownIDs(t.UID, t.GID) {
		return back, nil // To the kernel the program will be this process's own user.
	}
	for _, f := range files {
		if f == nil {
			continue
		}
		info, err := f.Stat()
		if err != nil {
			return back, fmt.Errorf("jail: %w", err)
		}
		st, ok := info.Sys().(*syscall.Stat_t)
		if !ok || int(st.Uid) == t.UID || !info.Mode().IsRegular() && info.Mode()&os.ModeNamedPipe == 0 || info.Mode()&0o006 == 0o006 {
			continue
		}
		if err := f.Chown(t.UID, -1); err != nil {
			return back, fmt.Errorf("jail: lend %s to uid %d: %w", f.Name(), t.UID, err)
		}
		undo = append(undo, func() { _ = f.Chown(int(st.Uid), -1) })
	}
	return back, nil
}
