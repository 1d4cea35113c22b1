package audit

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"sync"
	"time"

	"carrel/internal/clock"
	"carrel/internal/evidence"
)

// Config says where and how a Writer writes. Zero values of the optional fields give the defaults.
type Config struct {
	// Dir is the audit directory; made when missing (mode 0700).
	Dir string
	// Evidence takes the digests. Its lock on its own file is also what keeps a second process away from Dir.
	Evidence *evidence.Log
	Clock    clock.Clock
	// FileBytes is the size at which a new file is begun; default 64 MiB. A new UTC day begins one, too.
	FileBytes int64
	// DigestEvery is the longest time that durable records stay unsigned; default 5 minutes.
	DigestEvery time.Duration
	// SyncEvery is the longest time that records not asked to be durable stay without fsync; default 100 ms.
	SyncEvery time.Duration
	// QueueBytes bounds the records that wait for the disk; default 8 MiB. Behind it Write waits, or refuses while the disk fails.
	QueueBytes int
	// Failure is what becomes of a record that cannot be written; default Stop.
	Failure Failure
	// Place gives the account and the Region of records of the log's own, those of a gap; default none. Rand makes their ids; default crypto/rand's.
	Place func() (account, region string)
	Rand  io.Reader
	// Log is told when the disk begins to fail and when it is well again; default nobody.
	Log *slog.Logger
}

func (c *Config) defaults() {
	if c.FileBytes <= 0 {
		c.FileBytes = 64 << 20
	}
	if c.DigestEvery <= 0 {
		c.DigestEvery = 5 * time.Minute
	}
	if c.SyncEvery <= 0 {
		c.SyncEvery = 100 * time.Millisecond
	}
	if c.QueueBytes <= 0 {
		c.QueueBytes = 8 << 20
	}
	if c.Failure == "" {
		c.Failure = Stop
	}
	if c.Place == nil {
		c.Place = func() (string, string) { return "", "" }
	}
	if c.Rand == nil {
		c.Rand = rand.Reader
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
}

// Writer appends records. Write may be called by many at once; they and Run share the writing.
type Writer struct {
	cfg  Config
	wake chan struct{}
	pool sync.Pool

	// end is held by whoever writes the queue: it guards tail, due and spare, and is taken before mu.
	end  sync.Mutex
	tail tail
	// due: Run has set itself a time to sync what is written by then.
	due bool
	// spare is the memory of the queue before this one.
	spare []*entry

	mu    sync.Mutex
	queue []*entry
	// awaited counts the durable records in queue.
	awaited int
	// queued counts the bytes of all records that are neither durable nor answered: the queue's and those under way.
	queued int
	// room is closed when queued has become smaller; nil when nobody waits for that.
	room   chan struct{}
	closed bool
	// health is the last attempt's error, unsigned the last digest's.
	health, unsigned error
	// lost are the records refused that no record tells of yet; telling is the entry of one that does, until it is durable, told how many it tells of.
	lost      gap
	lostTotal uint64
	telling   *entry
	told      int
}

// entry is one record on its way.
type entry struct {
	json []byte
	// done receives the verdict; only durable entries are answered.
	done    chan error
	durable bool
}

// usualRecord is what most records of a call with a policy's decision fit into, in bytes.
const usualRecord = 3 << 10

// Open makes the directory ready to be appended to. What a crash left incomplete at its end is cut off. It refuses a directory
// whose last record is not what the chain or the last signed digest says, and changes nothing then.
func Open(cfg Config) (*Writer, error) {
	if cfg.Evidence == nil || cfg.Clock == nil || cfg.Dir == "" {
		return nil, errors.New("open audit log: Dir, Evidence and Clock are needed")
	}
	cfg.defaults()
	w := &Writer{cfg: cfg, wake: make(chan struct{}, 1)}
	w.pool.New = func() any { return &entry{json: make([]byte, 0, usualRecord), done: make(chan error, 1)} }
	w.tail = tail{dir: cfg.Dir, disk: osDisk{cfg.Dir}}
	if err := w.tail.load(); err != nil {
		return nil, fmt.Errorf("open audit log %s: %w", cfg.Dir, err)
	}
	if err := w.tail.checkDigest(cfg.Evidence); err != nil {
		return nil, fmt.Errorf("open audit log %s: %w", cfg.Dir, err)
	}
	if err := w.tail.recover(); err != nil {
		return nil, fmt.Errorf("open audit log %s: %w", cfg.Dir, err)
	}
	return w, nil
}

// Torn is how many bytes of an incomplete last record Open cut off; 0 after an orderly end.
func (w *Writer) Torn() int64 { return w.tail.torn }

// Health is the error of the last attempt to write records or to sign a digest, or nil.
func (w *Writer) Health() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return errors.Join(w.health, w.unsigned)
}

