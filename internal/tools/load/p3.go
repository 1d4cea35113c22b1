package main

import (
	"context"
	"fmt"
	"time"
)

const (
	small, large = 100, 100_000
	p3Conns      = 32
	p3Capacity   = time.Second
	// A pair is so many short slices of each server in turn: what the machine does beside falls on all alike.
	p3Slices = 5
	p3Slice  = 600 * time.Millisecond
)

// p3 is how flat reads are in the number of desktops: p99 under an open loop at half of what the small installation can give, the same
// rate for both sizes and, so that what the generator itself adds can be seen, for the floor.
func (b *bench) p3(ctx context.Context) error {
	b.report.begin("p3", fmt.Sprintf("open loop at half capacity, %d against %d desktops, %d interleaved pairs (medians)", small, large, b.pairs))
	floor, fe, err := b.startFloor(ctx)
	if err != nil {
		return err
	}
	defer discard(floor)
	ends := []sized{{fe, "floor", small}}
	for _, n := range []int{small, large} {
		dir, err := b.installation(ctx, n)
		if err != nil {
			return err
		}
		p, e, err := b.serve(ctx, dir)
		if err != nil {
			return err
		}
		defer discard(p)
		ends = append(ends, sized{e, fmt.Sprintf("%d desktops", n), n})
	}
	s := newSamples()
	kinds := []kind{{"by id", byID}, {"by user", byUser}, {"by directory page", byPage}}
	for _, k := range kinds {
		if err := b.p3Kind(ctx, s, k, ends); err != nil {
			return err
		}
	}
	b.report.table("P3", s)
	for _, k := range kinds {
		b.report.atMost("P3", k.name+": p99 at 100,000 / at 100 desktops", s.ratio(k.name+": p99 ms", ends[2].label, ends[1].label), 1.25)
	}
	return nil
}

// kind is a way of reading.
type kind struct {
	name string
	call func(int) call
}

// sized is a server and how many desktops it has.
type sized struct {
	*endpoint
	label    string
	desktops int
}

func (s sized) shotsOf(k kind) ([]shot, error) {
	calls := spread(k.call, 2000, s.desktops)
	if s.name == "floor" {
		calls = anyAnswer(calls)
	}
	return s.shots(calls)
}

// halfCapacity is half of the best of three rounds of full load: what else the machine does makes a round worse, never better.
func halfCapacity(ctx context.Context, e *endpoint, list []shot) (float64, error) {
	best := 0.0
	for range 3 {
		r, err := closedLoop(ctx, e, list, p3Conns, p3Capacity)
		if err != nil {
			return 0, err
		}
		best = max(best, r.perSecond())
	}
	return best / 2, nil
}

func (b *bench) p3Kind(ctx context.Context, s *samples, k kind, ends []sized) error {
	list, err := ends[1].shotsOf(k)
	if err != nil {
		return err
	}
	half, err := halfCapacity(ctx, ends[1].endpoint, list)
	if err != nil {
		return err
	}
	b.say("%s: %.0f req/s", k.name, half)
	lists := make([][]shot, len(ends))
	for i, e := range ends {
		if lists[i], err = e.shotsOf(k); err != nil {
			return err
		}
	}
	for range b.pairs {
		pooled := make([]result, len(ends))
		for range p3Slices {
			for i, e := range ends {
				r, err := openLoop(ctx, e.endpoint, lists[i], half, p3Slice)
				if err != nil {
					return err
				}
				pooled[i] = pooled[i].plus(r)
			}
		}
		for i, e := range ends {
			s.add(k.name+": p50 ms", e.label, pooled[i].quantile(0.50))
			s.add(k.name+": p99 ms", e.label, pooled[i].quantile(0.99))
			s.add(k.name+": server CPU us/request", e.label, pooled[i].cpuEach())
		}
	}
	return nil
}
