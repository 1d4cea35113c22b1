package iam

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/arn"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
)

func groupClaim(name string) string { return "group/" + strings.ToLower(name) }

// findGroup finds a group by its name, as findUser does a user.
func findGroup(r state.Reader, name string) (*state.Group, error) {
	candidates := state.AllBy(r, state.Groups, state.GroupsByName, strings.ToLower(name))
	if g, ok := named(r, state.Groups, candidates, func(g *state.Group) bool { return g.Name == name }); ok {
		return g, nil
	}
	return nil, noSuchGroup(name)
}

func groupPlace(g *state.Group) (path, name string) { return g.Path, g.Name }
func groupKey(g *state.Group) string                { return strings.ToLower(g.Name) }

func (s *Service) describeGroup(g *state.Group) *iam.Group {
	return &iam.Group{
		Path: shape.Ptr(g.Path), GroupName: shape.Ptr(g.Name), GroupId: shape.Ptr(string(g.ID)), CreateDate: shape.Ptr(g.Created),
		Arn: shape.Ptr(arn.Of(s.Partition, s.AccountID, "group", g.Path+g.Name).String()),
	}
}

// CreateGroup makes a group.
func (s *Service) CreateGroup(ctx context.Context, _ service.Call, in *iam.CreateGroupInput) (*iam.CreateGroupOutput, error) {
	name, id := shape.Val(in.GroupName), ident.NewGroupID(s.Rand)
	var group *state.Group
	err := s.update(ctx, func(tx *state.Tx) error {
		if err := room(tx, state.Groups, "GroupsPerAccount", s.MaxGroups); err != nil {
			return err
		}
		if err := claim(tx, groupClaim(name), string(id), groupExists(name)); err != nil {
			return err
		}
		group = &state.Group{Meta: state.Meta{Created: tx.Now()}, ID: id, Name: name, Path: cmp.Or(shape.Val(in.Path), "/")}
		state.Put(tx, state.Groups, group)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iam.CreateGroupOutput{Group: s.describeGroup(group)}, nil
}

// GetGroup describes a group and lists its members in the order of their names.
func (s *Service) GetGroup(_ context.Context, _ service.Call, in *iam.GetGroupInput) (*iam.GetGroupOutput, error) {
	snap := s.DB.Snapshot()
	group, err := findGroup(snap, shape.Val(in.GroupName))
	if err != nil {
		return nil, err
	}
	members := under(state.AllBy(snap, state.Users, state.UsersByGroup, string(group.ID)), nil, userPlace)
	members, next, err := page(members, userKey, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iam.GetGroupOutput{Group: s.describeGroup(group), Users: make([]iam.User, 0, len(members)), IsTruncated: shape.Ptr(next != nil), Marker: next}
	for _, u := range members {
		out.Users = append(out.Users, *s.describe(u))
	}
	return out, nil
}

// ListGroups lists the groups under a path in the order of their names.
func (s *Service) ListGroups(_ context.Context, _ service.Call, in *iam.ListGroupsInput) (*iam.ListGroupsOutput, error) {
	groups := under(state.All(s.DB.Snapshot(), state.Groups), in.PathPrefix, groupPlace)
	groups, next, err := page(groups, groupKey, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	return &iam.ListGroupsOutput{Groups: s.describeGroups(groups), IsTruncated: shape.Ptr(next != nil), Marker: next}, nil
}

func (s *Service) describeGroups(groups []*state.Group) []iam.Group {
	list := make([]iam.Group, 0, len(groups))
	for _, g := range groups {
		list = append(list, *s.describeGroup(g))
	}
	return list
}

// UpdateGroup changes a group's name, path or both; its members and policies stay.
func (s *Service) UpdateGroup(ctx context.Context, _ service.Call, in *iam.UpdateGroupInput) (*iam.UpdateGroupOutput, error) {
	return &iam.UpdateGroupOutput{}, s.update(ctx, func(tx *state.Tx) error {
		old, err := findGroup(tx, shape.Val(in.GroupName))
		if err != nil {
			return err
		}
		group := state.Clone(old)
		group.Name = cmp.Or(shape.Val(in.NewGroupName), old.Name)
		group.Path = cmp.Or(shape.Val(in.NewPath), old.Path)
		if before, after := groupClaim(old.Name), groupClaim(group.Name); before != after {
			if err := claim(tx, after, string(group.ID), groupExists(group.Name)); err != nil {
				return err
			}
			tx.Release(before)
		}
		state.Put(tx, state.Groups, group)
		return nil
	})
}

// DeleteGroup removes a group that has neither members nor policies. The guard sees who is put into it at the same time.
func (s *Service) DeleteGroup(ctx context.Context, _ service.Call, in *iam.DeleteGroupInput) (*iam.DeleteGroupOutput, error) {
	return &iam.DeleteGroupOutput{}, s.update(ctx, func(tx *state.Tx) error {
		group, err := findGroup(tx, shape.Val(in.GroupName))
		if err != nil {
			return err
		}
		tx.Guard(state.UserTable, "")
		if state.CountBy(tx, state.Users, state.UsersByGroup, string(group.ID)) > 0 {
			return deleteConflict("Cannot delete entity, must remove users from group first.")
		}
		if err := bare(&group.Permissions); err != nil {
			return err
		}
		state.Delete(tx, state.Groups, string(group.ID))
		tx.Release(groupClaim(group.Name))
		return nil
	})
}

// bare refuses to delete who has policies.
func bare(p *state.Permissions) error {
	switch {
	case len(p.Attached) > 0:
		return deleteConflict("Cannot delete entity, must detach all policies first.")
	case len(p.Inline) > 0:
		return deleteConflict("Cannot delete entity, must delete policies first.")
	}
	return nil
}

// AddUserToGroup puts a user into a group; who is in it stays in it.
func (s *Service) AddUserToGroup(ctx context.Context, _ service.Call, in *iam.AddUserToGroupInput) (*iam.AddUserToGroupOutput, error) {
	return &iam.AddUserToGroupOutput{}, s.member(ctx, in.UserName, in.GroupName, func(u *state.User, group ident.GroupID) error {
		at, is := slices.BinarySearch(u.Groups, group)
		if is {
			return nil
		}
		if len(u.Groups) >= groupsPerUser {
			return overQuota("GroupsPerUser", groupsPerUser)
		}
		u.Groups = slices.Insert(u.Groups, at, group)
		return nil
	})
}

// RemoveUserFromGroup takes a user out of a group; that the user is not in it is no error.
func (s *Service) RemoveUserFromGroup(ctx context.Context, _ service.Call, in *iam.RemoveUserFromGroupInput) (*iam.RemoveUserFromGroupOutput, error) {
	return &iam.RemoveUserFromGroupOutput{}, s.member(ctx, in.UserName, in.GroupName, func(u *state.User, group ident.GroupID) error {
		if at, is := slices.BinarySearch(u.Groups, group); is {
			u.Groups = slices.Delete(u.Groups, at, at+1)
		}
		return nil
	})
}

// member lets fn change which groups a user is in. The group is read, so that it is there when the user's record is written.
func (s *Service) member(ctx context.Context, user, group *string, fn func(*state.User, ident.GroupID) error) error {
	return s.update(ctx, func(tx *state.Tx) error {
		old, err := findUser(tx, shape.Val(user))
		if err != nil {
			return err
		}
		g, err := findGroup(tx, shape.Val(group))
		if err != nil {
			return err
		}
		u := state.Clone(old)
		if err := fn(u, g.ID); err != nil {
			return err
		}
		state.Put(tx, state.Users, u)
		return nil
	})
}

// ListGroupsForUser lists the groups a user is in, in the order of their names.
func (s *Service) ListGroupsForUser(_ context.Context, _ service.Call, in *iam.ListGroupsForUserInput) (*iam.ListGroupsForUserOutput, error) {
	snap := s.DB.Snapshot()
	user, err := findUser(snap, shape.Val(in.UserName))
	if err != nil {
		return nil, err
	}
	groups := under(groupsOf(snap, user), nil, groupPlace)
	groups, next, err := page(groups, groupKey, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	return &iam.ListGroupsForUserOutput{Groups: s.describeGroups(groups), IsTruncated: shape.Ptr(next != nil), Marker: next}, nil
}

// groupsOf visits the groups that a user is in.
func groupsOf(r state.Reader, u *state.User) func(yield func(*state.Group) bool) {
	return func(yield func(*state.Group) bool) {
		for _, id := range u.Groups {
			if g, ok := state.Get(r, state.Groups, string(id)); ok && !yield(g) {
				return
			}
		}
	}
}
