package display

import (
	"sync"
	"time"
)

const (
	// frame is the time between two pictures at QEMU's rate.
	frame = 33 * time.Millisecond
	// windowLeast and windowMost bound the pictures on their way to a browser: one that it draws and one that travels; more only to a
	// browser that is far away, so that the line does not fall idle.
	windowLeast, windowMost = 2, 8
)

// pacer decides when the screen is asked for the next picture: only when the browser has taken the last ones. A picture is made when it is
// asked for, so a browser that takes none has at most a window of old ones ahead of it, and then the newest (STR-3).
type pacer struct {
	mu sync.Mutex
	// continuous: the browser acknowledges by fences; else it asks for every picture.
	continuous bool
	// wanted: it has asked and the screen has not been asked for it yet. whole: for everything, not only changes.
	wanted, whole bool
	// asked: the screen owes a picture.
	asked bool
	// flights are what was sent and not acknowledged, oldest first.
	flights []flight
	serial  uint64
	// lowest is the shortest way to the browser and back so far, latency a mean of the last ones.
	lowest, latency time.Duration
}

type flight struct {
	serial  uint64
	at      time.Time
	picture bool
}

// want takes the browser's request for an update.
func (p *pacer) want(incremental bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.wanted, p.whole = true, p.whole || !incremental
}

// follow turns continuous updates on or off. Off is followed by requests.
func (p *pacer) follow(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.continuous = on
}

// next tells whether the screen is to be asked now, and for changes only or for everything. The caller must ask then.
func (p *pacer) next() (ask, incremental bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.continuous && p.pictures() >= p.window() || !p.continuous && !p.wanted || p.asked && !p.whole {
		return false, false
	}
	incremental = !p.whole
	// Its next request may come before the picture's last piece is known to be written (see drawn), and must not be lost then.
	p.asked, p.whole, p.wanted = true, false, false
	return true, incremental
}

// drawn notes that a picture has been sent to the browser. fence: it is to be followed by a fence of that serial number.
func (p *pacer) drawn(now time.Time) (serial uint64, fence bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = false
	if !p.continuous {
		return 0, false
	}
	return p.launch(now, true), true
}

// probe gives the serial number of a fence that only measures, unless one is on its way.
func (p *pacer) probe(now time.Time) (serial uint64, fence bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.continuous || len(p.flights) > 0 {
		return 0, false
	}
	return p.launch(now, false), true
}

func (p *pacer) launch(now time.Time, picture bool) uint64 {
	p.serial++
	p.flights = append(p.flights, flight{p.serial, now, picture})
	return p.serial
}

// landed takes the browser's answer to a fence. One that was never sent changes nothing.
func (p *pacer) landed(serial uint64, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, f := range p.flights {
		if f.serial != serial {
			continue
		}
		took := max(now.Sub(f.at), time.Microsecond)
		if p.lowest == 0 || took < p.lowest {
			p.lowest = took
		}
		if p.latency == 0 {
			p.latency = took
		}
		p.latency += (took - p.latency) / 4
		// Fences are answered in order: what was sent before has landed, too.
		p.flights = append(p.flights[:0], p.flights[i+1:]...)
		return
	}
}

func (p *pacer) pictures() int {
	n := 0
	for _, f := range p.flights {
		if f.picture {
			n++
		}
	}
	return n
}

func (p *pacer) window() int {
	return min(windowLeast+int(p.lowest/frame), windowMost)
}

// mean gives the latency; 0: not known.
func (p *pacer) mean() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.latency
}

// bucket lets rate things a second through, and ten seconds' worth at once.
type bucket struct {
	rate  int
	spare float64
	last  time.Time
}

// take tells how long the next one has to wait. It counts as taken.
func (b *bucket) take(now time.Time) time.Duration {
	b.fill(now)
	b.spare--
	if b.spare >= 0 {
		return 0
	}
	return time.Duration(-b.spare / float64(b.rate) * float64(time.Second))
}

// allow tells whether the next one may pass now. One that may not is not counted.
func (b *bucket) allow(now time.Time) bool {
	b.fill(now)
	if b.spare < 1 {
		return false
	}
	b.spare--
	return true
}

func (b *bucket) fill(now time.Time) {
	most := float64(10 * b.rate)
	if b.last.IsZero() {
		b.spare = most
	} else {
		b.spare = min(most, b.spare+max(0, now.Sub(b.last).Seconds())*float64(b.rate))
	}
	b.last = now
}
