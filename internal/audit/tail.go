package audit

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"time"

	"carrel/internal/evidence"
)

const dayLayout = "2006/01/02"

// end is a place in the chain: behind which record, held by which file, at which size of the current file.
type end struct {
	size     int64
	sequence uint64
	hash     evidence.Hash
	holder   segment
}

// tail is the end of the chain on disk. It is used by one goroutine at a time.
type tail struct {
	dir  string
	disk disk
	// current is the file that is appended to; an empty path means that the next record begins one.
	current segment
	f       file
	torn    int64

	// durable is synced; written is what the file holds besides. The records between the two that nobody was promised anything
	// about are kept in unsynced until they are durable, too.
	durable, written end
	unsynced         []*entry
	unsyncedBytes    int
	// settled are records that were held and are durable now, until the writer takes note.
	settled []*entry
	// dirty: the file may hold bytes behind durable that are no record; they go before the next write.
	dirty bool
	// signed is the sequence of the last digest.
	signed uint64
	buf    []byte
	// today is the text of the day that began todayNumber days after 1970.
	today       string
	todayNumber int64
}

// load finds the end of the chain. It changes nothing.
func (t *tail) load() error {
	all, err := segments(t.dir)
	if err != nil {
		return err
	}
	for i := len(all) - 1; i >= 0; i-- {
		empty, err := t.loadSegment(all[i])
		if err != nil {
			return fmt.Errorf("%s: %w", all[i].path, err)
		}
		if !empty {
			return nil
		}
		if i < len(all)-1 {
			return fmt.Errorf("%s: a file without a record is not the last one", all[i].path)
		}
	}
	if t.current.first > 1 {
		return fmt.Errorf("%s: the files before it are missing", t.current.path)
	}
	return nil
}

// loadSegment reads the last record of a file; empty means that it has none.
func (t *tail) loadSegment(s segment) (empty bool, err error) {
	f, size, err := openSegment(t.dir, s.path)
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	whole, err := evidence.LineStart(f, size)
	if err != nil {
		return false, err
	}
	last := t.current.path == ""
	if last {
		if err := checkTorn(f, whole, size); err != nil {
			return false, err
		}
		t.current, t.torn = s, size-whole
	} else if size != whole {
		return false, errors.New("ends within a record and is not the last file")
	}
	if whole == 0 {
		return true, nil
	}
	line, _, err := lineBefore(f, whole)
	if err != nil {
		return false, err
	}
	l, record, err := parseLine(line)
	if err != nil {
		return false, fmt.Errorf("last line: %w", err)
	}
	if hashRecord(l.sequence, l.previous, record) != l.hash {
		return false, fmt.Errorf("last line: record %d was edited", l.sequence)
	}
	t.durable = end{sequence: l.sequence, hash: l.hash, holder: s}
	if last {
		t.durable.size = whole
	} else if t.current.first != l.sequence+1 {
		return false, fmt.Errorf("its last record is %d, but the next file begins with %d", l.sequence, t.current.first)
	}
	return false, nil
}

// checkTorn refuses a tail that is not what an interrupted write of ours leaves: the beginning of a line, or zeros.
func checkTorn(r io.ReaderAt, whole, size int64) error {
	foreign := errors.New("ends in something that is not an audit record")
	if size-whole > maxLine {
		return foreign
	}
	torn := make([]byte, size-whole)
	if _, err := r.ReadAt(torn, whole); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	start := linePrefix[:min(len(linePrefix), len(torn))]
	if !bytes.HasPrefix(torn, []byte(start)) && len(bytes.Trim(torn, "\x00")) > 0 {
		return foreign
	}
	return nil
}

// checkDigest compares the end of the chain with the last signed digest: digests are only made of synced records, so a chain that
// ends before one did not lose its end in a crash.
func (t *tail) checkDigest(log *evidence.Log) error {
	rec, ok, err := log.Latest(evidence.KindAuditDigest)
	if err != nil || !ok {
		return err
	}
	d, err := ParseDigest(rec)
	if err != nil {
		return err
	}
	if t.durable.sequence < d.Sequence {
		return fmt.Errorf("the records end at %d, but a signed digest knows %d: records were removed", t.durable.sequence, d.Sequence)
	}
	if t.durable.sequence == d.Sequence && t.durable.hash != d.Hash {
		return fmt.Errorf("record %d is not the one of the signed digest: records were changed", d.Sequence)
	}
	t.signed = d.Sequence
	return nil
}

