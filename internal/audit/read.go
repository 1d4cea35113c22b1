package audit

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"os"
	"slices"
	"time"

	"carrel/internal/evidence"
)

// Filter chooses records; zero members match all. It holds what CloudTrail's LookupEvents can ask for.
type Filter struct {
	// Since and Until bound EventTime, both included.
	Since, Until time.Time
	// AccessKeyID, EventID, EventName, EventSource and UserName must be equal.
	AccessKeyID, EventID, EventName, EventSource, UserName string
	// ReadOnly, when not nil, must be equal.
	ReadOnly *bool
	// NewestFirst gives the records in the order of LookupEvents: the last written first.
	NewestFirst bool
	// After is the sequence of the last record already seen, 0 for none: reading goes on behind it in the chosen direction.
	After uint64
}

// Event is a record that was read back.
type Event struct {
	// Sequence is its place in the chain.
	Sequence uint64
	Record   Record
	// Raw is the record as it stands in the file: CloudTrail's JSON.
	Raw json.RawMessage
}

// Read gives the records of an audit directory that a filter matches, without checking the chain: Verify does. An incomplete last
// line, which a writer may be writing, is left out. An error ends the sequence.
func Read(dir string, filter Filter) iter.Seq2[Event, error] {
	return func(yield func(Event, error) bool) {
		all, err := segments(dir)
		if err != nil {
			yield(Event{}, err)
			return
		}
		if filter.NewestFirst {
			slices.Reverse(all)
		}
		for i, s := range all {
			if filter.skips(all, i) {
				continue
			}
			goOn, err := readSegment(dir, s, filter, yield)
			if err != nil {
				yield(Event{}, fmt.Errorf("read audit file %s: %w", s.path, err))
				return
			}
			if !goOn {
				return
			}
		}
	}
}

// skips tells whether a file holds nothing behind After.
func (f *Filter) skips(all []segment, i int) bool {
	if f.After == 0 {
		return false
	}
	if f.NewestFirst {
		return all[i].first >= f.After
	}
	return i+1 < len(all) && all[i+1].first <= f.After+1
}

func readSegment(dir string, s segment, filter Filter, yield func(Event, error) bool) (goOn bool, err error) {
	f, size, err := openSegment(dir, s.path)
	if errors.Is(err, fs.ErrNotExist) {
		return true, nil // an empty file that the writer has just removed
	}
	if err != nil {
		return false, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	whole, err := evidence.LineStart(f, size)
	if err != nil {
		return false, err
	}
	if filter.NewestFirst {
		return backwards(f, whole, filter, yield)
	}
	return forwards(f, whole, filter, yield)
}

func backwards(f *os.File, at int64, filter Filter, yield func(Event, error) bool) (bool, error) {
	lines := linesBefore(f, at)
	for {
		line, start, err := lines.next()
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		var e Event
		var match bool
		if err == nil {
			e, match, err = filter.event(line)
		}
		if err != nil {
			return false, fmt.Errorf("line at byte %d: %w", start, err)
		}
		if match && !yield(e, nil) {
			return false, nil
		}
	}
}

func forwards(f *os.File, whole int64, filter Filter, yield func(Event, error) bool) (bool, error) {
	in := bufio.NewReaderSize(io.NewSectionReader(f, 0, whole), 64<<10)
	for n := 1; ; n++ {
		line, err := readLine(in)
		if errors.Is(err, io.EOF) {
			return true, nil
		}
		var e Event
		var match bool
		if err == nil {
			e, match, err = filter.event(line)
		}
		if err != nil {
			return false, fmt.Errorf("line %d: %w", n, err)
		}
		if match && !yield(e, nil) {
			return false, nil
		}
	}
}

// event reads a line and tells whether the filter matches it.
func (f *Filter) event(line []byte) (Event, bool, error) {
	l, raw, err := parseLine(line)
	if err != nil {
		return Event{}, false, err
	}
	if f.After != 0 && (f.NewestFirst && l.sequence >= f.After || !f.NewestFirst && l.sequence <= f.After) {
		return Event{}, false, nil
	}
	e := Event{Sequence: l.sequence, Raw: slices.Clone(raw)}
	if err := json.Unmarshal(raw, &e.Record); err != nil {
		return Event{}, false, err
	}
	return e, f.matches(&e.Record), nil
}

func (f *Filter) matches(r *Record) bool {
	same := func(want, got string) bool { return want == "" || want == got }
	return (f.Since.IsZero() || !r.EventTime.Before(f.Since)) &&
		(f.Until.IsZero() || !r.EventTime.After(f.Until)) &&
		same(f.AccessKeyID, r.UserIdentity.AccessKeyID) && same(f.EventID, r.EventID) && same(f.EventName, r.EventName) &&
		same(f.EventSource, r.EventSource) && same(f.UserName, r.UserIdentity.UserName) &&
		(f.ReadOnly == nil || *f.ReadOnly == r.ReadOnly)
}
