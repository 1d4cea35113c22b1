package policy

import (
	"fmt"
	"strings"
)

// Reason says of one statement whether it matched, and if not what is in its way: the first element that does not match.
type Reason struct {
	ID        int
	Statement *Statement
	// Document and Place are the number of its document and its own in it, from 0.
	Document, Place int
	Matched         bool
	// Element is what did not match ("Action", "NotResource", "Condition"); empty when all did.
	Element string
	// Operator and Key belong to a Condition. Variable is the key of a variable that has no value.
	Operator, Key, Variable string
	// Wanted is what the statement lists, Actual what the request has. A condition key that the request lacks has no Actual.
	Wanted, Actual []string
}

// Explain gives a reason for each statement, in the order of their ids. It uses the same tests as Evaluate, without the index, and is slower.
func (p *Policy) Explain(r *Request) []Reason {
	if p == nil {
		return nil
	}
	reasons := make([]Reason, len(p.statements))
	for id := range p.statements {
		s := &p.statements[id]
		failed, which := s.test(r)
		why := Reason{ID: id, Statement: s.source, Document: s.document, Place: s.place, Matched: failed == none}
		s.explain(&why, failed, which, r)
		reasons[id] = why
	}
	return reasons
}

func (s *statement) explain(why *Reason, failed element, which int, r *Request) {
	not := func(twin bool, name string) string {
		if twin {
			return "Not" + name
		}
		return name
	}
	switch failed {
	case elementPrincipal:
		why.Element = not(s.notPrincipal, "Principal")
		for _, n := range s.source.Principals {
			why.Wanted = append(why.Wanted, n.Value)
		}
		why.Actual = []string{r.Principal.ARN}
		if r.Principal.ARN == "" {
			why.Actual[0] = r.Principal.Name
		}
	case elementAction:
		why.Element, why.Wanted, why.Actual = not(s.notAction, "Action"), s.source.Actions, []string{r.Action.name}
	case elementResource, elementVariableInResource:
		why.Element, why.Wanted, why.Actual = not(s.notResource, "Resource"), s.source.Resources, []string{r.resource}
		for i := range s.resources {
			if v := s.resources[i].unresolved(r); v != nil && why.Variable == "" {
				why.Variable = v.written
			}
		}
	case elementCondition, elementVariable:
		c := &s.conditions[which]
		why.Element, why.Operator, why.Key = "Condition", c.name, s.source.Conditions[which].Key
		why.Wanted, why.Actual = s.source.Conditions[which].Values, r.Values(c.key)
		if failed == elementVariable {
			why.Variable = c.unresolved(r).written
		}
	}
}

// String is the reason as a sentence: `statement Own: Condition StringEquals aws:username wants ["ada"], the request has ["bob"]`.
func (w Reason) String() string {
	name := fmt.Sprintf("statement %d", w.Place+1)
	if w.Statement.Sid != "" {
		name = "statement " + w.Statement.Sid
	}
	what := w.Element
	if w.Operator != "" {
		what += " " + w.Operator + " " + w.Key
	}
	switch {
	case w.Matched:
		return name + " matches"
	case w.Variable != "":
		return name + ": " + what + " has the variable ${" + w.Variable + "}, which has no value in the request"
	case w.Actual == nil:
		return name + ": " + what + " wants " + list(w.Wanted) + ", the request does not have the key"
	}
	verb := " wants "
	if strings.HasPrefix(w.Element, "Not") {
		verb = " excludes "
	}
	return name + ": " + what + verb + list(w.Wanted) + ", the request has " + list(w.Actual)
}

func list(values []string) string {
	b := []byte{'['}
	for i, v := range values {
		if i > 0 {
			b = append(b, ", "...)
		}
		b = appendString(b, v)
	}
	return string(append(b, ']'))
}
