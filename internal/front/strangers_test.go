package front_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"carrel/internal/audit"
	"carrel/internal/clock"
	"carrel/internal/front"
)

// strangersHouse is a house that bounds the records of strangers; stop ends what writes the summaries.
func strangersHouse(t *testing.T) (h *house, stop func()) {
	t.Helper()
	h = newHouse(t)
	h.Strangers = front.NewStrangers(clock.System{})
	ctx, cancel := context.WithCancel(t.Context())
	var wait sync.WaitGroup
	wait.Go(func() {
		if err := h.Strangers.Run(ctx, h.Door); err != nil {
			t.Error(err)
		}
	})
	return h, func() { cancel(); wait.Wait() }
}

// unsigned sends n requests without a signature from an address.
func (h *house) unsigned(t *testing.T, n int, from string) {
	t.Helper()
	for range n {
		r := h.describe(t).request()
		r.Header.Del("Authorization")
		r.RemoteAddr = from
		if a := h.send(t, r); a.code == "" {
			t.Fatalf("an unsigned request is answered %d", a.status)
		}
	}
}

// told splits the records into those of single requests and summaries.
func (h *house) told() (single int, summaries []*audit.Record) {
	h.audit.mu.Lock()
	defer h.audit.mu.Unlock()
	for _, r := range h.audit.records {
		if r.EventName == front.SummaryEvent {
			summaries = append(summaries, r)
		} else {
			single++
		}
	}
	return single, summaries
}

func TestAFloodOfStrangersIsCountedAndNothingIsSilentlyMissing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stop := strangersHouse(t)
		defer stop()
		begun := time.Now()
		h.unsigned(t, 1000, "203.0.113.9:4711")
		single, summaries := h.told()
		if single != 10 || len(summaries) != 0 {
			t.Fatalf("%d records and %d summaries at once", single, len(summaries))
		}
		time.Sleep(2 * time.Minute)
		synctest.Wait()
		_, summaries = h.told()
		if len(summaries) != 1 {
			t.Fatalf("%d summaries", len(summaries))
		}
		s := summaries[0]
		if err := s.Check(); err != nil || !strings.Contains(s.ErrorMessage, "990 MissingAuthenticationToken") || !strings.HasPrefix(s.ErrorMessage, "990 requests") || s.SourceIPAddress != "203.0.113.9" ||
			s.UserIdentity.Type != "Unknown" || s.EventTime.Sub(begun) > 2*time.Minute {
			t.Errorf("%v: %+v", err, s)
		}
		// Four allowances have grown meanwhile.
		h.unsigned(t, 5, "203.0.113.9:4712")
		if single, _ = h.told(); single != 14 {
			t.Errorf("%d records after two minutes", single)
		}
		stop()
		if _, summaries = h.told(); len(summaries) != 2 || !strings.HasPrefix(summaries[1].ErrorMessage, "1 requests") {
			t.Errorf("at the end: %d summaries", len(summaries))
		}
		// The doors still finish what they have begun.
		before, _ := h.told()
		h.unsigned(t, 3, "203.0.113.9:4713")
		if single, summaries = h.told(); single != before+3 || len(summaries) != 2 {
			t.Errorf("after the end: %d records more", single-before)
		}
	})
}

func TestOneStrangersFloodHidesNobodyElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stop := strangersHouse(t)
		defer stop()
		h.unsigned(t, 50, "203.0.113.9:4711")
		h.unsigned(t, 3, "203.0.113.10:4711")
		if rec := h.audit.last(t); rec.SourceIPAddress != "203.0.113.10" {
			t.Errorf("the last record is of %s", rec.SourceIPAddress)
		}
		// Who is known is recorded each time, from the same address, denied or not.
		before := h.audit.len()
		for range 40 {
			r := h.describe(t).request()
			r.RemoteAddr = "203.0.113.9:4711"
			if a := h.send(t, r); a.status != 200 {
				t.Fatalf("%d %s", a.status, a.code)
			}
			d := h.describe(t)
			d.sign(t, signer(h.nobody, operation(t, "workspaces", "DescribeWorkspaces")), time.Now())
			r = d.request()
			r.RemoteAddr = "203.0.113.9:4711"
			if a := h.send(t, r); a.code != "AccessDeniedException" {
				t.Fatalf("%d %s", a.status, a.code)
			}
		}
		if n := h.audit.len() - before; n != 80 {
			t.Errorf("%d records of 80 requests of known principals", n)
		}
		// An IPv6 network is one stranger, whatever address of it is used.
		before = h.audit.len()
		for i := range 30 {
			h.unsigned(t, 1, fmt.Sprintf("[2001:db8::%x]:4711", i))
		}
		if n := h.audit.len() - before; n != 10 {
			t.Errorf("%d records of one IPv6 network", n)
		}
	})
}

func TestStrangersFromEverywhereShareWhatIsLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, stop := strangersHouse(t)
		defer stop()
		const networks, each = 1500, 2
		for i := range networks {
			h.unsigned(t, each, fmt.Sprintf("10.%d.%d.1:4711", i/256, i%256))
		}
		single, _ := h.told()
		stop()
		_, summaries := h.told()
		if len(summaries) != 1 || summaries[0].SourceIPAddress != "many networks" {
			t.Fatalf("%d summaries: %+v", len(summaries), summaries)
		}
		var counted int
		if _, err := fmt.Sscanf(summaries[0].ErrorMessage, "%d requests", &counted); err != nil || single+counted != networks*each || single > 1024*each+10 {
			t.Errorf("%d recorded and %d counted of %d, %v", single, counted, networks*each, err)
		}
	})
}