// Write puts a record into the log. rec is not kept.
//
// With durable, it returns once the record is on disk (calls that come together share one fsync), or with an error when the record
// is not in the log and will not be: the caller must then fail closed. With Config.Failure Continue it is kept instead, as one without durable is.
// Without, it returns once the record is written (see writeNow)
// or queued to be written at once; it is synced within SyncEvery, kept and tried again while the disk fails, and lost only with the
// process when it was still queued.
// A full queue makes Write wait; while the disk fails it is an error. When ctx ends first, a durable record may or may not be written.
// After Run has ended, the error is fs.ErrClosed. What Write refuses is counted, and told by a record of its own when there can be one (GapEvent).
func (w *Writer) Write(ctx context.Context, rec *Record, durable bool) error {
	err := w.write(ctx, rec, durable)
	if err != nil {
		w.lose(rec, err)
		return fmt.Errorf("audit %s: %w", rec.EventID, err)
	}
	return nil
}

func (w *Writer) write(ctx context.Context, rec *Record, durable bool) error {
	if err := rec.Check(); err != nil {
		return err
	}
	e := w.pool.Get().(*entry)
	e.json, e.durable = rec.AppendJSON(e.json[:0]), durable
	if err := w.enqueue(ctx, e); err != nil {
		w.recycle(e)
		return err
	}
	if !durable {
		if !w.writeNow() {
			w.nudge()
		}
		return nil
	}
	w.nudge()
	select {
	case err := <-e.done:
		if err != nil && w.cfg.Failure == Continue {
			e.durable = false
			if w.enqueue(ctx, e) == nil {
				w.nudge()
				return nil
			}
		}
		w.recycle(e)
		return err
	case <-ctx.Done():
		// e is still Run's: it must not be used again.
		return ctx.Err()
	}
}

func (w *Writer) enqueue(ctx context.Context, e *entry) error {
	w.mu.Lock()
	for !w.closed && w.queued > 0 && w.queued+len(e.json) > w.cfg.QueueBytes {
		if w.health != nil {
			// The disk refuses; waiting would only delay the answer, and hold whoever waits for as long as it does.
			err := w.health
			w.mu.Unlock()
			return err
		}
		if w.room == nil {
			w.room = make(chan struct{})
		}
		room := w.room
		w.mu.Unlock()
		select {
		case <-room:
		case <-ctx.Done():
			return ctx.Err()
		}
		w.mu.Lock()
	}
	defer w.mu.Unlock()
	if w.closed {
		return fs.ErrClosed
	}
	w.queue = append(w.queue, e)
	w.queued += len(e.json)
	if e.durable {
		w.awaited++
	}
	return nil
}

// nudge makes Run look at the queue.
func (w *Writer) nudge() {
	select {
	case w.wake <- struct{}{}:
	default:
	}
}

// writeNow writes the queue on the caller's own time and tells whether it did. It does so where all it takes is one write to the file
// that is open: waking up Run for that costs the machine several times the write, and this way the record is the kernel's before the
// call is answered. Nobody is made to wait: what somebody else is at, and whatever takes an fsync, is Run's.
func (w *Writer) writeNow() bool {
	if !w.end.TryLock() {
		return false
	}
	defer w.end.Unlock()
	w.mu.Lock()
	simple := w.health == nil && w.awaited == 0 && w.queued < w.cfg.QueueBytes/2
	w.mu.Unlock()
	if !simple || !w.tail.open() || w.tail.full(w.cfg.FileBytes, w.cfg.Clock.Now()) {
		return false
	}
	if owing := w.flush(false); owing && !w.due {
		w.nudge()
	}
	return true
}

