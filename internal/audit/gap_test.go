package audit

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// sickly is a house whose disk fails while it is told to.
func sickly(t *testing.T, cfg Config) (*house, *session, *atomic.Bool) {
	t.Helper()
	h := newHouse(t)
	s, err := h.open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	var sick atomic.Bool
	s.w.tail.disk = &faulty{disk: s.w.tail.disk, at: func(int) bool { return sick.Load() }, synced: map[string]int64{}}
	return h, s.run(), &sick
}

// gaps are the records of the log's own.
func (h *house) gaps() (all []Record) {
	h.t.Helper()
	for e, err := range Read(h.dir(), Filter{EventName: GapEvent}) {
		if err != nil {
			h.t.Fatal(err)
		}
		all = append(all, e.Record)
	}
	return all
}

func TestRecordsThatCouldNotBeWrittenAreToldByTheLogItself(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		h, s, sick := sickly(t, Config{Place: func() (string, string) { return "123456789012", "eu-central-1" }, Log: slog.New(slog.NewTextHandler(&log, nil))})
		s.write("before")
		sick.Store(true)
		for i := range 3 {
			r := record(fmt.Sprint(i))
			if i == 2 {
				r.EventName = "TerminateWorkspaces"
			}
			if err := s.w.Write(t.Context(), r, true); !errors.Is(err, errDisk) {
				t.Fatalf("Write = %v", err)
			}
		}
		if err := s.w.Write(t.Context(), record("kept"), false); err != nil {
			t.Errorf("a record nobody waits for is kept while there is room: %v", err)
		}
		time.Sleep(time.Minute)
		synctest.Wait()
		if s.w.Health() == nil || s.w.Lost() != 3 {
			t.Errorf("Health = %v, Lost = %d", s.w.Health(), s.w.Lost())
		}
		sick.Store(false)
		time.Sleep(time.Second)
		synctest.Wait()
		if err := s.w.Health(); err != nil {
			t.Errorf("the log does not get well by itself: %v", err)
		}
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(h.ids(), " "); got != "before kept" {
			t.Errorf("records %s", got)
		}
		if got := h.lost(); got != 3 {
			t.Errorf("R15: the log tells of %d lost records, want 3", got)
		}
		g := h.gaps()[0]
		if !strings.Contains(g.ErrorMessage, "record could not be written between 2000-01-01T00:00:00Z and 2000-01-01T00:00:00Z (no space left on device): 1 workspaces.amazonaws.com CreateWorkspaces") &&
			!strings.Contains(g.ErrorMessage, "workspaces.amazonaws.com CreateWorkspaces, 1 workspaces.amazonaws.com TerminateWorkspaces") {
			t.Errorf("it says %s", g.ErrorMessage)
		}
		if g.EventSource != GapSource || g.ErrorCode != "Gap" || g.RecipientAccountID != "123456789012" || g.AWSRegion != "eu-central-1" || g.EventID == "" || g.RequestID == "" {
			t.Errorf("gap record %+v", g)
		}
		if report, err := h.verify(false); err != nil {
			t.Errorf("Verify = %+v, %v", report, err)
		}
		for _, want := range []string{`level=ERROR msg="the audit log cannot be written" then=stop error="no space left on device"`, `level=WARN msg="the audit log can be written again" lost=3`} {
			if strings.Count(log.String(), want) != 1 {
				t.Errorf("the log does not say once %s:\n%s", want, &log)
			}
		}
	})
}

func TestAGapSaysTheMostFrequentFirst(t *testing.T) {
	var g gap
	at := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	for i, name := range []string{"B", "C", "A", "C"} {
		g.add(&Record{EventSource: "x", EventName: name}, at.Add(time.Duration(i)*time.Second), errDisk)
	}
	if got, want := g.text(), "4 records could not be written between 2026-11-23T10:00:00Z and 2026-11-23T10:00:03Z (no space left on device): 2 x C, 1 x A, 1 x B"; got != want {
		t.Errorf("got %s", got)
	}
}

func TestAFullQueueOfAFailingDiskRefusesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s, sick := sickly(t, Config{QueueBytes: 4 << 10})
		s.write("before")
		sick.Store(true)
		kept, refused := 0, 0
		for i := range 20 {
			switch err := s.w.Write(t.Context(), record(fmt.Sprint(i)), false); {
			case err == nil:
				kept++
			case errors.Is(err, errDisk):
				refused++
			default:
				t.Fatal(err)
			}
			synctest.Wait()
		}
		if kept < 2 || refused < 10 {
			t.Errorf("%d kept, %d refused", kept, refused)
		}
		sick.Store(false)
		time.Sleep(time.Second)
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		if ids, lost := h.ids(), h.lost(); len(ids) != kept+1 || lost != refused {
			t.Errorf("R15: %d records and %d told as lost, want %d and %d", len(ids), lost, kept+1, refused)
		}
		if len(h.gaps()) > 2 {
			t.Errorf("%d gap records for one gap", len(h.gaps()))
		}
	})
}

func TestContinueKeepsWhatItCanAndTellsOfTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s, sick := sickly(t, Config{QueueBytes: 8 << 10, Failure: Continue})
		s.write("before")
		sick.Store(true)
		kept := 0
		for i := range 30 {
			if s.w.Write(t.Context(), record(fmt.Sprint(i)), true) == nil {
				kept++
			}
			synctest.Wait()
		}
		if kept < 3 || kept > 25 || s.w.Lost() != uint64(30-kept) {
			t.Errorf("%d kept, %d lost", kept, s.w.Lost())
		}
		sick.Store(false)
		time.Sleep(time.Second)
		s.write("after")
		if err := s.stop(); err != nil {
			t.Fatal(err)
		}
		if ids, lost := h.ids(), h.lost(); len(ids) != kept+2 || lost != 30-kept {
			t.Errorf("R15: %d records and %d told as lost, want %d and %d", len(ids), lost, kept+2, 30-kept)
		}
		if report, err := h.verify(false); err != nil {
			t.Errorf("Verify = %+v, %v", report, err)
		}
	})
}

func TestAnEndWithAFailingDiskSaysWhatIsLost(t *testing.T) {
	_, s, sick := sickly(t, Config{})
	s.write("before")
	sick.Store(true)
	for range 3 {
		if err := s.w.Write(context.Background(), record("lost"), true); err == nil {
			t.Fatal("written")
		}
	}
	if err := s.w.Write(context.Background(), record("kept"), false); err != nil {
		t.Fatal(err)
	}
	if err := s.stop(); err == nil || !strings.Contains(err.Error(), "4 records not written") {
		t.Errorf("stop = %v", err)
	}
}
