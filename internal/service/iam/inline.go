package iam

import (
	"context"
	"maps"
	"slices"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/policy"
	"carrel/internal/service"
	"carrel/internal/state"
)

// inlinePolicy names an inline policy: whose it is and what it is called.
type inlinePolicy struct{ bearer, name *string }

// putInline stores an inline policy as it came. Those of one bearer share one quota.
func (s *Service) putInline(ctx context.Context, find bearers, p inlinePolicy, document *string) error {
	if _, err := parse(policy.Identity, document); err != nil {
		return err
	}
	return s.change(ctx, find, p.bearer, func(_ *state.Tx, b *bearer) error {
		if b.own.Inline == nil {
			b.own.Inline = map[string]string{}
		}
		b.own.Inline[shape.Val(p.name)] = *document
		return fits(b.inline, b.kind+" "+b.name, slices.Collect(maps.Values(b.own.Inline))...)
	})
}

// getInline gives an inline policy's document as answers carry it.
func (s *Service) getInline(find bearers, p inlinePolicy) (*string, error) {
	b, err := find(s.DB.Snapshot(), p.bearer)
	if err != nil {
		return nil, err
	}
	document, ok := b.own.Inline[shape.Val(p.name)]
	if !ok {
		return nil, noSuchInline(b.kind, shape.Val(p.name))
	}
	return encoded(document), nil
}

func (s *Service) deleteInline(ctx context.Context, find bearers, p inlinePolicy) error {
	return s.change(ctx, find, p.bearer, func(_ *state.Tx, b *bearer) error {
		if _, ok := b.own.Inline[shape.Val(p.name)]; !ok {
			return noSuchInline(b.kind, shape.Val(p.name))
		}
		delete(b.own.Inline, shape.Val(p.name))
		return nil
	})
}

// listInline is a page of the names of a bearer's inline policies, in their order.
func (s *Service) listInline(find bearers, name, marker *string, max *int32) ([]string, *string, error) {
	b, err := find(s.DB.Snapshot(), name)
	if err != nil {
		return nil, nil, err
	}
	names, next, err := page(slices.Sorted(maps.Keys(b.own.Inline)), func(name string) string { return name }, marker, max)
	if names == nil {
		names = []string{}
	}
	return names, next, err
}

// PutUserPolicy stores an inline policy of a user, in place of one of that name.
func (s *Service) PutUserPolicy(ctx context.Context, _ service.Call, in *iam.PutUserPolicyInput) (*iam.PutUserPolicyOutput, error) {
	return &iam.PutUserPolicyOutput{}, s.putInline(ctx, userBearer, inlinePolicy{in.UserName, in.PolicyName}, in.PolicyDocument)
}

// PutGroupPolicy stores an inline policy of a group, in place of one of that name.
func (s *Service) PutGroupPolicy(ctx context.Context, _ service.Call, in *iam.PutGroupPolicyInput) (*iam.PutGroupPolicyOutput, error) {
	return &iam.PutGroupPolicyOutput{}, s.putInline(ctx, groupBearer, inlinePolicy{in.GroupName, in.PolicyName}, in.PolicyDocument)
}

// PutRolePolicy stores an inline policy of a role, in place of one of that name.
func (s *Service) PutRolePolicy(ctx context.Context, _ service.Call, in *iam.PutRolePolicyInput) (*iam.PutRolePolicyOutput, error) {
	return &iam.PutRolePolicyOutput{}, s.putInline(ctx, roleBearer, inlinePolicy{in.RoleName, in.PolicyName}, in.PolicyDocument)
}

// GetUserPolicy shows an inline policy of a user.
func (s *Service) GetUserPolicy(_ context.Context, _ service.Call, in *iam.GetUserPolicyInput) (*iam.GetUserPolicyOutput, error) {
	document, err := s.getInline(userBearer, inlinePolicy{in.UserName, in.PolicyName})
	if err != nil {
		return nil, err
	}
	return &iam.GetUserPolicyOutput{UserName: in.UserName, PolicyName: in.PolicyName, PolicyDocument: document}, nil
}

// GetGroupPolicy shows an inline policy of a group.
func (s *Service) GetGroupPolicy(_ context.Context, _ service.Call, in *iam.GetGroupPolicyInput) (*iam.GetGroupPolicyOutput, error) {
	document, err := s.getInline(groupBearer, inlinePolicy{in.GroupName, in.PolicyName})
	if err != nil {
		return nil, err
	}
	return &iam.GetGroupPolicyOutput{GroupName: in.GroupName, PolicyName: in.PolicyName, PolicyDocument: document}, nil
}

// GetRolePolicy shows an inline policy of a role.
func (s *Service) GetRolePolicy(_ context.Context, _ service.Call, in *iam.GetRolePolicyInput) (*iam.GetRolePolicyOutput, error) {
	document, err := s.getInline(roleBearer, inlinePolicy{in.RoleName, in.PolicyName})
	if err != nil {
		return nil, err
	}
	return &iam.GetRolePolicyOutput{RoleName: in.RoleName, PolicyName: in.PolicyName, PolicyDocument: document}, nil
}

// ListUserPolicies lists the names of a user's inline policies.
func (s *Service) ListUserPolicies(_ context.Context, _ service.Call, in *iam.ListUserPoliciesInput) (*iam.ListUserPoliciesOutput, error) {
	names, next, err := s.listInline(userBearer, in.UserName, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	return &iam.ListUserPoliciesOutput{PolicyNames: names, IsTruncated: shape.Ptr(next != nil), Marker: next}, nil
}

// ListGroupPolicies lists the names of a group's inline policies.
func (s *Service) ListGroupPolicies(_ context.Context, _ service.Call, in *iam.ListGroupPoliciesInput) (*iam.ListGroupPoliciesOutput, error) {
	names, next, err := s.listInline(groupBearer, in.GroupName, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	return &iam.ListGroupPoliciesOutput{PolicyNames: names, IsTruncated: shape.Ptr(next != nil), Marker: next}, nil
}

// ListRolePolicies lists the names of a role's inline policies.
func (s *Service) ListRolePolicies(_ context.Context, _ service.Call, in *iam.ListRolePoliciesInput) (*iam.ListRolePoliciesOutput, error) {
	names, next, err := s.listInline(roleBearer, in.RoleName, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	return &iam.ListRolePoliciesOutput{PolicyNames: names, IsTruncated: shape.Ptr(next != nil), Marker: next}, nil
}

// DeleteUserPolicy removes an inline policy of a user.
func (s *Service) DeleteUserPolicy(ctx context.Context, _ service.Call, in *iam.DeleteUserPolicyInput) (*iam.DeleteUserPolicyOutput, error) {
	return &iam.DeleteUserPolicyOutput{}, s.deleteInline(ctx, userBearer, inlinePolicy{in.UserName, in.PolicyName})
}

// DeleteGroupPolicy removes an inline policy of a group.
func (s *Service) DeleteGroupPolicy(ctx context.Context, _ service.Call, in *iam.DeleteGroupPolicyInput) (*iam.DeleteGroupPolicyOutput, error) {
	return &iam.DeleteGroupPolicyOutput{}, s.deleteInline(ctx, groupBearer, inlinePolicy{in.GroupName, in.PolicyName})
}

// DeleteRolePolicy removes an inline policy of a role.
func (s *Service) DeleteRolePolicy(ctx context.Context, _ service.Call, in *iam.DeleteRolePolicyInput) (*iam.DeleteRolePolicyOutput, error) {
	return &iam.DeleteRolePolicyOutput{}, s.deleteInline(ctx, roleBearer, inlinePolicy{in.RoleName, in.PolicyName})
}
