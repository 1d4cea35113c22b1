package ec2

import (
	"encoding/base64"
	"maps"
	"slices"
	"strings"

	"carrel/internal/api/ec2"
	"carrel/internal/api/shape"
	"carrel/internal/state"
)

// maxPage is the largest page and the size when the caller names none (EC2 API reference, MaxResults).
const maxPage = 1000

// kind says how a kind of record is found by its ids.
type kind[R any] struct {
	table *state.Definition[R]
	parse func(string) error
	// one ("The vpc ID"), many ("The vpc IDs") and prefix ("vpc-") stand in texts, parameter ("vpcIds") is the name of the ids.
	one, many, prefix, parameter string
	// notFound and malformed are error codes.
	notFound, malformed string
}

// view is how a kind of record is answered, and which filters the answers have.
type view[R, A any] struct {
	filters filters[A]
	answer  func(*R) A
}

// query is what a caller asks of a kind of record.
type query struct {
	ids     []string
	filters []ec2.Filter
	max     *int32
	token   *string
}

// find gives the records asked for as answers, in the order of their ids, and the token of the next page. Ids that are malformed or
// do not exist are errors, as are ids together with a page size (EC2 API reference, "Pagination").
func find[R, A any](r state.Reader, k kind[R], q query, as view[R, A]) ([]A, *string, error) {
	if q.max != nil && len(q.ids) > 0 {
		return nil, nil, invalidCombination(k.parameter, "maxResults")
	}
	match, err := as.filters.match(q.filters)
	if err != nil {
		return nil, nil, err
	}
	after, err := readToken(k.prefix, q.token)
	if err != nil {
		return nil, nil, err
	}
	limit := maxPage
	if q.max != nil {
		limit = min(max(int(*q.max), 1), maxPage)
	}
	answers := []A{}
	last := ""
	visit := func(rec *R) bool {
		id := k.table.ID(rec)
		if id <= after {
			return true
		}
		a := as.answer(rec)
		if !match(&a) {
			return true
		}
		if len(answers) == limit {
			return false
		}
		answers, last = append(answers, a), id
		return true
	}
	if len(q.ids) > 0 {
		limit = len(q.ids) // what was asked for by name is answered whole
		records, err := k.byID(r, q.ids)
		if err != nil {
			return nil, nil, err
		}
		for _, rec := range records {
			visit(rec)
		}
		return answers, nil, nil
	}
	for rec := range state.All(r, k.table) {
		if !visit(rec) {
			return answers, writeToken(last), nil
		}
	}
	return answers, nil, nil
}

// byID gives the records of the ids, each once, in the order of the ids.
func (k kind[R]) byID(r state.Reader, ids []string) ([]*R, error) {
	sorted := slices.Compact(slices.Sorted(slices.Values(ids)))
	var records []*R
	var missing []string
	for _, id := range sorted {
		if k.parse(id) != nil {
			return nil, malformed(k.malformed, id, k.prefix)
		}
		if rec, ok := state.Get(r, k.table, id); ok {
			records = append(records, rec)
		} else {
			missing = append(missing, id)
		}
	}
	if len(missing) > 0 {
		return nil, notFound(k.notFound, k.one, k.many, missing)
	}
	return records, nil
}

// readToken gives the id after which the page begins. The client controls the token: it can only move its own position.
func readToken(prefix string, token *string) (string, error) {
	if token == nil {
		return "", nil
	}
	id, err := base64.RawURLEncoding.Strict().DecodeString(*token)
	if err != nil || !strings.HasPrefix(string(id), prefix) {
		return "", invalidToken()
	}
	return string(id), nil
}

func writeToken(last string) *string {
	return shape.Ptr(base64.RawURLEncoding.EncodeToString([]byte(last)))
}

// tagSet is a record's tags in the order of their keys, nil for none.
func tagSet(tags map[string]string) []ec2.Tag {
	var set []ec2.Tag
	for _, key := range slices.Sorted(maps.Keys(tags)) {
		set = append(set, ec2.Tag{Key: shape.Ptr(key), Value: shape.Ptr(tags[key])})
	}
	return set
}
