package front

import (
	"strings"

	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/audit"
	"carrel/internal/identity"
)

// signer is what a principal says of itself.
type signer struct {
	kind                        identity.Type
	id, arn, account, key, name string
	user, role, issuer          string
	session                     *identity.Session
}

// userIdentity says who called, in the shape that CloudTrail gives each type ("CloudTrail userIdentity element"). A request without a principal is
// Unknown, but for the two operations that somebody calls with an identity provider's word instead of a signature.
func userIdentity(x *exchange) audit.UserIdentity {
	p := x.principal
	if p.IsZero() {
		return vouchedFor(x)
	}
	s := signer{kind: p.Type(), id: p.UserID(), arn: p.ARN(), account: p.AccountID(), key: p.AccessKeyID(), name: p.Name(),
		user: string(p.User()), role: string(p.Role()), issuer: p.Issuer(), session: p.Session()}
	return s.identity()
}

func (s *signer) identity() audit.UserIdentity {
	u := audit.UserIdentity{Type: string(s.kind), PrincipalID: s.id, ARN: s.arn, AccountID: s.account, AccessKeyID: s.key}
	if s.kind == identity.IAMUser {
		u.UserName = s.name
	}
	if s.session != nil {
		u.SessionContext = s.context()
	}
	return u
}

func (s *signer) context() *audit.SessionContext {
	c := &audit.SessionContext{CreationDate: s.session.Issued, MFA: !s.session.MFA.IsZero(), SourceIdentity: s.session.SourceIdentity, WebIDFederation: federation(s.session)}
	switch s.kind {
	case identity.AssumedRole:
		c.SessionIssuer = audit.SessionIssuer{Type: "Role", PrincipalID: s.role, ARN: s.issuer, AccountID: s.account, UserName: lastName(s.issuer)}
	case identity.FederatedUser:
		if s.user == "" {
			c.SessionIssuer = audit.SessionIssuer{Type: string(identity.Root), PrincipalID: s.account, ARN: s.issuer, AccountID: s.account}
		} else {
			c.SessionIssuer = audit.SessionIssuer{Type: string(identity.IAMUser), PrincipalID: s.user, ARN: s.issuer, AccountID: s.account, UserName: lastName(s.issuer)}
		}
	}
	return c
}

// lastName is the name at the end of a user's or role's ARN, behind its path.
func lastName(arn string) string { return arn[strings.LastIndexByte(arn, '/')+1:] }

// federation is CloudTrail's webIdFederationData: who vouched, and for which application's which user. The word of a SAML provider has no such place.
func federation(s *identity.Session) *audit.Federation {
	if s.Provider == "" || strings.Contains(s.Provider, ":saml-provider/") {
		return nil
	}
	f := &audit.Federation{Provider: s.Provider, Attributes: map[string]string{}}
	for key, values := range s.Claims {
		if len(values) > 0 && (strings.HasSuffix(key, ":aud") || strings.HasSuffix(key, ":sub")) {
			f.Attributes[key] = values[0]
		}
	}
	return f
}

// vouchedFor is who calls AssumeRoleWithSAML or AssumeRoleWithWebIdentity: what the verified word of the provider says, which the decision about it has.
// A call about which nothing was decided says nothing that anybody has verified. An operation of another name is called by nobody known.
func vouchedFor(x *exchange) audit.UserIdentity {
	var u audit.UserIdentity
	switch x.op {
	case sts.AssumeRoleWithSAML.Operation:
		u.Type = "SAMLUser"
	case sts.AssumeRoleWithWebIdentity.Operation:
		u.Type = "WebIdentityUser"
	default:
		return audit.UserIdentity{Type: "Unknown"}
	}
	if x.decision == nil {
		return u
	}
	one := func(key string) string {
		if values := x.decision.Key(key); len(values) > 0 {
			return values[0]
		}
		return ""
	}
	if u.Type == "SAMLUser" {
		u.IdentityProvider, u.UserName = one("saml:namequalifier"), one("saml:sub")
		u.PrincipalID = u.IdentityProvider + ":" + u.UserName
		return u
	}
	u.IdentityProvider = one("aws:FederatedProvider")
	_, issuer, _ := strings.Cut(u.IdentityProvider, ":oidc-provider/")
	u.UserName = one(issuer + ":sub")
	u.PrincipalID = u.IdentityProvider + ":" + one(issuer+":aud") + ":" + u.UserName
	return u
}

// answered tells whether what an operation answers is recorded: CloudTrail does so for changes, and for new credentials, because their key id is what
// ties the calls made with them to this one.
func answered(op *shape.Operation) bool {
	if !op.ReadOnly {
		return true
	}
	if op.Service != sts.Service || op.Output == nil {
		return false
	}
	for i := range op.Output.Fields {
		if op.Output.Fields[i].Name == "Credentials" {
			return true
		}
	}
	return false
}
