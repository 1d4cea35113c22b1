package iam

import (
	"cmp"
	"context"
	"strings"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/arn"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
)

// defaultSession is how long a session of a role may last when nothing is said, in seconds (IAM API reference, CreateRole).
const defaultSession = 3600

// findRole finds a role by its name, as findUser does a user.
func findRole(r state.Reader, name string) (*state.Role, error) {
	candidates := state.AllBy(r, state.Roles, state.RolesByName, strings.ToLower(name))
	if role, ok := named(r, state.Roles, candidates, func(role *state.Role) bool { return role.Name == name }); ok {
		return role, nil
	}
	return nil, noSuchRole(name)
}

func rolePlace(r *state.Role) (path, name string) { return r.Path, r.Name }

// ownRole finds a role that customers may change: one that is linked to a service is its service's.
func ownRole(r state.Reader, name *string) (*state.Role, error) {
	role, err := findRole(r, shape.Val(name))
	if err == nil && role.Service != "" {
		return nil, unmodifiable(role.Name)
	}
	return role, err
}

func (s *Service) roleARN(role *state.Role) string {
	return arn.Of(s.Partition, s.AccountID, "role", role.Path+role.Name).String()
}

// describeRole is a role as every answer has it; the operations add what theirs have besides, as AWS does.
func (s *Service) describeRole(r state.Reader, role *state.Role) *iam.Role {
	return &iam.Role{
		Path: shape.Ptr(role.Path), RoleName: shape.Ptr(role.Name), RoleId: shape.Ptr(string(role.ID)), CreateDate: shape.Ptr(role.Created),
		Arn: shape.Ptr(s.roleARN(role)), AssumeRolePolicyDocument: encoded(s.shownTrust(r, role)),
	}
}

// listedRole is a role as lists have it: without tags and boundary (IAM API reference, ListRoles).
func (s *Service) listedRole(r state.Reader, role *state.Role) *iam.Role {
	out := s.describeRole(r, role)
	out.MaxSessionDuration = shape.Ptr(int32(role.MaxSession))
	if role.Description != "" {
		out.Description = shape.Ptr(role.Description)
	}
	return out
}

// CreateRole makes a role.
func (s *Service) CreateRole(ctx context.Context, _ service.Call, in *iam.CreateRoleInput) (*iam.CreateRoleOutput, error) {
	if err := roleTags.check(in.Tags); err != nil {
		return nil, err
	}
	name, id := shape.Val(in.RoleName), ident.NewRoleID(s.Rand)
	var role *state.Role
	var out *iam.Role
	err := s.update(ctx, func(tx *state.Tx) error {
		trust, err := s.trust(tx, in.AssumeRolePolicyDocument)
		if err != nil {
			return err
		}
		boundary, err := s.boundary(tx, in.PermissionsBoundary)
		if err != nil {
			return err
		}
		if err := room(tx, state.Roles, "RolesPerAccount", s.MaxRoles); err != nil {
			return err
		}
		if err := claim(tx, state.RoleClaim(name), string(id), roleExists(name)); err != nil {
			return err
		}
		role = &state.Role{
			Meta: state.Meta{Created: tx.Now(), Tags: roleTags.merge(nil, in.Tags)}, ID: id, Name: name, Path: cmp.Or(shape.Val(in.Path), "/"),
			Description: shape.Val(in.Description), Trust: trust, MaxSession: defaultSession, Boundary: boundary,
		}
		if in.MaxSessionDuration != nil {
			role.MaxSession = int(*in.MaxSessionDuration)
		}
		state.Put(tx, state.Roles, role)
		out = s.describeRole(tx, role)
		return nil
	})
	if err != nil {
		return nil, err
	}
	out.Tags, out.PermissionsBoundary = tagList(role.Tags), bounded(role.Boundary)
	return &iam.CreateRoleOutput{Role: out}, nil
}

// GetRole describes a role. When it was used last is told if it is known.
func (s *Service) GetRole(_ context.Context, _ service.Call, in *iam.GetRoleInput) (*iam.GetRoleOutput, error) {
	snap := s.DB.Snapshot()
	role, err := findRole(snap, shape.Val(in.RoleName))
	if err != nil {
		return nil, err
	}
	out := s.listedRole(snap, role)
	out.Tags, out.PermissionsBoundary, out.RoleLastUsed = tagList(role.Tags), bounded(role.Boundary), &iam.RoleLastUsed{}
	if s.RoleLastUsed != nil {
		if use, used := s.RoleLastUsed(role.ID); used {
			out.RoleLastUsed = &iam.RoleLastUsed{LastUsedDate: shape.Ptr(use.At), Region: shape.Ptr(use.Region)}
		}
	}
	return &iam.GetRoleOutput{Role: out}, nil
}

