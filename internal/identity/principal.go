// Package identity says who signed a request: it turns a parsed signature into a Principal, and nothing else makes one.
//
// It refuses to decide what a principal may do: that is authz's.
package identity

// Type is a principal's type as CloudTrail's userIdentity and aws:PrincipalType write it.
type Type string

// The principal types.
const (
	Root    Type = "Root"
	IAMUser Type = "IAMUser"
)

// Principal is a verified signer. There is no way to make one but Authenticator.Authenticate: the field is not exported and the zero
// Principal is nobody (its methods panic), so a handler that forgot to authenticate cannot act.
type Principal struct{ p *principal }

type principal struct {
	kind                              Type
	account, arn, userID, name, keyID string
}

// IsZero tells that nobody was verified.
func (p Principal) IsZero() bool { return p.p == nil }

// Type is the principal's type.
func (p Principal) Type() Type { return p.must().kind }

// AccountID is the account of 12 digits.
func (p Principal) AccountID() string { return p.must().account }

// ARN is the principal's ARN: "arn:aws:iam::123456789012:user/ada".
func (p Principal) ARN() string { return p.must().arn }

// UserID is the unique id: "AIDA..." for a user, the account id for the root.
func (p Principal) UserID() string { return p.must().userID }

// Name is the user's name, empty for the root.
func (p Principal) Name() string { return p.must().name }

// AccessKeyID is the key that signed.
func (p Principal) AccessKeyID() string { return p.must().keyID }

func (p Principal) must() *principal {
	if p.p == nil {
		panic("identity: the zero Principal was used: a request reached a handler without authentication")
	}
	return p.p
}
