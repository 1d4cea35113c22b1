// Package sts carries out the operations of the AWS Security Token Service (STS API reference, 2011-06-15) that need no roles:
// who is calling, and whose an access key is.
//
// It refuses to see HTTP and signatures (front, identity); temporary credentials are not made here yet.
package sts

import (
	"context"

	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/awserr"
	"carrel/internal/service"
	"carrel/internal/state"
)

// Service carries out the operations. Its methods may be called concurrently.
type Service struct {
	DB *state.DB
}

// Bind puts the service's handlers into t.
func (s *Service) Bind(t service.Table) {
	service.Bind(t, sts.GetCallerIdentity, s.GetCallerIdentity)
	service.Bind(t, sts.GetAccessKeyInfo, s.GetAccessKeyInfo)
}

// GetCallerIdentity tells the caller who they are. It needs no permission and cannot be denied (STS API reference).
func (s *Service) GetCallerIdentity(_ context.Context, call service.Call, _ *sts.GetCallerIdentityInput) (*sts.GetCallerIdentityOutput, error) {
	p := call.Principal
	return &sts.GetCallerIdentityOutput{UserId: shape.Ptr(p.UserID()), Account: shape.Ptr(p.AccountID()), Arn: shape.Ptr(p.ARN())}, nil
}

// GetAccessKeyInfo tells which account a key belongs to. AWS reads the account from the id itself; Carrel's ids are random, so
// only keys that exist here have an answer, and an installation is one account: the caller's.
func (s *Service) GetAccessKeyInfo(_ context.Context, call service.Call, in *sts.GetAccessKeyInfoInput) (*sts.GetAccessKeyInfoOutput, error) {
	if _, ok := state.Get(s.DB.Snapshot(), state.AccessKeys, shape.Val(in.AccessKeyId)); !ok {
		return nil, awserr.New(awserr.Validation, "The access key ID %s is not valid.", shape.Val(in.AccessKeyId))
	}
	return &sts.GetAccessKeyInfoOutput{Account: shape.Ptr(call.Principal.AccountID())}, nil
}
