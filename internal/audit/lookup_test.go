package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// pages looks up all pages and gives the ids of each, joined.
func (s *session) pages(t testing.TB, r *Reader, q Query) []string {
	t.Helper()
	var all []string
	for {
		p, err := r.Lookup(t.Context(), q)
		if err != nil {
			t.Fatal(err)
		}
		ids := make([]string, len(p.Events))
		for i, e := range p.Events {
			ids[i] = e.Record.EventID
		}
		all = append(all, strings.Join(ids, " "))
		if p.Next == (Position{}) {
			return all
		}
		if q.Before = p.Next; len(all) > 1000 {
			t.Fatal("the pages do not end")
		}
	}
}

// fill writes 10 records into several files, a minute apart.
func (s *session) fill(t testing.TB) time.Time {
	t.Helper()
	start := record("").EventTime
	for i := range 10 {
		r := record(fmt.Sprint(i))
		r.EventTime = start.Add(time.Duration(i) * time.Minute)
		if i%2 == 0 {
			r.EventName, r.ReadOnly = "DescribeWorkspaces", true
		}
		if i == 7 {
			r.UserIdentity.UserName, r.UserIdentity.AccessKeyID, r.EventSource = "grace \"g\"", "AKIDGRACE", "iam.amazonaws.com"
		}
		if err := s.w.Write(t.Context(), r, true); err != nil {
			t.Fatal(err)
		}
	}
	return start
}

func TestLookup(t *testing.T) {
	h := newHouse(t)
	s := h.start(Config{FileBytes: 2 << 10})
	start := s.fill(t)
	r := s.w.Reader()
	yes, no := true, false
	tests := []struct {
		name string
		q    Query
		want string
	}{
		{"everything, the newest first", Query{Limit: 50}, "9 8 7 6 5 4 3 2 1 0"},
		{"in pages", Query{Limit: 4}, "9 8 7 6|5 4 3 2|1 0"},
		{"pages that end with the last record", Query{Limit: 5}, "9 8 7 6 5|4 3 2 1 0|"},
		{"by name in pages", Query{Limit: 2, Filter: Filter{EventName: "CreateWorkspaces"}}, "9 7|5 3|1"},
		{"by read-only", Query{Limit: 50, Filter: Filter{ReadOnly: &yes}}, "8 6 4 2 0"},
		{"by not read-only", Query{Limit: 50, Filter: Filter{ReadOnly: &no}}, "9 7 5 3 1"},
		{"by user", Query{Limit: 50, Filter: Filter{UserName: "grace \"g\""}}, "7"},
		{"by key", Query{Limit: 50, Filter: Filter{AccessKeyID: "AKIDGRACE"}}, "7"},
		{"by source", Query{Limit: 50, Filter: Filter{EventSource: "iam.amazonaws.com"}}, "7"},
		{"by id", Query{Limit: 50, Filter: Filter{EventID: "4"}}, "4"},
		{"by words", Query{Limit: 50, Words: []string{"grace \"g"}}, "7"},
		{"by a test of one's own", Query{Limit: 50, Keep: func(e *Event) bool { return e.Sequence == 3 }}, "2"},
		{"by time", Query{Limit: 50, Filter: Filter{Since: start.Add(3 * time.Minute), Until: start.Add(5 * time.Minute)}}, "5 4 3"},
		{"before all", Query{Limit: 50, Filter: Filter{Until: start.Add(-time.Second)}}, ""},
		{"behind all", Query{Limit: 50, Filter: Filter{Since: start.Add(time.Hour)}}, ""},
		{"nothing", Query{Limit: 50, Filter: Filter{EventName: "x"}}, ""},
		{"a name is not looked for where it is no name", Query{Limit: 50, Filter: Filter{EventName: "DescribeWorkspaces\",\"x"}}, ""},
	}
	check := func(t *testing.T, r *Reader) {
		for _, tt := range tests {
			t.Run(tt.name, func(t *testing.T) {
				if got := strings.Join(s.pages(t, r, tt.q), "|"); got != tt.want {
					t.Errorf("got %s, want %s", got, tt.want)
				}
			})
		}
	}
	check(t, r)
	t.Run("a page that costs too much ends early and the next goes on", func(t *testing.T) {
		r := s.w.Reader()
		r.maxRecords = 3
		if got := strings.Join(s.pages(t, r, Query{Limit: 50, Keep: func(e *Event) bool { return e.Sequence == 2 }}), "|"); got != "||1|" {
			t.Errorf("got %s", got)
		}
		r.maxRecords, r.maxBytes = 1000, 1
		if got := strings.Join(s.pages(t, r, Query{Limit: 50, Filter: Filter{EventID: "8"}}), "|"); got != "|8|||||||||" {
			t.Errorf("got %s", got)
		}
	})
	t.Run("a position that does not fit costs time only", func(t *testing.T) {
		for _, at := range []Position{{5, 4, 7}, {5, 4, -1}, {5, 4, 1 << 40}, {5, 400, 0}, {5, 4, 0}} {
			q := Query{Limit: 50, Before: at}
			if got := s.pages(t, r, q)[0]; got != "3 2 1 0" {
				t.Errorf("%v: got %s", at, got)
			}
		}
	})
	t.Run("a caller who has gone is not read for", func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := r.Lookup(ctx, Query{Limit: 1}); !errors.Is(err, context.Canceled) {
			t.Errorf("Lookup = %v", err)
		}
	})
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	t.Run("after the end", func(t *testing.T) { check(t, r) })
}

