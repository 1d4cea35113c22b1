package shape

import (
	"fmt"
	"strings"
	"sync"
)

// node is what checking a value of one shape takes: the shape's constraints made ready to run.
type node struct {
	shape   *Shape
	check   *Check
	pattern *Pattern
	enum    map[string]struct{}
	fields  []fieldNode // of a structure, those with something to check
	elem    *node       // of a list or map, nil when elements have nothing to check
	key     *node       // of a map, likewise
}

// fieldNode is a member of a structure: index of the Go field, name as it stands in a message.
type fieldNode struct {
	index    int
	name     string
	required bool
	node     *node // nil when only presence matters
}

// planner turns descriptors into nodes, each once. Descriptors never change, so neither does what it has made.
type planner struct {
	ready sync.Map // *Shape to *node (nil: nothing to check), complete with all below it
	mu    sync.Mutex
	nodes map[*Shape]*node // all made so far, guarded by mu
}

// plans belongs to the process as the descriptors do: it is a memo of them and holds nothing a request brought.
var plans = planner{nodes: map[*Shape]*node{}}

// of gives the node of s, or nil when no value of s can violate anything.
func (p *planner) of(s *Shape) *node {
	if n, ok := p.ready.Load(s); ok {
		return n.(*node)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	n := p.build(s)
	p.ready.Store(s, n)
	return n
}

// build makes the node of s. A shape that contains itself finds its own unfinished node, which is complete before anyone reads it.
func (p *planner) build(s *Shape) *node {
	if n, ok := p.nodes[s]; ok {
		return n
	}
	n := &node{shape: s, check: s.Check}
	p.nodes[s] = n
	if n.check != nil {
		n.prepare()
	}
	switch s.Kind {
	case Structure:
		for i := range s.Fields {
			f := &s.Fields[i]
			if child := p.build(f.Of); child != nil || f.Required {
				n.fields = append(n.fields, fieldNode{index: i, name: lowerFirst(f.Name), required: f.Required, node: child})
			}
		}
	case List:
		n.elem = p.build(s.Elem)
	case Map:
		n.key, n.elem = p.build(s.Key), p.build(s.Elem)
	}
	if n.check == nil && n.fields == nil && n.elem == nil && n.key == nil && !s.Union {
		p.nodes[s] = nil
		return nil
	}
	return n
}

// prepare compiles the pattern and indexes the enum. The generator refuses patterns that do not compile, so failing here means
// generated code and this package have come apart.
func (n *node) prepare() {
	if n.check.Pattern != "" {
		p, err := CompilePattern(n.check.Pattern)
		if err != nil {
			panic(fmt.Sprintf("shape %s: %v", n.shape.Name, err))
		}
		n.pattern = p
	}
	if len(n.check.Enum) > 0 {
		n.enum = make(map[string]struct{}, len(n.check.Enum))
		for _, v := range n.check.Enum {
			n.enum[v] = struct{}{}
		}
	}
}

// lowerFirst spells a member as AWS's messages do.
func lowerFirst(name string) string {
	if name == "" {
		return ""
	}
	return strings.ToLower(name[:1]) + name[1:]
}
