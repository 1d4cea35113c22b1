package policy

import (
	"encoding/base64"
	"net/netip"
	"strings"
)

type opKind uint8

const (
	opString opKind = iota
	opIgnoreCase
	opNumeric
	opDate
	opBool
	opBinary
	opIP
	opARN
	opNull
)

// relations of a value to the policy's value.
const (
	less = 1 << iota
	equal
	greater
)

// operator is a condition operator without its qualifier and IfExists.
type operator struct {
	kind    opKind
	negated bool // Negated operators are the complement of their positive twin (reference 5.4: NOR).
	wild    bool // * and ? are wildcards
	accepts uint8
}

// operators are all of reference 5.4.
var operators = map[string]operator{
	"StringEquals": {kind: opString}, "StringNotEquals": {kind: opString, negated: true},
	"StringEqualsIgnoreCase": {kind: opIgnoreCase}, "StringNotEqualsIgnoreCase": {kind: opIgnoreCase, negated: true},
	"StringLike": {kind: opString, wild: true}, "StringNotLike": {kind: opString, wild: true, negated: true},
	"NumericEquals": {kind: opNumeric, accepts: equal}, "NumericNotEquals": {kind: opNumeric, accepts: equal, negated: true},
	"NumericLessThan": {kind: opNumeric, accepts: less}, "NumericLessThanEquals": {kind: opNumeric, accepts: less | equal},
	"NumericGreaterThan": {kind: opNumeric, accepts: greater}, "NumericGreaterThanEquals": {kind: opNumeric, accepts: greater | equal},
	"DateEquals": {kind: opDate, accepts: equal}, "DateNotEquals": {kind: opDate, accepts: equal, negated: true},
	"DateLessThan": {kind: opDate, accepts: less}, "DateLessThanEquals": {kind: opDate, accepts: less | equal},
	"DateGreaterThan": {kind: opDate, accepts: greater}, "DateGreaterThanEquals": {kind: opDate, accepts: greater | equal},
	"Bool": {kind: opBool}, "BinaryEquals": {kind: opBinary}, "Null": {kind: opNull},
	"IpAddress": {kind: opIP}, "NotIpAddress": {kind: opIP, negated: true},
	"ArnEquals": {kind: opARN}, "ArnLike": {kind: opARN}, "ArnNotEquals": {kind: opARN, negated: true}, "ArnNotLike": {kind: opARN, negated: true},
}

type quantifier uint8

const (
	plain quantifier = iota
	forAll
	forAny
)

// quantifiers are the set qualifiers that stand before an operator.
var quantifiers = map[string]quantifier{"ForAllValues": forAll, "ForAnyValue": forAny}

// operatorName is an operator as it is written, taken apart.
type operatorName struct {
	operator
	each     quantifier
	ifExists bool
}

// parseOperator reads ForAnyValue:StringLikeIfExists. Null has neither qualifiers nor IfExists: it is the test whether a key exists.
func parseOperator(name string) (operatorName, bool) {
	var n operatorName
	qualifier, base, qualified := strings.Cut(name, ":")
	if !qualified {
		base = name
	} else if n.each = quantifiers[qualifier]; n.each == plain {
		return n, false
	}
	base, n.ifExists = strings.CutSuffix(base, "IfExists")
	var known bool
	n.operator, known = operators[base]
	return n, known && (n.kind != opNull || n.each == plain && !n.ifExists)
}

// condition is one operator and key with all its values.
type condition struct {
	operatorName
	name string // the operator as it is written
	key  Key

	patterns []pattern // opString, opIgnoreCase, opBool, opBinary
	numbers  []number
	instants []instant
	ranges   []netip.Prefix
	arns     []arnPattern
	absent   [2]bool // opNull: whether a key that exists, and one that does not, is accepted
}

// add compiles one value into c and says why it cannot be one.
func (c *condition) add(text string, vars bool) string {
	switch c.kind {
	case opNumeric:
		return addTo(&c.numbers, parseNumber, text, "no decimal number of at most 18 digits")
	case opDate:
		return addTo(&c.instants, parseInstant, text, "neither a date of ISO 8601 nor seconds since 1970")
	case opIP:
		return addTo(&c.ranges, parseRange, text, "neither an address nor a range of addresses")
	case opNull:
		return c.addNull(text)
	case opARN:
		p, reason := parseConditionARN(text, vars)
		c.arns = append(c.arns, p)
		return reason
	case opBinary:
		if _, err := base64.StdEncoding.Strict().DecodeString(text); err != nil {
			return text + ": not in base 64" // And so no variable either.
		}
	}
	p, reason := parsePattern(text, c.wild, vars)
	if _, isBool := parseBool(text); reason == "" && c.kind == opBool && p.parts == nil && !isBool {
		reason = text + ": neither true nor false"
	}
	c.patterns = append(c.patterns, p)
	return reason
}

