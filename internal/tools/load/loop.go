package main

import (
	"context"
	"math"
	"runtime"
	"slices"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// result is what one round of load found.
type result struct {
	requests int
	elapsed  time.Duration
	// cpu is the server's processor time, of all its threads and children.
	cpu     time.Duration
	latency []time.Duration
}

func (r result) perSecond() float64 { return float64(r.requests) / r.elapsed.Seconds() }

// cpuEach is the server's processor time of one request in microseconds.
func (r result) cpuEach() float64 { return float64(r.cpu.Microseconds()) / float64(r.requests) }

// quantile of the latencies in milliseconds, by the nearest rank.
func (r result) quantile(q float64) float64 {
	if len(r.latency) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(r.latency))
	return float64(sorted[min(len(sorted)-1, int(q*float64(len(sorted))))].Microseconds()) / 1000
}

// plus is both rounds as one.
func (r result) plus(other result) result {
	return result{r.requests + other.requests, r.elapsed + other.elapsed, r.cpu + other.cpu, append(r.latency, other.latency...)}
}

// closedLoop keeps conns requests in flight for the duration: the most a server gives.
func closedLoop(ctx context.Context, e *endpoint, list []shot, conns int, d time.Duration) (result, error) {
	workers, err := connect(ctx, e, list, conns)
	if err != nil {
		return result{}, err
	}
	defer workers.close()
	var next, done atomic.Int64
	before, err := processTime(e.pid)
	if err != nil {
		return result{}, err
	}
	start := time.Now()
	g, ctx := errgroup.WithContext(ctx)
	for _, c := range workers {
		g.Go(func() error {
			for ctx.Err() == nil && time.Since(start) < d {
				if _, err := c.do(ctx, list[int(next.Add(1))%len(list)]); err != nil {
					return err
				}
				done.Add(1)
			}
			return ctx.Err()
		})
	}
	err = g.Wait()
	r := result{requests: int(done.Load()), elapsed: time.Since(start)}
	if err != nil {
		return r, err
	}
	after, err := processTime(e.pid)
	r.cpu = after - before
	return r, err
}

// openLoop sends rate requests a second whether or not answers come, for the duration. A latency is counted from the moment a request
// was due, so that a server that stalls is charged for the requests that had to wait (no coordinated omission).
func openLoop(ctx context.Context, e *endpoint, list []shot, rate float64, d time.Duration) (result, error) {
	const conns = 64
	workers, err := connect(ctx, e, list, conns)
	if err != nil {
		return result{}, err
	}
	defer workers.close()
	n := int(rate * d.Seconds())
	due := make(chan int, n)
	latency := make([]time.Duration, n)
	before, err := processTime(e.pid)
	if err != nil {
		return result{}, err
	}
	start := time.Now()
	at := func(i int) time.Time { return start.Add(time.Duration(float64(i) / rate * float64(time.Second))) }
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error {
		defer close(due)
		runtime.LockOSThread() // for a sleep that ends on time: the runtime's own timers may be a millisecond late
		defer runtime.UnlockOSThread()
		for i := range n {
			if err := sleepUntil(ctx, at(i)); err != nil {
				return err
			}
			due <- i
		}
		return nil
	})
	for _, c := range workers {
		g.Go(func() error {
			for i := range due {
				if _, err := c.do(ctx, list[i%len(list)]); err != nil {
					return err
				}
				latency[i] = time.Since(at(i))
			}
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return result{}, err
	}
	r := result{requests: n, elapsed: time.Since(start), latency: latency}
	after, err := processTime(e.pid)
	r.cpu = after - before
	return r, err
}

func sleepUntil(ctx context.Context, t time.Time) error {
	for {
		left := time.Until(t)
		if left <= 0 {
			return nil
		}
		if err := ctx.Err(); err != nil {
			return err
		}
		ts := syscall.NsecToTimespec(int64(left))
		if err := syscall.Nanosleep(&ts, nil); err != nil && err != syscall.EINTR {
			return err
		}
	}
}

type connections []*conn

// connect opens the connections and warms each with one request.
func connect(ctx context.Context, e *endpoint, list []shot, n int) (connections, error) {
	all := make(connections, n)
	for i := range all {
		all[i] = &conn{to: e}
		if _, err := all[i].do(ctx, list[i%len(list)]); err != nil {
			all[:i].close()
			return nil, err
		}
	}
	return all, nil
}

func (all connections) close() {
	for _, c := range all {
		discard(c)
	}
}