// ListRoles lists the roles under a path in the order of their names.
func (s *Service) ListRoles(_ context.Context, _ service.Call, in *iam.ListRolesInput) (*iam.ListRolesOutput, error) {
	snap := s.DB.Snapshot()
	roles := under(state.All(snap, state.Roles), in.PathPrefix, rolePlace)
	roles, next, err := page(roles, func(r *state.Role) string { return strings.ToLower(r.Name) }, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iam.ListRolesOutput{Roles: make([]iam.Role, 0, len(roles)), IsTruncated: shape.Ptr(next != nil), Marker: next}
	for _, role := range roles {
		out.Roles = append(out.Roles, *s.listedRole(snap, role))
	}
	return out, nil
}

// changeRole lets fn change a role that find finds, and saves it.
func (s *Service) changeRole(ctx context.Context, find func(state.Reader, *string) (*state.Role, error), name *string, fn func(*state.Tx, *state.Role) error) error {
	return s.update(ctx, func(tx *state.Tx) error {
		old, err := find(tx, name)
		if err != nil {
			return err
		}
		role := state.Clone(old)
		if err := fn(tx, role); err != nil {
			return err
		}
		state.Put(tx, state.Roles, role)
		return nil
	})
}

// anyRole finds a role whether it is linked to a service or not.
func anyRole(r state.Reader, name *string) (*state.Role, error) { return findRole(r, shape.Val(name)) }

// UpdateRole changes a role's description and how long its sessions may last; what is not given stays. Of a service-linked role only the
// description can be changed (IAM user guide, "Edit a service-linked role").
func (s *Service) UpdateRole(ctx context.Context, _ service.Call, in *iam.UpdateRoleInput) (*iam.UpdateRoleOutput, error) {
	find := anyRole
	if in.MaxSessionDuration != nil {
		find = ownRole
	}
	return &iam.UpdateRoleOutput{}, s.changeRole(ctx, find, in.RoleName, func(_ *state.Tx, role *state.Role) error {
		if in.Description != nil {
			role.Description = *in.Description
		}
		if in.MaxSessionDuration != nil {
			role.MaxSession = int(*in.MaxSessionDuration)
		}
		return nil
	})
}

// UpdateRoleDescription changes a role's description, also of a service-linked one.
func (s *Service) UpdateRoleDescription(ctx context.Context, _ service.Call, in *iam.UpdateRoleDescriptionInput) (*iam.UpdateRoleDescriptionOutput, error) {
	var out *iam.Role
	err := s.changeRole(ctx, anyRole, in.RoleName, func(tx *state.Tx, role *state.Role) error {
		role.Description = shape.Val(in.Description)
		out = s.describeRole(tx, role)
		return nil
	})
	if err != nil {
		return nil, err
	}
	out.Description = in.Description
	return &iam.UpdateRoleDescriptionOutput{Role: out}, nil
}

// UpdateAssumeRolePolicy changes who may assume a role.
func (s *Service) UpdateAssumeRolePolicy(ctx context.Context, _ service.Call, in *iam.UpdateAssumeRolePolicyInput) (*iam.UpdateAssumeRolePolicyOutput, error) {
	return &iam.UpdateAssumeRolePolicyOutput{}, s.changeRole(ctx, ownRole, in.RoleName, func(tx *state.Tx, role *state.Role) (err error) {
		role.Trust, err = s.trust(tx, in.PolicyDocument)
		return err
	})
}

// DeleteRole removes a role that has no policies and stands in no instance profile. The guard sees what it is added to at the same time.
func (s *Service) DeleteRole(ctx context.Context, _ service.Call, in *iam.DeleteRoleInput) (*iam.DeleteRoleOutput, error) {
	return &iam.DeleteRoleOutput{}, s.update(ctx, func(tx *state.Tx) error {
		role, err := ownRole(tx, in.RoleName)
		if err != nil {
			return err
		}
		tx.Guard(state.InstanceProfileTable, "")
		if state.CountBy(tx, state.InstanceProfiles, state.InstanceProfilesByRole, string(role.ID)) > 0 {
			return deleteConflict("Cannot delete entity, must remove roles from instance profile first.")
		}
		if err := bare(&role.Permissions); err != nil {
			return err
		}
		removeRole(tx, role)
		return nil
	})
}

func removeRole(tx *state.Tx, role *state.Role) {
	state.Delete(tx, state.Roles, string(role.ID))
	state.Delete(tx, state.Uses, string(role.ID))
	tx.Release(state.RoleClaim(role.Name))
}
