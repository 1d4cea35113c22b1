package sts

import (
	"context"
	"strings"

	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/arn"
	"carrel/internal/awserr"
	"carrel/internal/federation/oidc"
	"carrel/internal/service"
	"carrel/internal/state"
)

// AssumeRoleWithWebIdentity makes a role's session for somebody for whom an OpenID Connect provider vouches. A token may be used until it ends, as
// with AWS: programs get one and use it again for each session.
func (f *Federation) AssumeRoleWithWebIdentity(ctx context.Context, _ service.Call, in *sts.AssumeRoleWithWebIdentityInput) (*sts.AssumeRoleWithWebIdentityOutput, error) {
	if in.ProviderId != nil {
		// It names the OAuth 2.0 providers that AWS knows; the text is ours.
		return nil, awserr.New(awserr.Validation, "The provider %.200s is not supported: a token names its OpenID Connect provider itself.", *in.ProviderId)
	}
	provider, err := f.oidcProvider(f.Sessions.DB.Snapshot(), shape.Val(in.WebIdentityToken))
	if err != nil {
		return nil, err
	}
	id, refused := f.WebIdentities.Verify(ctx, &oidc.Provider{URL: provider.URL, ClientIDs: provider.ClientIDs, Thumbprints: provider.Thumbprints}, shape.Val(in.WebIdentityToken))
	if refused != nil {
		return nil, refused
	}
	name := arn.ARN{Partition: f.Sessions.Partition, Service: "iam", Account: f.Sessions.AccountID, Resource: "oidc-provider/" + provider.URL}.String()
	audience := id.Audiences[0]
	// To ask the provider may have taken a while: what was changed or deleted since counts.
	snap := f.Sessions.DB.Snapshot()
	if now, ok := state.Get(snap, state.OIDCProviders, provider.URL); !ok || now.Revision != provider.Revision {
		return nil, awserr.New(awserr.Unavailable, "The identity provider was changed meanwhile. Try again.")
	}
	role, err := f.find(snap, shape.Val(in.RoleArn))
	if err != nil {
		return nil, err
	}
	w := &federated{operation: sts.AssumeRoleWithWebIdentity.Operation, provider: name, role: role, arn: shape.Val(in.RoleArn), seconds: in.DurationSeconds, policy: in.Policy, managed: in.PolicyArns}
	w.session.Name, w.session.SourceIdentity, w.session.Tags, w.session.Transitive = shape.Val(in.RoleSessionName), id.SourceIdentity, id.Tags, id.Transitive
	w.session.Claims = id.Claims()
	credentials, packed, err := f.credentials(ctx, w)
	if err != nil {
		return nil, err
	}
	return &sts.AssumeRoleWithWebIdentityOutput{
		Credentials: credentials, PackedPolicySize: packed, AssumedRoleUser: f.Sessions.assumed(role, w.session.Name), Audience: shape.Ptr(audience), Provider: shape.Ptr(name),
		SubjectFromWebIdentityToken: shape.Ptr(id.Subject), SourceIdentity: given(id.SourceIdentity),
	}, nil
}

// oidcProvider finds the record of the provider that a token says it is of. That is all that is believed of it yet.
func (f *Federation) oidcProvider(r state.Reader, token string) (*state.OIDCProvider, error) {
	issuer, refused := oidc.Issuer(token)
	if refused != nil {
		return nil, refused
	}
	if url, ok := strings.CutPrefix(issuer, "https://"); ok {
		if provider, ok := state.Get(r, state.OIDCProviders, url); ok {
			return provider, nil
		}
	}
	return nil, invalidToken("No OpenIDConnect provider found in your account for %.255s", issuer)
}
