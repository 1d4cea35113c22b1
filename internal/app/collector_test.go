package app

import "testing"

func TestALargeHeapGrowsByLessOfItself(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 100}, {10 << 20, 100}, {40 << 20, 100}, {80 << 20, 50}, {100 << 20, 40}, {4 << 30, 40}} {
		if got := growth(c.live); got != c.want {
			t.Errorf("%d MiB alive: %d per cent, want %d", c.live>>20, got, c.want)
		}
	}
}
