package iam

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/arn"
	"carrel/internal/managed"
	"carrel/internal/service"
	"carrel/internal/state"
)

// detail is one entry of the account's details: its place in the order, and what writes it into the answer.
type detail struct {
	key string
	put func(*iam.GetAccountAuthorizationDetailsOutput)
}

// GetAccountAuthorizationDetails lists the users, groups, roles and policies with all that decides what they may do. AWS's managed policies are listed
// when they are in use. What is filtered for is listed; without a filter everything is.
func (s *Service) GetAccountAuthorizationDetails(_ context.Context, _ service.Call, in *iam.GetAccountAuthorizationDetailsInput) (*iam.GetAccountAuthorizationDetailsOutput, error) {
	snap := s.DB.Snapshot()
	wanted := func(kind iam.EntityType) bool { return len(in.Filter) == 0 || slices.Contains(in.Filter, kind) }
	var all []detail
	if wanted(iam.EntityTypeUser) {
		for u := range state.All(snap, state.Users) {
			all = append(all, detail{"1/" + strings.ToLower(u.Name), func(out *iam.GetAccountAuthorizationDetailsOutput) {
				out.UserDetailList = append(out.UserDetailList, s.userDetail(snap, u))
			}})
		}
	}
	if wanted(iam.EntityTypeGroup) {
		for g := range state.All(snap, state.Groups) {
			all = append(all, detail{"2/" + strings.ToLower(g.Name), func(out *iam.GetAccountAuthorizationDetailsOutput) {
				out.GroupDetailList = append(out.GroupDetailList, s.groupDetail(g))
			}})
		}
	}
	if wanted(iam.EntityTypeRole) {
		for r := range state.All(snap, state.Roles) {
			all = append(all, detail{"3/" + strings.ToLower(r.Name), func(out *iam.GetAccountAuthorizationDetailsOutput) {
				out.RoleDetailList = append(out.RoleDetailList, s.roleDetail(snap, r))
			}})
		}
	}
	all = append(all, s.policyDetails(snap, wanted)...)
	key := func(d detail) string { return d.key }
	slices.SortFunc(all, func(a, b detail) int { return cmp.Compare(a.key, b.key) })
	all, next, err := page(all, key, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	out := &iam.GetAccountAuthorizationDetailsOutput{UserDetailList: []iam.UserDetail{}, GroupDetailList: []iam.GroupDetail{}, RoleDetailList: []iam.RoleDetail{},
		Policies: []iam.ManagedPolicyDetail{}, IsTruncated: shape.Ptr(next != nil), Marker: next}
	for _, d := range all {
		d.put(out)
	}
	return out, nil
}

func (s *Service) policyDetails(r state.Reader, wanted func(iam.EntityType) bool) []detail {
	var all []detail
	add := func(order string, view policyView) {
		all = append(all, detail{order + strings.ToLower(view.name), func(out *iam.GetAccountAuthorizationDetailsOutput) {
			out.Policies = append(out.Policies, policyDetail(r, view))
		}})
	}
	if wanted(iam.EntityTypeLocalManagedPolicy) {
		for p := range state.All(r, state.Policies) {
			add("4/", s.customers(p))
		}
	}
	if wanted(iam.EntityTypeAWSManagedPolicy) {
		for _, p := range managed.All() {
			if attached, bounds := uses(r, p.ARN(s.Partition)); attached+bounds == 0 {
				continue
			}
			if here, ok := managed.Find(s.Partition, p.ARN(s.Partition)); ok {
				add("5/", s.awss(here))
			}
		}
	}
	return all
}

func (s *Service) userDetail(r state.Reader, u *state.User) iam.UserDetail {
	d := iam.UserDetail{
		Path: shape.Ptr(u.Path), UserName: shape.Ptr(u.Name), UserId: shape.Ptr(string(u.ID)), CreateDate: shape.Ptr(u.Created), Tags: tagList(u.Tags),
		Arn:            shape.Ptr(arn.User(s.Partition, s.AccountID, u.Path, u.Name).String()),
		UserPolicyList: inlineDetails(&u.Permissions), AttachedManagedPolicies: attachedDetails(&u.Permissions), PermissionsBoundary: bounded(u.Boundary), GroupList: []string{},
	}
	for g := range groupsOf(r, u) {
		d.GroupList = append(d.GroupList, g.Name)
	}
	return d
}

func (s *Service) groupDetail(g *state.Group) iam.GroupDetail {
	return iam.GroupDetail{
		Path: shape.Ptr(g.Path), GroupName: shape.Ptr(g.Name), GroupId: shape.Ptr(string(g.ID)), CreateDate: shape.Ptr(g.Created),
		Arn: shape.Ptr(arn.Of(s.Partition, s.AccountID, "group", g.Path+g.Name).String()), GroupPolicyList: inlineDetails(&g.Permissions), AttachedManagedPolicies: attachedDetails(&g.Permissions),
	}
}

func (s *Service) roleDetail(r state.Reader, role *state.Role) iam.RoleDetail {
	d := iam.RoleDetail{
		Path: shape.Ptr(role.Path), RoleName: shape.Ptr(role.Name), RoleId: shape.Ptr(string(role.ID)), CreateDate: shape.Ptr(role.Created), Arn: shape.Ptr(s.roleARN(role)),
		AssumeRolePolicyDocument: encoded(s.shownTrust(r, role)), RolePolicyList: inlineDetails(&role.Permissions), AttachedManagedPolicies: attachedDetails(&role.Permissions),
		PermissionsBoundary: bounded(role.Boundary), Tags: tagList(role.Tags), InstanceProfileList: []iam.InstanceProfile{}, RoleLastUsed: &iam.RoleLastUsed{},
	}
	for p := range state.AllBy(r, state.InstanceProfiles, state.InstanceProfilesByRole, string(role.ID)) {
		d.InstanceProfileList = append(d.InstanceProfileList, *s.describeProfile(r, p))
	}
	if s.RoleLastUsed != nil {
		if use, used := s.RoleLastUsed(role.ID); used {
			d.RoleLastUsed = &iam.RoleLastUsed{LastUsedDate: shape.Ptr(use.At), Region: shape.Ptr(use.Region)}
		}
	}
	return d
}

func inlineDetails(p *state.Permissions) []iam.PolicyDetail {
	out := []iam.PolicyDetail{}
	for _, name := range slices.Sorted(maps.Keys(p.Inline)) {
		out = append(out, iam.PolicyDetail{PolicyName: shape.Ptr(name), PolicyDocument: encoded(p.Inline[name])})
	}
	return out
}

func attachedDetails(p *state.Permissions) []iam.AttachedPolicy {
	out := []iam.AttachedPolicy{}
	for _, name := range p.Attached {
		_, last := policyPlace(name)
		out = append(out, iam.AttachedPolicy{PolicyArn: shape.Ptr(name), PolicyName: shape.Ptr(last)})
	}
	return out
}

func policyDetail(r state.Reader, view policyView) iam.ManagedPolicyDetail {
	p := describePolicy(r, view)
	d := iam.ManagedPolicyDetail{
		Arn: p.Arn, PolicyId: p.PolicyId, PolicyName: p.PolicyName, Path: p.Path, DefaultVersionId: p.DefaultVersionId, AttachmentCount: p.AttachmentCount,
		PermissionsBoundaryUsageCount: p.PermissionsBoundaryUsageCount, IsAttachable: p.IsAttachable, CreateDate: p.CreateDate, UpdateDate: p.UpdateDate,
	}
	if view.description != "" {
		d.Description = shape.Ptr(view.description)
	}
	for _, v := range slices.Backward(view.versions) {
		shown := describeVersion(v, v.ID == view.main)
		shown.Document = encoded(v.Document)
		d.PolicyVersionList = append(d.PolicyVersionList, *shown)
	}
	return d
}
