// Package sts carries out the operations of the AWS Security Token Service (STS API reference, 2011-06-15): temporary credentials, and who is calling.
//
// It refuses to see HTTP and signatures (front, identity) and to decide who may assume which role: trust policies are authz's, and decided before.
package sts

import (
	"context"
	"io"

	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/awserr"
	"carrel/internal/clock"
	"carrel/internal/ident"
	"carrel/internal/identity"
	"carrel/internal/service"
	"carrel/internal/state"
)

// Service carries out the operations. Its methods may be called concurrently.
type Service struct {
	DB     *state.DB
	Tokens *identity.Tokens
	// Clock is the one that signatures live by, Rand makes keys and secrets.
	Clock clock.Clock
	Rand  io.Reader
	// AccountID is the account of 12 digits, Partition "aws".
	AccountID, Partition string
}

// Bind puts the service's handlers into t.
func (s *Service) Bind(t service.Table) {
	service.Bind(t, sts.AssumeRole, s.AssumeRole)
	service.Bind(t, sts.GetSessionToken, s.GetSessionToken)
	service.Bind(t, sts.GetFederationToken, s.GetFederationToken)
	service.Bind(t, sts.GetCallerIdentity, s.GetCallerIdentity)
	service.Bind(t, sts.GetAccessKeyInfo, s.GetAccessKeyInfo)
	service.Bind(t, sts.DecodeAuthorizationMessage, s.DecodeAuthorizationMessage)
}

// GetCallerIdentity tells the caller who they are. It needs no permission and cannot be denied (STS API reference).
func (s *Service) GetCallerIdentity(_ context.Context, call service.Call, _ *sts.GetCallerIdentityInput) (*sts.GetCallerIdentityOutput, error) {
	p := call.Principal
	return &sts.GetCallerIdentityOutput{UserId: shape.Ptr(p.UserID()), Account: shape.Ptr(p.AccountID()), Arn: shape.Ptr(p.ARN())}, nil
}

// GetAccessKeyInfo tells which account a key belongs to. AWS reads the account from the id itself, and so is it done with temporary keys, of which there
// are no records. The ids of long-term ones are random here: only those that exist have an answer, and an installation is one account, the caller's.
func (s *Service) GetAccessKeyInfo(_ context.Context, call service.Call, in *sts.GetAccessKeyInfoInput) (*sts.GetAccessKeyInfoOutput, error) {
	id := shape.Val(in.AccessKeyId)
	if account, ok := ident.SessionKeyID(id).Account(); ok {
		return &sts.GetAccessKeyInfoOutput{Account: shape.Ptr(account)}, nil
	}
	if _, ok := state.Get(s.DB.Snapshot(), state.AccessKeys, id); !ok {
		return nil, awserr.New(awserr.Validation, "The access key ID %s is not valid.", id)
	}
	return &sts.GetAccessKeyInfoOutput{Account: shape.Ptr(call.Principal.AccountID())}, nil
}

// DecodeAuthorizationMessage gives the text of an encoded authorization message that this installation has made.
func (s *Service) DecodeAuthorizationMessage(_ context.Context, _ service.Call, in *sts.DecodeAuthorizationMessageInput) (*sts.DecodeAuthorizationMessageOutput, error) {
	message, err := s.Tokens.OpenMessage(shape.Val(in.EncodedMessage))
	if err != nil {
		return nil, awserr.Model("InvalidAuthorizationMessageException", "Message is not valid").WithStatus(400).Because(err)
	}
	return &sts.DecodeAuthorizationMessageOutput{DecodedMessage: shape.Ptr(message)}, nil
}
