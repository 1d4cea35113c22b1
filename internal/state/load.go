package state

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"runtime/debug"
	"time"

	"golang.org/x/sync/errgroup"
)

// load fills the heads with all that the store holds.
func (db *DB) load(ctx context.Context) (Revision, error) {
	for {
		db.head = nil
		for i, d := range definitions() {
			db.ordinal[d.table()] = i
			db.head = append(db.head, d.view())
		}
		var rev Revision
		var err error
		if pages, ok := db.store.(PageLister); ok {
			rev, err = db.loadPages(ctx, pages)
		} else {
			rev, err = db.loadAll(ctx)
		}
		if !errors.Is(err, ErrCompacted) {
			return rev, err
		}
	}
}

// loadAll is load from a store that lists everything at once.
func (db *DB) loadAll(ctx context.Context) (Revision, error) {
	items, rev, err := db.store.List(ctx)
	if err != nil {
		return 0, fmt.Errorf("state: reading the store: %w", err)
	}
	return rev, db.fill(items)
}

// loadPages decodes pages on all processors while the store reads the next, so that no more pages are in memory than that takes.
func (db *DB) loadPages(ctx context.Context, store PageLister) (rev Revision, err error) {
	work, ctx := errgroup.WithContext(ctx)
	pages := make(chan []Item)
	work.Go(func() error {
		defer close(pages)
		var err error
		rev, err = store.ListPages(ctx, func(page []Item) error {
			select {
			case pages <- page:
				return nil
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		})
		if err != nil {
			return fmt.Errorf("state: reading the store: %w", err)
		}
		return nil
	})
	for range runtime.GOMAXPROCS(0) {
		work.Go(func() error {
			for page := range pages {
				if err := db.fill(page); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err = work.Wait()
	return rev, err
}

const (
	// manyRecords is from how many records on what reading them took is worth giving back.
	manyRecords = 50_000
	// giveBackEvery is how often what the store has taken since is given back: it drops its history about as often, and reads all it
	// has for that.
	giveBackEvery = 5 * time.Minute
	// giveBackAfter is how long the first time waits: it takes a processor for some tenths of a second.
	giveBackAfter = time.Second
)

// giveBack returns the memory that load has used, several times what the records take, to the system: the runtime alone would
// keep most of it for a heap that does not grow again. It does so a moment after Open, so that the first answers do not wait for it, and
// goes on to do so with what the store takes.
func (db *DB) giveBack(ctx context.Context) {
	if !db.sleep(ctx, giveBackAfter) {
		return
	}
	n := 0
	for _, v := range db.Snapshot().views {
		n += v.size()
	}
	if n >= manyRecords {
		debug.FreeOSMemory()
	}
	keeper, ok := db.store.(MemoryKeeper)
	for ok {
		keeper.GiveBack()
		ok = db.sleep(ctx, giveBackEvery)
	}
}

// sleep is false when ctx has ended before.
func (db *DB) sleep(ctx context.Context, d time.Duration) bool {
	fired, stop := db.clock.After(d)
	defer stop()
	select {
	case <-fired:
		return true
	case <-ctx.Done():
		return false
	}
}

// loading is what fill has decoded of a page for one table.
type loading struct {
	head int
	recs []prepared
}

// fill puts items into the heads and lets go of each once it is decoded. Several pages may be filled in at once.
func (db *DB) fill(items []Item) error {
	var tables []loading
	for i, it := range items {
		items[i] = Item{}
		if it.Key.Table == restoringTable {
			return errors.New("state: the restore of a backup into this store was not finished; restore it into a new one")
		}
		head, ok := db.ordinal[it.Key.Table]
		if !ok {
			return noTable(it.Key)
		}
		rec, err := db.head[head].prepare(it)
		if err != nil {
			return err
		}
		// Items come in the order of their tables.
		if n := len(tables); n == 0 || tables[n-1].head != head {
			tables = append(tables, loading{head: head, recs: make([]prepared, 0, len(items)-i)})
		}
		last := &tables[len(tables)-1]
		last.recs = append(last.recs, rec)
	}
	db.filling.Lock()
	defer db.filling.Unlock()
	for _, t := range tables {
		for _, rec := range t.recs {
			db.head[t.head].insert(rec)
		}
	}
	return nil
}
