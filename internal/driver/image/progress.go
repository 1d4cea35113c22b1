package image

import (
	"fmt"
	"io"
	"sync"
	"time"

	"carrel/internal/clock"
)

// Progress hears how far a build is. Methods are called in order, from one goroutine.
type Progress interface {
	// Plan names all steps before the first begins.
	Plan(steps []string)
	// Begin says that a step begins.
	Begin(step string)
	// End says that the step ended: done, found in the cache, or failed.
	End(step string, cached bool, err error)
}

// Silent hears and says nothing.
type Silent struct{}

// Plan does nothing.
func (Silent) Plan([]string) {}

// Begin does nothing.
func (Silent) Begin(string) {}

// End does nothing.
func (Silent) End(string, bool, error) {}

// Text writes progress for people: on a terminal one line that changes every second, elsewhere a line at each event.
type Text struct {
	w        io.Writer
	terminal bool
	clock    clock.Clock
	start    time.Time
	steps    []string
	now      int
	began    time.Time
	stop     chan struct{}
	stopped  sync.WaitGroup
}

// NewText writes to w, which is a terminal or not.
func NewText(w io.Writer, terminal bool, c clock.Clock) *Text {
	return &Text{w: w, terminal: terminal, clock: c, start: c.Now()}
}

// Plan names the steps.
func (t *Text) Plan(steps []string) { t.steps, t.now = steps, 0 }

// Begin shows the step, and what comes after it.
func (t *Text) Begin(step string) {
	t.now++
	t.began = t.clock.Now()
	if !t.terminal {
		fmt.Fprintf(t.w, "%s  [%d/%d] %s%s\n", t.elapsed(t.start), t.now, len(t.steps), step, t.next())
		return
	}
	t.stop = make(chan struct{})
	stop, now := t.stop, t.now
	t.stopped.Go(func() {
		for {
			fmt.Fprintf(t.w, "\r\x1b[K%s  [%d/%d] %s (%s)%s", t.elapsed(t.start), now, len(t.steps), step, t.elapsed(t.began), t.next())
			fired, cancel := t.clock.After(time.Second)
			select {
			case <-stop:
				cancel()
				return
			case <-fired:
			}
		}
	})
}

// End shows how long the step took.
func (t *Text) End(step string, cached bool, err error) {
	word := "done in " + t.elapsed(t.began)
	switch {
	case err != nil:
		word = "failed after " + t.elapsed(t.began)
	case cached:
		word = "in the cache already"
	}
	if t.terminal {
		close(t.stop)
		t.stopped.Wait()
		fmt.Fprintf(t.w, "\r\x1b[K%s  [%d/%d] %s: %s\n", t.elapsed(t.start), t.now, len(t.steps), step, word)
		return
	}
	fmt.Fprintf(t.w, "%s  [%d/%d] %s: %s\n", t.elapsed(t.start), t.now, len(t.steps), step, word)
}

// next names the step that comes.
func (t *Text) next() string {
	if t.now < len(t.steps) {
		return ", then: " + t.steps[t.now]
	}
	return ""
}

// elapsed is the time since from as "m:ss".
func (t *Text) elapsed(from time.Time) string {
	s := int(t.clock.Now().Sub(from).Seconds())
	return fmt.Sprintf("%d:%02d", s/60, s%60)
}
