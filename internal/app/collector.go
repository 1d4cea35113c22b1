package app

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	// heapRoom is how much the heap may grow before it is collected, in bytes, but never more than by mostGrowth per cent of what is alive,
	// which is Go's own measure, nor less than by leastGrowth. A small installation is collected as by any Go program. A hundred thousand
	// desktops are 100 MiB that do not change, and as much again kept free for garbage would be most of what a desktop costs.
	heapRoom    = 40 << 20
	mostGrowth  = 100
	leastGrowth = 40
	// startGrowth is mostGrowth while the state is read: then nearly all that is allocated stays or is soon let go of, and looking through it
	// again and again takes a fifth of the time. What it costs is given back afterwards (state.DB).
	startGrowth = 200
	// The first look is for when the records have been read.
	firstLook = 2 * time.Second
	lookAgain = time.Second

	// busyRate is from how many bytes of garbage a second on an installation is busy: enough for a large heap to be collected every other
	// second if it grew by leastGrowth. Each time costs a tenth of a second of a processor, and whoever asks meanwhile waits longer: a busy
	// heap grows by mostGrowth, and what that takes is given back after quietLooks looks without such a rate.
	busyRate   = 20 << 20
	quietLooks = 3
)

// administered tells that the administrator has set the collector's pace. Then it is left alone.
func administered() bool { return os.Getenv("GOGC") != "" || os.Getenv("GOMEMLIMIT") != "" }

// unhurried slows the collector down while the state is read, until done is called.
func unhurried() (done func()) {
	if administered() {
		return func() {}
	}
	debug.SetGCPercent(startGrowth)
	return func() { debug.SetGCPercent(mostGrowth) }
}

// collect keeps the collector's pace at what the heap's size and the load need until ctx ends.
func collect(ctx context.Context) error {
	if administered() {
		return nil
	}
	var p pace
	p.now = mostGrowth
	read := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/gc/heap/allocs:bytes"}}
	before := time.Now()
	for pause := firstLook; ; pause = lookAgain {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		metrics.Read(read)
		took := time.Since(before)
		before = before.Add(took)
		growth, giveBack := p.look(read[0].Value.Uint64(), read[1].Value.Uint64(), took)
		// Setting it stops the world for a moment: not for nothing.
		if growth != p.now {
			debug.SetGCPercent(growth)
			p.now = growth
		}
		if giveBack {
			debug.FreeOSMemory()
		}
	}
}

// pace decides how far the heap may grow.
type pace struct {
	// now is the growth that is set, in per cent.
	now int
	// allocated is how much had been allocated, ever, at the last look.
	allocated uint64
	// quiet counts looks since the last busy one; busy is from a busy look until it is over.
	quiet int
	busy  bool
}

// look takes what is alive and what has been allocated ever, and how long the last look is ago. giveBack: a busy time is over, and a large heap
// has taken more than it keeps.
func (p *pace) look(live, allocated uint64, ago time.Duration) (growth int, giveBack bool) {
	first := p.allocated == 0 // reading the state is no load
	rate := float64(allocated-p.allocated) / ago.Seconds()
	p.allocated = allocated
	rest := restGrowth(live)
	switch {
	case !first && rate >= busyRate:
		p.busy, p.quiet = true, 0
		return mostGrowth, false
	case p.busy && p.quiet+1 < quietLooks:
		p.quiet++
		return mostGrowth, false
	case p.busy:
		p.busy = false
		return rest, rest < mostGrowth
	}
	if rest < p.now*9/10 || rest > p.now*11/10 || rest == leastGrowth || rest == mostGrowth {
		return rest, false
	}
	return p.now, false
}

// restGrowth is by how many per cent a heap may grow of which so many bytes are alive, when it is not busy.
func restGrowth(live uint64) int {
	return int(min(max(heapRoom*100/max(live, 1), leastGrowth), mostGrowth))
}
