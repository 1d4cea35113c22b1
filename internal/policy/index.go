package policy

import (
	"slices"
	"strings"
)

// index finds the statements that may match without looking at the others: by the action, and by the resource part of the ARN. Either
// gives a set that holds every statement that matches; the statements in both are then tested in full. So a request costs what its own
// statements cost, however many others there are.
type index struct {
	words             int
	actions, resource lookup
}

// lookup finds statements by a text: those with exactly that text, those whose pattern begins like it, and those that must always be tested.
type lookup struct {
	exact, prefixes map[string]posting
	lengths         []int // of prefixes, rising
	always          posting
}

// posting is a set of statements: ids when they are few, bits when they are many, so that it never costs more than one or the other.
type posting struct {
	ids  []int32
	bits []uint64
}

// maxPrefix bounds how many prefixes are looked up. Patterns that differ later only are tested.
const maxPrefix = 48

func buildIndex(statements []statement) index {
	x := index{words: (len(statements) + 63) / 64}
	for id := range statements {
		s := &statements[id]
		switch {
		case s.notAction:
			x.actions.always.add(id)
		default:
			for i := range s.actions {
				x.actions.add(&s.actions[i], id)
			}
		}
		switch {
		case s.notResource || s.anyResource:
			x.resource.always.add(id)
		default:
			for i := range s.resources {
				x.resource.add(&s.resources[i].parts[5], id)
			}
		}
	}
	x.actions.pack(x.words)
	x.resource.pack(x.words)
	return x
}

// add files a statement under a pattern.
func (l *lookup) add(p *pattern, id int) {
	if p.parts == nil && !p.wild {
		put(&l.exact, p.text, id)
		return
	}
	text := p.text
	if p.parts != nil {
		text = p.parts[0].text // What stands before the first variable.
	}
	text, _, _ = strings.Cut(text, string([]byte{anyText}))
	text, _, _ = strings.Cut(text, string([]byte{anyChar}))
	if text = text[:min(len(text), maxPrefix)]; text == "" {
		l.always.add(id)
		return
	}
	put(&l.prefixes, text, id)
	if i, found := slices.BinarySearch(l.lengths, len(text)); !found {
		l.lengths = slices.Insert(l.lengths, i, len(text))
	}
}

func put(m *map[string]posting, text string, id int) {
	if *m == nil {
		*m = map[string]posting{}
	}
	p := (*m)[text]
	p.add(id)
	(*m)[text] = p
}

// add puts a statement in. Ids come in rising order, and one statement's may come again.
func (p *posting) add(id int) {
	if n := len(p.ids); n == 0 || p.ids[n-1] != int32(id) {
		p.ids = append(p.ids, int32(id))
	}
}

// pack turns large postings into bits.
func (l *lookup) pack(words int) {
	l.always.pack(words)
	for _, m := range []map[string]posting{l.exact, l.prefixes} {
		for text, p := range m {
			p.pack(words)
			m[text] = p
		}
	}
}

func (p *posting) pack(words int) {
	if len(p.ids) <= words {
		return
	}
	p.bits = make([]uint64, words)
	p.mark(p.bits)
	p.ids = nil
}

// mark adds the statements of the posting to a set.
func (p *posting) mark(set []uint64) {
	for i := range p.bits {
		set[i] |= p.bits[i]
	}
	for _, id := range p.ids {
		set[id/64] |= 1 << (id % 64)
	}
}

// find adds every statement that may match text to a set.
func (l *lookup) find(text string, set []uint64) {
	l.always.mark(set)
	if p, ok := l.exact[text]; ok {
		p.mark(set)
	}
	for _, n := range l.lengths {
		if n > len(text) {
			return
		}
		if p, ok := l.prefixes[text[:n]]; ok {
			p.mark(set)
		}
	}
}

// candidates is the set of statements that may match. It lives in the request.
func (x *index) candidates(r *Request) []uint64 {
	actions, resources := r.set(0, x.words), r.set(1, x.words)
	x.actions.find(r.Action.folded, actions)
	x.resource.find(r.arn[5], resources)
	for i := range actions {
		actions[i] &= resources[i]
	}
	return actions
}

// set gives an empty set of the request's own.
func (r *Request) set(i, words int) []uint64 {
	if cap(r.sets[i]) < words {
		r.sets[i] = make([]uint64, words)
	}
	s := r.sets[i][:words]
	clear(s)
	return s
}
