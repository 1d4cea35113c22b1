package sts

import (
	"context"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/arn"
	"carrel/internal/identity"
	"carrel/internal/service"
)

// ownLife is how long the credentials of GetSessionToken and GetFederationToken last: twelve hours when nothing is asked. Those of the root last an hour
// at most; AWS does not refuse a longer time, but cuts it.
func ownLife(p identity.Principal, seconds *int32) time.Duration {
	life := 12 * hour
	if seconds != nil {
		life = time.Duration(*seconds) * time.Second
	}
	if p.Type() == identity.Root {
		life = min(life, hour)
	}
	return life
}

// GetSessionToken makes temporary credentials of the caller's own, who may show a second factor for them.
func (s *Service) GetSessionToken(ctx context.Context, call service.Call, in *sts.GetSessionTokenInput) (*sts.GetSessionTokenOutput, error) {
	p := call.Principal
	if p.Session() != nil {
		return nil, withSession("GetSessionToken")
	}
	mfa, err := s.secondFactor(ctx, p, in.SerialNumber, in.TokenCode)
	if err != nil {
		return nil, err
	}
	credentials, err := s.issue(ctx, identity.Session{Type: p.Type(), UserID: p.User(), MFA: mfa}, ownLife(p, in.DurationSeconds))
	if err != nil {
		return nil, err
	}
	return &sts.GetSessionTokenOutput{Credentials: credentials}, nil
}

// GetFederationToken makes temporary credentials for somebody whom the caller vouches for. Without a session policy they may do nothing.
func (s *Service) GetFederationToken(ctx context.Context, call service.Call, in *sts.GetFederationTokenInput) (*sts.GetFederationTokenOutput, error) {
	p, name := call.Principal, shape.Val(in.Name)
	if p.Session() != nil {
		return nil, withSession("GetFederationToken")
	}
	tags, err := tagsOf(in.Tags)
	if err != nil {
		return nil, err
	}
	session := identity.Session{Type: identity.FederatedUser, UserID: p.User(), Name: name, Tags: some(tags)}
	packed, err := s.limit(s.DB.Snapshot(), &session, in.Policy, in.PolicyArns)
	if err != nil {
		return nil, err
	}
	credentials, err := s.issue(ctx, session, ownLife(p, in.DurationSeconds))
	if err != nil {
		return nil, err
	}
	if packed == nil {
		packed = shape.Ptr(int32(0)) // AssumeRole leaves it out, this one does not
	}
	return &sts.GetFederationTokenOutput{
		Credentials: credentials, PackedPolicySize: packed,
		FederatedUser: &sts.FederatedUser{Arn: shape.Ptr(arn.Federated(s.Partition, s.AccountID, name).String()), FederatedUserId: shape.Ptr(s.AccountID + ":" + name)},
	}, nil
}
