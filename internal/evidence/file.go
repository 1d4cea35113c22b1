package evidence

import (
	"bufio"
	"bytes"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"time"

	"carrel/internal/durable"
)

// This file is all of the package that touches the file system.

// ErrLocked is what Open gives when another process has the log open.
var ErrLocked = errors.New("another process has it open")

// Clock tells the time that records carry (clock.Clock is one).
type Clock interface{ Now() time.Time }

// file is what a Log needs of an os.File; tests put one that fails between.
type file interface {
	io.ReaderAt
	io.WriterAt
	Sync() error
	Truncate(size int64) error
	Close() error
}

// Log appends records to a file. All methods are safe for concurrent use.
type Log struct {
	signer Signer
	clock  Clock
	f      file
	torn   int64

	// flush is held by the one caller that writes for everybody who waits behind it.
	flush sync.Mutex
	// dirty: the file may hold bytes after size that nobody was told of; they go before the next write. Guarded by flush.
	dirty bool

	mu      sync.Mutex
	durable position // what is on disk
	next    position // what is in pending, too
	pending *batch
	closed  bool
}

// position is the end of a chain in the file.
type position struct {
	size int64
	head Head
	time time.Time
}

// batch is what one fsync covers.
type batch struct {
	lines []byte
	after position
	done  bool
	err   error
}

// Open opens or creates the log at path (mode 0600) for one process and makes it ready to append. An incomplete last line, which a
// crash leaves and nobody was ever told of, is cut off (Torn tells how long it was); anything else wrong with the last record is an
// error and nothing is changed. Only the last record is checked here: Verify checks them all.
func Open(path string, signer Signer, clock Clock) (*Log, error) {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open evidence log: %w", err)
	}
	l, err := openFile(f, path, signer, clock)
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("open evidence log %s: %w", path, err)
	}
	return l, nil
}

func openFile(f *os.File, path string, signer Signer, clock Clock) (*Log, error) {
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrLocked
		}
		return nil, err
	}
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	l, err := load(f, info.Size(), signer, clock)
	if err != nil {
		return nil, err
	}
	return l, durable.SyncDir(filepath.Dir(path))
}

func load(f file, size int64, signer Signer, clock Clock) (*Log, error) {
	if len(signer.Public()) != ed25519.PublicKeySize {
		return nil, errors.New("signer has no Ed25519 key")
	}
	l := &Log{signer: signer, clock: clock, f: f, pending: new(batch)}
	end, err := LineStart(f, size)
	if err != nil {
		return nil, err
	}
	l.durable.size = end
	if end > 0 {
		rec, _, err := lastRecord(f, end)
		if err != nil {
			return nil, err
		}
		if err := VerifyRecord(rec, signer.Public()); err != nil {
			return nil, err
		}
		l.durable.head, l.durable.time = rec.Head(), rec.Time
	}
	if l.torn = size - end; l.torn > 0 {
		if err := l.cutTorn(end); err != nil {
			return nil, fmt.Errorf("incomplete last line: %w", err)
		}
	}
	l.next = l.durable
	return l, nil
}

// cutTorn removes the torn bytes behind end, if they are what an interrupted write of ours leaves: the beginning of the next record,
// or zeros of a file that grew before its content arrived. Anything else is somebody's file, and stays.
func (l *Log) cutTorn(end int64) error {
	if l.torn > MaxRecord {
		return errLong
	}
	tail := make([]byte, l.torn)
	if _, err := l.f.ReadAt(tail, end); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	start := []byte(`{"sequence":`)
	start = start[:min(len(start), len(tail))]
	if !bytes.HasPrefix(tail, start) && len(bytes.Trim(tail, "\x00")) > 0 {
		return errors.New("not the beginning of an evidence record")
	}
	if err := l.f.Truncate(end); err != nil {
		return err
	}
	return l.f.Sync()
}

