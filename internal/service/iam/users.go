package iam

import (
	"cmp"
	"context"
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
	candidates := state.AllBy(r, state.Users, state.UsersByName, strings.ToLower(name))
	if u, ok := named(r, state.Users, candidates, func(u *state.User) bool { return u.Name == name }); ok {
		return u, nil
	}
	return nil, noSuchUser(name)
}

// caller is the user who signed, with a key or with credentials of GetSessionToken.
func caller(r state.Reader, p identity.Principal) (*state.User, error) {
	if p.Type() != identity.IAMUser {
		return nil, unnamed()
	}
	if u, ok := state.Get(r, state.Users, string(p.User())); ok {
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

func userPlace(u *state.User) (path, name string) { return u.Path, u.Name }
func userKey(u *state.User) string                { return strings.ToLower(u.Name) }

// detailed is a user as only the operations on the one user show it: with tags and boundary.
func (s *Service) detailed(u *state.User) *iam.User {
	out := s.describe(u)
	out.Tags, out.PermissionsBoundary = tagList(u.Tags), bounded(u.Boundary)
	return out
}

// describeRoot describes the account's root, which has neither name nor path. It is as old as the account.
func (s *Service) describeRoot(r state.Reader) *iam.User {
	root := &iam.User{UserId: shape.Ptr(s.AccountID), Arn: shape.Ptr(arn.Root(s.Partition, s.AccountID).String())}
	for account := range state.All(r, state.Installations) {
		root.CreateDate = shape.Ptr(account.Created)
	}
	return root
}

// CreateUser makes a user.
func (s *Service) CreateUser(ctx context.Context, _ service.Call, in *iam.CreateUserInput) (*iam.CreateUserOutput, error) {
	if err := userTags.check(in.Tags); err != nil {
		return nil, err
	}
	name, path := shape.Val(in.UserName), cmp.Or(shape.Val(in.Path), "/")
	id := ident.NewUserID(s.Rand)
	var user *state.User
	err := s.update(ctx, func(tx *state.Tx) error {
		if err := room(tx, state.Users, "UsersPerAccount", s.MaxUsers); err != nil {
			return err
		}
		boundary, err := s.boundary(tx, in.PermissionsBoundary)
		if err != nil {
			return err
		}
		if err := claim(tx, userClaim(name), string(id), userExists(name)); err != nil {
			return err
		}
		user = &state.User{Meta: state.Meta{Created: tx.Now(), Tags: userTags.merge(nil, in.Tags)}, Name: name, ID: id, Path: path, Boundary: boundary}
		state.Put(tx, state.Users, user)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iam.CreateUserOutput{User: s.detailed(user)}, nil
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
		return &iam.GetUserOutput{User: s.describeRoot(snap)}, nil
	default:
		user, err = caller(snap, call.Principal)
	}
	if err != nil {
		return nil, err
	}
	return &iam.GetUserOutput{User: s.detailed(user)}, nil
}

// ListUsers lists the users under a path in the order of their names, without their tags (IAM API reference).
func (s *Service) ListUsers(_ context.Context, _ service.Call, in *iam.ListUsersInput) (*iam.ListUsersOutput, error) {
	users := under(state.All(s.DB.Snapshot(), state.Users), in.PathPrefix, userPlace)
	users, next, err := page(users, userKey, in.Marker, in.MaxItems)
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
			if err := claim(tx, after, string(user.ID), userExists(user.Name)); err != nil {
				return err
			}
			tx.Release(before)
		}
		state.Put(tx, state.Users, user)
		return nil
	})
}

// DeleteUser removes a user that has nothing any more. What is given to the user at the same time conflicts: it is written into the user's
// record, or beside it as an access key is; a device that becomes the user's is seen by the guard.
func (s *Service) DeleteUser(ctx context.Context, _ service.Call, in *iam.DeleteUserInput) (*iam.DeleteUserOutput, error) {
	return &iam.DeleteUserOutput{}, s.update(ctx, func(tx *state.Tx) error {
		user, err := findUser(tx, shape.Val(in.UserName))
		if err != nil {
			return err
		}
		if state.CountBy(tx, state.AccessKeys, state.AccessKeysByUser, string(user.ID)) > 0 {
			return deleteConflict("Cannot delete entity, must delete access keys first.")
		}
		if len(user.Groups) > 0 {
			return deleteConflict("Cannot delete entity, must remove users from group first.")
		}
		if err := bare(&user.Permissions); err != nil {
			return err
		}
		if err := signsIn(tx, user); err != nil {
			return err
		}
		state.Delete(tx, state.Users, string(user.ID))
		tx.Release(userClaim(user.Name))
		return nil
	})
}
