package iam

import (
	"cmp"
	"context"
	"iter"
	"strings"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/arn"
	"carrel/internal/awserr"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
)

func profileClaim(name string) string { return "instance-profile/" + strings.ToLower(name) }

// findProfile finds an instance profile by its name, as findUser does a user.
func findProfile(r state.Reader, name *string) (*state.InstanceProfile, error) {
	candidates := state.AllBy(r, state.InstanceProfiles, state.InstanceProfilesByName, strings.ToLower(shape.Val(name)))
	if p, ok := named(r, state.InstanceProfiles, candidates, func(p *state.InstanceProfile) bool { return p.Name == shape.Val(name) }); ok {
		return p, nil
	}
	return nil, noSuchProfile(shape.Val(name))
}

func (s *Service) describeProfile(r state.Reader, p *state.InstanceProfile) *iam.InstanceProfile {
	out := &iam.InstanceProfile{
		Path: shape.Ptr(p.Path), InstanceProfileName: shape.Ptr(p.Name), InstanceProfileId: shape.Ptr(string(p.ID)), CreateDate: shape.Ptr(p.Created),
		Arn: shape.Ptr(arn.Of(s.Partition, s.AccountID, "instance-profile", p.Path+p.Name).String()), Roles: []iam.Role{},
	}
	if role, ok := state.Get(r, state.Roles, string(p.RoleID)); ok {
		out.Roles = append(out.Roles, *s.describeRole(r, role))
	}
	return out
}

// CreateInstanceProfile makes an instance profile. It is kept and shown; no desktop has one.
func (s *Service) CreateInstanceProfile(ctx context.Context, _ service.Call, in *iam.CreateInstanceProfileInput) (*iam.CreateInstanceProfileOutput, error) {
	if err := profileTags.check(in.Tags); err != nil {
		return nil, err
	}
	name, id := shape.Val(in.InstanceProfileName), ident.NewInstanceProfileID(s.Rand)
	var p *state.InstanceProfile
	err := s.update(ctx, func(tx *state.Tx) error {
		if err := room(tx, state.InstanceProfiles, "InstanceProfilesPerAccount", s.MaxRoles); err != nil {
			return err
		}
		if err := claim(tx, profileClaim(name), string(id), profileExists(name)); err != nil {
			return err
		}
		p = &state.InstanceProfile{Meta: state.Meta{Created: tx.Now(), Tags: profileTags.merge(nil, in.Tags)}, ID: id, Name: name, Path: cmp.Or(shape.Val(in.Path), "/")}
		state.Put(tx, state.InstanceProfiles, p)
		return nil
	})
	if err != nil {
		return nil, err
	}
	out := s.describeProfile(s.DB.Snapshot(), p)
	out.Tags = tagList(p.Tags)
	return &iam.CreateInstanceProfileOutput{InstanceProfile: out}, nil
}

// GetInstanceProfile describes an instance profile with its role.
func (s *Service) GetInstanceProfile(_ context.Context, _ service.Call, in *iam.GetInstanceProfileInput) (*iam.GetInstanceProfileOutput, error) {
	snap := s.DB.Snapshot()
	p, err := findProfile(snap, in.InstanceProfileName)
	if err != nil {
		return nil, err
	}
	out := s.describeProfile(snap, p)
	if out.Tags = tagList(p.Tags); out.Tags == nil {
		out.Tags = []iam.Tag{}
	}
	return &iam.GetInstanceProfileOutput{InstanceProfile: out}, nil
}

// profilePage is what a list of instance profiles asks for.
type profilePage struct {
	prefix, marker *string
	max            *int32
}

func (s *Service) profiles(r state.Reader, all iter.Seq[*state.InstanceProfile], ask profilePage) ([]iam.InstanceProfile, *string, error) {
	found := under(all, ask.prefix, func(p *state.InstanceProfile) (string, string) { return p.Path, p.Name })
	found, next, err := page(found, func(p *state.InstanceProfile) string { return strings.ToLower(p.Name) }, ask.marker, ask.max)
	if err != nil {
		return nil, nil, err
	}
	list := make([]iam.InstanceProfile, 0, len(found))
	for _, p := range found {
		list = append(list, *s.describeProfile(r, p))
	}
	return list, next, nil
}