// LineStart gives the offset behind the last line feed before end, 0 when there is none. It reads backwards from end.
func LineStart(r io.ReaderAt, end int64) (int64, error) {
	buf := make([]byte, 8<<10)
	for low := end; low > 0; {
		n := min(low, int64(len(buf)))
		low -= n
		if _, err := r.ReadAt(buf[:n], low); err != nil && !errors.Is(err, io.EOF) {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return low + int64(i) + 1, nil
		}
	}
	return 0, nil
}

// lastRecord reads the line that ends at end (behind its line feed) and gives where it starts.
func lastRecord(r io.ReaderAt, end int64) (Record, int64, error) {
	start, err := LineStart(r, end-1)
	if err != nil {
		return Record{}, 0, err
	}
	if end-start > MaxRecord {
		return Record{}, 0, errLong
	}
	line := make([]byte, end-1-start)
	if _, err := r.ReadAt(line, start); err != nil && !errors.Is(err, io.EOF) {
		return Record{}, 0, err
	}
	rec, err := ParseRecord(line)
	return rec, start, err
}

// Torn is how many bytes of an incomplete last line Open cut off; 0 after an orderly end.
func (l *Log) Torn() int64 { return l.torn }

// Public is the key that verifies this log.
func (l *Log) Public() ed25519.PublicKey { return l.signer.Public() }

// Head is the last durable record's. Keep it where this machine cannot change it: it makes a cut-off tail noticeable.
func (l *Log) Head() Head {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.durable.head
}

// Append signs a record about subject and returns once it is on disk; callers that come together share one fsync. payload is
// anything encoding/json takes. When the machine's clock has gone back, the record carries the time of the one before it.
// After an error the record is not in the log and the log goes on from the last good record.
func (l *Log) Append(kind Kind, subject string, payload any) (Record, error) {
	if _, err := ParseKind(string(kind)); err != nil {
		return Record{}, err
	}
	if err := checkSubject(subject); err != nil {
		return Record{}, err
	}
	body, err := Canonical(payload)
	if err != nil {
		return Record{}, err
	}
	rec, b, err := l.enqueue(Record{Kind: kind, Subject: subject, Payload: body})
	if err != nil {
		return Record{}, err
	}
	l.flush.Lock()
	defer l.flush.Unlock()
	if !b.done {
		l.commit()
	}
	if b.err != nil {
		return Record{}, fmt.Errorf("append evidence %s %s: %w", kind, subject, b.err)
	}
	return rec, nil
}

func (l *Log) enqueue(rec Record) (Record, *batch, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return Record{}, nil, fmt.Errorf("append evidence: %w", fs.ErrClosed)
	}
	rec.Sequence, rec.Previous = l.next.head.Sequence+1, l.next.head.Hash
	if rec.Time = l.clock.Now().UTC().Round(0); rec.Time.Before(l.next.time) {
		rec.Time = l.next.time
	}
	rec, err := seal(rec, l.signer)
	if err != nil {
		return Record{}, nil, err
	}
	line, err := rec.MarshalJSON()
	if err != nil {
		return Record{}, nil, err
	}
	if len(line) >= MaxRecord {
		return Record{}, nil, fmt.Errorf("evidence record of %d bytes: longer than %d", len(line), MaxRecord)
	}
	b := l.pending
	b.lines = append(append(b.lines, line...), '\n')
	l.next = position{size: l.next.size + int64(len(line)) + 1, head: rec.Head(), time: rec.Time}
	b.after = l.next
	return rec, b, nil
}

// commit writes the pending batch. flush is held.
func (l *Log) commit() {
	l.mu.Lock()
	b, at := l.pending, l.durable.size
	l.pending = new(batch)
	l.mu.Unlock()

	b.err = l.write(b.lines, at)
	b.done = true

	l.mu.Lock()
	defer l.mu.Unlock()
	if b.err == nil {
		l.durable = b.after
		return
	}
	// Records that queued up meanwhile are chained to ones that do not exist: they fail with them.
	l.pending.done, l.pending.err = true, b.err
	l.pending = new(batch)
	l.next = l.durable
}

