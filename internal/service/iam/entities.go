package iam

import (
	"context"
	"iter"
	"strings"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/service"
	"carrel/internal/state"
)

// entity is one that a managed policy is attached to, or bounds.
type entity struct{ kind, name, id string }

func (e entity) key() string { return e.kind + "/" + strings.ToLower(e.name) }

// ListEntitiesForPolicy lists the users, groups and roles that a managed policy is attached to or bounds, those under a path and of one kind
// on demand. A page may hold any mixture of them.
func (s *Service) ListEntitiesForPolicy(_ context.Context, _ service.Call, in *iam.ListEntitiesForPolicyInput) (*iam.ListEntitiesForPolicyOutput, error) {
	snap := s.DB.Snapshot()
	p, err := s.findPolicy(snap, in.PolicyArn, noUsablePolicy)
	if err != nil {
		return nil, err
	}
	found, next, err := page(entities(snap, p.arn, in), entity.key, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iam.ListEntitiesForPolicyOutput{PolicyGroups: []iam.PolicyGroup{}, PolicyRoles: []iam.PolicyRole{}, PolicyUsers: []iam.PolicyUser{},
		IsTruncated: shape.Ptr(next != nil), Marker: next}
	for _, e := range found {
		switch e.kind {
		case "group":
			out.PolicyGroups = append(out.PolicyGroups, iam.PolicyGroup{GroupName: shape.Ptr(e.name), GroupId: shape.Ptr(e.id)})
		case "role":
			out.PolicyRoles = append(out.PolicyRoles, iam.PolicyRole{RoleName: shape.Ptr(e.name), RoleId: shape.Ptr(e.id)})
		default:
			out.PolicyUsers = append(out.PolicyUsers, iam.PolicyUser{UserName: shape.Ptr(e.name), UserId: shape.Ptr(e.id)})
		}
	}
	return out, nil
}

// entities are those that in asks for, in the order of their keys.
func entities(r state.Reader, arn string, in *iam.ListEntitiesForPolicyInput) []entity {
	kind, usage := shape.Val(in.EntityFilter), shape.Val(in.PolicyUsageFilter)
	wants := func(k iam.EntityType) bool { return kind == "" || kind == k }
	attached, bounding := usage != iam.PolicyUsageTypePermissionsBoundary, usage != iam.PolicyUsageTypePermissionsPolicy
	var list []entity
	if wants(iam.EntityTypeGroup) && attached {
		for _, g := range under(state.AllBy(r, state.Groups, state.GroupsByPolicy, arn), in.PathPrefix, groupPlace) {
			list = append(list, entity{"group", g.Name, string(g.ID)})
		}
	}
	if wants(iam.EntityTypeRole) {
		all := each(attached, state.AllBy(r, state.Roles, state.RolesByPolicy, arn), bounding, state.AllBy(r, state.Roles, state.RolesByBoundary, arn))
		for _, role := range under(all, in.PathPrefix, rolePlace) {
			list = append(list, entity{"role", role.Name, string(role.ID)})
		}
	}
	if wants(iam.EntityTypeUser) {
		all := each(attached, state.AllBy(r, state.Users, state.UsersByPolicy, arn), bounding, state.AllBy(r, state.Users, state.UsersByBoundary, arn))
		for _, u := range under(all, in.PathPrefix, userPlace) {
			list = append(list, entity{"user", u.Name, string(u.ID)})
		}
	}
	return list
}

// each visits every record once that is in one of those of the two sequences that are wanted.
func each[T any](wantFirst bool, first iter.Seq[*T], wantSecond bool, second iter.Seq[*T]) iter.Seq[*T] {
	return func(yield func(*T) bool) {
		seen := map[*T]bool{}
		for _, part := range []struct {
			want bool
			all  iter.Seq[*T]
		}{{wantFirst, first}, {wantSecond, second}} {
			if !part.want {
				continue
			}
			for rec := range part.all {
				if !seen[rec] && !yield(rec) {
					return
				}
				seen[rec] = true
			}
		}
	}
}
