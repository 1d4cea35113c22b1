package state

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"slices"
	"strings"

	"github.com/google/btree"
)

// packedView is a table whose records are kept packed: each is one string without a pointer in it, a fraction of the struct and nothing for
// the garbage collector to follow, and every read makes a fresh struct of it. It is for the tables with a record a desktop.
type packedView[T any] struct {
	def     *Definition[T]
	words   *words
	rows    *btree.BTreeG[packedRow]
	indexes []*btree.BTreeG[packedPosting]
}

// packedRow is a record: the length of its id, the id, the revision in 8 bytes, and the packed fields.
type packedRow string

// packedPosting is a record under the hash of one of its index keys. Records are few under one key or many under few keys; either way
// the keys themselves would take more than all the rest, and who finds a record looks into it for the key.
type packedPosting struct {
	hash uint64
	row  packedRow
}

// keySeed makes the hashes of this process: users name what is hashed, and cannot make them collide.
var keySeed = maphash.MakeSeed()

func hashOf(key string) uint64 { return maphash.String(keySeed, key) }

// rowOf is what a record's row begins with, and so what it is found by.
func rowOf(id string) packedRow {
	b := make([]byte, 0, 64)
	return packedRow(append(binary.AppendUvarint(b, uint64(len(id))), id...))
}

// split gives the id and where it ends.
func (r packedRow) split() (id string, end int) { return textAt(string(r), 0) }

func (r packedRow) id() string {
	id, _ := r.split()
	return id
}

// revisionBytes is how long a revision is.
const revisionBytes = 8

// revisionAt reads the revision behind the id, which ends at end.
func (r packedRow) revisionAt(end int) Revision {
	return Revision(binary.LittleEndian.Uint64([]byte(r[end : end+revisionBytes])))
}

func (r packedRow) revision() Revision {
	_, end := r.split()
	return r.revisionAt(end)
}

func lessPackedRow(a, b packedRow) bool { return a.id() < b.id() }

func lessPackedPosting(a, b packedPosting) bool {
	if a.hash != b.hash {
		return a.hash < b.hash
	}
	return a.row.id() < b.row.id()
}

func newPackedView[T any](d *Definition[T]) *packedView[T] {
	v := &packedView[T]{def: d, words: newWords(), rows: btree.NewG(degree, lessPackedRow)}
	for range d.Indexes {
		v.indexes = append(v.indexes, btree.NewG(degree, lessPackedPosting))
	}
	return v
}

func (v *packedView[T]) clone() anyView {
	c := &packedView[T]{def: v.def, words: v.words, rows: v.rows.Clone()}
	for _, ix := range v.indexes {
		c.indexes = append(c.indexes, ix.Clone())
	}
	return c
}

// packedRecord is a record on its way into the view.
type packedRecord struct {
	row packedRow
	// places are where it stands in the indexes.
	places []place
}

// place is a posting's place: which index, and the hash of the key.
type place struct {
	index int
	hash  uint64
}

func (v *packedView[T]) prepare(it Item) (prepared, error) {
	rec, err := v.def.decode(it)
	if err != nil {
		return nil, err
	}
	return v.pack(rec), nil
}

func (v *packedView[T]) pack(rec *T) *packedRecord {
	b := make([]byte, 0, 512)
	id := v.def.ID(rec)
	b = append(binary.AppendUvarint(b, uint64(len(id))), id...)
	b = binary.LittleEndian.AppendUint64(b, uint64(v.def.Meta(rec).Revision))
	b = v.def.packed.pack(b, reachOf(v.def.packed, rec), v.words)
	return &packedRecord{packedRow(b), v.places(rec)}
}

func (v *packedView[T]) places(rec *T) []place {
	all := make([]place, 0, len(v.def.Indexes))
	var keys []string
	for i, ix := range v.def.Indexes {
		if ix.Of == nil {
			continue
		}
		keys = ix.Of(rec, keys[:0])
		for _, key := range keys {
			all = append(all, place{i, hashOf(key)})
		}
	}
	return all
}

