package iam

import (
	"context"
	"strings"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/arn"
	"carrel/internal/permissions"
	"carrel/internal/service"
	"carrel/internal/state"
)

// boundaryType is the one type of a permissions boundary that AWS answers. Its model names another one.
const boundaryType iam.PermissionsBoundaryAttachmentType = "Policy"

// bounded shows a permissions boundary, nil when there is none.
func bounded(name string) *iam.AttachedPermissionsBoundary {
	if name == "" {
		return nil
	}
	return &iam.AttachedPermissionsBoundary{PermissionsBoundaryArn: shape.Ptr(name), PermissionsBoundaryType: shape.Ptr(boundaryType)}
}

func (s *Service) account() permissions.Account {
	return permissions.Account{ID: s.AccountID, Partition: s.Partition}
}

// checkPolicyARN refuses what is not an ARN, or not one of a policy.
func checkPolicyARN(name *string) error {
	a, err := arn.Parse(shape.Val(name))
	switch {
	case err != nil:
		return notAnARN(shape.Val(name))
	case a.Service != "iam" || !strings.HasPrefix(a.Resource, "policy/"):
		return invalidInput("ARN %s is not valid.", *name)
	}
	return nil
}

// servicePath is the path of AWS's policies for service-linked roles. Nobody else can have them.
const servicePath = "/aws-service-role/"

// attachable refuses a managed policy that customers cannot use; missing is the answer when there is none of that ARN. In a *state.Tx the
// commit checks that the policy is still there.
func (s *Service) attachable(r state.Reader, name *string, missing func(string) error) error {
	if err := checkPolicyARN(name); err != nil {
		return err
	}
	if _, ok := s.account().Managed(r, *name); !ok {
		return missing(*name)
	}
	if strings.HasPrefix(*name, "arn:"+s.Partition+":iam::aws:policy"+servicePath) {
		return notAttachable()
	}
	return nil
}

// boundary is the boundary of a new user or role, "" when none is given.
func (s *Service) boundary(r state.Reader, name *string) (string, error) {
	if name == nil {
		return "", nil
	}
	return *name, s.attachable(r, name, noSuchBoundary)
}

// PutUserPermissionsBoundary bounds what a user's policies can allow.
func (s *Service) PutUserPermissionsBoundary(ctx context.Context, _ service.Call, in *iam.PutUserPermissionsBoundaryInput) (*iam.PutUserPermissionsBoundaryOutput, error) {
	return &iam.PutUserPermissionsBoundaryOutput{}, s.bound(ctx, userBearer, in.UserName, in.PermissionsBoundary)
}

// DeleteUserPermissionsBoundary takes a user's boundary away; that there is none is no error.
func (s *Service) DeleteUserPermissionsBoundary(ctx context.Context, _ service.Call, in *iam.DeleteUserPermissionsBoundaryInput) (*iam.DeleteUserPermissionsBoundaryOutput, error) {
	return &iam.DeleteUserPermissionsBoundaryOutput{}, s.unbound(ctx, userBearer, in.UserName)
}

// PutRolePermissionsBoundary bounds what a role's policies can allow.
func (s *Service) PutRolePermissionsBoundary(ctx context.Context, _ service.Call, in *iam.PutRolePermissionsBoundaryInput) (*iam.PutRolePermissionsBoundaryOutput, error) {
	return &iam.PutRolePermissionsBoundaryOutput{}, s.bound(ctx, roleBearer, in.RoleName, in.PermissionsBoundary)
}

// DeleteRolePermissionsBoundary takes a role's boundary away; that there is none is no error.
func (s *Service) DeleteRolePermissionsBoundary(ctx context.Context, _ service.Call, in *iam.DeleteRolePermissionsBoundaryInput) (*iam.DeleteRolePermissionsBoundaryOutput, error) {
	return &iam.DeleteRolePermissionsBoundaryOutput{}, s.unbound(ctx, roleBearer, in.RoleName)
}

func (s *Service) bound(ctx context.Context, find bearers, name, boundary *string) error {
	return s.change(ctx, find, name, func(tx *state.Tx, b *bearer) (err error) {
		*b.boundary, err = s.boundary(tx, boundary)
		return err
	})
}

func (s *Service) unbound(ctx context.Context, find bearers, name *string) error {
	return s.change(ctx, find, name, func(_ *state.Tx, b *bearer) error {
		*b.boundary = ""
		return nil
	})
}
