package audit

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"carrel/internal/ident"
)

// Failure says what becomes of calls while records cannot be written. In every case a record that is not in the log is counted, and a record of the
// gap says so as soon as there can be one.
type Failure string

// The ways to fail.
const (
	// Stop: changes are refused; calls that only read go on while their records find room in memory, then they are refused, too.
	Stop Failure = "stop"
	// StopAll: every call waits for its record, and is refused when there can be none.
	StopAll Failure = "stop-all"
	// Continue: calls go on. Their records are kept in memory while there is room, then they are lost.
	Continue Failure = "continue"
)

// GapEvent is the EventName of a record that says how many are missing before it, GapSource its EventSource.
const (
	GapEvent  = "AuditRecordsLost"
	GapSource = "carrel"
)

// gap counts the records that are not in the log and will not be. The zero gap is none.
type gap struct {
	total       int
	by          map[string]int
	first, last time.Time
	// cause is the first one's.
	cause error
}

func (g *gap) add(rec *Record, at time.Time, cause error) {
	if g.total++; g.by == nil {
		g.by, g.first, g.cause = map[string]int{}, at, cause
	}
	// Names are the models', never a client's: there are only so many.
	g.by[rec.EventSource+" "+rec.EventName]++
	g.last = at
}

// text says what is missing, the most frequent first.
func (g *gap) text() string {
	names := slices.SortedFunc(maps.Keys(g.by), func(a, b string) int {
		return cmp.Or(cmp.Compare(g.by[b], g.by[a]), strings.Compare(a, b))
	})
	parts := make([]string, len(names))
	for i, name := range names {
		parts[i] = fmt.Sprintf("%d %s", g.by[name], name)
	}
	noun := "records"
	if g.total == 1 {
		noun = "record"
	}
	return fmt.Sprintf("%d %s could not be written between %s and %s (%v): %s", g.total, noun,
		g.first.UTC().Format(time.RFC3339), g.last.UTC().Format(time.RFC3339), g.cause, strings.Join(parts, ", "))
}

// lose counts a record that Write has refused, and has the gap recorded.
func (w *Writer) lose(rec *Record, cause error) {
	w.mu.Lock()
	w.lostTotal++
	w.lost.add(rec, w.cfg.Clock.Now(), cause)
	w.mu.Unlock()
	w.nudge()
}

// Lost is how many records this writer has refused, since Open.
func (w *Writer) Lost() uint64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.lostTotal
}

// takeGap gives the entry of a record that tells of the lost ones, nil when there is nothing to tell or the one before is still under way. The caller
// holds mu. While the disk fails this entry is what is tried again and again, so that the log is in order again as soon as the disk is.
func (w *Writer) takeGap() *entry {
	if w.lost.total == 0 || w.telling != nil {
		return nil
	}
	now := w.cfg.Clock.Now()
	account, region := w.cfg.Place()
	rec := &Record{
		UserIdentity: UserIdentity{Type: "Unknown"}, EventTime: now, EventSource: GapSource, EventName: GapEvent, AWSRegion: region, SourceIPAddress: GapSource,
		ErrorCode: "Gap", ErrorMessage: w.lost.text(), RequestID: ident.UUID(w.cfg.Rand), EventID: ident.UUID(w.cfg.Rand), RecipientAccountID: account,
	}
	w.lost, w.told = gap{}, w.lost.total
	w.telling = &entry{json: rec.AppendJSON(nil), done: make(chan error, 1)}
	w.queued += len(w.telling.json)
	return w.telling
}

// note logs when the disk begins to fail and when it is well again. The caller holds mu.
func (w *Writer) note(before, now error) {
	switch {
	case before == nil && now != nil:
		w.cfg.Log.Error("the audit log cannot be written", "then", string(w.cfg.Failure), "error", now)
	case before != nil && now == nil:
		w.cfg.Log.Warn("the audit log can be written again", "lost", w.lostTotal)
	}
}