func TestTheFirstPageReadsNoHistory(t *testing.T) {
	h := newHouse(t)
	s := h.start(Config{FileBytes: 2 << 10})
	defer s.stop()
	start := s.fill(t)
	all, err := segments(h.dir())
	if err != nil || len(all) < 4 {
		t.Fatal(all, err)
	}
	for _, old := range all[:len(all)-2] {
		if err := os.WriteFile(filepath.Join(h.dir(), old.path), []byte("no record\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	r := s.w.Reader()
	if p, err := r.Lookup(t.Context(), Query{Limit: 2}); err != nil || len(p.Events) != 2 {
		t.Errorf("%d events, %v", len(p.Events), err)
	}
	if _, err := r.Lookup(t.Context(), Query{Limit: 50}); err == nil {
		t.Error("the spoilt files were read without a complaint")
	}
	t.Run("nor do days before those asked for", func(t *testing.T) {
		for _, old := range all[:len(all)-2] {
			to := filepath.Join(h.dir(), "2001", "02", "03", filepath.Base(old.path))
			if err := errors.Join(os.MkdirAll(filepath.Dir(to), 0o700), os.Rename(filepath.Join(h.dir(), old.path), to)); err != nil {
				t.Fatal(err)
			}
		}
		if p, err := r.Lookup(t.Context(), Query{Limit: 50, Filter: Filter{Since: start}}); err != nil || len(p.Events) < 3 {
			t.Errorf("%d events, %v", len(p.Events), err)
		}
	})
}

func TestLookupSeesWhatWaitsForTheDisk(t *testing.T) {
	h := newHouse(t)
	s, err := h.open(Config{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 3 { // nobody runs: the queue is all there is
		if err := s.w.Write(t.Context(), record(fmt.Sprint(i)), false); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(s.pages(t, s.w.Reader(), Query{Limit: 2}), "|"); got != "2 1|0" {
		t.Errorf("got %s", got)
	}
	if err := s.run().stop(); err != nil {
		t.Fatal(err)
	}
}

func TestLookupShowsWhatIsOnDiskWhileTheDiskFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, s, sick := sickly(t, Config{})
		s.write("a")
		sick.Store(true)
		_ = s.w.Write(t.Context(), record("b"), false)
		r := s.w.Reader()
		if got := strings.Join(s.pages(t, r, Query{Limit: 5}), "|"); got != "a" {
			t.Errorf("got %s", got)
		}
		sick.Store(false)
		if got := strings.Join(s.pages(t, r, Query{Limit: 5}), "|"); got != "b a" {
			t.Errorf("once it is well: %s", got)
		}
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
	})
}

// Readers see every record that was acknowledged before they began, in the order of the chain, while writers write and files change.
func TestLookupWhileRecordsAreWritten(t *testing.T) {
	h := newHouse(t)
	s := h.start(Config{FileBytes: 8 << 10})
	r := s.w.Reader()
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for i := range 60 {
				if err := s.w.Write(context.Background(), record(fmt.Sprintf("%d-%d", g, i)), i%3 == 0); err != nil {
					t.Error(err)
				}
				q := Query{Limit: 7, Filter: Filter{EventID: fmt.Sprintf("%d-%d", g, i/2)}}
				if got := strings.Join(s.pages(t, r, q), ""); got != q.Filter.EventID {
					t.Errorf("%s is not found: %q", q.Filter.EventID, got)
				}
				p, err := r.Lookup(t.Context(), Query{Limit: 5})
				if err != nil {
					t.Error(err)
				}
				for j := 1; j < len(p.Events); j++ {
					if p.Events[j].Sequence+1 != p.Events[j-1].Sequence {
						t.Errorf("%d follows %d", p.Events[j].Sequence, p.Events[j-1].Sequence)
					}
				}
			}
		})
	}
	wg.Wait()
	if err := s.stop(); err != nil {
		t.Fatal(err)
	}
	if got := strings.Fields(strings.Join(s.pages(t, r, Query{Limit: 50}), " ")); len(got) != 240 {
		t.Errorf("%d records, want 240", len(got))
	}
}

func TestLinesFromTheEnd(t *testing.T) {
	long := strings.Repeat("x", backChunk+5)
	for name, lines := range map[string][]string{
		"none": {}, "one": {"a"}, "empty ones": {"", "", "a", ""}, "longer than a chunk": {"a", long, "b", long},
	} {
		t.Run(name, func(t *testing.T) {
			whole := ""
			for _, l := range lines {
				whole += l + "\n"
			}
			back := linesBefore(strings.NewReader(whole), int64(len(whole)))
			for i := len(lines) - 1; i >= 0; i-- {
				got, start, err := back.next()
				if err != nil || string(got) != lines[i] || !strings.HasPrefix(whole[start:], lines[i]+"\n") {
					t.Fatalf("line %d: %.20q at %d, %v", i, got, start, err)
				}
			}
			if _, _, err := back.next(); err != io.EOF {
				t.Errorf("at the end: %v", err)
			}
		})
	}
	t.Run("one that is too long is refused", func(t *testing.T) {
		_, _, err := linesBefore(bytes.NewReader(append(make([]byte, maxLine+2*backChunk), '\n')), maxLine+2*backChunk+1).next()
		if !errors.Is(err, errLong) {
			t.Errorf("next = %v", err)
		}
	})
}

func BenchmarkLookup(b *testing.B) {
	s := newHouse(b).start(Config{})
	for i := range 20_000 {
		if err := s.w.Write(context.Background(), record(fmt.Sprint(i)), false); err != nil {
			b.Fatal(err)
		}
	}
	r := s.w.Reader()
	for name, q := range map[string]Query{"first page": {Limit: 50}, "nothing of 20000": {Limit: 50, Filter: Filter{EventID: "none"}}} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := r.Lookup(context.Background(), q); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
	if err := s.stop(); err != nil {
		b.Error(err)
	}
}
