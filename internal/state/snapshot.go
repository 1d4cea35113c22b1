package state

import (
	"fmt"
	"iter"
)

// Snapshot is all tables as of one revision. It never changes, and holding one costs only the memory of what has been
// replaced since. Its records may be shared: nobody changes them (see Clone).
type Snapshot struct {
	rev     Revision
	ordinal map[Table]int
	views   []anyView
}

// Revision is the last transaction the snapshot includes.
func (s *Snapshot) Revision() Revision { return s.rev }

// Same tells whether the tables hold in s what they hold in other, which may be nil. It is cheap, and errs only towards false.
func (s *Snapshot) Same(other *Snapshot, tables ...Table) bool {
	if s == other {
		return true
	}
	if other == nil || len(s.views) != len(other.views) {
		return false
	}
	for _, t := range tables {
		i, ok := s.ordinal[t]
		if !ok || s.views[i] != other.views[i] {
			return false
		}
	}
	return true
}

// Reader is what records are read from: a *Snapshot or a *Tx.
type Reader interface {
	snapshot() *Snapshot
	// written gives the record (a *T, or nil if deleted) that a transaction has written under key itself.
	written(Key) (rec any, ok bool)
	// observed notes that a transaction has read key and found it at a revision (0: absent).
	observed(Key, Revision)
}

func (s *Snapshot) snapshot() *Snapshot     { return s }
func (s *Snapshot) written(Key) (any, bool) { return nil, false }
func (s *Snapshot) observed(Key, Revision)  {}

// viewOf finds the table of a definition. A table that no definition in definitions() stands for is a programming
// error, found by the first test that uses it.
func viewOf[T any](s *Snapshot, d *Definition[T]) records[T] {
	i, ok := s.ordinal[d.Table]
	if !ok {
		panic(fmt.Sprintf("state: table %q is not in definitions()", d.Table))
	}
	return s.views[i].(records[T])
}

// Get reads one record. In a *Tx it sees what the Tx itself has put or deleted, and the commit will check that the record
// (or its absence) is still what was read. Nothing has the id "".
func Get[T any](r Reader, d *Definition[T], id string) (*T, bool) {
	if id == "" {
		return nil, false
	}
	key := Key{d.Table, id}
	if w, ok := r.written(key); ok {
		rec, _ := w.(*T)
		return rec, rec != nil
	}
	rec, ok := viewOf(r.snapshot(), d).get(id)
	if !ok {
		r.observed(key, 0)
		return nil, false
	}
	r.observed(key, d.Meta(rec).Revision)
	return rec, true
}

// Has tells whether there is a record; it observes and is checked as Get.
func Has[T any](r Reader, d *Definition[T], id string) bool {
	if id == "" {
		return false
	}
	key := Key{d.Table, id}
	if w, ok := r.written(key); ok {
		rec, _ := w.(*T)
		return rec != nil
	}
	rev := viewOf(r.snapshot(), d).revision(id)
	r.observed(key, rev)
	return rev != 0
}

// Page reads up to limit records in the order of their ids, beginning after the id after ("" for the first page).
// next is the after of the next page, "" when there is none. A limit below 1 gives nothing.
//
// In a *Tx the page is as of the Tx's snapshot: without the Tx's own writes, and without a check (see Tx.Guard).
func Page[T any](r Reader, d *Definition[T], after string, limit int) (recs []*T, next string) {
	return cut(d, span[T]{after, limit, roomOf[T](r)}, viewOf(r.snapshot(), d).ascend)
}

// PageBy is Page over the records that stand under key in an index, in the order of their ids.
func PageBy[T any](r Reader, d *Definition[T], ix Index[T], key, after string, limit int) (recs []*T, next string) {
	v := viewOf(r.snapshot(), d)
	return cut(d, span[T]{after, limit, roomOf[T](r)}, func(from start[T], fn func(*T) bool) { v.ascendBy(ix, key, from, fn) })
}

// span is what a page is of a visit: up to limit records behind the id after, in room.
type span[T any] struct {
	after string
	limit int
	room  *Room[T]
}

// cut takes a page from a visit.
func cut[T any](d *Definition[T], s span[T], visit func(from start[T], fn func(*T) bool)) (recs []*T, next string) {
	if s.limit < 1 {
		return nil, ""
	}
	from := s.after
	if from != "" {
		from += "\x00" // the first id there can be behind it
	}
	visit(start[T]{from, s.room}, func(rec *T) bool {
		switch len(recs) {
		case s.limit:
			next = d.ID(recs[s.limit-1])
			return false
		case 0:
			recs = s.room.list(s.limit)
		}
		recs = append(recs, rec)
		return true
	})
	return recs, next
}

// All visits all records in the order of their ids. In a *Tx as Page.
func All[T any](r Reader, d *Definition[T]) iter.Seq[*T] {
	v := viewOf(r.snapshot(), d)
	return func(yield func(*T) bool) { v.ascend(start[T]{}, yield) }
}

// AllBy visits the records that stand under key in an index, in the order of their ids. In a *Tx as Page.
func AllBy[T any](r Reader, d *Definition[T], ix Index[T], key string) iter.Seq[*T] {
	v := viewOf(r.snapshot(), d)
	return func(yield func(*T) bool) { v.ascendBy(ix, key, start[T]{}, yield) }
}

// Count is the number of records of a table; it costs the same at any size.
func Count[T any](r Reader, d *Definition[T]) int { return viewOf(r.snapshot(), d).size() }

// CountBy is the number of records that stand under key in an index; it visits each of them.
func CountBy[T any](r Reader, d *Definition[T], ix Index[T], key string) int {
	return viewOf(r.snapshot(), d).countBy(ix, key)
}