// recover cuts off a torn tail and removes an empty last file, so that the sequence in its name is not used twice. What it found
// may have been written without fsync before the crash: it is synced before anything is chained or signed behind it.
func (t *tail) recover() error {
	t.written = t.durable
	if t.current.path == "" {
		return nil
	}
	if t.durable.holder != t.current {
		err := t.disk.remove(t.current.path)
		t.current = segment{}
		return err
	}
	if err := t.clean(); err != nil {
		return errors.Join(err, t.close())
	}
	return nil
}

// full tells whether the next record belongs into a new file. A clock that went back does not begin a new day.
func (t *tail) full(limit int64, now time.Time) bool {
	return t.current.path == "" || t.written.size >= limit || t.dayOf(now) > t.current.day
}

// dayOf is the day of now. It is asked for every record, and made once a day.
func (t *tail) dayOf(now time.Time) string {
	const day = 24 * 60 * 60
	if n := now.Unix() / day; t.today == "" || n != t.todayNumber {
		t.today, t.todayNumber = now.UTC().Format(dayLayout), n
	}
	return t.today
}

// open tells whether the current file can be appended to as it is.
func (t *tail) open() bool { return t.f != nil && !t.dirty }

// next ends the current file, whose records are synced, and names the next one; append makes it.
func (t *tail) next(now time.Time) error {
	if t.f != nil {
		// Everything in it is synced: a failing close loses nothing.
		_ = t.f.Close()
		t.f = nil
	}
	if t.current.path != "" && t.durable.holder != t.current {
		if err := t.disk.remove(t.current.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	day := max(t.dayOf(now), t.current.day)
	first := t.durable.sequence + 1
	t.current = segment{path: fmt.Sprintf("%s/%020d.jsonl", day, first), first: first, day: day}
	t.durable.size, t.written.size = 0, 0
	return nil
}

// hold takes charge of those records of a batch that nobody waits for, until they are durable or rolled back.
func (t *tail) hold(batch []*entry) {
	for _, e := range batch {
		if !e.durable {
			t.unsynced = append(t.unsynced, e)
			t.unsyncedBytes += len(e.json)
		}
	}
}

// append writes a batch behind the chain, without sync.
func (t *tail) append(batch []*entry) error {
	if len(batch) == 0 {
		return nil
	}
	if !t.open() {
		if err := t.clean(); err != nil {
			return err
		}
	}
	t.buf = t.buf[:0]
	after := t.written
	for _, e := range batch {
		var l link
		t.buf, l = appendLine(t.buf, after.sequence+1, after.hash, e.json)
		after.sequence, after.hash = l.sequence, l.hash
	}
	after.size, after.holder = after.size+int64(len(t.buf)), t.current
	if _, err := t.f.WriteAt(t.buf, t.written.size); err != nil {
		return err
	}
	t.written = after
	return nil
}

// sync makes all that is written durable, and with it what hold took: every record held is written by then.
func (t *tail) sync() error {
	if t.written == t.durable {
		return nil
	}
	if err := t.f.Sync(); err != nil {
		return err
	}
	t.durable = t.written
	t.settled = append(t.settled, t.unsynced...)
	t.unsynced, t.unsyncedBytes = t.unsynced[:0], 0
	return nil
}

// rollback forgets what is not durable, and gives back the records that hold took, in their order.
func (t *tail) rollback() []*entry {
	t.written, t.dirty = t.durable, true
	if t.f != nil {
		// What a failed write or fsync left behind is unknown: better that it is gone at once. clean will insist before the next write.
		_ = t.f.Truncate(t.durable.size)
	}
	keep := t.unsynced
	t.unsynced, t.unsyncedBytes = nil, 0
	return keep
}

// clean opens the current file and makes sure that it ends with the last durable record.
func (t *tail) clean() error {
	if t.f == nil {
		f, err := t.disk.open(t.current.path)
		if err != nil {
			return err
		}
		t.f = f
	}
	if err := t.f.Truncate(t.durable.size); err != nil {
		return err
	}
	if err := t.f.Sync(); err != nil {
		return err
	}
	t.dirty = false
	return nil
}

// digest says how far the durable chain went, and whether that is further than the last digest.
func (t *tail) digest(closed bool) (Digest, bool) {
	at := t.durable
	return Digest{File: at.holder.path, FileFirst: at.holder.first, Sequence: at.sequence, Hash: at.hash, Closed: closed}, at.sequence > t.signed
}

func (t *tail) close() error {
	if t.f == nil {
		return nil
	}
	err := t.f.Close()
	t.f = nil
	return err
}
