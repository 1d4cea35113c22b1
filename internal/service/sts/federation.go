package sts

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/arn"
	"carrel/internal/awserr"
	"carrel/internal/clock"
	"carrel/internal/federation/oidc"
	"carrel/internal/ident"
	"carrel/internal/identity"
	"carrel/internal/permissions"
	"carrel/internal/policy"
	"carrel/internal/service"
	"carrel/internal/state"
)

// Federation carries out the two operations that nobody signs: AssumeRoleWithSAML and AssumeRoleWithWebIdentity. What vouches for the caller is
// the word of an identity provider that the account has a record of; the role's trust policy says whether it counts. Its methods may be
// called concurrently. All fields must be set.
type Federation struct {
	DB *state.DB
	// Clock is the one that signatures live by, Rand makes keys and secrets.
	Clock clock.Clock
	Rand  io.Reader
	// AccountID is the account of 12 digits, Partition "aws".
	AccountID, Partition string
	// Audiences are the names of this service in assertions, Recipients its addresses there (see SignInNames).
	Audiences, Recipients []string
	Trust                 TrustDecider
	Seal                  Sealer
	Tokens                WebIdentities

	mu sync.Mutex
	// metadata are the providers' documents, read; swept is when spent assertions were last cleared away.
	metadata map[string]*readProvider
	swept    time.Time
}

// TrustDecider reads trust policies.
type TrustDecider interface {
	// MayAssume is nil when the role's trust policy allows the action to whom the provider vouches for, and no policy that limits the account denies it; else
	// why not, for the log.
	MayAssume(ctx context.Context, q *TrustQuestion) error
}

// TrustQuestion asks whether somebody whom an identity provider vouches for may do something with a role.
type TrustQuestion struct {
	// Call is the request: it has no principal.
	Call service.Call
	Role *state.Role
	// RoleARN is the role's ARN, Provider that of the identity provider, as Principal elements name it.
	RoleARN, Provider string
	// Action is sts:AssumeRoleWithSAML or sts:AssumeRoleWithWebIdentity, and then, for what goes with them, sts:TagSession and sts:SetSourceIdentity.
	Action string
	// Keys are the condition keys that the provider's word and the input make.
	Keys map[string][]string
}

// Sealer makes session tokens; identity.Tokens is one.
type Sealer interface {
	// Seal gives the token of a session, which nobody changes afterwards.
	Seal(ctx context.Context, s *identity.Session) (string, error)
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
	// operation is "AssumeRoleWithSAML", provider the provider's ARN.
	operation, provider string
	role                *state.Role
	session             identity.Session
	seconds             *int32
	policy              *string
	managed             []sts.PolicyDescriptorType
	// most is how long the session may last by the provider's word; zero: it does not say.
	most time.Duration
}

// credentials asks the trust policy and makes the credentials. Nothing is written but, perhaps, a key to seal with.
func (f *Federation) credentials(ctx context.Context, call service.Call, w *federated) (*sts.Credentials, *int32, error) {
	if err := f.askTrust(ctx, call, w); err != nil {
		return nil, nil, err
	}
	life, err := w.life()
	if err != nil {
		return nil, nil, err
	}
	s := &w.session
	packed, err := f.limit(f.DB.Snapshot(), w)
	if err != nil {
		return nil, nil, err
	}
	s.KeyID, s.Secret = ident.NewSessionKeyID(f.Rand), identity.NewSecret(f.Rand)
	s.Type, s.RoleID, s.Provider = identity.AssumedRole, w.role.ID, w.provider
	s.Issued = f.Clock.Now().UTC().Truncate(time.Second)
	s.Expires = s.Issued.Add(life)
	token, err := f.Seal.Seal(ctx, s)
	if err != nil {
		return nil, nil, awserr.Fault(fmt.Errorf("seal a session of %s: %w", w.role.ID, err))
	}
	return &sts.Credentials{
		AccessKeyId: shape.Ptr(string(s.KeyID)), SecretAccessKey: shape.Ptr(s.Secret.Reveal()), // the one time
		SessionToken: shape.Ptr(token), Expiration: shape.Ptr(s.Expires),
	}, packed, nil
}

