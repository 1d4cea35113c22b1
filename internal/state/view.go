package state

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/google/btree"
)

// degree of the trees: with up to 63 rows a node, 100,000 records are three levels deep, so a read costs nearly the
// same at 100 records and at 100,000.
const degree = 32

// row is one record under its id. The id shares its bytes with the record.
type row[T any] struct {
	id  string
	rec *T
}

// posting is one record under one index key.
type posting[T any] struct {
	key string
	id  string
	rec *T
}

func lessRow[T any](a, b row[T]) bool { return a.id < b.id }

func lessPosting[T any](a, b posting[T]) bool {
	if c := strings.Compare(a.key, b.key); c != 0 {
		return c < 0
	}
	return a.id < b.id
}

// anyView is a view without its record type, as the DB handles it.
type anyView interface {
	// clone is a second view that later changes to either do not reach; it costs the same at any size.
	clone() anyView
	// prepare decodes an item for insert; it may be called by several goroutines, and changes nothing that is seen.
	prepare(Item) (prepared, error)
	insert(prepared)
	remove(id string)
	size() int
	// revision of a record, 0 if there is none.
	revision(id string) Revision
	// each visits all records in the order of their ids.
	each(fn func(id string, revision Revision))
	// encoding of a shared record as it would be stored now.
	encoding(id string) ([]byte, error)
	// adopt takes a record over from a view of the same table.
	adopt(from anyView, id string)
}

// prepared is a decoded record as its view takes it.
type prepared any

// records is a view with its record type.
type records[T any] interface {
	anyView
	get(id string) (*T, bool)
	// owns tells whether rec itself is in the view.
	owns(rec *T) bool
	// ascend visits the records from an id on, in the order of their ids, until fn says no.
	ascend(from start[T], fn func(*T) bool)
	// ascendBy does so among those that stand under key in an index.
	ascendBy(ix Index[T], key string, from start[T], fn func(*T) bool)
	countBy(ix Index[T], key string) int
}

// start is where a visit begins, and the room for the records if the view has to make them.
type start[T any] struct {
	id   string
	room *Room[T]
}

// view is a table in memory: its records ordered by id, and once more by each index.
type view[T any] struct {
	def     *Definition[T]
	rows    *btree.BTreeG[row[T]]
	indexes []*btree.BTreeG[posting[T]]
}

func newView[T any](d *Definition[T]) *view[T] {
	v := &view[T]{def: d, rows: btree.NewG(degree, lessRow[T])}
	for range d.Indexes {
		v.indexes = append(v.indexes, btree.NewG(degree, lessPosting[T]))
	}
	return v
}

func (v *view[T]) clone() anyView {
	c := &view[T]{def: v.def, rows: v.rows.Clone()}
	for _, ix := range v.indexes {
		c.indexes = append(c.indexes, ix.Clone())
	}
	return c
}

func (v *view[T]) prepare(it Item) (prepared, error) { return v.def.decode(it) }

func (v *view[T]) insert(p prepared) {
	rec := p.(*T)
	id := v.def.ID(rec)
	old, replaced := v.rows.ReplaceOrInsert(row[T]{id, rec})
	for i, ix := range v.def.Indexes {
		keys := ix.Of(rec, nil)
		if replaced {
			for _, k := range ix.Of(old.rec, nil) {
				if !slices.Contains(keys, k) {
					v.indexes[i].Delete(posting[T]{key: k, id: id})
				}
			}
		}
		for _, k := range keys {
			v.indexes[i].ReplaceOrInsert(posting[T]{k, id, rec})
		}
	}
}

func (v *view[T]) remove(id string) {
	old, ok := v.rows.Delete(row[T]{id: id})
	if !ok {
		return
	}
	for i, ix := range v.def.Indexes {
		for _, k := range ix.Of(old.rec, nil) {
			v.indexes[i].Delete(posting[T]{key: k, id: id})
		}
	}
}

func (v *view[T]) size() int { return v.rows.Len() }

func (v *view[T]) get(id string) (*T, bool) {
	r, ok := v.rows.Get(row[T]{id: id})
	return r.rec, ok
}

func (v *view[T]) revision(id string) Revision {
	if rec, ok := v.get(id); ok {
		return v.def.Meta(rec).Revision
	}
	return 0
}

func (v *view[T]) each(fn func(string, Revision)) {
	v.rows.Ascend(func(r row[T]) bool {
		fn(r.id, v.def.Meta(r.rec).Revision)
		return true
	})
}

func (v *view[T]) encoding(id string) ([]byte, error) {
	rec, ok := v.get(id)
	if !ok {
		return nil, fmt.Errorf("state: no %s %q in memory", v.def.Table, id)
	}
	return json.Marshal(rec)
}

func (v *view[T]) adopt(from anyView, id string) {
	if rec, ok := from.(*view[T]).get(id); ok {
		v.insert(rec)
	}
}

func (v *view[T]) owns(rec *T) bool {
	have, ok := v.get(v.def.ID(rec))
	return ok && have == rec
}

func (v *view[T]) ascend(from start[T], fn func(*T) bool) {
	v.rows.AscendGreaterOrEqual(row[T]{id: from.id}, func(x row[T]) bool { return fn(x.rec) })
}

func (v *view[T]) ascendBy(ix Index[T], key string, from start[T], fn func(*T) bool) {
	v.indexes[position(v.def, ix)].AscendGreaterOrEqual(posting[T]{key: key, id: from.id}, func(x posting[T]) bool {
		return x.key == key && fn(x.rec)
	})
}

func (v *view[T]) countBy(ix Index[T], key string) (n int) {
	v.ascendBy(ix, key, start[T]{}, func(*T) bool { n++; return true })
	return n
}

// position finds an index among those of its definition.
func position[T any](d *Definition[T], ix Index[T]) int {
	for i := range d.Indexes {
		if d.Indexes[i].Name == ix.Name {
			return i
		}
	}
	panic(fmt.Sprintf("state: table %s has no index %q", d.Table, ix.Name))
}

// put decodes an item into a view.
func put(v anyView, it Item) error {
	p, err := v.prepare(it)
	if err == nil {
		v.insert(p)
	}
	return err
}

// CorruptError says which stored value cannot be understood. The value is left as it is.
type CorruptError struct {
	Key Key
	Err error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("state: the stored value of %s %q cannot be read: %v", e.Key.Table, e.Key.ID, e.Err)
}

// Unwrap gives the reason.
func (e *CorruptError) Unwrap() error { return e.Err }

// decode reads a stored value strictly: a field this version does not know would be lost by the next write, so it is
// as much a reason to stop as a value cut off in the middle.
func (d *Definition[T]) decode(it Item) (*T, error) {
	rec := new(T)
	if d.packed == nil || !d.packed.plainly(string(it.Value), reachOf(d.packed, rec)) {
		*rec = *new(T)
		if err := strictly(it.Value, rec); err != nil {
			return nil, &CorruptError{it.Key, err}
		}
	}
	if d.nameless {
		d.setID(rec, it.Key.ID)
	}
	if id := d.ID(rec); id != it.Key.ID {
		return nil, &CorruptError{it.Key, fmt.Errorf("it says that its id is %q", id)}
	}
	d.Meta(rec).Revision = it.Revision
	return rec, nil
}