func (v *packedView[T]) unpack(row packedRow) *T { return v.unpackTo(new(T), row) }

// unpackTo fills an empty record.
func (v *packedView[T]) unpackTo(rec *T, row packedRow) *T {
	id, end := row.split()
	if v.def.setID != nil {
		v.def.setID(rec, id)
	}
	v.def.Meta(rec).Revision = row.revisionAt(end)
	v.def.packed.unpack(reachOf(v.def.packed, rec), string(row), end+revisionBytes, *v.words.list.Load())
	return rec
}

func (v *packedView[T]) insert(p prepared) {
	n := p.(*packedRecord)
	if old, replaced := v.rows.ReplaceOrInsert(n.row); replaced {
		for _, was := range v.places(v.unpack(old)) {
			if !slices.Contains(n.places, was) {
				v.indexes[was.index].Delete(packedPosting{was.hash, old})
			}
		}
	}
	for _, at := range n.places {
		v.indexes[at.index].ReplaceOrInsert(packedPosting{at.hash, n.row})
	}
}

func (v *packedView[T]) remove(id string) {
	old, ok := v.rows.Delete(rowOf(id))
	if !ok {
		return
	}
	for _, was := range v.places(v.unpack(old)) {
		v.indexes[was.index].Delete(packedPosting{was.hash, old})
	}
}

func (v *packedView[T]) size() int { return v.rows.Len() }

func (v *packedView[T]) get(id string) (*T, bool) {
	row, ok := v.rows.Get(rowOf(id))
	if !ok {
		return nil, false
	}
	return v.unpack(row), true
}

func (v *packedView[T]) owns(*T) bool { return false }

func (v *packedView[T]) revision(id string) Revision {
	if row, ok := v.rows.Get(rowOf(id)); ok {
		return row.revision()
	}
	return 0
}

func (v *packedView[T]) each(fn func(string, Revision)) {
	v.rows.Ascend(func(row packedRow) bool {
		fn(row.id(), row.revision())
		return true
	})
}

func (v *packedView[T]) encoding(id string) ([]byte, error) {
	rec, ok := v.get(id)
	if !ok {
		return nil, fmt.Errorf("state: no %s %q in memory", v.def.Table, id)
	}
	return json.Marshal(rec)
}

func (v *packedView[T]) adopt(from anyView, id string) {
	if rec, ok := from.(*packedView[T]).get(id); ok {
		v.insert(v.pack(rec))
	}
}

func (v *packedView[T]) ascend(from start[T], fn func(*T) bool) {
	v.rows.AscendGreaterOrEqual(rowOf(from.id), func(row packedRow) bool { return fn(v.unpackTo(from.room.take(), row)) })
}

func (v *packedView[T]) ascendBy(ix Index[T], key string, from start[T], fn func(*T) bool) {
	i := position(v.def, ix)
	if ix.Of == nil {
		prefix := key + "/"
		v.rows.AscendGreaterOrEqual(rowOf(max(prefix, from.id)), func(row packedRow) bool {
			return strings.HasPrefix(row.id(), prefix) && fn(v.unpackTo(from.room.take(), row))
		})
		return
	}
	h, keys := hashOf(key), make([]string, 0, 1)
	v.indexes[i].AscendGreaterOrEqual(packedPosting{h, rowOf(from.id)}, func(x packedPosting) bool {
		if x.hash != h {
			return false
		}
		rec := v.unpackTo(from.room.take(), x.row)
		keys = ix.Of(rec, keys[:0])
		return !slices.Contains(keys, key) || fn(rec)
	})
}

func (v *packedView[T]) countBy(ix Index[T], key string) (n int) {
	if ix.Of != nil {
		v.ascendBy(ix, key, start[T]{}, func(*T) bool { n++; return true })
		return n
	}
	prefix := key + "/"
	v.rows.AscendGreaterOrEqual(rowOf(prefix), func(row packedRow) bool {
		if !strings.HasPrefix(row.id(), prefix) {
			return false
		}
		n++
		return true
	})
	return n
}
