package policy

import (
	"iter"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Key is a condition key. Keys are compared without case, tag names in them included (reference 5.2), so a Key holds the folded name.
// Make those that do not change once, as package variables.
type Key struct {
	name string
	hash uint64
}

// NewKey makes a key: "aws:RequestTag/team".
func NewKey(name string) Key {
	k := Key{name: fold(name), hash: 14695981039346656037} // FNV-1a: a quick no; the name still decides.
	for i := range len(k.name) {
		k.hash = (k.hash ^ uint64(k.name[i])) * 1099511628211
	}
	return k
}

// String is the folded name: "aws:requesttag/team".
func (k Key) String() string { return k.name }

// fold gives strings that strings.EqualFold calls equal the same spelling.
func fold(s string) string {
	return strings.Map(func(u rune) rune {
		if u < utf8.RuneSelf {
			return unicode.ToLower(u)
		}
		least := u
		for next := unicode.SimpleFold(u); next != u; next = unicode.SimpleFold(next) {
			least = min(least, next)
		}
		if least < utf8.RuneSelf { // The Kelvin sign is a k.
			return unicode.ToLower(least)
		}
		return least
	}, s)
}

// Action is an action, folded once: actions are compared without case (reference 5.2).
type Action struct{ name, folded string }

// NewAction makes an action: "workspaces:DescribeWorkspaces".
func NewAction(name string) Action { return Action{name: name, folded: foldAction(name)} }

// String is the action as it was given.
func (a Action) String() string { return a.name }

// foldAction folds ASCII alone: action names have nothing else, and a letter that merely folds to one of theirs is another action.
func foldAction(s string) string {
	return strings.Map(func(u rune) rune {
		if u >= 'A' && u <= 'Z' {
			u += 'a' - 'A'
		}
		return u
	}, s)
}

// PrincipalType says what kind of caller signed.
type PrincipalType uint8

// The kinds of callers. The zero value is a caller without credentials (AssumeRoleWithWebIdentity is called so before its token is read).
const (
	Anonymous PrincipalType = iota
	Root
	User          // also with credentials of GetSessionToken
	RoleSession   // of any AssumeRole operation
	FederatedUser // of GetFederationToken
	Service
	Federated // somebody an identity provider vouches for, while assuming a role
)

// Principal is who asks, as Principal elements name callers.
type Principal struct {
	Type    PrincipalType
	Account string
	// ARN is the caller's own: of the user, of the root, of the session.
	ARN string
	// ID is the unique id of the user ("AIDA..."); Principal elements are stored with it.
	ID string
	// Issuer is the ARN of the role of a role session, or of the user or root that a federated user's session was made by.
	Issuer string
	// IssuerID is the Issuer's unique id ("AROA...").
	IssuerID string
	// Name is the service of a Service ("workspaces.amazonaws.com") and the provider of a Federated (an ARN, or "accounts.google.com").
	Name string
	// ServiceLinked tells that the role of a role session is a service-linked one: guardrails do not apply to it.
	ServiceLinked bool
}

// Request is what is asked: who, what, on which resource, under which circumstances. It may be used again after Rewind and for one
// goroutine at a time. Its zero value asks for nothing and is allowed nothing.
type Request struct {
	Action    Action
	Principal Principal

	resource string
	arn      [6]string
	isARN    bool
	entries  []entry
	scratch  []byte
	sets     [2][]uint64
}

// entry is one condition key with its values.
type entry struct {
	key  Key
	one  string
	many []string // Set instead of one when there are several values.
}

// SetResource sets the ARN that is asked for, or "*" for an action that knows no resource.
func (r *Request) SetResource(arn string) {
	r.resource = strings.ToValidUTF8(arn, string(utf8.RuneError))
	r.arn = [6]string{}
	r.isARN = splitSix(r.resource, &r.arn) && r.arn[0] == "arn"
}

// Resource is what SetResource has set.
func (r *Request) Resource() string { return r.resource }

// Set gives a key a value. A key that is set twice has both values: of two tags whose names differ in case only, neither may hide the other.
func (r *Request) Set(k Key, value string) {
	value = strings.ToValidUTF8(value, string(utf8.RuneError)) // Wildcards count characters, so there must be nothing but characters.
	e := r.find(k)
	switch {
	case e == nil:
		r.entries = append(r.entries, entry{key: k, one: value})
	case e.many == nil:
		e.many = []string{e.one, value}
	default:
		e.many = append(e.many, value)
	}
}

// SetAll gives a key several values, or none: a key without values counts as missing (reference 5.4).
func (r *Request) SetAll(k Key, values []string) {
	for _, v := range values {
		r.Set(k, v)
	}
}

// Mark and Rewind forget the keys that were set since: a call for 25 resources sets what belongs to the caller once.
func (r *Request) Mark() int { return len(r.entries) }

// Rewind forgets every key that was set after mark. The keys from before must not have been set again meanwhile.
func (r *Request) Rewind(mark int) {
	r.entries = r.entries[:mark]
}

func (r *Request) find(k Key) *entry {
	for i := range r.entries {
		if e := &r.entries[i]; e.key.hash == k.hash && e.key.name == k.name {
			return e
		}
	}
	return nil
}

// Values are the values of a key, none when it is missing.
func (r *Request) Values(k Key) []string {
	switch e := r.find(k); {
	case e == nil:
		return nil
	case e.many == nil:
		return []string{e.one}
	default:
		return e.many
	}
}

// Since visits the keys that were set after a mark, by their folded names, with their values; all of them after 0.
func (r *Request) Since(mark int) iter.Seq2[string, []string] {
	return func(yield func(string, []string) bool) {
		for i := range r.entries[mark:] {
			e := &r.entries[mark+i]
			values := e.many
			if values == nil {
				values = []string{e.one}
			}
			if !yield(e.key.name, values) {
				return
			}
		}
	}
}

// single is the value of a key that has exactly one: only such keys may stand in variables (reference 5.3).
func (r *Request) single(k Key) (string, bool) {
	e := r.find(k)
	if e == nil || e.many != nil || multiValued[k.name] {
		return "", false
	}
	return e.one, true
}

// multiValued are the keys that hold sets, even when the set has one value (reference 5.4).
var multiValued = map[string]bool{"aws:tagkeys": true, "aws:calledvia": true, "aws:principalorgpaths": true, "aws:principalservicenameslist": true, "aws:resourceorgpaths": true}
