package memory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
)

// How the host role reaches the keeper process, and makes a new one when it was killed.

// socket is the keeper's address, by the open directory: no length limit and no other directory of the same name.
func (k *Keeper) socket() string { return fmt.Sprintf("/proc/self/fd/%d/keeper.sock", k.dir.Fd()) }

// errGone: no keeper listens.
var errGone = errors.New("the keeper is gone")

// exchange sends one request and gives the answer, with errGone when no keeper gave one.
func (k *Keeper) exchange(ctx context.Context, q request, file *os.File) (r reply, out *os.File, err error) {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: k.socket(), Net: "unixpacket"})
	if errors.Is(err, unix.ECONNREFUSED) || errors.Is(err, unix.ENOENT) {
		return r, nil, errGone
	}
	if err != nil {
		return r, nil, fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
	}
	defer func() { _ = conn.Close() }()
	if q.Op != opDelete { // Deleting reads all of the memory.
		_ = conn.SetDeadline(time.Now().Add(patience))
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	var packet []byte
	if err = send(conn, q, file); err == nil {
		packet, out, err = receive(conn)
	}
	switch {
	case errors.Is(err, io.EOF) || errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET):
		return r, nil, errGone
	case err != nil:
		return r, nil, errors.Join(fmt.Errorf("%w: keeper: %w", driver.ErrUnavailable, err), ctx.Err())
	}
	if err = json.Unmarshal(packet, &r); err == nil {
		err = r.err()
	}
	if err != nil && out != nil {
		_ = out.Close()
		out = nil
	}
	return r, out, err
}

// call is exchange with a keeper that is made anew, with all blocks, when it was killed.
func (k *Keeper) call(ctx context.Context, q request, file *os.File) (reply, *os.File, error) {
	r, out, err := k.exchange(ctx, q, file)
	if !errors.Is(err, errGone) {
		return r, out, err
	}
	if err := k.revive(ctx); err != nil {
		return r, nil, fmt.Errorf("%w: keeper: %w", driver.ErrUnavailable, err)
	}
	r, out, err = k.exchange(ctx, q, file)
	if errors.Is(err, errGone) {
		err = fmt.Errorf("%w: %w again", driver.ErrUnavailable, err)
	}
	return r, out, err
}

// revive makes sure that a keeper answers and has all blocks of this process.
func (k *Keeper) revive(ctx context.Context) error {
	k.reviving.Lock()
	defer k.reviving.Unlock()
	hello, _, err := k.exchange(ctx, request{Op: opHello}, nil)
	if err == nil && hello.Version != protocolVersion {
		return fmt.Errorf("the keeper that runs (process %d) speaks version %d, this is %d: end the desktops, then carrel, then that process", hello.PID, hello.Version, protocolVersion)
	}
	if !errors.Is(err, errGone) {
		return err
	}
	if k.process != nil {
		_ = k.process.Wait() // It is dead: its listening socket is closed.
		k.process = nil
	}
	process, err := startKeeper(ctx, k.dir, k.socket())
	if err != nil {
		return err
	}
	if _, _, err := k.exchange(ctx, request{Op: opHello}, nil); err != nil {
		_ = process.Process.Kill() // It was just started and has nothing.
		_ = process.Wait()
		said, _ := os.ReadFile(filepath.Join(k.path, KeeperLog))
		return fmt.Errorf("the new keeper does not answer: %w: %.300s", err, strings.TrimSpace(string(said)))
	}
	k.process = process
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, h := range k.known {
		meta, err := h.meta.encode()
		if err == nil {
			err = k.handOver(ctx, id, meta, h.block.file)
		}
		if err != nil {
			// One that has only a part must not be taken for complete by the next call. What it was given is held here too.
			_ = process.Process.Kill()
			_ = process.Wait()
			k.process = nil
			return fmt.Errorf("hand block %s to the new keeper: %w", id, err)
		}
	}
	return nil
}

// Run watches the keeper process and starts a new one, with all blocks, as soon as it ends. It returns when ctx ends.
func (k *Keeper) Run(ctx context.Context) error {
	for ctx.Err() == nil {
		err := k.watch(ctx)
		if err == nil {
			err = k.revive(ctx)
		}
		if err != nil && ctx.Err() == nil {
			select { // It cannot be started: not a reason to end, and not one to spin.
			case <-ctx.Done():
			case <-time.After(time.Second):
			}
		}
	}
	return ctx.Err()
}

// watch returns nil when the keeper that answers now has ended.
func (k *Keeper) watch(ctx context.Context) error {
	conn, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: k.socket(), Net: "unixpacket"})
	if err != nil {
		return nil
	}
	defer func() { _ = conn.Close() }()
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })()
	_, file, err := receive(conn) // The keeper never speaks first.
	if file != nil {
		_ = file.Close()
	}
	if err != nil && (errors.Is(err, io.EOF) || errors.Is(err, unix.ECONNRESET)) {
		return nil
	}
	return errors.Join(err, ctx.Err())
}

// Quit ends the keeper process. driver.ErrOrder: it holds blocks. None runs: success.
func (k *Keeper) Quit(ctx context.Context) error {
	k.reviving.Lock()
	defer k.reviving.Unlock()
	_, _, err := k.exchange(ctx, request{Op: opQuit}, nil)
	if err != nil && !errors.Is(err, errGone) {
		return fmt.Errorf("end the memory keeper: %w", err)
	}
	if k.process != nil {
		_ = k.process.Wait()
		k.process = nil
	}
	return nil
}