func addTo[T any](list *[]T, parse func(string) (T, bool), text, reason string) string {
	v, ok := parse(text)
	if !ok {
		return text + ": " + reason
	}
	*list = append(*list, v)
	return ""
}

func (c *condition) addNull(text string) string {
	want, ok := parseBool(text)
	if !ok {
		return text + ": neither true nor false"
	}
	if want {
		c.absent[1] = true
	} else {
		c.absent[0] = true
	}
	return ""
}

// outcome of a condition.
type outcome uint8

const (
	fails outcome = iota
	holds
	unresolved // A variable has no value: the whole statement does not match (reference 5.3).
)

// test decides the condition for a request (reference 5.4).
func (c *condition) test(r *Request) outcome {
	e := r.find(c.key)
	switch {
	case c.kind == opNull:
		return truth(e == nil && c.absent[1] || e != nil && c.absent[0])
	case e == nil && c.ifExists:
		return holds
	case e == nil && c.each == plain:
		return truth(c.negated)
	case e == nil:
		return truth(c.each == forAll)
	case c.unresolved(r) != nil:
		return unresolved
	case e.many == nil:
		return truth(c.any(e.one, r) != c.negated)
	case c.each == forAll:
		return truth(c.every(e.many, r))
	case c.each == forAny:
		return truth(c.some(e.many, r))
	}
	// A set without a qualifier, of which AWS says nothing: one value that matches makes a positive operator true, and its negated twin false.
	for _, v := range e.many {
		if c.any(v, r) {
			return truth(!c.negated)
		}
	}
	return truth(c.negated)
}

func truth(b bool) outcome {
	if b {
		return holds
	}
	return fails
}

func (c *condition) every(values []string, r *Request) bool {
	for _, v := range values {
		if c.any(v, r) == c.negated {
			return false
		}
	}
	return true
}

func (c *condition) some(values []string, r *Request) bool {
	for _, v := range values {
		if c.any(v, r) != c.negated {
			return true
		}
	}
	return false
}

// unresolved is the first variable without a value.
func (c *condition) unresolved(r *Request) *part {
	for i := range c.patterns {
		if v := c.patterns[i].unresolved(r); v != nil {
			return v
		}
	}
	for i := range c.arns {
		if v := c.arns[i].unresolved(r); v != nil {
			return v
		}
	}
	return nil
}

// any tells whether one of the policy's values matches, as the positive operator sees it. A value of the request that is not of the
// operator's type matches nothing.
func (c *condition) any(v string, r *Request) bool {
	switch c.kind {
	case opNumeric:
		n, ok := parseNumber(v)
		return ok && within(c.numbers, n, c.accepts)
	case opDate:
		t, ok := parseInstant(v)
		return ok && within(c.instants, t, c.accepts)
	case opIP:
		addr, ok := parseAddr(v)
		return ok && contains(c.ranges, addr)
	case opARN:
		return c.anyARN(v, r)
	}
	for i := range c.patterns {
		if c.same(&c.patterns[i], v, r) {
			return true
		}
	}
	return false
}

// same compares one value with one pattern of a string operator or of Bool.
func (c *condition) same(p *pattern, v string, r *Request) bool {
	switch {
	case c.kind == opBool:
		want, ok1 := parseBool(p.expanded(r))
		got, ok2 := parseBool(v)
		return ok1 && ok2 && want == got
	case c.kind == opIgnoreCase:
		return strings.EqualFold(p.expanded(r), v)
	}
	return p.match(v, r)
}

func (c *condition) anyARN(v string, r *Request) bool {
	var arn [6]string
	if !splitSix(v, &arn) {
		return false
	}
	for i := range c.arns {
		if c.arns[i].match(&arn, r) {
			return true
		}
	}
	return false
}

// within tells whether v stands in an accepted relation to one of the values.
func within[T interface{ compare(T) int }](values []T, v T, accepts uint8) bool {
	for i := range values {
		if accepts>>(v.compare(values[i])+1)&1 != 0 {
			return true
		}
	}
	return false
}

func contains(ranges []netip.Prefix, addr netip.Addr) bool {
	for _, p := range ranges {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}
