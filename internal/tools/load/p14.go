package main

import (
	"context"
	"fmt"
	"math"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	p14Load = 3 * time.Second
	// p14Settle: Go gives memory back to the system in the background, within a few collections.
	p14Settle = 10 * time.Second
)

// p14 is the memory of 100,000 desktops: everything the process holds of them, that is the WorkSpace's record and its address,
// their indexes, and the store's own index of their keys. Each size is measured after a restart, some load
// and a rest: a heap under load has more room for garbage (internal/app/collector.go), which is the load's and no record's. It is shown as well.
func (b *bench) p14(ctx context.Context) error {
	b.report.begin("p14", fmt.Sprintf("resident memory at 0 and at %d desktops", large))
	s := newSamples()
	for _, n := range []int{0, large} {
		if err := b.p14Size(ctx, s, n); err != nil {
			return err
		}
	}
	b.report.table("P14", s)
	zero, all := "0 desktops", fmt.Sprintf("%d desktops", large)
	each := func(name string) float64 { return (s.of(name, all)[0] - s.of(name, zero)[0]) * 1024 / large }
	b.report.atMost("P14", "resident KiB a desktop, all memory", each("resident MiB"), 1.5)
	b.report.atMost("P14", "resident KiB a desktop, without mapped files", each("without mapped files MiB"), 1.5)
	b.report.atMost("P14", "live heap KiB a desktop", each("live heap MiB"), 1.5)
	b.report.atMost("P14", fmt.Sprintf("resident MiB at %d desktops", large), s.of("resident MiB", all)[0], 300)
	b.report.atMost("P14", fmt.Sprintf("resident MiB at %d desktops, at the end of the load", large), s.of("resident MiB at the end of the load", all)[0], 300)
	return nil
}

func (b *bench) p14Size(ctx context.Context, s *samples, desktops int) error {
	dir, err := b.installation(ctx, desktops)
	if err != nil {
		return err
	}
	p, e, err := b.serve(ctx, dir)
	if err != nil {
		return err
	}
	defer discard(p)
	metrics, err := b.metricsURL(ctx, dir)
	if err != nil {
		return err
	}
	calls := []call{{describe, `{}`, `"Workspaces"`}}
	if desktops > 0 {
		calls = spread(byID, 2000, desktops)
	}
	list, err := e.shots(calls)
	if err != nil {
		return err
	}
	if _, err := closedLoop(ctx, e, list, p2Conns, p14Load); err != nil {
		return err
	}
	busy, _, err := resident(p.pid())
	if err != nil {
		return err
	}
	select {
	case <-time.After(p14Settle):
	case <-ctx.Done():
		return ctx.Err()
	}
	rss, anonymous, err := resident(p.pid())
	if err != nil {
		return err
	}
	heap, err := b.liveHeap(ctx, metrics)
	if err != nil {
		return err
	}
	label := fmt.Sprintf("%d desktops", desktops)
	s.add("resident MiB", label, float64(rss)/1024)
	s.add("without mapped files MiB", label, float64(anonymous)/1024)
	s.add("live heap MiB", label, heap/(1<<20))
	s.add("resident MiB at the end of the load", label, float64(busy)/1024)
	return nil
}

// heapSamples: the heap in use swings between collections, and its least is what is alive.
const heapSamples = 20

// liveHeap is the least heap in use, in bytes, over a few readings of the process's metrics while its heap is collected (asking for a
// heap profile with gc=1 collects it first).
func (b *bench) liveHeap(ctx context.Context, metrics string) (float64, error) {
	least := math.Inf(1)
	for range heapSamples {
		if _, err := get(ctx, strings.TrimSuffix(metrics, "/metrics")+"/debug/pprof/heap?gc=1"); err != nil {
			return 0, err
		}
		text, err := get(ctx, metrics)
		if err != nil {
			return 0, err
		}
		m := regexp.MustCompile(`(?m)^go_memstats_heap_alloc_bytes (\S+)$`).FindSubmatch(text)
		if m == nil {
			return 0, fmt.Errorf("%s has no go_memstats_heap_alloc_bytes", metrics)
		}
		v, err := strconv.ParseFloat(string(m[1]), 64)
		if err != nil {
			return 0, err
		}
		least = min(least, v)
	}
	return least, nil
}
