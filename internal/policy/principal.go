package policy

import (
	"strings"

	"carrel/internal/arn"
)

// principals reads Principal or NotPrincipal.
func (p *parser) principals(n *node, s *Statement) {
	var el *node
	el, s.NotPrincipal = either(n, "Principal")
	switch {
	case !p.doc.Kind.namesPrincipals():
		if el != nil {
			p.refuse(el.pos, textNoPrincipals, "it applies to whom it is attached to")
		}
		return
	case el == nil:
		p.syntax(n.pos, "Missing required field Principal", "Principal is missing")
		return
	case el.kind == stringNode && el.text == "*":
		s.Principals = []PrincipalName{{Type: "*", Value: "*"}}
		return
	case el.kind == objectNode && len(el.members) == 0:
		p.syntax(el.pos, "Missing required field Principal", "no principal is named")
		return
	}
	for _, m := range p.object(el) {
		if m.name != "AWS" && m.name != "Service" && m.name != "Federated" {
			p.syntax(m.pos, "Unknown field "+m.name, "a principal is AWS, Service or Federated")
		}
		p.strs(&m.value, func(at int, name string) {
			if !p.validPrincipal(m.name, name) {
				p.refuse(at, invalidPrincipal(m.name, name), "wildcards do not match parts of a principal, and it must be written in full")
			}
			s.Principals = append(s.Principals, PrincipalName{Type: m.name, Value: name})
		})
	}
}

// validPrincipal holds a name to the forms of reference 5.2. A star never stands for a part of a name.
func (p *parser) validPrincipal(kind, name string) bool {
	switch {
	case kind == "AWS" && name == "*":
		return true
	case name == "" || strings.ContainsAny(name, "*?"):
		return false
	case kind != "AWS":
		return true
	case isAccount(name) || isUniqueID(name):
		return true
	case p.doc.Kind != Trust && allDigits(name):
		return true // AWS's own example of an endpoint policy names an account of 13 digits: it is taken, and matches nobody.
	}
	a, err := arn.Parse(name)
	if err != nil || !isAccount(a.Account) && p.doc.Kind == Trust || !allDigits(a.Account) || a.Region != "" {
		return false
	}
	kindOf, rest, _ := strings.Cut(a.Resource, "/")
	switch a.Service + ":" + kindOf {
	case "iam:root":
		return a.Resource == "root"
	case "iam:user", "iam:role", "sts:federated-user":
		return rest != ""
	case "sts:assumed-role":
		role, session, _ := strings.Cut(rest, "/")
		return role != "" && session != ""
	}
	return false
}

func isAccount(s string) bool { return len(s) == 12 && allDigits(s) }

func allDigits(s string) bool {
	return s != "" && strings.Trim(s, "0123456789") == ""
}

// isUniqueID accepts the ids that users ("AIDA...") and roles ("AROA...") are stored by.
func isUniqueID(s string) bool {
	return len(s) >= 16 && len(s) <= 128 && (strings.HasPrefix(s, "AIDA") || strings.HasPrefix(s, "AROA")) && strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}

// MapPrincipals gives a copy of d in which f has renamed the AWS principals. A trust policy is stored with the unique ids of the users and roles
// it names and shown with their ARNs, so that somebody who is made again under an old name does not inherit what the name was trusted with (IAM-5).
func (d *Document) MapPrincipals(f func(name string) string) *Document {
	c := *d
	c.Statements = append([]Statement(nil), d.Statements...)
	for i := range c.Statements {
		s := &c.Statements[i]
		s.Principals = append([]PrincipalName(nil), s.Principals...)
		for j := range s.Principals {
			if q := &s.Principals[j]; q.Type == "AWS" && q.Value != "*" {
				q.Value = f(q.Value)
			}
		}
	}
	return &c
}

// Grant says how directly a resource's policy has named whom it allows: that decides which other policies still count (reference 5.1).
type Grant uint8

// The grants, in rising order.
const (
	// NoGrant: nothing is allowed.
	NoGrant Grant = iota
	// AccountGrant: the account is named. It delegates: the account's own policies must allow as well.
	AccountGrant
	// RoleGrant: the role, or the user behind a federated session, is named, or everybody with exceptions. The boundary and the session policy still limit it.
	RoleGrant
	// DirectGrant: the user, the session itself or everybody is named. No implicit deny of another policy of the caller's counts.
	DirectGrant
)

// principalSet is a compiled Principal element.
type principalSet struct {
	everyone, everyAWS bool
	accounts           map[string]bool
	names              map[string]bool // ARNs and unique ids
	services           map[string]bool
	providers          map[string]bool
}

func compilePrincipals(names []PrincipalName) *principalSet {
	s := &principalSet{accounts: map[string]bool{}, names: map[string]bool{}, services: map[string]bool{}, providers: map[string]bool{}}
	for _, n := range names {
		account, isRoot := rootAccount(n.Value)
		switch {
		case n.Type == "*":
			s.everyone = true
		case n.Type == "Service":
			s.services[n.Value] = true
		case n.Type == "Federated":
			s.providers[n.Value] = true
		case n.Value == "*":
			s.everyAWS = true
		case isRoot:
			s.accounts[account] = true
		case allDigits(n.Value):
			s.accounts[n.Value] = true
		default:
			s.names[n.Value] = true
		}
	}
	return s
}

// rootAccount gives the account of a root's ARN, which stands for the account.
func rootAccount(name string) (string, bool) {
	a, err := arn.Parse(name)
	return a.Account, err == nil && a.Resource == "root"
}

// grant says how the set names p; NoGrant when it does not.
func (s *principalSet) grant(p *Principal) Grant {
	switch {
	case s.everyone:
		return DirectGrant
	case p.Type == Service:
		return direct(s.services[p.Name])
	case p.Type == Federated:
		return direct(s.providers[p.Name])
	case s.everyAWS:
		return DirectGrant
	case p.Type == Anonymous:
		return NoGrant
	case s.names[p.ARN] || s.names[p.ID]:
		return DirectGrant
	case s.names[p.Issuer] || s.names[p.IssuerID]:
		return RoleGrant
	case s.accounts[p.Account]:
		if p.Type == Root {
			return DirectGrant
		}
		return AccountGrant
	}
	return NoGrant
}

func direct(named bool) Grant {
	if named {
		return DirectGrant
	}
	return NoGrant
}
