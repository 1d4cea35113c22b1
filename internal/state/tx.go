package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"
)

// ErrClaimed is what Tx.Claim's error is, by errors.Is, when somebody else holds the name.
var ErrClaimed = errors.New("state: name is taken")

// ClaimedError says who holds a claimed name.
type ClaimedError struct {
	Name  string
	Owner string
}

func (e *ClaimedError) Error() string {
	return fmt.Sprintf("state: name %q is taken by %q", e.Name, e.Owner)
}

// Is makes errors.Is(err, ErrClaimed) true.
func (e *ClaimedError) Is(target error) bool { return target == ErrClaimed }

// Tx collects one transaction: what fn of DB.Update reads becomes checks, what it puts and deletes is applied when they
// hold. It belongs to one goroutine and to one call of fn.
type Tx struct {
	snap   *Snapshot
	now    time.Time
	checks map[Key]Revision
	guards []Check
	writes map[Key]pending
	// order keeps the writes as they came, so that the same fn makes the same transaction.
	order []Key
	err   error
}

// pending is a put (value set) or a delete (value nil) not yet committed.
type pending struct {
	rec   any
	value []byte
}

func newTx(s *Snapshot, now time.Time) *Tx {
	return &Tx{snap: s, now: now.UTC().Round(0), checks: map[Key]Revision{}, writes: map[Key]pending{}}
}

func (tx *Tx) snapshot() *Snapshot { return tx.snap }

func (tx *Tx) written(k Key) (any, bool) {
	w, ok := tx.writes[k]
	return w.rec, ok
}

func (tx *Tx) observed(k Key, rev Revision) { tx.checks[k] = rev }

// Now is the clock's time when fn was called, in UTC: the same throughout the transaction.
func (tx *Tx) Now() time.Time { return tx.now }

// Snapshot is the state the transaction began with, for reads that need no check.
func (tx *Tx) Snapshot() *Snapshot { return tx.snap }

// Put writes rec under its id. The caller owns rec: it is new, or a Clone of a record that was read, never such a record
// itself. The commit checks that the stored record is still the one of the Tx's snapshot. A rec without an id makes
// Update fail.
func Put[T any](tx *Tx, d *Definition[T], rec *T) {
	id := d.ID(rec)
	if id == "" {
		tx.fail(fmt.Errorf("state: a record of table %s without an id", d.Table))
		return
	}
	v := viewOf(tx.snap, d)
	if v.owns(rec) {
		tx.fail(fmt.Errorf("state: %s %q is put back without a Clone", d.Table, id))
		return
	}
	value, err := json.Marshal(rec)
	if err != nil {
		tx.fail(fmt.Errorf("state: encoding %s %q: %w", d.Table, id, err))
		return
	}
	key := Key{d.Table, id}
	tx.observed(key, v.revision(id))
	tx.write(key, pending{rec: rec, value: value})
}

// Delete removes the record; one that does not exist stays so, by a check.
func Delete[T any](tx *Tx, d *Definition[T], id string) {
	if id == "" {
		return
	}
	key := Key{d.Table, id}
	tx.observed(key, viewOf(tx.snap, d).revision(id))
	tx.write(key, pending{})
}

func (tx *Tx) write(k Key, w pending) {
	if _, again := tx.writes[k]; !again {
		tx.order = append(tx.order, k)
	}
	tx.writes[k] = w
}

func (tx *Tx) fail(err error) {
	if tx.err == nil {
		tx.err = err
	}
}

// Claim takes a name for owner. Of two transactions that claim one name only one is applied; the other runs again and
// gets a *ClaimedError. Claiming what owner already holds does nothing.
func (tx *Tx) Claim(name, owner string) error {
	if name == "" {
		return errors.New("state: claim of an empty name")
	}
	if c, ok := Get(tx, claims, name); ok {
		if c.Owner == owner {
			return nil
		}
		return &ClaimedError{Name: name, Owner: c.Owner}
	}
	Put(tx, claims, &Claim{Meta: Meta{Created: tx.now}, Name: name, Owner: owner})
	return nil
}

// Release gives a claimed name up, whoever holds it.
func (tx *Tx) Release(name string) { Delete(tx, claims, name) }

// Owner says who holds a name.
func (tx *Tx) Owner(name string) (string, bool) { return Owner(tx, name) }

// Owner says who holds a claimed name.
func Owner(r Reader, name string) (string, bool) {
	c, ok := Get(r, claims, name)
	if !ok {
		return "", false
	}
	return c.Owner, true
}

// Guard makes the transaction fail (and fn run again) when a record of the table whose id begins with prefix has been
// written since the snapshot. It is for decisions taken from Page, All and Count, as "there are fewer than 500"; it does
// not see deletions.
func (tx *Tx) Guard(table Table, prefix string) {
	tx.guards = append(tx.guards, Check{Key: Key{table, prefix}, Revision: tx.snap.rev, Prefix: true})
}

// txn is the collected transaction. Deleting what is absent in the snapshot needs no delete: its check says it all.
func (tx *Tx) txn() Txn {
	t := Txn{Checks: tx.guards}
	for k, rev := range tx.checks {
		t.Checks = append(t.Checks, Check{Key: k, Revision: rev})
	}
	for _, k := range tx.order {
		switch w := tx.writes[k]; {
		case w.value != nil:
			t.Puts = append(t.Puts, Write{Key: k, Value: w.value})
		case tx.checks[k] != 0:
			t.Deletes = append(t.Deletes, k)
		}
	}
	return t
}
