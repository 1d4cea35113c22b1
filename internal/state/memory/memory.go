// Package memory is a state.Store in this process's memory, for unit tests and for whatever need not outlive the process.
//
// It refuses to be durable; everything else it does as state/etcd does (statetest holds them to it).
package memory

import (
	"context"
	"fmt"
	"slices"
	"sort"
	"strings"
	"sync"

	"carrel/internal/state"
)

// Store is a state.Store. The zero value is not usable; see New.
type Store struct {
	mu    sync.Mutex
	items map[state.Key]state.Item
	rev   state.Revision
	// log is every kept transaction, in order; those up to compacted are gone.
	log       []state.Event
	compacted state.Revision
	// changed is closed and replaced by every transaction and by Close.
	changed chan struct{}
	closed  bool
	// keep bounds the log.
	keep int
}

// kept is how many transactions a watch can go back.
const kept = 100_000

// New is an empty store.
func New() *Store {
	return &Store{items: map[state.Key]state.Item{}, changed: make(chan struct{}), keep: kept}
}

// List gives all items, ordered by table and id.
func (s *Store) List(ctx context.Context) ([]state.Item, state.Revision, error) {
	if err := ctx.Err(); err != nil {
		return nil, 0, unavailable(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, 0, unavailable(errClosed)
	}
	items := make([]state.Item, 0, len(s.items))
	for _, it := range s.items {
		it.Value = slices.Clone(it.Value)
		items = append(items, it)
	}
	sort.Slice(items, func(i, j int) bool {
		a, b := items[i].Key, items[j].Key
		return a.Table < b.Table || a.Table == b.Table && a.ID < b.ID
	})
	return items, s.rev, nil
}

// Transact applies txn.
func (s *Store) Transact(ctx context.Context, txn state.Txn) (state.Revision, error) {
	if err := txn.Validate(); err != nil {
		return 0, err
	}
	if err := ctx.Err(); err != nil {
		return 0, unavailable(err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, unavailable(errClosed)
	}
	for _, c := range txn.Checks {
		if !s.holds(c) {
			return 0, state.ErrConflict
		}
	}
	e := state.Event{Revision: s.rev + 1}
	for _, k := range txn.Deletes {
		if _, ok := s.items[k]; ok {
			delete(s.items, k)
			e.Deletes = append(e.Deletes, k)
		}
	}
	for _, w := range txn.Puts {
		it := state.Item{Key: w.Key, Value: slices.Clone(w.Value), Revision: e.Revision}
		s.items[w.Key] = it
		e.Puts = append(e.Puts, it)
	}
	if len(e.Puts)+len(e.Deletes) == 0 {
		return s.rev, nil
	}
	s.rev = e.Revision
	s.log = append(s.log, e)
	if len(s.log) > 2*s.keep {
		s.compact(s.log[len(s.log)-s.keep].Revision - 1)
	}
	s.wake()
	return s.rev, nil
}

func (s *Store) holds(c state.Check) bool {
	if !c.Prefix {
		return s.items[c.Key].Revision == c.Revision
	}
	for k, it := range s.items {
		if k.Table == c.Key.Table && strings.HasPrefix(k.ID, c.Key.ID) && it.Revision > c.Revision {
			return false
		}
	}
	return true
}

func (s *Store) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Compact forgets the transactions up to rev: a watch from before it ends with ErrCompacted.
func (s *Store) Compact(rev state.Revision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compact(min(rev, s.rev))
	s.wake()
}

func (s *Store) compact(rev state.Revision) {
	if rev <= s.compacted {
		return
	}
	s.compacted = rev
	i := sort.Search(len(s.log), func(i int) bool { return s.log[i].Revision > rev })
	s.log = slices.Clone(s.log[i:])
}

// Watch calls fn for every transaction after from.
func (s *Store) Watch(ctx context.Context, from state.Revision, fn func(state.Event)) error {
	for {
		events, changed, err := s.after(from)
		if err != nil {
			return err
		}
		for _, e := range events {
			if ctx.Err() != nil {
				return ctx.Err()
			}
			fn(e)
			from = e.Revision
		}
		if len(events) > 0 {
			continue
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// after gives the transactions after from and what is closed when there are more. The values are shared by all watchers:
// the copies that fn gets of the slices are its own, their contents are not (as the contract of Item says).
func (s *Store) after(from state.Revision) ([]state.Event, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, nil, unavailable(errClosed)
	}
	if from < s.compacted {
		return nil, nil, state.ErrCompacted
	}
	i := sort.Search(len(s.log), func(i int) bool { return s.log[i].Revision > from })
	return slices.Clone(s.log[i:]), s.changed, nil
}

// Close ends all watches and refuses everything from then on.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.closed = true
		s.wake()
	}
	return nil
}

var errClosed = fmt.Errorf("it is closed")

func unavailable(err error) error { return fmt.Errorf("%w: %w", state.ErrUnavailable, err) }
