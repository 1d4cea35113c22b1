package iam

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/arn"
	"carrel/internal/ident"
	"carrel/internal/identity"
	"carrel/internal/service"
	"carrel/internal/state"
)

// userClaim holds a user's name: names are unique without regard to case (IAM API reference, CreateUser).
func userClaim(name string) string { return "user/" + strings.ToLower(name) }

// findUser finds a user by the name as it was created. Another spelling of the case finds nobody: the name stands in ARNs, which
// policies compare by case, so that a second spelling would be a way around a policy. Within a *state.Tx the commit checks that
// the user has not changed.
func findUser(r state.Reader, name string) (*state.User, error) {
	for u := range state.AllBy(r, state.Users, state.UsersByName, strings.ToLower(name)) {
		if u.Name != name {
			continue
		}
		if u, ok := state.Get(r, state.Users, string(u.ID)); ok {
			return u, nil
		}
	}
	return nil, noSuchUser(name)
}

// caller is the user who signed.
func caller(r state.Reader, p identity.Principal) (*state.User, error) {
	if u, ok := state.Get(r, state.Users, p.UserID()); ok {
		return u, nil
	}
	return nil, noSuchUser(p.Name()) // deleted since the signature was verified
}

func (s *Service) describe(u *state.User) *iam.User {
	return &iam.User{
		Path: shape.Ptr(u.Path), UserName: shape.Ptr(u.Name), UserId: shape.Ptr(string(u.ID)), CreateDate: shape.Ptr(u.Created),
		Arn: shape.Ptr(arn.User(s.Partition, s.AccountID, u.Path, u.Name).String()),
	}
}

// CreateUser makes a user. A permissions boundary is refused until there are policies: ignoring it would give the user more
// than was asked for.
func (s *Service) CreateUser(ctx context.Context, _ service.Call, in *iam.CreateUserInput) (*iam.CreateUserOutput, error) {
	if in.PermissionsBoundary != nil {
		return nil, noSuchBoundary(*in.PermissionsBoundary)
	}
	if err := checkTags(in.Tags); err != nil {
		return nil, err
	}
	name, path := shape.Val(in.UserName), cmp.Or(shape.Val(in.Path), "/")
	id := ident.NewUserID(s.Rand)
	var user *state.User
	err := s.update(ctx, func(tx *state.Tx) error {
		if s.MaxUsers > 0 {
			tx.Guard(state.UserTable, "")
			if state.Count(tx, state.Users) >= s.MaxUsers {
				return overQuota("UsersPerAccount", s.MaxUsers)
			}
		}
		if err := tx.Claim(userClaim(name), string(id)); errors.Is(err, state.ErrClaimed) {
			return userExists(name)
		} else if err != nil {
			return err
		}
		user = &state.User{Meta: state.Meta{Created: tx.Now(), Tags: merge(nil, in.Tags)}, Name: name, ID: id, Path: path}
		state.Put(tx, state.Users, user)
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := s.describe(user)
	out.Tags = tagList(user.Tags)
	return &iam.CreateUserOutput{User: out}, nil
}

// GetUser describes a user, or the caller when no name is given.
func (s *Service) GetUser(_ context.Context, call service.Call, in *iam.GetUserInput) (*iam.GetUserOutput, error) {
	snap := s.DB.Snapshot()
	var user *state.User
	var err error
	switch {
	case in.UserName != nil:
		user, err = findUser(snap, *in.UserName)
	case call.Principal.Type() == identity.Root:
		// The root has neither name nor path; it is as old as the account.
		root := &iam.User{UserId: shape.Ptr(s.AccountID), Arn: shape.Ptr(arn.Root(s.Partition, s.AccountID).String())}
		for account := range state.All(snap, state.Installations) {
			root.CreateDate = shape.Ptr(account.Created)
		}
		return &iam.GetUserOutput{User: root}, nil
	default:
		user, err = caller(snap, call.Principal)
	}
	if err != nil {
		return nil, err
	}
	out := s.describe(user)
	out.Tags = tagList(user.Tags)
	return &iam.GetUserOutput{User: out}, nil
}

// ListUsers lists the users under a path in the order of their names, without their tags (IAM API reference).
func (s *Service) ListUsers(_ context.Context, _ service.Call, in *iam.ListUsersInput) (*iam.ListUsersOutput, error) {
	var users []*state.User
	prefix := shape.Val(in.PathPrefix)
	for u := range state.All(s.DB.Snapshot(), state.Users) {
		if strings.HasPrefix(u.Path, prefix) {
			users = append(users, u)
		}
	}
	key := func(u *state.User) string { return strings.ToLower(u.Name) }
	slices.SortFunc(users, func(a, b *state.User) int { return cmp.Compare(key(a), key(b)) })
	users, next, err := page(users, key, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iam.ListUsersOutput{Users: make([]iam.User, 0, len(users)), IsTruncated: shape.Ptr(next != nil), Marker: next}
	for _, u := range users {
		out.Users = append(out.Users, *s.describe(u))
	}
	return out, nil
}

// UpdateUser changes a user's name, path or both; its id and keys stay.
func (s *Service) UpdateUser(ctx context.Context, _ service.Call, in *iam.UpdateUserInput) (*iam.UpdateUserOutput, error) {
	return &iam.UpdateUserOutput{}, s.update(ctx, func(tx *state.Tx) error {
		old, err := findUser(tx, shape.Val(in.UserName))
		if err != nil {
			return err
		}
		user := state.Clone(old)
		user.Name = cmp.Or(shape.Val(in.NewUserName), old.Name)
		user.Path = cmp.Or(shape.Val(in.NewPath), old.Path)
		if before, after := userClaim(old.Name), userClaim(user.Name); before != after {
			if err := tx.Claim(after, string(user.ID)); errors.Is(err, state.ErrClaimed) {
				return userExists(user.Name)
			} else if err != nil {
				return err
			}
			tx.Release(before)
		}
		state.Put(tx, state.Users, user)
		return nil
	})
}

// DeleteUser removes a user that has no access keys. A key made at the same time conflicts: CreateAccessKey writes the user too.
func (s *Service) DeleteUser(ctx context.Context, _ service.Call, in *iam.DeleteUserInput) (*iam.DeleteUserOutput, error) {
	return &iam.DeleteUserOutput{}, s.update(ctx, func(tx *state.Tx) error {
		user, err := findUser(tx, shape.Val(in.UserName))
		if err != nil {
			return err
		}
		if state.CountBy(tx, state.AccessKeys, state.AccessKeysByUser, string(user.ID)) > 0 {
			return deleteConflict("Cannot delete entity, must delete access keys first.")
		}
		state.Delete(tx, state.Users, string(user.ID))
		tx.Release(userClaim(user.Name))
		return nil
	})
}
