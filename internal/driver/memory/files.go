package memory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
)

// Beside a block the keeper holds what else must outlive the host role: our ends of the connections to the machine that uses the block. While
// somebody holds them the machine does not see that the host role is gone, and the next one goes on with them. They go when the block goes.

// maxFiles bounds how many descriptors are held beside one block.
const maxFiles = 8

var fileForm = regexp.MustCompile(`^[a-z][a-z0-9-]{0,30}$`)

func checkFile(name string) error {
	if !fileForm.MatchString(name) {
		return fmt.Errorf("name of a held file %.80q: want up to 31 of a-z, 0-9 and -, the first a letter", name)
	}
	return nil
}

// descriptors are held by number: as an os.File each would be watched by the runtime, which would wake at every byte of somebody else's
// conversation.
type descriptors map[string]int

func (d descriptors) close() error {
	var err error
	for name, fd := range d {
		err = errors.Join(err, unix.Close(fd))
		delete(d, name)
	}
	return err
}

// put takes a copy of f.
func (d descriptors) put(name string, f *os.File) error {
	if _, had := d[name]; !had && len(d) >= maxFiles {
		return fmt.Errorf("%w: %d files are held already", driver.ErrOrder, maxFiles)
	}
	fd, err := copyOf(f)
	if err != nil {
		return err
	}
	if old, had := d[name]; had {
		err = unix.Close(old)
	}
	d[name] = fd
	return err
}

// get gives a copy that the caller closes.
func (d descriptors) get(name string) (*os.File, error) {
	fd, had := d[name]
	if !had {
		return nil, fmt.Errorf("%w: no file %s", driver.ErrNotFound, name)
	}
	fd, err := unix.FcntlInt(uintptr(fd), unix.F_DUPFD_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	return os.NewFile(uintptr(fd), name), nil
}

func (d descriptors) names() []string {
	names := make([]string, 0, len(d))
	for name := range d {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// copyOf duplicates a descriptor without changing whether it blocks, which all its copies share.
func copyOf(f *os.File) (fd int, err error) {
	raw, err := f.SyscallConn()
	if err != nil {
		return -1, err
	}
	if e := raw.Control(func(n uintptr) { fd, err = unix.FcntlInt(n, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return -1, e
	}
	return fd, err
}

// checkSocket refuses everything but one end of a Unix stream connection: what is held here is a conversation, and nothing that leads into a
// file system or a network.
func checkSocket(f *os.File) error {
	fd, err := copyOf(f)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
	if err != nil {
		return fmt.Errorf("only sockets are held beside a block: %w", err)
	}
	kind, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return err
	}
	listens, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err == nil && (domain != unix.AF_UNIX || kind != unix.SOCK_STREAM || listens != 0) {
		err = fmt.Errorf("only Unix stream connections are held beside a block: this is domain %d, type %d", domain, kind)
	}
	return err
}

// PutFile has the keeper hold a copy of f, a Unix stream socket, beside a block until the block is let go; f stays the caller's. A second one of
// that name takes the first one's place. driver.ErrNotFound: no such block. driver.ErrOrder: too many.
func (k *Keeper) PutFile(ctx context.Context, id, name string, f *os.File) error {
	fail := func(err error) error { return fmt.Errorf("hold %s beside memory %s: %w", name, id, err) }
	err := errors.Join(checkID(id), checkFile(name))
	if err == nil {
		err = checkSocket(f)
	}
	if err != nil {
		return fail(err)
	}
	k.mu.Lock()
	known := k.known[id] != nil
	k.mu.Unlock()
	if !known {
		return fail(driver.ErrNotFound)
	}
	if _, _, err := k.call(ctx, request{Op: opPutFile, ID: id, Name: name}, f); err != nil {
		return fail(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.known[id] == nil {
		return fail(driver.ErrNotFound) // Scrubbed meanwhile; the keeper's copy went with the block.
	}
	if k.files[id] == nil {
		k.files[id] = descriptors{}
	}
	if err := k.files[id].put(name, f); err != nil {
		return fail(err)
	}
	return nil
}

// GetFile gives a file that is held beside a block; the caller closes it. driver.ErrNotFound.
func (k *Keeper) GetFile(_ context.Context, id, name string) (*os.File, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	f, err := k.files[id].get(name)
	if err != nil {
		return nil, fmt.Errorf("beside memory %s: %w", id, err)
	}
	return f, nil
}

// adoptFiles takes over what the keeper holds beside a block.
func (k *Keeper) adoptFiles(ctx context.Context, e heldEntry) error {
	for _, name := range e.Files {
		if err := checkFile(name); err != nil {
			return err
		}
		_, f, err := k.call(ctx, request{Op: opGetFile, ID: e.ID, Name: name}, nil)
		if err != nil {
			return err
		}
		if f == nil {
			return fmt.Errorf("block %s: the keeper gave no %s", e.ID, name)
		}
		if k.files[e.ID] == nil {
			k.files[e.ID] = descriptors{}
		}
		if err := errors.Join(k.files[e.ID].put(name, f), f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// handOver gives a new keeper a block and what is held beside it. The caller holds k.mu.
func (k *Keeper) handOver(ctx context.Context, id string, meta json.RawMessage, block *os.File) error {
	if _, _, err := k.exchange(ctx, request{Op: opPut, ID: id, Meta: meta}, block); err != nil {
		return err
	}
	for name := range k.files[id] {
		f, err := k.files[id].get(name)
		if err != nil {
			return err
		}
		_, _, err = k.exchange(ctx, request{Op: opPutFile, ID: id, Name: name}, f)
		if err = errors.Join(err, f.Close()); err != nil {
			return err
		}
	}
	return nil
}

// putFile: the keeper's side. The descriptor that came stays the connection's.
func (s *server) putFile(q request, in *os.File) error {
	if in == nil {
		return errors.New("put-file without a descriptor")
	}
	if err := checkSocket(in); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	h, err := s.find(q.ID)
	if err != nil {
		return err
	}
	return h.files.put(q.Name, in)
}

func (s *server) getFile(q request) (*os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, err := s.find(q.ID)
	if err != nil {
		return nil, err
	}
	return h.files.get(q.Name)
}

// find gives a block that is not being let go. The caller holds mu.
func (s *server) find(id string) (*held, error) {
	h := s.blocks[id]
	switch {
	case h == nil:
		return nil, fmt.Errorf("%w: %s", driver.ErrNotFound, id)
	case h.leaving:
		return nil, fmt.Errorf("%w: %s is being let go", driver.ErrBusy, id)
	}
	return h, nil
}