// askTrust asks for the operation, and for tags and a source identity as AWS does: each is an action of its own.
func (f *Federation) askTrust(ctx context.Context, call service.Call, w *federated) error {
	q := &TrustQuestion{Call: call, Role: w.role, RoleARN: f.roleARN(w.role), Provider: w.provider, Keys: w.keys()}
	actions := []string{"sts:" + w.operation}
	if len(w.session.Tags) > 0 {
		actions = append(actions, "sts:TagSession")
	}
	if w.session.SourceIdentity != "" {
		actions = append(actions, "sts:SetSourceIdentity")
	}
	for _, action := range actions {
		q.Action = action
		if err := f.Trust.MayAssume(ctx, q); err != nil {
			return notTrusted(action, err)
		}
	}
	return nil
}

// keys are the condition keys of the request (reference 5.4).
func (w *federated) keys() map[string][]string {
	s := &w.session
	keys := maps.Clone(s.Claims)
	keys["aws:FederatedProvider"] = []string{w.provider}
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

// life is how long the session lasts: as asked for, an hour when nothing is, never longer than the role's sessions may, and cut by the provider's word.
func (w *federated) life() (time.Duration, error) {
	life := time.Hour
	if w.seconds != nil {
		life = time.Duration(*w.seconds) * time.Second
	}
	if limit := time.Duration(w.role.MaxSession) * time.Second; life > max(limit, time.Hour) {
		return 0, awserr.New(awserr.Validation, "The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")
	}
	if w.most != 0 {
		life = min(life, w.most)
	}
	return life, nil
}

// limit sets the session policies and gives PackedPolicySize, nil when there are none.
func (f *Federation) limit(r state.Reader, w *federated) (*int32, error) {
	if w.policy == nil && len(w.managed) == 0 {
		return nil, nil
	}
	if w.policy != nil {
		doc, err := policy.Parse(policy.Session, *w.policy)
		var wrong *policy.MalformedError
		if errors.As(err, &wrong) {
			return nil, wrong.AWS()
		} else if err != nil {
			return nil, err
		}
		w.session.Policy = doc.String()
	}
	if most := 10; len(w.managed) > most {
		return nil, awserr.New(awserr.Validation, "1 validation error detected: Value at 'policyArns' failed to satisfy constraint: Member must have length less than or equal to %d", most)
	}
	account := permissions.Account{ID: f.AccountID, Partition: f.Partition}
	for _, p := range w.managed {
		name := shape.Val(p.Arn)
		if _, ok := account.Managed(r, name); !ok {
			return nil, awserr.New(awserr.Validation, "The managed policy %s does not exist or is not attachable.", name)
		}
		w.session.PolicyARNs = append(w.session.PolicyARNs, name)
	}
	percent, tooLarge := policy.CheckPacked(append([]string{w.session.Policy}, w.session.PolicyARNs...)...)
	if tooLarge != nil {
		return nil, tooLarge
	}
	return shape.Ptr(int32(percent)), nil
}

// find gives the role of an ARN. One that does not exist is refused like one that does not trust: who has no credentials learns no names.
func (f *Federation) find(r state.Reader, name, operation string) (*state.Role, error) {
	if a, err := arn.Parse(name); err != nil || a.Service != "iam" || !strings.HasPrefix(a.Resource, "role/") {
		return nil, invalidARN()
	}
	last := name[strings.LastIndexByte(name, '/')+1:]
	for role := range state.AllBy(r, state.Roles, state.RolesByName, strings.ToLower(last)) {
		if f.roleARN(role) == name {
			return role, nil
		}
	}
	return nil, notTrusted("sts:"+operation, errors.New("no such role"))
}

func (f *Federation) roleARN(role *state.Role) string {
	return arn.Of(f.Partition, f.AccountID, "role", role.Path+role.Name).String()
}

// assumed names the session.
func (f *Federation) assumed(w *federated) *sts.AssumedRoleUser {
	name := arn.Session(f.Partition, f.AccountID, w.role.Name, w.session.Name).String()
	return &sts.AssumedRoleUser{Arn: shape.Ptr(name), AssumedRoleId: shape.Ptr(string(w.role.ID) + ":" + w.session.Name)}
}

// optional is s, or nil when it is empty.
func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}

// notTrusted is AWS's answer to a role that does not exist, and to one that does not trust. why is for the log.
func notTrusted(action string, why error) error {
	return awserr.New(awserr.AccessDenied, "Not authorized to perform %s", action).Because(why)
}

func invalidARN() error { return awserr.New(awserr.Validation, "Request ARN is invalid") }

func invalidToken(format string, args ...any) *awserr.Error {
	return awserr.Model("InvalidIdentityToken", format, args...).WithStatus(400)
}
