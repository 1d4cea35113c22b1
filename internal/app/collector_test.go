package app

import (
	"testing"
	"time"
)

func TestALargeHeapAtRestGrowsByLessOfItself(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 100}, {10 << 20, 100}, {40 << 20, 100}, {80 << 20, 50}, {100 << 20, 40}, {4 << 30, 40}} {
		if got := restGrowth(c.live); got != c.want {
			t.Errorf("%d MiB alive: %d per cent, want %d", c.live>>20, got, c.want)
		}
	}
}

func TestABusyHeapGrowsByAllOfItselfAndGivesBackAfterwards(t *testing.T) {
	const large, small = 100 << 20, 20 << 20
	p := pace{now: mostGrowth}
	var allocated uint64
	for i, c := range []struct {
		live, garbage uint64
		want          int
		giveBack      bool
	}{
		{large, 900 << 20, 40, false}, // reading the state is no load
		{large, 1 << 20, 40, false},
		{large, 100 << 20, 100, false},
		{large, 25 << 20, 100, false},
		{large, 1 << 20, 100, false},
		{large, 1 << 20, 100, false},
		{large, 100 << 20, 100, false}, // busy again before it was over
		{large, 0, 100, false},
		{large, 0, 100, false},
		{large, 0, 40, true},
		{large, 0, 40, false}, // once
		{large - 2<<20, 0, 40, false},
		{80 << 20, 0, 50, false},
		{78 << 20, 0, 50, false}, // not for a little
		{small, 100 << 20, 100, false},
		{small, 0, 100, false},
		{small, 0, 100, false},
		{small, 0, 100, false}, // a small heap has taken no more than it keeps
	} {
		allocated += c.garbage
		growth, giveBack := p.look(c.live, allocated, time.Second)
		if growth != c.want || giveBack != c.giveBack {
			t.Errorf("look %d: grows by %d per cent, gives back: %v; want %d, %v", i, growth, giveBack, c.want, c.giveBack)
		}
		p.now = growth
	}
}
