package state

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"
)

const (
	// batch bounds how many transactions one Snapshot may bring, and how far the watch runs ahead of the tables.
	batch = 512
	// The pauses between attempts to reach a store that is gone.
	firstPause = 50 * time.Millisecond
	lastPause  = 5 * time.Second
)

// Run follows the store until ctx ends, and returns nil then. What goes wrong meanwhile is logged, shown by Health and
// tried again. Run it once.
func (db *DB) Run(ctx context.Context) error {
	db.mu.Lock()
	if db.ran {
		db.mu.Unlock()
		return errors.New("state: DB.Run has been called already")
	}
	db.ran, db.running = true, true
	db.mu.Unlock()
	defer func() {
		db.mu.Lock()
		db.running = false
		db.mu.Unlock()
		close(db.stopped)
	}()

	var memory sync.WaitGroup
	memory.Go(func() { db.giveBack(ctx) })
	defer memory.Wait()

	pause := firstPause
	for {
		began := db.Snapshot().rev
		err := db.follow(ctx, began)
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, ErrCompacted) {
			if err = db.relist(ctx); err == nil {
				continue
			}
		}
		if db.Snapshot().rev > began {
			pause = firstPause
		}
		db.setDown(fmt.Errorf("state: watching the store: %w", err))
		db.log.WarnContext(ctx, "the store cannot be watched; trying again", "error", err, "pause", pause)
		if !db.reach(ctx, pause) {
			return nil
		}
		pause = min(2*pause, lastPause)
	}
}

// follow applies the store's transactions after from until the watch ends, and gives its error. Transactions that have
// come while a batch was applied make the next batch.
func (db *DB) follow(ctx context.Context, from Revision) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	events := make(chan Event, batch)
	ended := make(chan error, 1)
	go func() {
		defer close(events)
		ended <- db.store.Watch(ctx, from, func(e Event) {
			select {
			case events <- e:
			case <-ctx.Done():
			}
		})
	}()
	for e := range events {
		list := []Event{e}
	more:
		for len(list) < batch {
			select {
			case e, ok := <-events:
				if !ok {
					break more
				}
				list = append(list, e)
			default:
				break more
			}
		}
		db.apply(list)
	}
	return <-ended
}

// reach waits until the store answers again: false if ctx ends before.
func (db *DB) reach(ctx context.Context, pause time.Duration) bool {
	for {
		fired, stop := db.clock.After(db.jitter(pause))
		select {
		case <-fired:
		case <-ctx.Done():
			stop()
			return false
		}
		stop()
		if _, err := db.store.Transact(ctx, Txn{}); err == nil {
			db.setDown(nil)
			return true
		}
		pause = min(2*pause, lastPause)
	}
}

func (db *DB) setDown(err error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.down = err
}

// change is one record that a batch has written or deleted.
type change struct {
	key     Key
	deleted bool
}

// apply brings transactions into the tables, publishes them and tells the subscribers.
func (db *DB) apply(events []Event) {
	changed := map[int]struct{}{}
	var changes []change
	for _, e := range events {
		for _, it := range e.Puts {
			err := db.place(it)
			db.noteCorrupt(it.Key, err)
			if err == nil {
				changed[db.ordinal[it.Key.Table]] = struct{}{}
				changes = append(changes, change{it.Key, false})
			}
		}
		for _, k := range e.Deletes {
			db.noteCorrupt(k, nil)
			if i, ok := db.ordinal[k.Table]; ok {
				db.head[i].remove(k.ID)
				changed[i] = struct{}{}
				changes = append(changes, change{k, true})
			}
		}
	}
	db.publish(events[len(events)-1].Revision, slices.Collect(maps.Keys(changed)))
	db.tell(changes)
}

// noteCorrupt keeps account of values that cannot be read. The record stays in memory as it was before; its checks fail
// from then on, so that nobody overwrites what they cannot see.
func (db *DB) noteCorrupt(k Key, err error) {
	db.mu.Lock()
	defer db.mu.Unlock()
	if err == nil {
		delete(db.corrupt, k)
		return
	}
	db.corrupt[k] = err
	db.log.Error("a stored value cannot be read", "table", string(k.Table), "id", k.ID, "error", err)
}

func (db *DB) tell(changes []change) {
	for _, c := range changes {
		db.mu.Lock()
		fns := db.subscribers[c.key.Table]
		db.mu.Unlock()
		for _, fn := range fns {
			fn(c.key.ID, c.deleted)
		}
	}
}

// relist reads the whole store again, because the transactions since the last one seen are no longer kept, and tells the
// subscribers what is different.
func (db *DB) relist(ctx context.Context) error {
	items, rev, err := db.store.List(ctx)
	if err != nil {
		return err
	}
	db.log.InfoContext(ctx, "reading the whole store again", "revision", int64(rev), "items", len(items))
	old := db.Snapshot()
	for i, d := range definitions() {
		db.head[i] = d.view()
	}
	db.mu.Lock()
	clear(db.corrupt)
	db.mu.Unlock()
	for _, it := range items {
		if err := db.place(it); err != nil {
			db.noteCorrupt(it.Key, err)
			if i, ok := db.ordinal[it.Key.Table]; ok {
				db.head[i].adopt(old.views[i], it.Key.ID)
			}
		}
	}
	var changes []change
	all := make([]int, len(db.head))
	for t, i := range db.ordinal {
		all[i] = i
		changes = append(changes, differences(t, old.views[i], db.head[i])...)
	}
	db.publish(rev, all)
	db.tell(changes)
	return nil
}

// differences lists what is written or deleted in now compared with was.
func differences(t Table, was, now anyView) []change {
	var list []change
	now.each(func(id string, rev Revision) {
		if was.revision(id) != rev {
			list = append(list, change{Key{t, id}, false})
		}
	})
	was.each(func(id string, _ Revision) {
		if now.revision(id) == 0 {
			list = append(list, change{Key{t, id}, true})
		}
	})
	return list
}
