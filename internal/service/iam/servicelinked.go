package iam

import (
	"context"
	"strings"
	"time"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
)

// linkedRole is the service-linked role of a service. None of Carrel's may have a suffix.
type linkedRole struct{ name, policy, description string }

// linkedRoles are those that AWS has for the services that Carrel has ("AWS services that work with IAM"): WorkSpaces itself has none, it
// uses workspaces_DefaultRole.
var linkedRoles = map[string]linkedRole{
	"ds.amazonaws.com":         {name: "AWSServiceRoleForDirectoryService", policy: "AWSDirectoryServiceServiceRolePolicy"},
	"cloudtrail.amazonaws.com": {"AWSServiceRoleForCloudTrail", "CloudTrailServiceRolePolicy", "This service linked role is used for supporting organization trail feature"},
}

// deletionKept is how long the end of a deletion can be asked after.
const deletionKept = 24 * time.Hour

// CreateServiceLinkedRole makes the role that a service acts with. Only the service changes it.
func (s *Service) CreateServiceLinkedRole(ctx context.Context, _ service.Call, in *iam.CreateServiceLinkedRoleInput) (*iam.CreateServiceLinkedRoleOutput, error) {
	of := shape.Val(in.AWSServiceName)
	linked, ok := linkedRoles[of]
	switch {
	case !ok:
		return nil, invalidInput("%s is not a service that roles can be linked to.", of)
	case in.CustomSuffix != nil:
		return nil, invalidInput("Custom suffix is not allowed for %s", of)
	}
	id := ident.NewRoleID(s.Rand)
	var out *iam.Role
	err := s.update(ctx, func(tx *state.Tx) error {
		taken := invalidInput("Service role name %s has been taken in this account, please try a different suffix.", linked.name)
		if err := claim(tx, state.RoleClaim(linked.name), string(id), taken); err != nil {
			return err
		}
		role := &state.Role{
			Meta: state.Meta{Created: tx.Now()}, ID: id, Name: linked.name, Path: servicePath + of + "/", Description: linked.description, MaxSession: defaultSession,
			Trust:       `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"` + of + `"},"Action":"sts:AssumeRole"}]}`,
			Permissions: state.Permissions{Attached: []string{"arn:" + s.Partition + ":iam::aws:policy" + servicePath + linked.policy}}, Service: of,
		}
		if in.Description != nil {
			role.Description = *in.Description
		}
		state.Put(tx, state.Roles, role)
		out = s.describeRole(tx, role)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iam.CreateServiceLinkedRoleOutput{Role: out}, nil
}

// DeleteServiceLinkedRole removes a service-linked role. AWS does so later, when the service has nothing left that needs it; nothing of
// Carrel's needs one, so that it is gone when the answer comes.
func (s *Service) DeleteServiceLinkedRole(ctx context.Context, _ service.Call, in *iam.DeleteServiceLinkedRoleInput) (*iam.DeleteServiceLinkedRoleOutput, error) {
	uuid := ident.UUID(s.Rand)
	var task string
	err := s.update(ctx, func(tx *state.Tx) error {
		role, err := findRole(tx, shape.Val(in.RoleName))
		if err != nil {
			return err
		}
		if role.Service == "" {
			return noSuchRole(role.Name)
		}
		for d := range state.All(tx, state.RoleDeletions) {
			if tx.Now().Sub(d.Created) > deletionKept {
				state.Delete(tx, state.RoleDeletions, d.ID)
			}
		}
		task = "task" + role.Path + role.Name + "/" + uuid
		state.Put(tx, state.RoleDeletions, &state.RoleDeletion{Meta: state.Meta{Created: tx.Now()}, ID: task})
		removeRole(tx, role)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return &iam.DeleteServiceLinkedRoleOutput{DeletionTaskId: shape.Ptr(task)}, nil
}

// GetServiceLinkedRoleDeletionStatus tells how far a deletion is, for a day after it.
func (s *Service) GetServiceLinkedRoleDeletionStatus(_ context.Context, _ service.Call, in *iam.GetServiceLinkedRoleDeletionStatusInput) (*iam.GetServiceLinkedRoleDeletionStatusOutput, error) {
	task := shape.Val(in.DeletionTaskId)
	if !strings.HasPrefix(task, "task"+servicePath) {
		return nil, invalidInput("Deletion task id %s is not valid.", task)
	}
	if _, ok := state.Get(s.DB.Snapshot(), state.RoleDeletions, task); !ok {
		return nil, noSuchDeletion(task)
	}
	return &iam.GetServiceLinkedRoleDeletionStatusOutput{Status: shape.Ptr(iam.DeletionTaskStatusTypeSucceeded)}, nil
}
