package memory

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"carrel/internal/driver"
)

// held is a block in the keeper.
type held struct {
	meta json.RawMessage
	file *os.File
	id   fileID
	size int64
	// memory is mapped for reading only: for locking, and for the look before the block is let go.
	memory []byte
	locked atomic.Bool
	stop   context.CancelFunc
	done   chan struct{}
	files  descriptors
	// leaving: it is being looked at before it is let go.
	leaving bool
}

// server is the keeper: it holds descriptors and lets one go only when it has read all of it as zero itself.
type server struct {
	// uid is the only user it listens to.
	uid uint32
	mu  sync.Mutex
	// blocks by id.
	blocks map[string]*held
	quit   chan struct{}
	once   sync.Once
}

func newServer(uid uint32) *server {
	return &server{uid: uid, blocks: map[string]*held{}, quit: make(chan struct{})}
}

// serve answers until a quit request. conns bounds how many callers are served at once.
func (s *server) serve(l *net.UnixListener) error {
	conns := make(chan struct{}, 16)
	for {
		c, err := l.AcceptUnix()
		select {
		case <-s.quit:
			return nil
		default:
		}
		if err != nil {
			// Out of descriptors or memory: what is held must be held on to.
			time.Sleep(50 * time.Millisecond)
			continue
		}
		conns <- struct{}{}
		go func() {
			defer func() { <-conns }()
			s.converse(c, l)
		}()
	}
}

// converse answers one connection until it ends.
func (s *server) converse(c *net.UnixConn, l *net.UnixListener) {
	defer func() { _ = c.Close() }()
	if uid, err := peerUID(c); err != nil || uid != s.uid {
		if _, file, err := receive(c); err == nil && file != nil { // Unread, it would turn the answer into a broken connection.
			_ = file.Close()
		}
		_ = send(c, refusal(fmt.Errorf("user %d may not speak to the keeper", uid)), nil)
		return
	}
	for {
		packet, file, err := receive(c)
		if err != nil {
			if !errors.Is(err, io.EOF) {
				_ = send(c, refusal(err), nil)
			}
			return
		}
		answer, out, quit := s.answer(packet, file)
		err = send(c, answer, out)
		if out != nil {
			_ = out.Close()
		}
		if quit {
			s.once.Do(func() {
				close(s.quit)
				_ = l.Close()
			})
			return
		}
		if err != nil {
			return
		}
	}
}

// answer does one request. in is the keeper's from now on; out is a copy for the caller to close.
func (s *server) answer(packet []byte, in *os.File) (r reply, out *os.File, quit bool) {
	keep := false
	defer func() {
		if in != nil && !keep {
			_ = in.Close()
		}
	}()
	q, err := decodeRequest(packet)
	if err == nil {
		switch q.Op {
		case opHello:
			r = reply{Version: protocolVersion, PID: os.Getpid()}
		case opPut:
			keep, err = s.put(q, in)
		case opGet:
			r, out, err = s.get(q.ID)
		case opPutFile:
			err = s.putFile(q, in)
		case opGetFile:
			out, err = s.getFile(q)
		case opList:
			r = s.list(q.After)
		case opDelete:
			err = s.delete(q.ID)
		case opQuit:
			if quit = s.empty(); !quit {
				err = fmt.Errorf("%w: blocks are held", driver.ErrOrder)
			}
		}
	}
	if err != nil {
		return refusal(err), nil, false
	}
	return r, out, quit
}

func (s *server) empty() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.blocks) == 0
}

