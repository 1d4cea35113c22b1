package sts

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/arn"
	"carrel/internal/awserr"
	"carrel/internal/federation/oidc"
	"carrel/internal/identity"
	"carrel/internal/service"
	"carrel/internal/state"
)

// Federation carries out the two operations that nobody signs: AssumeRoleWithSAML and AssumeRoleWithWebIdentity. What vouches for the caller is
// the word of an identity provider that the account has a record of; the role's trust policy says whether it counts. Its methods may be
// called concurrently. All fields must be set.
type Federation struct {
	// Sessions finds the roles and makes the credentials.
	Sessions *Service
	// Audiences are the names of this service in assertions, Recipients its addresses there (see SignInNames).
	Audiences, Recipients []string
	Trust                 TrustDecider
	WebIdentities         WebIdentities

	mu sync.Mutex
	// providers are the SAML providers' records, read; swept is when spent assertions were last cleared away.
	providers map[string]*readProvider
	swept     time.Time
}

// TrustDecider reads trust policies.
type TrustDecider interface {
	// MayAssume is nil when the role's trust policy allows all actions to whom the provider vouches for, and no policy that limits the request denies them; else
	// the denial that the caller gets.
	MayAssume(ctx context.Context, q *TrustQuestion) error
}

// TrustQuestion asks whether somebody whom an identity provider vouches for may do something with a role.
type TrustQuestion struct {
	// Operation is the one that is called.
	Operation *shape.Operation
	// Role is nil when there is none: it trusts nobody.
	Role *state.Role
	// RoleARN is the role's ARN as it was asked for, Provider that of the identity provider, as Principal elements name it.
	RoleARN, Provider string
	// Actions are sts:AssumeRoleWithSAML or sts:AssumeRoleWithWebIdentity, and then, for what goes with them, sts:TagSession and sts:SetSourceIdentity.
	Actions []string
	// Keys are the condition keys that the provider's word and the input make, all but aws:FederatedProvider.
	Keys map[string][]string
}

// WebIdentities verifies tokens of OpenID Connect providers; oidc.Verifier is one.
type WebIdentities interface {
	Verify(ctx context.Context, p *oidc.Provider, token string) (*oidc.Identity, *awserr.Error)
}

// SignInNames are the audiences and recipients by which assertions name AWS in a Region (IAM User Guide, "Configure SAML assertions for the
// authentication response"). own are further addresses, of the installation.
func SignInNames(partition, region string, own ...string) (audiences, recipients []string) {
	domain := map[string]string{"aws-cn": "signin.amazonaws.cn", "aws-us-gov": "signin.amazonaws-us-gov.com"}[partition]
	urn := map[string]string{"aws-cn": "urn:amazon:webservices:cn-north-1", "aws-us-gov": "urn:amazon:webservices:govcloud"}[partition]
	if domain == "" {
		domain, urn = "signin.aws.amazon.com", "urn:amazon:webservices"
	}
	recipients = append([]string{"https://" + domain + "/saml", "https://" + region + "." + domain + "/saml"}, own...)
	return append([]string{urn}, recipients...), recipients
}

// Bind puts the handlers into t.
func (f *Federation) Bind(t service.Table) {
	service.Bind(t, sts.AssumeRoleWithSAML, f.AssumeRoleWithSAML)
	service.Bind(t, sts.AssumeRoleWithWebIdentity, f.AssumeRoleWithWebIdentity)
}

// federated is a session on its way: who is vouched for, by which provider, and what was asked for.
type federated struct {
	operation *shape.Operation
	// provider is the provider's ARN.
	provider string
	// role is the role, nil when there is none, arn its ARN.
	role    *state.Role
	arn     string
	session identity.Session
	seconds *int32
	policy  *string
	managed []sts.PolicyDescriptorType
	// most is how long the session may last by the provider's word; zero: it does not say.
	most time.Duration
}

// credentials asks the trust policy and makes the credentials. Nothing is written but, perhaps, a key to seal with.
func (f *Federation) credentials(ctx context.Context, w *federated) (*sts.Credentials, *int32, error) {
	if err := f.askTrust(ctx, w); err != nil {
		return nil, nil, err
	}
	w.session.Type, w.session.RoleID, w.session.Provider = identity.AssumedRole, w.role.ID, w.provider
	life, err := roleLife(w.role, w.seconds, false)
	if err != nil {
		return nil, nil, err
	}
	if w.most != 0 {
		life = min(life, w.most)
	}
	packed, err := f.Sessions.limit(f.Sessions.DB.Snapshot(), &w.session, w.policy, w.managed)
	if err != nil {
		return nil, nil, err
	}
	credentials, err := f.Sessions.issue(ctx, w.session, life)
	return credentials, packed, err
}

// askTrust asks for the operation, and for tags and a source identity as AWS does: each is an action of its own.
// A role that does not exist is asked about like any: that nobody could assume it is a decision, with a record and its reasons.
func (f *Federation) askTrust(ctx context.Context, w *federated) error {
	q := &TrustQuestion{Operation: w.operation, Role: w.role, RoleARN: w.arn, Provider: w.provider, Keys: w.keys(), Actions: []string{"sts:" + w.operation.Name}}
	if len(w.session.Tags) > 0 {
		q.Actions = append(q.Actions, "sts:TagSession")
	}
	if w.session.SourceIdentity != "" {
		q.Actions = append(q.Actions, "sts:SetSourceIdentity")
	}
	if err := f.Trust.MayAssume(ctx, q); err != nil {
		return err
	}
	if w.role == nil {
		return fmt.Errorf("a role that does not exist was allowed: %s", w.arn)
	}
	return nil
}

// keys are the condition keys of the request (reference 5.4).
func (w *federated) keys() map[string][]string {
	s := &w.session
	keys := maps.Clone(s.Claims)
	keys["sts:RoleSessionName"] = []string{s.Name}
	if s.SourceIdentity != "" {
		keys["sts:SourceIdentity"] = []string{s.SourceIdentity}
	}
	if w.seconds != nil {
		keys["sts:DurationSeconds"] = []string{fmt.Sprint(*w.seconds)}
	}
	for k, v := range s.Tags {
		keys["aws:RequestTag/"+k] = []string{v}
	}
	if len(s.Tags) > 0 {
		keys["aws:TagKeys"] = slices.Sorted(maps.Keys(s.Tags))
	}
	if len(s.Transitive) > 0 {
		keys["sts:TransitiveTagKeys"] = s.Transitive
	}
	return keys
}

// find gives the role of an ARN, nil when there is none. That is refused like one that does not trust, in askTrust: who has no credentials learns no names.
func (f *Federation) find(r state.Reader, name string) (*state.Role, error) {
	if a, err := arn.Parse(name); err != nil || a.Service != "iam" || !strings.HasPrefix(a.Resource, "role/") {
		return nil, invalidARN()
	}
	role, ok := f.Sessions.account().Role(r, name)
	if !ok {
		return nil, nil
	}
	return role, nil
}

func invalidARN() error { return awserr.New(awserr.Validation, "Request ARN is invalid") }

func invalidToken(format string, args ...any) *awserr.Error {
	return awserr.Model("InvalidIdentityToken", format, args...).WithStatus(400)
}
