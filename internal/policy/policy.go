// Package policy is the IAM policy language: documents are read and checked, compiled once, evaluated, explained, and several of them
// combined. It follows the IAM User Guide as /docs/adr/0008-policy-language.md tells where the guide leaves a choice.
//
// It is pure: nothing here reads a clock, a file or a record; who the caller is and what the condition keys say is told in a Request.
// It refuses to know operations, resources of services and presence rules of condition keys: those are authz's.
package policy

// Kind is what a document is attached to. It decides which elements may stand in it.
type Kind uint8

// The kinds. Identity, Boundary, Session and Guardrail documents name no principals; the others must.
const (
	Identity  Kind = iota // of a user, group or role
	Boundary              // a permissions boundary
	Session               // passed when a session is made
	Guardrail             // what an account may do at most: AWS's service control policy
	Trust                 // who may assume a role; has no Resource
	Resource              // attached to a resource
	Endpoint              // of a VPC interface endpoint
)

// String is the kind in the words of AWS's denials (reference 5.7).
func (k Kind) String() string {
	return [...]string{"identity-based policy", "permissions boundary", "session policy", "service control policy", "role trust policy", "resource-based policy", "VPC endpoint policy"}[k]
}

// namesPrincipals tells whether statements of this kind have Principal or NotPrincipal.
func (k Kind) namesPrincipals() bool { return k >= Trust }

// Effect is what a statement does when it matches.
type Effect uint8

// The effects.
const (
	Deny Effect = iota
	Allow
)

// String is the effect as documents write it.
func (e Effect) String() string { return [...]string{"Deny", "Allow"}[e] }

// Versions of the language. A document without one is of the old version, in which ${...} is text.
const (
	Version2008 = "2008-10-17"
	Version2012 = "2012-10-17"
)

// Document is a policy that Parse has read and found right. It is not changed afterwards.
type Document struct {
	Kind       Kind
	Version    string // as written; empty when there was none
	ID         string
	Statements []Statement
}

// Statement is one statement as written.
type Statement struct {
	Sid          string
	Effect       Effect
	Principals   []PrincipalName
	NotPrincipal bool
	Actions      []string
	NotAction    bool
	Resources    []string // none in a Trust
	NotResource  bool
	Conditions   []Condition
	Start, End   Position
}

// PrincipalName is one entry of a Principal element: Type is AWS, Service or Federated, or "*" for the element that is only a star.
type PrincipalName struct{ Type, Value string }

// Condition is one operator with one key: {"StringEquals": {"aws:username": ["ada"]}}.
type Condition struct {
	Operator, Key string
	Values        []string
}

// Position is a place in a document. Line and Column count from 1, Column in characters; Offset counts bytes from 0.
type Position struct{ Line, Column, Offset int }

// variables tells whether ${...} is a variable in d.
func (d *Document) variables() bool { return d.Version == Version2012 }
