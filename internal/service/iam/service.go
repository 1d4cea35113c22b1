// Package iam carries out the operations of AWS Identity and Access Management on Carrel's records: users and their
// access keys, groups, roles, instance profiles, and the policies of all of them (IAM API reference, 2010-05-08).
//
// It refuses to see HTTP and signatures (front, identity), to decide who may call (authz), and to show a secret twice.
package iam

import (
	"context"
	"io"
	"sync"
	"time"

	"carrel/internal/api/iam"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
)

// The limits of IAM that clients count on ("IAM and AWS STS quotas").
const (
	keysPerUser       = 2
	groupsPerUser     = 10
	attachedPolicies  = 10
	versionsPerPolicy = 5
	tagsPerResource   = 50
)

// LastUse is the last request that a key signed.
type LastUse struct {
	At time.Time
	// Service is the signing name ("workspaces"), Region the scope's region.
	Service, Region string
}

// Service carries out the operations. Its methods may be called concurrently.
type Service struct {
	DB *state.DB
	// AccountID is the account of 12 digits, Partition "aws".
	AccountID, Partition string
	// Rand makes ids and secrets; it must be safe for concurrent use, as crypto/rand.Reader is.
	Rand io.Reader
	// MaxUsers, MaxGroups, MaxRoles and MaxPolicies are the account's quotas; 0 means none. That of users is that of MFA devices, that of roles that
	// of instance profiles, as with AWS.
	MaxUsers, MaxGroups, MaxRoles, MaxPolicies int
	// LastUsed tells when a key signed last, false if it is not known to have. nil: nothing is known of any key.
	LastUsed func(ident.AccessKeyID) (LastUse, bool)
	// RoleLastUsed tells when a session of a role signed last, likewise.
	RoleLastUsed func(ident.RoleID) (LastUse, bool)
	// PasswordRounds is how often a password is hashed (PBKDF2, SHA-256); 0 means 600,000. Less is for tests.
	PasswordRounds int

	// hashing is held while a password is hashed.
	hashing sync.Mutex
}

// Bind puts the service's handlers into t.
func (s *Service) Bind(t service.Table) {
	service.Bind(t, iam.CreateUser, s.CreateUser)
	service.Bind(t, iam.GetUser, s.GetUser)
	service.Bind(t, iam.ListUsers, s.ListUsers)
	service.Bind(t, iam.UpdateUser, s.UpdateUser)
	service.Bind(t, iam.DeleteUser, s.DeleteUser)
	service.Bind(t, iam.TagUser, s.TagUser)
	service.Bind(t, iam.UntagUser, s.UntagUser)
	service.Bind(t, iam.ListUserTags, s.ListUserTags)

	service.Bind(t, iam.CreateAccessKey, s.CreateAccessKey)
	service.Bind(t, iam.ListAccessKeys, s.ListAccessKeys)
	service.Bind(t, iam.UpdateAccessKey, s.UpdateAccessKey)
	service.Bind(t, iam.DeleteAccessKey, s.DeleteAccessKey)
	service.Bind(t, iam.GetAccessKeyLastUsed, s.GetAccessKeyLastUsed)

	s.bindPermissions(t)
	s.bindAccount(t)
}

// update is service.Update on the service's DB.
func (s *Service) update(ctx context.Context, fn func(*state.Tx) error) error {
	return service.Update(ctx, s.DB, fn)
}

// room refuses one record more than the account's quota, which is 0 when there is none; of calls at the same time one is decided after the other.
func room[T any](tx *state.Tx, of *state.Definition[T], what string, quota int) error {
	if quota == 0 {
		return nil
	}
	tx.Guard(of.Table, "")
	if state.Count(tx, of) >= quota {
		return overQuota(what, quota)
	}
	return nil
}