// put takes a block, or a new meta of one that it has. keep: the descriptor is now an entry's.
func (s *server) put(q request, in *os.File) (keep bool, err error) {
	if in == nil {
		return false, errors.New("put without a descriptor")
	}
	id, size, seals, err := inspect(in)
	if err != nil {
		return false, err
	}
	if seals&sizeSeals != sizeSeals || size <= 0 {
		return false, fmt.Errorf("put of what is no memory block: %d bytes, seals %#x", size, seals)
	}
	flags, err := unix.FcntlInt(in.Fd(), unix.F_GETFL, 0)
	if err != nil || flags&unix.O_ACCMODE != unix.O_RDWR {
		return false, errors.New("put of a descriptor that is not open for reading and writing: its memory could not be zeroed later")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if h := s.blocks[q.ID]; h != nil {
		switch {
		case h.id != id:
			return false, fmt.Errorf("%w: %s is another block", driver.ErrOrder, q.ID)
		case h.leaving:
			return false, fmt.Errorf("%w: %s is being let go", driver.ErrBusy, q.ID)
		}
		h.meta = q.Meta
		return false, nil
	}
	h := &held{meta: q.Meta, file: in, id: id, size: size, files: descriptors{}, done: make(chan struct{})}
	ctx, stop := context.WithCancel(context.Background())
	h.stop = stop
	s.blocks[q.ID] = h
	go h.lock(ctx)
	return true, nil
}

// lock maps the block and locks it into memory, in the background because that takes every page from the kernel.
func (h *held) lock(ctx context.Context) {
	defer close(h.done)
	m, err := mapReadonly(h.file, h.size)
	if err != nil {
		return // delete tries again, and tells.
	}
	h.memory = m
	_ = unix.Madvise(m, unix.MADV_DONTDUMP)
	_ = unix.Madvise(m, unix.MADV_DONTFORK)
	// First without taking pages, so that a keeper without the right takes none for nothing.
	if lockOnFault(m) != nil {
		return
	}
	for from := int64(0); from < h.size; from += stepBytes {
		if ctx.Err() != nil || unix.Mlock(m[from:min(from+stepBytes, h.size)]) != nil {
			return
		}
	}
	h.locked.Store(true)
}

func (s *server) get(id string) (reply, *os.File, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h, err := s.find(id)
	if err != nil {
		return reply{}, nil, err
	}
	fd, err := copyOf(h.file)
	if err != nil {
		return reply{}, nil, err
	}
	return reply{Entries: []heldEntry{h.entry(id)}}, os.NewFile(uintptr(fd), blockName), nil
}

func (s *server) list(after string) (r reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	ids := make([]string, 0, len(s.blocks))
	for id := range s.blocks {
		if id > after {
			ids = append(ids, id)
		}
	}
	slices.Sort(ids)
	total := 0
	for _, id := range ids {
		h := s.blocks[id]
		if total > listBytes {
			r.More = true
			break
		}
		total += len(id) + len(h.meta) + 64 + 34*len(h.files)
		r.Entries = append(r.Entries, h.entry(id))
	}
	return r
}

// entry is what is told of a block.
func (h *held) entry(id string) heldEntry {
	return heldEntry{ID: id, Meta: h.meta, Locked: h.locked.Load(), Files: h.files.names()}
}

// delete lets a block go once the keeper itself has seen that it is sealed and zero: a host role with a bug must not be able to lose memory.
func (s *server) delete(id string) error {
	h, err := s.leave(id)
	if err != nil {
		return err
	}
	h.stop()
	<-h.done
	err = h.check()
	s.mu.Lock()
	defer s.mu.Unlock()
	h.leaving = false
	if err != nil {
		return err
	}
	delete(s.blocks, id)
	return errors.Join(unix.Munmap(h.memory), h.file.Close(), h.files.close())
}

// leave marks a block as one that is being let go: until that is decided nobody else gets or changes it.
func (s *server) leave(id string) (*held, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.blocks[id]
	switch {
	case h == nil:
		return nil, fmt.Errorf("%w: %s", driver.ErrNotFound, id)
	case h.leaving:
		return nil, fmt.Errorf("%w: %s is being let go already", driver.ErrBusy, id)
	}
	h.leaving = true
	return h, nil
}

// check is the second pair of eyes.
func (h *held) check() error {
	const all = sizeSeals | unix.F_SEAL_WRITE
	_, size, seals, err := inspect(h.file)
	if err != nil {
		return err
	}
	if seals&all != all || size != h.size {
		return fmt.Errorf("%w: %d of %d bytes, seals %#x: it is not sealed against writing", errDirty, size, h.size, seals)
	}
	if h.memory == nil {
		if h.memory, err = mapReadonly(h.file, h.size); err != nil {
			return err
		}
	}
	bad, _, err := readBack(context.Background(), h.memory)
	if err == nil && bad != 0 {
		err = fmt.Errorf("%w: %d of %d bytes are not zero", errDirty, bad, h.size)
	}
	return err
}
