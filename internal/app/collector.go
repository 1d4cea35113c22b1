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
	// The first look is for when the records have been read, the others for an installation that grows.
	firstLook = 2 * time.Second
	lookAgain = 10 * time.Second
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

// collect keeps the collector's pace at what the heap's size needs until ctx ends.
func collect(ctx context.Context) error {
	if administered() {
		return nil
	}
	now := mostGrowth
	for pause := firstLook; ; pause = lookAgain {
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pause):
		}
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		metrics.Read(live)
		// Setting it stops the world for a moment: not for nothing.
		if next := growth(live[0].Value.Uint64()); next < now*9/10 || next > now*11/10 || next != now && (next == leastGrowth || next == mostGrowth) {
			debug.SetGCPercent(next)
			now = next
		}
	}
}

// growth is by how many per cent a heap may grow of which so many bytes are alive.
func growth(live uint64) int {
	return int(min(max(heapRoom*100/max(live, 1), leastGrowth), mostGrowth))
}
