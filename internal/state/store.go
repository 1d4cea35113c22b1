// Package state is the contract of Carrel's durable state: the records, the Store that keeps them, and the DB that
// answers reads from memory and makes every write one transaction.
//
// It refuses to know a database (state/etcd, state/memory) and to know rules about records (service/*, reconcile/*).
package state

import (
	"context"
	"errors"
	"fmt"
	"strings"
)

// Revision counts committed transactions of a store; every transaction has its own. 0 is "before the first".
type Revision int64

// Table is a family of records.
type Table string

// Key names one item: a table and an id within it. Both are non-empty; an id may contain slashes, a table may not.
type Key struct {
	Table Table
	ID    string
}

// Item is one stored value with the revision of the transaction that last wrote it. Who gets an Item does not change its
// Value.
type Item struct {
	Key      Key
	Value    []byte
	Revision Revision
}

// Check is a condition of a transaction.
type Check struct {
	Key Key
	// Revision is the one the item must still have; 0: the item must not exist.
	Revision Revision
	// Prefix: instead, no item of Key.Table whose id begins with Key.ID may have been written after Revision. (Deletions are
	// not seen by it: check the deleted item's own key where that matters.)
	Prefix bool
}

// Write is a value to be written under a key. A Txn names a key once.
type Write struct {
	Key   Key
	Value []byte
}

// Txn is applied as a whole or not at all.
type Txn struct {
	Checks  []Check
	Puts    []Write
	Deletes []Key
}

// Validate refuses a transaction that no Store can apply: one with an empty table or id, a slash in a table, or a key
// written twice.
func (t Txn) Validate() error {
	seen := make(map[Key]struct{}, len(t.Puts)+len(t.Deletes))
	written := func(k Key) error {
		if _, twice := seen[k]; twice {
			return fmt.Errorf("state: transaction writes %s %q twice", k.Table, k.ID)
		}
		seen[k] = struct{}{}
		return k.validate(false)
	}
	for _, w := range t.Puts {
		if err := written(w.Key); err != nil {
			return err
		}
	}
	for _, k := range t.Deletes {
		if err := written(k); err != nil {
			return err
		}
	}
	for _, c := range t.Checks {
		if err := c.Key.validate(c.Prefix); err != nil {
			return err
		}
	}
	return nil
}

func (k Key) validate(prefix bool) error {
	if k.Table == "" || strings.Contains(string(k.Table), "/") || k.ID == "" && !prefix {
		return fmt.Errorf("state: no key: table %q, id %q", k.Table, k.ID)
	}
	return nil
}

// Event is one committed transaction as a watcher sees it.
type Event struct {
	Revision Revision
	Puts     []Item
	Deletes  []Key
}

// The errors of a Store.
var (
	// ErrConflict: a check of the transaction did not hold; nothing was written.
	ErrConflict = errors.New("state: a condition of the transaction does not hold")
	// ErrCompacted: the watch begins at a revision that is no longer kept; list again.
	ErrCompacted = errors.New("state: revision no longer kept")
	// ErrUnavailable: the store cannot be reached or is closed. A transaction that ends with it may or may not have been applied.
	ErrUnavailable = errors.New("state: store unavailable")
	// ErrFull: the store refuses writes for lack of space; nothing was written.
	ErrFull = errors.New("state: no space left")
)

// Store keeps items durably. All methods may be called concurrently.
type Store interface {
	// List gives all items of all tables as of one revision.
	List(ctx context.Context) ([]Item, Revision, error)
	// Watch calls fn for every transaction after from, in order, each once and whole, until ctx ends or an error occurs
	// (ErrCompacted, ErrUnavailable). It returns ctx's error when ctx ends.
	Watch(ctx context.Context, from Revision, fn func(Event)) error
	// Transact applies txn and gives its revision once it is durable. ErrConflict, ErrFull: nothing was written.
	// A Txn without puts and deletes only checks and gives the current revision.
	Transact(ctx context.Context, txn Txn) (Revision, error)
	// Close releases the store; running calls end with ErrUnavailable.
	Close() error
}

// MemoryKeeper is a Store that keeps memory it can do without for a while.
type MemoryKeeper interface {
	// GiveBack gives that memory to the system. The store takes it again as it goes on.
	GiveBack()
}

// PageLister is a Store that can list without having everything in memory at once.
type PageLister interface {
	// ListPages is Store.List page by page: fn gets every item once, in the order of the keys, all as of the revision that is
	// returned, and keeps its page. It ends with fn's error. ErrCompacted: the revision ceased to be kept meanwhile, and what
	// fn was given is no whole state; list again.
	ListPages(ctx context.Context, fn func(page []Item) error) (Revision, error)
}
