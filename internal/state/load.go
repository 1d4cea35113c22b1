package state

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"

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

// loadPages decodes one page while the store reads the next, so that no more than three are in memory.
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
	work.Go(func() error {
		for page := range pages {
			if err := db.fill(page); err != nil {
				return err
			}
		}
		return nil
	})
	err = work.Wait()
	return rev, err
}

// manyRecords is from how many records on what reading them took is worth giving back.
const manyRecords = 50_000

// giveBack returns the memory that load has used, several times what the records take, to the system: the runtime alone would
// keep most of it for a heap that does not grow again. It is for after Open, so that the first answers do not wait for it.
func (db *DB) giveBack() {
	n := 0
	for _, v := range db.Snapshot().views {
		n += v.size()
	}
	if n >= manyRecords {
		debug.FreeOSMemory()
	}
}

// fill puts items into the heads and lets go of each once it is decoded.
func (db *DB) fill(items []Item) error {
	for i, it := range items {
		items[i] = Item{}
		if it.Key.Table == restoringTable {
			return errors.New("state: the restore of a backup into this store was not finished; restore it into a new one")
		}
		if err := db.place(it); err != nil {
			return err
		}
	}
	return nil
}
