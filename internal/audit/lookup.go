package audit

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"time"

	"carrel/internal/evidence"
)

const (
	// maxLookupBytes and maxLookupRecords bound what one page costs: how much is read, and how many records are taken apart. A search for
	// what is rare ends its page there, with what it has found by then, and goes on with the next one.
	maxLookupBytes   = 256 << 20
	maxLookupRecords = 50_000
	// clockSlack is how far the times of records may be out of the order in which they were written: a call is recorded when it ends.
	clockSlack = time.Hour
)

// Query asks for records, the newest first.
type Query struct {
	// Filter bounds and matches; its After and NewestFirst are not looked at.
	Filter Filter
	// Words are texts that stand in a string of every record that is wanted: they spare taking apart those that do not have them.
	Words []string
	// Keep, when not nil, decides what no other member can.
	Keep func(*Event) bool
	// Before is where the page before has ended; zero: begin with the newest.
	Before Position
	// Limit is how many records a page has at most.
	Limit int
}

// Position is the place of a record: its sequence, the file (by the sequence of its first record), and the byte at which its line begins.
type Position struct {
	Sequence, File uint64
	Offset         int64
}

// Page is one page of records, and where the next one begins: zero at the end.
type Page struct {
	Events []Event
	Next   Position
}

// Reader finds records while a Writer writes. Its methods may be called concurrently. It holds two times a file in memory.
type Reader struct {
	dir    string
	writer *Writer
	// maxBytes and maxRecords are what one page may cost.
	maxBytes, maxRecords int64

	mu sync.Mutex
	// spans are the times of finished files.
	spans map[uint64]span
}

// span are the times of a file's first and last record.
type span struct{ first, last time.Time }

// Reader reads what the writer has written.
func (w *Writer) Reader() *Reader {
	return &Reader{dir: w.cfg.Dir, writer: w, maxBytes: maxLookupBytes, maxRecords: maxLookupRecords, spans: map[uint64]span{}}
}

// flushed has written and made durable all that Write has taken, unless the disk fails, and says where the durable records end. What stands behind that
// may still be taken back.
func (w *Writer) flushed() end {
	w.end.Lock()
	defer w.end.Unlock()
	w.mu.Lock()
	closed := w.closed
	w.mu.Unlock()
	if !closed {
		if owing := w.flush(true); owing && !w.due {
			w.nudge()
		}
	}
	at := w.tail.durable
	if at.holder != w.tail.current {
		at.size = 0
	}
	return at
}

// Lookup gives a page of the records that a query asks for, the newest first; all that Write took before the call are among those looked at, unless
// the disk fails. A page may have fewer records than the limit, or none, and yet a next one. The files are read from their ends, those of
// other days and times not at all.
func (r *Reader) Lookup(ctx context.Context, q Query) (Page, error) {
	s := search{Query: q, ctx: ctx, needles: q.needles(), maxBytes: r.maxBytes, maxRecords: r.maxRecords}
	at := r.writer.flushed()
	for file, err := range r.files(q.Filter.Since) {
		if err == nil && file.first <= at.sequence && (q.Before.File == 0 || file.first <= q.Before.File) {
			err = r.search(&s, file, at)
		}
		if err != nil {
			return Page{}, fmt.Errorf("look up audit records: %w", err)
		}
		if s.over {
			break
		}
	}
	return s.page, nil
}

// files gives the files of the log from the last to the first that can hold a record not older than since. A file's day is the day by whose end all of
// its records were written.
func (r *Reader) files(since time.Time) iter.Seq2[segment, error] {
	return func(yield func(segment, error) bool) {
		oldest := ""
		if !since.IsZero() {
			oldest = since.UTC().Format(dayLayout)
		}
		for day, err := range r.days() {
			if err == nil && day < oldest {
				return
			}
			var names []string
			if err == nil {
				names, err = list(filepath.Join(r.dir, filepath.FromSlash(day)), fileName)
			}
			if err != nil {
				yield(segment{}, err)
				return
			}
			for _, name := range names {
				if s, ok := parseSegment(path.Join(day, name)); ok && !yield(s, nil) {
					return
				}
			}
		}
	}
}

var (
	fileName  = regexp.MustCompile(`^\d{20}\.jsonl$`)
	yearName  = regexp.MustCompile(`^\d{4}$`)
	twoDigits = regexp.MustCompile(`^\d{2}$`)
)

// days gives the days that have a directory, the last one first.
func (r *Reader) days() iter.Seq2[string, error] {
	return func(yield func(string, error) bool) {
		var descend func(at string, levels []*regexp.Regexp) bool
		descend = func(at string, levels []*regexp.Regexp) bool {
			if len(levels) == 0 {
				return yield(at, nil)
			}
			names, err := list(filepath.Join(r.dir, filepath.FromSlash(at)), levels[0])
			if err != nil {
				yield("", err)
				return false
			}
			for _, name := range names {
				if !descend(path.Join(at, name), levels[1:]) {
					return false
				}
			}
			return true
		}
		descend("", []*regexp.Regexp{yearName, twoDigits, twoDigits})
	}
}

