package state

// Room is memory for the records of a page, to be used again for the next one: a page of a packed table is otherwise 15 KiB of garbage. What a
// page has put there is valid until Reset. The zero Room, and a nil one, is full: every record is then made anew. It belongs to one goroutine.
type Room[T any] struct {
	recs []T
	used int
	// page is for the first page's list; listed tells that it is used.
	page   []*T
	listed bool
}

// NewRoom takes n records; more are made anew.
func NewRoom[T any](n int) *Room[T] { return &Room[T]{recs: make([]T, n), page: make([]*T, n)} }

// Reset empties it: nobody may look any more at what is in it.
func (m *Room[T]) Reset() {
	clear(m.recs[:m.used])
	clear(m.page)
	m.used, m.listed = 0, false
}

// take is an empty record.
func (m *Room[T]) take() *T {
	if m == nil || m.used == len(m.recs) {
		return new(T)
	}
	m.used++
	return &m.recs[m.used-1]
}

// list is an empty list for a page of up to limit records.
func (m *Room[T]) list(limit int) []*T {
	if m == nil || m.listed || limit > len(m.page) {
		return make([]*T, 0, min(limit, mostListed))
	}
	m.listed = true
	return m.page[:0:limit]
}

// mostListed is how many records of a page there is room for before there are any: a caller that wants all has a limit without end.
const mostListed = 32

// In is a snapshot whose Page and PageBy of T put their records into room. Everything else is as without it.
func In[T any](room *Room[T], s *Snapshot) Reader { return &roomy[T]{s, room} }

type roomy[T any] struct {
	*Snapshot
	room *Room[T]
}

func roomOf[T any](r Reader) *Room[T] {
	if in, ok := r.(*roomy[T]); ok {
		return in.room
	}
	return nil
}
