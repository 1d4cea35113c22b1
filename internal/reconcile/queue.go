package reconcile

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"carrel/internal/clock"
)

// queue hands out ids: each to one worker at a time, each once however often it was added meanwhile.
type queue struct {
	clock clock.Clock

	mu     sync.Mutex
	some   *sync.Cond
	ready  []string
	items  map[string]*queued
	closed bool
	// wakes orders the ids to be added later. An entry that is not the time in the id's item is stale.
	wakes wakeHeap
	// earlier tells run that the first wake has changed.
	earlier chan struct{}
}

// queued is what the queue knows of an id; one that is nothing of all this is not in the map.
type queued struct {
	ready, working, again bool
	wake                  time.Time
}

type wake struct {
	at time.Time
	id string
}

type wakeHeap []wake

func (h wakeHeap) Len() int           { return len(h) }
func (h wakeHeap) Less(i, j int) bool { return h[i].at.Before(h[j].at) }
func (h wakeHeap) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }
func (h *wakeHeap) Push(x any)        { *h = append(*h, x.(wake)) }
func (h *wakeHeap) Pop() any {
	old := *h
	x := old[len(old)-1]
	*h = old[:len(old)-1]
	return x
}

func newQueue(c clock.Clock) *queue {
	q := &queue{clock: c, items: map[string]*queued{}, earlier: make(chan struct{}, 1)}
	q.some = sync.NewCond(&q.mu)
	return q
}

// add makes an id ready, or has it looked at again if somebody works on it.
func (q *queue) add(id string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.push(id)
}

func (q *queue) push(id string) {
	if q.closed {
		return
	}
	it := q.items[id]
	if it == nil {
		it = &queued{}
		q.items[id] = it
	}
	switch {
	case it.working:
		it.again = true
	case !it.ready:
		it.ready = true
		q.ready = append(q.ready, id)
		q.some.Signal()
	}
}

// take waits for a ready id. ok is false once the queue is closed.
func (q *queue) take() (id string, ok bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.ready) == 0 && !q.closed {
		q.some.Wait()
	}
	if q.closed {
		return "", false
	}
	id, q.ready = q.ready[0], q.ready[1:]
	it := q.items[id]
	it.ready, it.working = false, true
	return id, true
}

// done gives an id back, to be added again at next (zero: only when somebody adds it). It replaces an earlier next.
func (q *queue) done(id string, next time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	it := q.items[id]
	it.working, it.wake = false, next
	if it.again {
		it.again = false
		q.push(id)
	}
	if next.IsZero() {
		if !it.ready {
			delete(q.items, id)
		}
		return
	}
	heap.Push(&q.wakes, wake{next, id})
	if q.wakes[0].at.Equal(next) {
		select {
		case q.earlier <- struct{}{}:
		default:
		}
	}
}

// depth is how many ids are ready, worked on, and waiting for their time.
func (q *queue) depth() (ready, working, waiting int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, it := range q.items {
		switch {
		case it.ready:
			ready++
		case it.working:
			working++
		default:
			waiting++
		}
	}
	return ready, working, waiting
}

// due adds what is due and gives the time of the next wake, zero when there is none.
func (q *queue) due() time.Time {
	q.mu.Lock()
	defer q.mu.Unlock()
	now := q.clock.Now()
	for len(q.wakes) > 0 {
		first := q.wakes[0]
		it := q.items[first.id]
		if it != nil && it.wake.Equal(first.at) {
			if first.at.After(now) {
				return first.at
			}
			it.wake = time.Time{}
			q.push(first.id)
		}
		heap.Pop(&q.wakes)
	}
	return time.Time{}
}

// run adds ids when their time has come, until ctx ends; then the queue is closed.
func (q *queue) run(ctx context.Context) {
	defer q.close()
	for ctx.Err() == nil {
		next := q.due()
		var fired <-chan time.Time
		stop := func() {}
		if !next.IsZero() {
			fired, stop = q.clock.After(next.Sub(q.clock.Now()))
		}
		select {
		case <-fired:
		case <-q.earlier:
		case <-ctx.Done():
		}
		stop()
	}
}

func (q *queue) close() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.closed = true
	q.some.Broadcast()
}