// list gives the names in a directory that match, the last one first; none when there is no such directory.
func list(dir string, match *regexp.Regexp) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var names []string
	for _, e := range slices.Backward(entries) {
		if match.MatchString(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// search is one lookup under way.
type search struct {
	Query
	ctx     context.Context
	needles [][]byte
	page    Page
	// over: the page is full, has cost enough, or there is nothing more.
	over                 bool
	bytes, records       int64
	maxBytes, maxRecords int64
}

// search looks through one file; at is where the durable log ends.
func (r *Reader) search(s *search, file segment, at end) (err error) {
	f, size, err := openSegment(r.dir, file.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // an empty file that the writer has just removed
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	growing := file == at.holder
	whole := size
	if growing && at.size > 0 {
		whole = min(size, at.size)
	}
	if whole, err = evidence.LineStart(f, whole); err != nil || whole == 0 {
		return err
	}
	times, err := r.times(f, file, whole, growing)
	if err != nil {
		return fmt.Errorf("%s: %w", file.path, err)
	}
	if !s.Filter.Until.IsZero() && times.first.Add(-clockSlack).After(s.Filter.Until) || times.last.Add(clockSlack).Before(s.Filter.Since) {
		return nil
	}
	if file.first == s.Before.File {
		whole = s.resume(f, whole)
	}
	if err := s.file(f, file, whole); err != nil {
		return fmt.Errorf("%s: %w", file.path, err)
	}
	return nil
}

// times gives the times of a file. Those of a finished one are read once.
func (r *Reader) times(f io.ReaderAt, file segment, whole int64, growing bool) (span, error) {
	r.mu.Lock()
	known, ok := r.spans[file.first]
	r.mu.Unlock()
	if ok {
		return known, nil
	}
	last, _, err := lineBefore(f, whole)
	if err != nil {
		return span{}, err
	}
	times := span{}
	if times.last, err = timeOf(last); err != nil {
		return span{}, err
	}
	first, err := lineAt(f, 0, whole)
	if err != nil {
		return span{}, err
	}
	if times.first, err = timeOf(first); err != nil {
		return span{}, err
	}
	if !growing {
		r.mu.Lock()
		r.spans[file.first] = times
		r.mu.Unlock()
	}
	return times, nil
}

// lineAt reads the line that begins at an offset, of a file of so many whole bytes.
func lineAt(f io.ReaderAt, offset, whole int64) ([]byte, error) {
	var buf []byte
	for size := int64(4 << 10); ; size *= 4 {
		size = min(size, whole-offset)
		from := len(buf)
		buf = append(buf, make([]byte, size-int64(from))...)
		if _, err := f.ReadAt(buf[from:], offset+int64(from)); err != nil && !errors.Is(err, io.EOF) {
			return nil, err
		}
		if i := bytes.IndexByte(buf[from:], '\n'); i >= 0 {
			return buf[:from+i], nil
		}
		if size == whole-offset {
			return nil, io.ErrUnexpectedEOF
		}
		if size > maxLine {
			return nil, errLong
		}
	}
}

func timeOf(line []byte) (time.Time, error) {
	_, raw, err := parseLine(line)
	if err != nil {
		return time.Time{}, err
	}
	var w struct{ EventTime time.Time }
	err = json.Unmarshal(raw, &w)
	return w.EventTime, err
}

// resume is where the lines before the position end. A position that does not fit costs reading the file's end again, and nothing else.
func (s *search) resume(f io.ReaderAt, whole int64) int64 {
	at := s.Before.Offset
	if at < 0 || at >= whole {
		return whole
	}
	if line, err := lineAt(f, at, whole); err != nil || sequenceOf(line) != s.Before.Sequence {
		return whole
	}
	return at
}

// file looks through the lines of a file before the offset end.
func (s *search) file(f io.ReaderAt, file segment, end int64) error {
	lines := linesBefore(f, end)
	for n := 0; ; n++ {
		line, start, err := lines.next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil && n%1024 == 0 {
			err = s.ctx.Err()
		}
		if err != nil {
			return err
		}
		s.bytes += int64(len(line))
		e, match, err := s.line(line)
		if err != nil {
			return fmt.Errorf("line at byte %d: %w", start, err)
		}
		if match {
			s.page.Events = append(s.page.Events, e)
		}
		if !s.over && (len(s.page.Events) == s.Limit || s.bytes >= s.maxBytes || s.records >= s.maxRecords) {
			s.over = true
			s.page.Next = Position{Sequence: sequenceOf(line), File: file.first, Offset: start}
		}
		if s.over {
			return nil
		}
	}
}

// line takes a line apart if it could be wanted.
func (s *search) line(line []byte) (Event, bool, error) {
	for _, needle := range s.needles {
		if !bytes.Contains(line, needle) {
			return Event{}, false, nil
		}
	}
	s.records++
	f := s.Filter
	f.After, f.NewestFirst = s.Before.Sequence, true
	e, match, err := f.event(line)
	if err != nil {
		return Event{}, false, err
	}
	if !e.Record.EventTime.IsZero() && e.Record.EventTime.Add(clockSlack).Before(f.Since) {
		s.over = true
		return Event{}, false, nil
	}
	return e, match && (s.Keep == nil || s.Keep(&e)), nil
}

// sequenceOf reads the sequence of a line; 0 when it has none.
func sequenceOf(line []byte) uint64 {
	rest, ok := bytes.CutPrefix(line, []byte(linePrefix))
	i := bytes.IndexByte(rest, ',')
	if !ok || i < 0 {
		return 0
	}
	n, _ := strconv.ParseUint(string(rest[:i]), 10, 64)
	return n
}

// needles are what the bytes of every wanted record hold: the members as AppendJSON writes them.
func (q *Query) needles() [][]byte {
	var all [][]byte
	for _, m := range []struct{ name, value string }{
		{"eventID", q.Filter.EventID}, {"eventName", q.Filter.EventName}, {"eventSource", q.Filter.EventSource},
		{"accessKeyId", q.Filter.AccessKeyID}, {"userName", q.Filter.UserName},
	} {
		if m.value != "" {
			all = append(all, member(nil, m.name, m.value)[1:])
		}
	}
	if q.Filter.ReadOnly != nil {
		all = append(all, flag(nil, "readOnly", *q.Filter.ReadOnly)[1:])
	}
	for _, w := range q.Words {
		quoted := text(nil, w)
		all = append(all, quoted[1:len(quoted)-1])
	}
	return all
}
