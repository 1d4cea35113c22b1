package sts

import (
	"context"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"strings"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/arn"
	"carrel/internal/awserr"
	"carrel/internal/federation/saml"
	"carrel/internal/service"
	"carrel/internal/state"
)

// AssumeRoleWithSAML makes a role's session for somebody for whom a SAML provider vouches. An assertion is taken once.
func (f *Federation) AssumeRoleWithSAML(ctx context.Context, _ service.Call, in *sts.AssumeRoleWithSAMLInput) (*sts.AssumeRoleWithSAMLOutput, error) {
	snap := f.Sessions.DB.Snapshot()
	provider, err := f.samlProvider(snap, shape.Val(in.PrincipalArn))
	if err != nil {
		return nil, err
	}
	a, err := f.assertion(provider, shape.Val(in.SAMLAssertion))
	if err != nil {
		return nil, err
	}
	qualifier := saml.NameQualifier(a.Issuer, f.Sessions.AccountID, provider.Name)
	if !a.Allows(shape.Val(in.RoleArn), shape.Val(in.PrincipalArn)) {
		return nil, invalidToken("SAML Assertion doesn't contain the requested Role and Metadata in the attributes")
	}
	grant, refused := a.Grant()
	if refused != nil {
		return nil, refused
	}
	role, err := f.find(snap, shape.Val(in.RoleArn))
	if err != nil {
		return nil, err
	}
	w := &federated{operation: sts.AssumeRoleWithSAML.Operation, provider: shape.Val(in.PrincipalArn), role: role, arn: shape.Val(in.RoleArn), seconds: in.DurationSeconds, policy: in.Policy, managed: in.PolicyArns, most: f.samlLimit(a, grant)}
	w.session.Name, w.session.SourceIdentity, w.session.Tags, w.session.Transitive = grant.SessionName, grant.SourceIdentity, grant.Tags, grant.Transitive
	w.session.Claims = a.Claims(f.Sessions.AccountID, provider.Name)
	credentials, packed, err := f.credentials(ctx, w)
	if err != nil {
		return nil, err
	}
	if err := f.spend(ctx, a, provider, role); err != nil {
		return nil, err
	}
	return &sts.AssumeRoleWithSAMLOutput{
		Credentials: credentials, PackedPolicySize: packed, AssumedRoleUser: f.Sessions.assumed(role, w.session.Name), Audience: shape.Ptr(a.Recipient), Issuer: shape.Ptr(a.Issuer),
		NameQualifier: shape.Ptr(qualifier), Subject: shape.Ptr(a.Subject), SubjectType: given(a.SubjectType), SourceIdentity: given(grant.SourceIdentity),
	}, nil
}

// samlProvider finds the record of a provider by its ARN.
func (f *Federation) samlProvider(r state.Reader, name string) (*state.SAMLProvider, error) {
	a, err := arn.Parse(name)
	short, ok := strings.CutPrefix(a.Resource, "saml-provider/")
	if err != nil || a.Service != "iam" || !ok {
		return nil, invalidARN()
	}
	provider, ok := state.Get(r, state.SAMLProviders, short)
	if !ok || a.Account != f.Sessions.AccountID || a.Partition != f.Sessions.Partition || a.Region != "" {
		return nil, invalidToken("Specified provider doesn't exist")
	}
	return provider, nil
}

// readProvider is what a provider's record of one revision holds, read.
type readProvider struct {
	uuid     string
	revision state.Revision
	document *saml.Metadata
	keys     []*rsa.PrivateKey
}

// maxRead bounds the read metadata; an account has at most 100 providers.
const maxRead = 200

