// Package identity says who signed a request: it turns a parsed signature into a Principal, and nothing else makes one.
//
// It refuses to decide what a principal may do: that is authz's.
package identity

import (
	"time"

	"carrel/internal/ident"
	"carrel/internal/state"
)

// Type is a principal's type as CloudTrail's userIdentity writes it.
type Type string

// The principal types. A user with credentials of GetSessionToken is an IAMUser, the root with such a Root.
const (
	Root          Type = "Root"
	IAMUser       Type = "IAMUser"
	AssumedRole   Type = "AssumedRole"
	FederatedUser Type = "FederatedUser"
)

// Principal is a verified signer. There is no way to make one but Authenticator.Authenticate: the field is not exported and the zero
// Principal is nobody (its methods panic), so a handler that forgot to authenticate cannot act.
type Principal struct{ p *principal }

type principal struct {
	kind                              Type
	account, arn, userID, name, keyID string
	// user is who signed, or made the session of a federated user; role is whose session it is.
	user    ident.UserID
	role    ident.RoleID
	issuer  string
	session *Session
}

// Session is what temporary credentials say of themselves. It is sealed into their token and never changed afterwards.
type Session struct {
	// KeyID and Secret sign with it.
	KeyID  ident.SessionKeyID
	Secret state.Secret
	// Issued and Expires are when it began and ends. MFA is when a second factor was shown for it, zero: none was.
	Issued, Expires time.Time
	MFA             time.Time `json:",omitzero"`
	// Type is AssumedRole, FederatedUser, or IAMUser and Root for GetSessionToken.
	Type Type
	// UserID is the user of GetSessionToken, and who made a federated user; empty: the root. RoleID is the role of an AssumedRole.
	UserID ident.UserID `json:",omitempty"`
	RoleID ident.RoleID `json:",omitempty"`
	// Name is the RoleSessionName, or the federated user's name.
	Name           string `json:",omitempty"`
	SourceIdentity string `json:",omitempty"`
	// Tags are its session tags; Transitive are the keys of those that go on to the next role.
	Tags       map[string]string `json:",omitempty"`
	Transitive []string          `json:",omitempty"`
	// Policy and PolicyARNs are the session policies: a session without any is not limited by them, but for a federated user's.
	Policy     string   `json:",omitempty"`
	PolicyARNs []string `json:",omitempty"`
	// Provider is aws:FederatedProvider, Claims the other condition keys that the identity provider's word has made ("saml:sub").
	Provider string              `json:",omitempty"`
	Claims   map[string][]string `json:",omitempty"`
	// Chained tells of a role that was assumed with a role's credentials.
	Chained bool `json:",omitempty"`
}

// IsZero tells that nobody was verified.
func (p Principal) IsZero() bool { return p.p == nil }

// Type is the principal's type.
func (p Principal) Type() Type { return p.must().kind }

// AccountID is the account of 12 digits.
func (p Principal) AccountID() string { return p.must().account }

// ARN is the principal's ARN: "arn:aws:iam::123456789012:user/ada", "arn:aws:sts::123456789012:assumed-role/admin/ada".
func (p Principal) ARN() string { return p.must().arn }

// UserID is the unique id: "AIDA..." for a user, the account id for the root, "AROA...:ada" for a role's session, "123456789012:ada" for a
// federated user.
func (p Principal) UserID() string { return p.must().userID }

// Name is the user's name, empty for the root; of a session it is the role's session name or the federated user's name.
func (p Principal) Name() string { return p.must().name }

// AccessKeyID is the key that signed.
func (p Principal) AccessKeyID() string { return p.must().keyID }

// User is the user who signed, or who made the session of a federated user; empty for the root and for roles.
func (p Principal) User() ident.UserID { return p.must().user }

// Role is the role of a role's session, empty for all others.
func (p Principal) Role() ident.RoleID { return p.must().role }

// Issuer is the ARN of the role of a role's session, and of the user or root that made a federated user's; empty for others.
func (p Principal) Issuer() string { return p.must().issuer }

// Session is what temporary credentials say, nil with long-term ones. It is shared: nobody changes it.
func (p Principal) Session() *Session { return p.must().session }

func (p Principal) must() *principal {
	if p.p == nil {
		panic("identity: the zero Principal was used: a request reached a handler without authentication")
	}
	return p.p
}
