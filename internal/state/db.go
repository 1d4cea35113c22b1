package state

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sync/semaphore"

	"carrel/internal/clock"
)

// DB answers every read from memory and makes every write one transaction of its Store.
//
// One goroutine, in Run, applies the store's transactions to the tables and publishes a Snapshot after each batch; readers
// take the Snapshot without a lock.
type DB struct {
	store  Store
	clock  clock.Clock
	log    *slog.Logger
	jitter func(time.Duration) time.Duration

	// head and ordinal belong to Open and then to the goroutine of Run.
	head    []anyView
	ordinal map[Table]int
	current atomic.Pointer[Snapshot]
	// filling is held while Open puts records into head.
	filling sync.Mutex

	// turns: an Update takes one, an Update that has lost too often takes all of them, and so is alone.
	turns *semaphore.Weighted

	mu          sync.Mutex
	subscribers map[Table][]func(id string, deleted bool)
	waiting     []waiter
	ran         bool
	running     bool
	// stopped is closed when Run has ended.
	stopped chan struct{}
	// down is why the store cannot be watched at the moment, corrupt what cannot be read of what it holds.
	down    error
	corrupt map[Key]error
}

// waiter is somebody waiting for the DB to have seen a revision.
type waiter struct {
	rev  Revision
	seen chan struct{}
}

// Option changes how a DB is opened.
type Option func(*DB)

// WithLogger makes the DB log there instead of to slog's default.
func WithLogger(l *slog.Logger) Option { return func(db *DB) { db.log = l } }

const allTurns = 1 << 20

// Open reads the whole store and builds the first Snapshot. It fails with a *CorruptError when a value cannot be read,
// and writes nothing. The DB follows the store once Run runs.
func Open(ctx context.Context, store Store, clk clock.Clock, opts ...Option) (*DB, error) {
	db := &DB{
		store: store, clock: clk, log: slog.Default(),
		jitter:      func(d time.Duration) time.Duration { return d/2 + rand.N(d) },
		ordinal:     map[Table]int{},
		turns:       semaphore.NewWeighted(allTurns),
		subscribers: map[Table][]func(string, bool){},
		corrupt:     map[Key]error{},
		stopped:     make(chan struct{}),
	}
	for _, o := range opts {
		o(db)
	}
	rev, err := db.load(ctx)
	if err != nil {
		return nil, err
	}
	all := make([]int, len(db.head))
	for i := range all {
		all[i] = i
	}
	db.publish(rev, all)
	return db, nil
}

// place puts an item into the head of its table.
func (db *DB) place(it Item) error {
	i, ok := db.ordinal[it.Key.Table]
	if !ok {
		return noTable(it.Key)
	}
	return put(db.head[i], it)
}

func noTable(k Key) error {
	return &CorruptError{k, errors.New("this version of carrel has no such table")}
}

// publish makes the heads of the changed tables visible, and wakes who waits for it.
func (db *DB) publish(rev Revision, changed []int) {
	s := &Snapshot{rev: rev, ordinal: db.ordinal, views: make([]anyView, len(db.head))}
	if old := db.current.Load(); old != nil {
		copy(s.views, old.views)
	}
	for _, i := range changed {
		s.views[i] = db.head[i].clone()
	}
	db.current.Store(s)

	db.mu.Lock()
	defer db.mu.Unlock()
	db.waiting = slices.DeleteFunc(db.waiting, func(w waiter) bool {
		if w.rev > rev {
			return false
		}
		close(w.seen)
		return true
	})
}

// Snapshot is the newest state this DB has seen. It takes no lock and costs the same at any size.
func (db *DB) Snapshot() *Snapshot { return db.current.Load() }

// Wait returns once the DB has seen rev; ErrUnavailable when ctx or Run ends before.
func (db *DB) Wait(ctx context.Context, rev Revision) error {
	db.mu.Lock()
	if db.Snapshot().rev >= rev {
		db.mu.Unlock()
		return nil
	}
	w := waiter{rev, make(chan struct{})}
	db.waiting = append(db.waiting, w)
	db.mu.Unlock()
	var cause error
	select {
	case <-w.seen:
		return nil
	case <-ctx.Done():
		cause = context.Cause(ctx)
	case <-db.stopped:
		cause = errors.New("the store is no longer watched")
	}
	db.mu.Lock()
	defer db.mu.Unlock()
	db.waiting = slices.DeleteFunc(db.waiting, func(x waiter) bool { return x.seen == w.seen })
	return fmt.Errorf("%w: revision %d not seen yet: %w", ErrUnavailable, rev, cause)
}

// Subscribe has fn called for every record of a table that is written or deleted after the Snapshot of the moment, by any
// process, in order and after the Snapshot that shows it is published. A burst of writes to one record may be one call.
// fn must not block: it holds up all of the DB. Subscribe before Run; what exists already is not told, list it.
func (db *DB) Subscribe(table Table, fn func(id string, deleted bool)) {
	db.mu.Lock()
	defer db.mu.Unlock()
	db.subscribers[table] = append(db.subscribers[table], fn)
}

// Health is nil while the DB follows its store and understands all it holds. Otherwise it says what is the matter;
// reads go on from what was last seen.
func (db *DB) Health() error {
	db.mu.Lock()
	defer db.mu.Unlock()
	var errs []error
	if !db.running {
		errs = append(errs, errors.New("state: the store is not being watched"))
	}
	if db.down != nil {
		errs = append(errs, db.down)
	}
	for _, err := range db.corrupt {
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