func (l *Log) write(lines []byte, at int64) error {
	if l.dirty {
		if err := l.f.Truncate(at); err != nil {
			return err
		}
		if err := l.f.Sync(); err != nil {
			return err
		}
		l.dirty = false
	}
	l.dirty = true
	if _, err := l.f.WriteAt(lines, at); err != nil {
		return errors.Join(err, l.f.Truncate(at))
	}
	if err := l.f.Sync(); err != nil {
		// What a failed fsync left behind is unknown: the bytes must not look acknowledged later.
		return errors.Join(err, l.f.Truncate(at))
	}
	l.dirty = false
	return nil
}

// Records gives the durable records in order, without verifying them. An error ends the sequence.
// An empty kind or subject matches all.
func (l *Log) Records(kind Kind, subject string) iter.Seq2[Record, error] {
	return func(yield func(Record, error) bool) {
		l.mu.Lock()
		size := l.durable.size
		l.mu.Unlock()
		in := bufio.NewReaderSize(io.NewSectionReader(l.f, 0, size), 64<<10)
		for n := 1; ; n++ {
			line, err := readLine(in)
			if errors.Is(err, io.EOF) {
				return
			}
			var rec Record
			if err == nil {
				rec, err = ParseRecord(line)
			}
			if err != nil {
				yield(Record{}, fmt.Errorf("read evidence line %d: %w", n, err))
				return
			}
			if (kind == "" || rec.Kind == kind) && (subject == "" || rec.Subject == subject) && !yield(rec, nil) {
				return
			}
		}
	}
}

// Latest gives the last durable record of a kind, or false. It reads from the end.
func (l *Log) Latest(kind Kind) (Record, bool, error) {
	l.mu.Lock()
	end := l.durable.size
	l.mu.Unlock()
	for end > 0 {
		rec, start, err := lastRecord(l.f, end)
		if err != nil {
			return Record{}, false, fmt.Errorf("read evidence before byte %d: %w", end, err)
		}
		if rec.Kind == kind {
			return rec, true, nil
		}
		end = start
	}
	return Record{}, false, nil
}

// Close waits for appends under way and closes the file. Later appends give fs.ErrClosed.
func (l *Log) Close() error {
	l.mu.Lock()
	already := l.closed
	l.closed = true
	l.mu.Unlock()
	l.flush.Lock()
	defer l.flush.Unlock()
	if already {
		return nil
	}
	// Appends that are queued but do not hold flush yet still get their answer.
	l.mu.Lock()
	waiting := len(l.pending.lines) > 0
	l.mu.Unlock()
	if waiting {
		l.commit()
	}
	return l.f.Close()
}

// CreateKey writes a key to a new file of mode 0600, durably. An existing file is never overwritten (fs.ErrExist).
func CreateKey(path string, key PrivateKey) error {
	text, err := key.PEM()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return fmt.Errorf("create evidence key: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return fmt.Errorf("create evidence key: %w", errors.Join(err, os.Remove(path)))
	}
	return durable.SyncDir(filepath.Dir(path))
}

// LoadKey reads CreateKey's file. A file that others than its owner may read or write is refused: it may be known or replaced.
func LoadKey(path string) (PrivateKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return PrivateKey{}, fmt.Errorf("load evidence key: %w", err)
	}
	defer func() { _ = f.Close() }()
	info, err := f.Stat()
	if err != nil {
		return PrivateKey{}, fmt.Errorf("load evidence key: %w", err)
	}
	if mode := info.Mode(); !mode.IsRegular() || mode.Perm()&0o077 != 0 {
		return PrivateKey{}, fmt.Errorf("load evidence key: %s has mode %v: want a file of mode 0600", path, mode)
	}
	text, err := io.ReadAll(io.LimitReader(f, 16<<10))
	if err != nil {
		return PrivateKey{}, fmt.Errorf("load evidence key: %w", err)
	}
	return ParsePrivateKey(text)
}
