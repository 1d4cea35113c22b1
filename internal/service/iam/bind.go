package iam

import (
	"carrel/internal/api/iam"
	"carrel/internal/service"
)

// bindPermissions puts the handlers of groups, roles, instance profiles and policies into t.
func (s *Service) bindPermissions(t service.Table) {
	service.Bind(t, iam.CreateGroup, s.CreateGroup)
	service.Bind(t, iam.GetGroup, s.GetGroup)
	service.Bind(t, iam.ListGroups, s.ListGroups)
	service.Bind(t, iam.UpdateGroup, s.UpdateGroup)
	service.Bind(t, iam.DeleteGroup, s.DeleteGroup)
	service.Bind(t, iam.AddUserToGroup, s.AddUserToGroup)
	service.Bind(t, iam.RemoveUserFromGroup, s.RemoveUserFromGroup)
	service.Bind(t, iam.ListGroupsForUser, s.ListGroupsForUser)

	service.Bind(t, iam.CreateRole, s.CreateRole)
	service.Bind(t, iam.GetRole, s.GetRole)
	service.Bind(t, iam.ListRoles, s.ListRoles)
	service.Bind(t, iam.UpdateRole, s.UpdateRole)
	service.Bind(t, iam.UpdateRoleDescription, s.UpdateRoleDescription)
	service.Bind(t, iam.UpdateAssumeRolePolicy, s.UpdateAssumeRolePolicy)
	service.Bind(t, iam.DeleteRole, s.DeleteRole)
	service.Bind(t, iam.TagRole, s.TagRole)
	service.Bind(t, iam.UntagRole, s.UntagRole)
	service.Bind(t, iam.ListRoleTags, s.ListRoleTags)
	service.Bind(t, iam.CreateServiceLinkedRole, s.CreateServiceLinkedRole)
	service.Bind(t, iam.DeleteServiceLinkedRole, s.DeleteServiceLinkedRole)
	service.Bind(t, iam.GetServiceLinkedRoleDeletionStatus, s.GetServiceLinkedRoleDeletionStatus)

	service.Bind(t, iam.CreateInstanceProfile, s.CreateInstanceProfile)
	service.Bind(t, iam.GetInstanceProfile, s.GetInstanceProfile)
	service.Bind(t, iam.ListInstanceProfiles, s.ListInstanceProfiles)
	service.Bind(t, iam.ListInstanceProfilesForRole, s.ListInstanceProfilesForRole)
	service.Bind(t, iam.AddRoleToInstanceProfile, s.AddRoleToInstanceProfile)
	service.Bind(t, iam.RemoveRoleFromInstanceProfile, s.RemoveRoleFromInstanceProfile)
	service.Bind(t, iam.DeleteInstanceProfile, s.DeleteInstanceProfile)

	service.Bind(t, iam.CreatePolicy, s.CreatePolicy)
	service.Bind(t, iam.GetPolicy, s.GetPolicy)
	service.Bind(t, iam.ListPolicies, s.ListPolicies)
	service.Bind(t, iam.DeletePolicy, s.DeletePolicy)
	service.Bind(t, iam.TagPolicy, s.TagPolicy)
	service.Bind(t, iam.UntagPolicy, s.UntagPolicy)
	service.Bind(t, iam.ListPolicyTags, s.ListPolicyTags)
	service.Bind(t, iam.ListEntitiesForPolicy, s.ListEntitiesForPolicy)
	service.Bind(t, iam.CreatePolicyVersion, s.CreatePolicyVersion)
	service.Bind(t, iam.GetPolicyVersion, s.GetPolicyVersion)
	service.Bind(t, iam.ListPolicyVersions, s.ListPolicyVersions)
	service.Bind(t, iam.SetDefaultPolicyVersion, s.SetDefaultPolicyVersion)
	service.Bind(t, iam.DeletePolicyVersion, s.DeletePolicyVersion)

	s.bindBearers(t)
}

// bindBearers puts the handlers into t that give policies to users, groups and roles.
func (s *Service) bindBearers(t service.Table) {
	service.Bind(t, iam.AttachUserPolicy, s.AttachUserPolicy)
	service.Bind(t, iam.DetachUserPolicy, s.DetachUserPolicy)
	service.Bind(t, iam.ListAttachedUserPolicies, s.ListAttachedUserPolicies)
	service.Bind(t, iam.AttachGroupPolicy, s.AttachGroupPolicy)
	service.Bind(t, iam.DetachGroupPolicy, s.DetachGroupPolicy)
	service.Bind(t, iam.ListAttachedGroupPolicies, s.ListAttachedGroupPolicies)
	service.Bind(t, iam.AttachRolePolicy, s.AttachRolePolicy)
	service.Bind(t, iam.DetachRolePolicy, s.DetachRolePolicy)
	service.Bind(t, iam.ListAttachedRolePolicies, s.ListAttachedRolePolicies)

	service.Bind(t, iam.PutUserPolicy, s.PutUserPolicy)
	service.Bind(t, iam.GetUserPolicy, s.GetUserPolicy)
	service.Bind(t, iam.ListUserPolicies, s.ListUserPolicies)
	service.Bind(t, iam.DeleteUserPolicy, s.DeleteUserPolicy)
	service.Bind(t, iam.PutGroupPolicy, s.PutGroupPolicy)
	service.Bind(t, iam.GetGroupPolicy, s.GetGroupPolicy)
	service.Bind(t, iam.ListGroupPolicies, s.ListGroupPolicies)
	service.Bind(t, iam.DeleteGroupPolicy, s.DeleteGroupPolicy)
	service.Bind(t, iam.PutRolePolicy, s.PutRolePolicy)
	service.Bind(t, iam.GetRolePolicy, s.GetRolePolicy)
	service.Bind(t, iam.ListRolePolicies, s.ListRolePolicies)
	service.Bind(t, iam.DeleteRolePolicy, s.DeleteRolePolicy)

	service.Bind(t, iam.PutUserPermissionsBoundary, s.PutUserPermissionsBoundary)
	service.Bind(t, iam.DeleteUserPermissionsBoundary, s.DeleteUserPermissionsBoundary)
	service.Bind(t, iam.PutRolePermissionsBoundary, s.PutRolePermissionsBoundary)
	service.Bind(t, iam.DeleteRolePermissionsBoundary, s.DeleteRolePermissionsBoundary)
}
