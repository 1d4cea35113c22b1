package workspaces

import (
	"iter"
	"slices"

	"carrel/internal/state"
)

// cut is the part of a list that one answer has: up to limit records after the id after.
type cut struct {
	after string
	limit int
}

// pick reads the records with these ids, in the order of the ids and each once; ids that do not exist are left out. It gives the
// cut of them and the id to go on from, "" at the end.
func pick[T any](r state.Reader, d *state.Definition[T], ids []string, c cut) ([]*T, string) {
	return filter(found(r, d, ids), d, nil, c)
}

// found visits the existing records of ids in the order of the ids.
func found[T any](r state.Reader, d *state.Definition[T], ids []string) iter.Seq[*T] {
	if len(ids) > 1 {
		ids = slices.Clone(ids)
		slices.Sort(ids)
		ids = slices.Compact(ids)
	}
	return func(yield func(*T) bool) {
		for _, id := range ids {
			if rec, ok := state.Get(r, d, id); ok && !yield(rec) {
				return
			}
		}
	}
}

// filter gives the cut of the records of seq that keep accepts (nil: all), and the id to go on from, "" at the end. seq is in the
// order of the ids.
func filter[T any](seq iter.Seq[*T], d *state.Definition[T], keep func(*T) bool, c cut) (recs []*T, next string) {
	for rec := range seq {
		if d.ID(rec) <= c.after || keep != nil && !keep(rec) {
			continue
		}
		if len(recs) == c.limit {
			return recs, d.ID(recs[c.limit-1])
		}
		recs = append(recs, rec)
	}
	return recs, ""
}
