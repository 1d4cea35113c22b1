package audit

import (
	"encoding/json"
	"maps"
	"slices"
	"time"
)

// UserIdentity says who called ("CloudTrail userIdentity element"). Empty members are left out.
type UserIdentity struct {
	// Type is "Root", "IAMUser", "AssumedRole", "FederatedUser", "SAMLUser", "WebIdentityUser", "Directory", "AWSService" or
	// "Unknown". A directory's users are principals by their SID.
	Type           string          `json:"type"`
	PrincipalID    string          `json:"principalId,omitempty"`
	ARN            string          `json:"arn,omitempty"`
	AccountID      string          `json:"accountId,omitempty"`
	AccessKeyID    string          `json:"accessKeyId,omitempty"`
	UserName       string          `json:"userName,omitempty"`
	SessionContext *SessionContext `json:"sessionContext,omitempty"`
	// IdentityProvider is who vouched for a SAMLUser or WebIdentityUser.
	IdentityProvider string `json:"identityProvider,omitempty"`
}

// SessionContext describes temporary credentials.
type SessionContext struct {
	// SessionIssuer is zero for credentials of GetSessionToken.
	SessionIssuer SessionIssuer `json:"sessionIssuer"`
	// WebIDFederation is nil unless an OpenID Connect provider's word began the session.
	WebIDFederation *Federation `json:"webIdFederationData"`
	// CreationDate is when the credentials were issued, MFA whether a second factor was shown for them.
	CreationDate time.Time `json:"creationDate"`
	MFA          bool      `json:"mfaAuthenticated"`
	// SourceIdentity is who the first role of a chain was assumed for.
	SourceIdentity string `json:"sourceIdentity,omitempty"`
}

// SessionIssuer is the role or user for whom temporary credentials were issued.
type SessionIssuer struct {
	Type        string `json:"type"`
	PrincipalID string `json:"principalId"`
	ARN         string `json:"arn"`
	AccountID   string `json:"accountId"`
	UserName    string `json:"userName"`
}

// Federation is what an identity provider has said.
type Federation struct {
	// Provider is its ARN or name, Attributes what it said, by condition key ("accounts.google.com:sub").
	Provider   string            `json:"federatedProvider"`
	Attributes map[string]string `json:"attributes"`
}

// UnmarshalJSON reads CloudTrail's spelling, where the attributes are strings in an object of their own.
func (s *SessionContext) UnmarshalJSON(data []byte) error {
	var w struct {
		SessionIssuer   SessionIssuer `json:"sessionIssuer"`
		WebIDFederation *Federation   `json:"webIdFederationData"`
		Attributes      struct {
			CreationDate     time.Time `json:"creationDate"`
			MFAAuthenticated string    `json:"mfaAuthenticated"`
		} `json:"attributes"`
		SourceIdentity string `json:"sourceIdentity"`
	}
	if err := json.Unmarshal(data, &w); err != nil {
		return err
	}
	*s = SessionContext{SessionIssuer: w.SessionIssuer, WebIDFederation: w.WebIDFederation, CreationDate: w.Attributes.CreationDate,
		MFA: w.Attributes.MFAAuthenticated == "true", SourceIdentity: w.SourceIdentity}
	return nil
}

func (u *UserIdentity) append(b []byte) []byte {
	b = append(b, `{"type":`...)
	b = text(b, u.Type)
	b = optional(b, "principalId", cut(u.PrincipalID, maxText))
	b = optional(b, "arn", u.ARN)
	b = optional(b, "accountId", u.AccountID)
	b = optional(b, "accessKeyId", cut(u.AccessKeyID, maxText))
	b = optional(b, "userName", cut(u.UserName, maxText))
	if u.SessionContext != nil {
		b = append(b, `,"sessionContext":`...)
		b = u.SessionContext.append(b)
	}
	b = optional(b, "identityProvider", cut(u.IdentityProvider, maxText))
	return append(b, '}')
}

func (s *SessionContext) append(b []byte) []byte {
	b = append(b, '{')
	if i := &s.SessionIssuer; i.Type != "" {
		b = append(b, `"sessionIssuer":{"type":`...)
		b = text(b, i.Type)
		b = member(b, "principalId", i.PrincipalID)
		b = member(b, "arn", i.ARN)
		b = member(b, "accountId", i.AccountID)
		// The account's root has no name.
		b = optional(b, "userName", i.UserName)
		b = append(b, '}', ',')
	}
	if f := s.WebIDFederation; f != nil {
		b = append(b, `"webIdFederationData":{"federatedProvider":`...)
		b = text(b, cut(f.Provider, maxText))
		b = append(b, `,"attributes":{`...)
		for i, name := range slices.Sorted(maps.Keys(f.Attributes)) {
			if i > 0 {
				b = append(b, ',')
			}
			b = text(b, cut(name, maxText))
			b = append(b, ':')
			b = text(b, cut(f.Attributes[name], maxText))
		}
		b = append(b, `}},`...)
	}
	b = append(b, `"attributes":{"creationDate":"`...)
	b = s.CreationDate.UTC().AppendFormat(b, time.RFC3339)
	if b = append(b, `","mfaAuthenticated":"`...); s.MFA {
		b = append(b, `true"}`...)
	} else {
		b = append(b, `false"}`...)
	}
	b = optional(b, "sourceIdentity", cut(s.SourceIdentity, maxText))
	return append(b, '}')
}
