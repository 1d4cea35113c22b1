package volume

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"carrel/internal/driver"
)

// ErrRefused: the key does not open the disk, or the disk has no LUKS header any more.
var ErrRefused = errors.New("volume: the key is refused")

// Tool formats disks and tries keys on them. Files are given open; no path of the host reaches it.
type Tool interface {
	// Format writes an empty qcow2 of that virtual size, with LUKS inside, into an empty file.
	Format(ctx context.Context, disk *os.File, bytes int64, key []byte) error
	// Kill makes the key slot that key opens unusable. ErrRefused: none is.
	Kill(ctx context.Context, disk *os.File, key []byte) error
	// Try opens the LUKS layer with key: nil it did, ErrRefused it did not.
	Try(ctx context.Context, disk *os.File, key []byte) error
}

// Run runs a program with files as its descriptors 3, 4, ... and gives its standard output and error.
type Run func(ctx context.Context, program string, args []string, files []*os.File) (output []byte, err error)

// QemuImg is the Tool for disks of QEMU. What it writes is checked by QEMU itself: it tries the keys.
type QemuImg struct {
	// Run runs it; Plain when nil.
	Run Run
	// Program is "qemu-img" when empty.
	Program string
	// Random is where master keys come from; the kernel when nil.
	Random io.Reader
}

const toolTimeout = 2 * time.Minute

// Format writes the file itself: see luks.go for why.
func (q QemuImg) Format(ctx context.Context, disk *os.File, bytes int64, key []byte) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return format(disk, q.Random, bytes, key)
}

// Kill uses amend, which overwrites the slot's key material.
func (q QemuImg) Kill(ctx context.Context, disk *os.File, key []byte) error {
	_, err := q.run(ctx, disk, key, []string{"amend", "--force", "--object", secret, "--image-opts", "-o", "encrypt.state=inactive,encrypt.keyslot=0", opened})
	return err
}

// Try reads the disk's description, for which the LUKS layer must be opened.
func (q QemuImg) Try(ctx context.Context, disk *os.File, key []byte) error {
	_, err := q.run(ctx, disk, key, []string{"map", "--output=json", "--start-offset=0", "--max-length=512", "--object", secret, "--image-opts", opened})
	return err
}

const (
	// The key comes through a pipe: not in the arguments, which everybody on the host can read.
	secret = "secret,id=key,file=/proc/self/fd/4"
	opened = "driver=qcow2,file.driver=file,file.filename=/proc/self/fd/3,file.locking=off,encrypt.format=luks,encrypt.key-secret=key"
)

func (q QemuImg) run(ctx context.Context, disk *os.File, key []byte, args []string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, toolTimeout)
	defer cancel()
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	// A key is far smaller than a pipe, so this does not wait for a reader.
	_, err = w.Write(key)
	if err = errors.Join(err, w.Close()); err != nil {
		return nil, err
	}
	program, run := q.Program, q.Run
	if program == "" {
		program = "qemu-img"
	}
	if run == nil {
		run = Plain
	}
	out, err := run(ctx, program, args, []*os.File{disk, r})
	if err == nil {
		return out, nil
	}
	text := said(out)
	if refused(text) {
		return nil, fmt.Errorf("%w: %s", ErrRefused, text)
	}
	if strings.Contains(text, "No space left on device") || strings.Contains(text, "Disk quota exceeded") {
		return nil, fmt.Errorf("%s %s: %w: %s", program, args[0], driver.ErrNoSpace, text)
	}
	return nil, fmt.Errorf("%s %s: %w: %s", program, args[0], err, text)
}

// refused recognises what QEMU says of a key that opens nothing, and of a LUKS header that is gone.
func refused(text string) bool {
	for _, s := range []string{"Invalid password, cannot unlock any keyslot", "Volume is not in LUKS format", "LUKS magic"} {
		if strings.Contains(text, s) {
			return true
		}
	}
	return false
}

// said is the beginning of what the program printed, as one line.
func said(b []byte) string {
	line := strings.Join(strings.Fields(string(b)), " ")
	if len(line) > 500 {
		line = line[:500]
	}
	return line
}

// Plain is a Run without a jail, for tests of this package's own logic.
func Plain(ctx context.Context, program string, args []string, files []*os.File) ([]byte, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.ExtraFiles = files
	cmd.Env = []string{"LC_ALL=C", "PATH=" + os.Getenv("PATH")}
	var out bytes.Buffer
	both := &limited{w: &out, left: 64 << 10}
	cmd.Stdout, cmd.Stderr = both, both
	err := cmd.Run()
	return out.Bytes(), err
}

// limited keeps the beginning of what is written and swallows the rest.
type limited struct {
	w    io.Writer
	left int
}

func (l *limited) Write(p []byte) (int, error) {
	keep := min(len(p), l.left)
	l.left -= keep
	if _, err := l.w.Write(p[:keep]); err != nil {
		return 0, err
	}
	return len(p), nil
}