// read reads a provider's metadata and keys, once for each revision of its record: a document may have megabytes, and who asks has no credentials.
func (f *Federation) read(p *state.SAMLProvider) (*readProvider, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if r := f.providers[p.Name]; r != nil && r.uuid == p.UUID && r.revision == p.Revision {
		return r, nil
	}
	document, err := saml.ParseMetadata(p.Metadata)
	if err != nil {
		return nil, invalidToken("Could not parse metadata").Because(err)
	}
	r := &readProvider{uuid: p.UUID, revision: p.Revision, document: document}
	for i := range p.Keys {
		key, err := saml.ParseKey(p.Keys[i].PEM.Reveal())
		if err != nil {
			return nil, fmt.Errorf("key %s of the SAML provider %s: %w", p.Keys[i].ID, p.Name, err)
		}
		r.keys = append(r.keys, key)
	}
	if f.providers == nil || len(f.providers) >= maxRead {
		f.providers = map[string]*readProvider{}
	}
	f.providers[p.Name] = r
	return r, nil
}

// assertion verifies a response of the provider.
func (f *Federation) assertion(p *state.SAMLProvider, response string) (*saml.Assertion, error) {
	r, err := f.read(p)
	if err != nil {
		return nil, err
	}
	x := &saml.Expect{Now: f.Sessions.Clock.Now(), Audiences: f.Audiences, Recipients: f.Recipients, Keys: r.keys, Encrypted: p.Encryption == "Required"}
	if !p.ValidUntil.IsZero() && !x.Now.Before(p.ValidUntil) {
		return nil, invalidToken("Provider metadata has expired")
	}
	a, refused := r.document.Verify(response, x)
	if refused != nil {
		return nil, refused
	}
	return a, nil
}

// samlLimit is how long a session may last by the assertion's word: until the person's session with the provider ends, and not longer than the
// SessionDuration attribute says.
func (f *Federation) samlLimit(a *saml.Assertion, grant *saml.Grant) time.Duration {
	most := grant.Duration
	if !a.SessionEnd.IsZero() {
		if left := a.SessionEnd.Sub(f.Sessions.Clock.Now()); most == 0 || left < most {
			most = left
		}
	}
	return most
}

// spend notes that the assertion was used; a second time it is refused, on every node. The provider and the role must still be what was asked.
func (f *Federation) spend(ctx context.Context, a *saml.Assertion, provider *state.SAMLProvider, role *state.Role) error {
	sum := sha256.Sum256([]byte("saml\x00" + a.Issuer + "\x00" + a.ID))
	id := hex.EncodeToString(sum[:])
	sweep := f.sweeps()
	return service.Update(ctx, f.Sessions.DB, func(tx *state.Tx) error {
		if _, used := state.Get(tx, state.SpentOnes, id); used {
			return invalidToken("The SAML assertion has already been used.")
		}
		p, ok := state.Get(tx, state.SAMLProviders, provider.Name)
		r, also := state.Get(tx, state.Roles, string(role.ID))
		if !ok || !also || p.Revision != provider.Revision || r.Revision != role.Revision {
			return awserr.New(awserr.Unavailable, "The role or the identity provider was changed meanwhile. Try again.")
		}
		state.Put(tx, state.SpentOnes, &state.Spent{Meta: state.Meta{Created: tx.Now()}, ID: id, Until: a.Until})
		if sweep {
			f.sweep(tx)
		}
		return nil
	})
}

// Spent assertions are cleared away with the first one that is spent after sweepEvery, at most sweepMost at once.
const (
	sweepEvery = 5 * time.Minute
	sweepMost  = 500
)

func (f *Federation) sweeps() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.Sessions.Clock.Now()
	if now.Sub(f.swept) < sweepEvery {
		return false
	}
	f.swept = now
	return true
}

// sweep deletes what would be refused for its age anyway.
func (f *Federation) sweep(tx *state.Tx) {
	n, now := 0, f.Sessions.Clock.Now()
	for s := range state.All(tx.Snapshot(), state.SpentOnes) {
		if n == sweepMost {
			return
		}
		if now.After(s.Until) {
			state.Delete(tx, state.SpentOnes, s.ID)
			n++
		}
	}
}
