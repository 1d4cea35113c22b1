package iam

import (
	"cmp"
	"context"
	"slices"
	"strings"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/service"
	"carrel/internal/state"
)

// attach gives a managed policy to a bearer; one that is attached stays so.
func (s *Service) attach(ctx context.Context, find bearers, name, arn *string) error {
	return s.change(ctx, find, name, func(tx *state.Tx, b *bearer) error {
		if err := s.attachable(tx, arn, noUsablePolicy); err != nil {
			return err
		}
		at, is := slices.BinarySearch(b.own.Attached, *arn)
		if is {
			return nil
		}
		if len(b.own.Attached) >= attachedPolicies {
			return overQuota(b.attached, attachedPolicies)
		}
		b.own.Attached = slices.Insert(b.own.Attached, at, *arn)
		return nil
	})
}

// detach takes a managed policy from a bearer.
func (s *Service) detach(ctx context.Context, find bearers, name, arn *string) error {
	return s.change(ctx, find, name, func(_ *state.Tx, b *bearer) error {
		if err := checkPolicyARN(arn); err != nil {
			return err
		}
		at, is := slices.BinarySearch(b.own.Attached, *arn)
		if !is {
			return noSuchPolicy(*arn)
		}
		b.own.Attached = slices.Delete(b.own.Attached, at, at+1)
		return nil
	})
}

// attachedPage is what a list of attached policies asks for.
type attachedPage struct {
	name, prefix, marker *string
	max                  *int32
}

// attachedTo is a page of the policies attached to a bearer that are under a path, in the order of their names.
func (s *Service) attachedTo(find bearers, ask attachedPage) ([]iam.AttachedPolicy, *string, error) {
	b, err := find(s.DB.Snapshot(), ask.name)
	if err != nil {
		return nil, nil, err
	}
	arns := slices.DeleteFunc(slices.Clone(b.own.Attached), func(arn string) bool {
		path, _ := policyPlace(arn)
		return !strings.HasPrefix(path, shape.Val(ask.prefix))
	})
	// A customer's policy may have the name of one of AWS's, whose ARN has no account.
	key := func(arn string) string {
		_, name := policyPlace(arn)
		if strings.Contains(arn, ":iam::aws:") {
			return strings.ToLower(name) + " aws"
		}
		return strings.ToLower(name)
	}
	slices.SortFunc(arns, func(a, b string) int { return cmp.Compare(key(a), key(b)) })
	arns, next, err := page(arns, key, ask.marker, ask.max)
	if err != nil {
		return nil, nil, err
	}
	list := make([]iam.AttachedPolicy, 0, len(arns))
	for _, arn := range arns {
		_, name := policyPlace(arn)
		list = append(list, iam.AttachedPolicy{PolicyArn: shape.Ptr(arn), PolicyName: shape.Ptr(name)})
	}
	return list, next, nil
}

// policyPlace is the path and the name that a policy's ARN ends with.
func policyPlace(arn string) (path, name string) {
	_, place, _ := strings.Cut(arn, ":policy")
	slash := strings.LastIndexByte(place, '/') + 1
	return place[:slash], place[slash:]
}

// AttachUserPolicy gives a managed policy to a user.
func (s *Service) AttachUserPolicy(ctx context.Context, _ service.Call, in *iam.AttachUserPolicyInput) (*iam.AttachUserPolicyOutput, error) {
	return &iam.AttachUserPolicyOutput{}, s.attach(ctx, userBearer, in.UserName, in.PolicyArn)
}

// AttachGroupPolicy gives a managed policy to a group.
func (s *Service) AttachGroupPolicy(ctx context.Context, _ service.Call, in *iam.AttachGroupPolicyInput) (*iam.AttachGroupPolicyOutput, error) {
	return &iam.AttachGroupPolicyOutput{}, s.attach(ctx, groupBearer, in.GroupName, in.PolicyArn)
}

// AttachRolePolicy gives a managed policy to a role.
func (s *Service) AttachRolePolicy(ctx context.Context, _ service.Call, in *iam.AttachRolePolicyInput) (*iam.AttachRolePolicyOutput, error) {
	return &iam.AttachRolePolicyOutput{}, s.attach(ctx, roleBearer, in.RoleName, in.PolicyArn)
}

// DetachUserPolicy takes a managed policy from a user.
func (s *Service) DetachUserPolicy(ctx context.Context, _ service.Call, in *iam.DetachUserPolicyInput) (*iam.DetachUserPolicyOutput, error) {
	return &iam.DetachUserPolicyOutput{}, s.detach(ctx, userBearer, in.UserName, in.PolicyArn)
}

// DetachGroupPolicy takes a managed policy from a group.
func (s *Service) DetachGroupPolicy(ctx context.Context, _ service.Call, in *iam.DetachGroupPolicyInput) (*iam.DetachGroupPolicyOutput, error) {
	return &iam.DetachGroupPolicyOutput{}, s.detach(ctx, groupBearer, in.GroupName, in.PolicyArn)
}

// DetachRolePolicy takes a managed policy from a role.
func (s *Service) DetachRolePolicy(ctx context.Context, _ service.Call, in *iam.DetachRolePolicyInput) (*iam.DetachRolePolicyOutput, error) {
	return &iam.DetachRolePolicyOutput{}, s.detach(ctx, roleBearer, in.RoleName, in.PolicyArn)
}

// ListAttachedUserPolicies lists the managed policies of a user; those of its groups are not among them.
func (s *Service) ListAttachedUserPolicies(_ context.Context, _ service.Call, in *iam.ListAttachedUserPoliciesInput) (*iam.ListAttachedUserPoliciesOutput, error) {
	list, next, err := s.attachedTo(userBearer, attachedPage{in.UserName, in.PathPrefix, in.Marker, in.MaxItems})
	if err != nil {
		return nil, err
	}
	return &iam.ListAttachedUserPoliciesOutput{AttachedPolicies: list, IsTruncated: shape.Ptr(next != nil), Marker: next}, nil
}

// ListAttachedGroupPolicies lists the managed policies of a group.
func (s *Service) ListAttachedGroupPolicies(_ context.Context, _ service.Call, in *iam.ListAttachedGroupPoliciesInput) (*iam.ListAttachedGroupPoliciesOutput, error) {
	list, next, err := s.attachedTo(groupBearer, attachedPage{in.GroupName, in.PathPrefix, in.Marker, in.MaxItems})
	if err != nil {
		return nil, err
	}
	return &iam.ListAttachedGroupPoliciesOutput{AttachedPolicies: list, IsTruncated: shape.Ptr(next != nil), Marker: next}, nil
}

// ListAttachedRolePolicies lists the managed policies of a role.
func (s *Service) ListAttachedRolePolicies(_ context.Context, _ service.Call, in *iam.ListAttachedRolePoliciesInput) (*iam.ListAttachedRolePoliciesOutput, error) {
	list, next, err := s.attachedTo(roleBearer, attachedPage{in.RoleName, in.PathPrefix, in.Marker, in.MaxItems})
	if err != nil {
		return nil, err
	}
	return &iam.ListAttachedRolePoliciesOutput{AttachedPolicies: list, IsTruncated: shape.Ptr(next != nil), Marker: next}, nil
}