// ListInstanceProfiles lists the instance profiles under a path in the order of their names, without tags.
func (s *Service) ListInstanceProfiles(_ context.Context, _ service.Call, in *iam.ListInstanceProfilesInput) (*iam.ListInstanceProfilesOutput, error) {
	snap := s.DB.Snapshot()
	list, next, err := s.profiles(snap, state.All(snap, state.InstanceProfiles), profilePage{in.PathPrefix, in.Marker, in.MaxItems})
	if err != nil {
		return nil, err
	}
	return &iam.ListInstanceProfilesOutput{InstanceProfiles: list, IsTruncated: shape.Ptr(next != nil), Marker: next}, nil
}

// ListInstanceProfilesForRole lists the instance profiles that a role stands in.
func (s *Service) ListInstanceProfilesForRole(_ context.Context, _ service.Call, in *iam.ListInstanceProfilesForRoleInput) (*iam.ListInstanceProfilesForRoleOutput, error) {
	snap := s.DB.Snapshot()
	role, err := findRole(snap, shape.Val(in.RoleName))
	if err != nil {
		return nil, err
	}
	all := state.AllBy(snap, state.InstanceProfiles, state.InstanceProfilesByRole, string(role.ID))
	list, next, err := s.profiles(snap, all, profilePage{nil, in.Marker, in.MaxItems})
	if err != nil {
		return nil, err
	}
	return &iam.ListInstanceProfilesForRoleOutput{InstanceProfiles: list, IsTruncated: shape.Ptr(next != nil), Marker: next}, nil
}

// AddRoleToInstanceProfile puts a role into an instance profile, which holds one. The role is read, so that it is there when the profile is
// written.
func (s *Service) AddRoleToInstanceProfile(ctx context.Context, _ service.Call, in *iam.AddRoleToInstanceProfileInput) (*iam.AddRoleToInstanceProfileOutput, error) {
	return &iam.AddRoleToInstanceProfileOutput{}, s.profileRole(ctx, in.InstanceProfileName, in.RoleName, func(p *state.InstanceProfile, role *state.Role) error {
		if p.RoleID != "" {
			return overQuota("InstanceSessionsPerInstanceProfile", 1)
		}
		p.RoleID = role.ID
		return nil
	})
}

// RemoveRoleFromInstanceProfile takes a role out of an instance profile.
func (s *Service) RemoveRoleFromInstanceProfile(ctx context.Context, _ service.Call, in *iam.RemoveRoleFromInstanceProfileInput) (*iam.RemoveRoleFromInstanceProfileOutput, error) {
	return &iam.RemoveRoleFromInstanceProfileOutput{}, s.profileRole(ctx, in.InstanceProfileName, in.RoleName, func(p *state.InstanceProfile, role *state.Role) error {
		if p.RoleID != role.ID {
			return awserr.Model("NoSuchEntity", "Role %s in Instance Profile %s cannot be found.", role.Name, p.Name).WithStatus(404)
		}
		p.RoleID = ""
		return nil
	})
}

func (s *Service) profileRole(ctx context.Context, profile, role *string, fn func(*state.InstanceProfile, *state.Role) error) error {
	return s.update(ctx, func(tx *state.Tx) error {
		old, err := findProfile(tx, profile)
		if err != nil {
			return err
		}
		r, err := ownRole(tx, role)
		if err != nil {
			return err
		}
		p := state.Clone(old)
		if err := fn(p, r); err != nil {
			return err
		}
		state.Put(tx, state.InstanceProfiles, p)
		return nil
	})
}

// DeleteInstanceProfile removes an instance profile that holds no role.
func (s *Service) DeleteInstanceProfile(ctx context.Context, _ service.Call, in *iam.DeleteInstanceProfileInput) (*iam.DeleteInstanceProfileOutput, error) {
	return &iam.DeleteInstanceProfileOutput{}, s.update(ctx, func(tx *state.Tx) error {
		p, err := findProfile(tx, in.InstanceProfileName)
		if err != nil {
			return err
		}
		if p.RoleID != "" {
			return deleteConflict("Cannot delete entity, must remove roles from instance profile first.")
		}
		state.Delete(tx, state.InstanceProfiles, string(p.ID))
		tx.Release(profileClaim(p.Name))
		return nil
	})
}