// Run writes what is queued until ctx ends; then it writes what is left, signs a last digest, closes the files and returns nil, or
// an error that tells what could not be written. Callers of Write must have stopped before ctx ends, or get fs.ErrClosed.
// It is called once.
func (w *Writer) Run(ctx context.Context) error {
	digest, stopDigest := w.cfg.Clock.After(w.cfg.DigestEvery)
	defer func() { stopDigest() }()
	var due <-chan time.Time
	stopDue := func() {}
	defer func() { stopDue() }()
	// look flushes, and sees to it that what is written is synced in time.
	look := func(sync, sign bool) {
		w.end.Lock()
		defer w.end.Unlock()
		if owing := w.flush(sync); owing && due == nil {
			due, stopDue = w.cfg.Clock.After(w.cfg.SyncEvery)
		}
		w.due = due != nil
		if sign {
			w.sign(false)
		}
	}
	for {
		sync, sign := false, false
		select {
		case <-ctx.Done():
			return w.finish()
		case <-w.wake:
		case <-due:
			due, sync = nil, true
		case <-digest:
			digest, stopDigest = w.cfg.Clock.After(w.cfg.DigestEvery)
			sync, sign = true, true
		}
		look(sync, sign)
	}
}

// flush writes the queue; the caller holds end. It syncs when somebody waits for that, when told to, or when much has been written without.
// owing means that there are records that are not durable yet and must be seen to after a while.
func (w *Writer) flush(sync bool) (owing bool) {
	w.mu.Lock()
	batch, before := w.queue, w.health
	w.queue, w.awaited = w.spare[:0], 0
	if e := w.takeGap(); e != nil {
		batch = append(batch, e)
	}
	w.mu.Unlock()

	err := w.rotate(len(batch))
	w.tail.hold(batch)
	if err == nil {
		err = w.tail.append(batch)
	}
	for _, e := range batch {
		sync = sync || e.durable
	}
	if err == nil && (sync || w.tail.unsyncedBytes >= w.cfg.QueueBytes/2) {
		err = w.tail.sync()
	}
	var keep []*entry
	if err != nil {
		keep = w.tail.rollback()
	} else if len(batch) == 0 {
		// Nothing was written: that says nothing new of the disk.
		err = before
	}
	untold := w.settle(batch, keep, err)
	clear(batch)
	w.spare = batch
	return len(keep) > 0 || len(w.tail.unsynced) > 0 || untold
}

// rotate begins a new file when the current one is full or of another day.
func (w *Writer) rotate(records int) error {
	now := w.cfg.Clock.Now()
	if records == 0 || !w.tail.full(w.cfg.FileBytes, now) {
		return nil
	}
	if err := w.tail.sync(); err != nil {
		return err
	}
	// A digest that fails is made good by the next, and told by Health: it does not keep records from being written.
	w.sign(true)
	return w.tail.next(now)
}

// settle answers those who wait, and keeps what failed and nobody waits for, in its order, for the next attempt. untold: records are lost of which no
// record tells yet.
func (w *Writer) settle(batch, keep []*entry, err error) (untold bool) {
	settled := w.tail.settled
	w.mu.Lock()
	w.note(w.health, err)
	w.health = err
	if len(keep) > 0 {
		w.queue = append(keep, w.queue...)
	}
	for _, e := range batch {
		if e.durable {
			w.queued -= len(e.json)
		}
	}
	for _, e := range settled {
		w.queued -= len(e.json)
		if e == w.telling {
			w.telling, w.told = nil, 0
		}
	}
	if w.room != nil {
		close(w.room)
		w.room = nil
	}
	untold = w.lost.total > 0
	w.mu.Unlock()
	for _, e := range batch {
		if e.durable {
			e.done <- err
		}
	}
	for _, e := range settled {
		w.recycle(e)
	}
	w.tail.settled = settled[:0]
	return untold
}

// recycle keeps an entry for reuse, unless a rare large record made it large.
func (w *Writer) recycle(e *entry) {
	if cap(e.json) <= 64<<10 {
		w.pool.Put(e)
	}
}

// sign appends a digest of the durable chain to the evidence log, if it went anywhere since the last one.
func (w *Writer) sign(closed bool) {
	d, due := w.tail.digest(closed)
	if !due {
		return
	}
	_, err := w.cfg.Evidence.Append(evidence.KindAuditDigest, d.File, d)
	if err == nil {
		w.tail.signed = d.Sequence
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.unsigned = err
}

func (w *Writer) finish() error {
	w.end.Lock()
	defer w.end.Unlock()
	w.mu.Lock()
	w.closed = true
	w.mu.Unlock()
	// Twice: what was lost while a record of a gap was under way gets one behind it.
	for range 2 {
		w.flush(true)
	}
	w.sign(true)
	w.mu.Lock()
	left := len(w.queue) + w.lost.total + w.told
	if w.telling != nil {
		left--
	}
	w.queue = nil
	w.mu.Unlock()
	if err := errors.Join(w.Health(), w.tail.close()); err != nil {
		return fmt.Errorf("close audit log, %d records not written: %w", left, err)
	}
	return nil
}
