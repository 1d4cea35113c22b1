package iam

import (
	"context"

	"carrel/internal/api/iam"
	"carrel/internal/policy"
	"carrel/internal/service"
	"carrel/internal/state"
)

// GetAccountSummary counts what the account has and what it may have. What Carrel does not have counts 0; a quota that it does not have is left out.
func (s *Service) GetAccountSummary(context.Context, service.Call, *iam.GetAccountSummaryInput) (*iam.GetAccountSummaryOutput, error) {
	snap := s.DB.Snapshot()
	root := holder{}
	versions, inUse := 0, 0
	for p := range state.All(snap, state.Policies) {
		versions += len(p.Versions)
	}
	for d := range state.All(snap, state.MFADevices) {
		if d.UserID != "" {
			inUse++
		}
	}
	present := func(yes bool) int {
		if yes {
			return 1
		}
		return 0
	}
	token := 1 // v1Token is what counts until another one is chosen
	if accountOf(snap).TokenVersion == string(iam.GlobalEndpointTokenVersionV2Token) {
		token = 2
	}
	counts := map[iam.SummaryKeyType]int{
		iam.SummaryKeyTypeUsers: state.Count(snap, state.Users), iam.SummaryKeyTypeGroups: state.Count(snap, state.Groups), iam.SummaryKeyTypeRoles: state.Count(snap, state.Roles),
		iam.SummaryKeyTypePolicies: state.Count(snap, state.Policies), iam.SummaryKeyTypePolicyVersionsInUse: versions,
		iam.SummaryKeyTypeInstanceProfiles: state.Count(snap, state.InstanceProfiles),
		iam.SummaryKeyTypeProviders:        state.Count(snap, state.SAMLProviders) + state.Count(snap, state.OIDCProviders),
		iam.SummaryKeyTypeMFADevices:       state.Count(snap, state.MFADevices), iam.SummaryKeyTypeMFADevicesInUse: inUse,
		iam.SummaryKeyTypeAccountMFAEnabled: present(len(root.devices(snap)) > 0), iam.SummaryKeyTypeAccountAccessKeysPresent: present(len(root.keys(snap)) > 0),
		iam.SummaryKeyTypeGlobalEndpointTokenVersion: token,

		iam.SummaryKeyTypeServerCertificates: 0, iam.SummaryKeyTypeAccountPasswordPresent: 0, iam.SummaryKeyTypeAccountSigningCertificatesPresent: 0,
		iam.SummaryKeyTypeServerCertificatesQuota: 0, iam.SummaryKeyTypeSigningCertificatesPerUserQuota: 0,

		iam.SummaryKeyTypeAccessKeysPerUserQuota: keysPerUser, iam.SummaryKeyTypeGroupsPerUserQuota: groupsPerUser, iam.SummaryKeyTypeVersionsPerPolicyQuota: versionsPerPolicy,
		iam.SummaryKeyTypeAttachedPoliciesPerUserQuota: attachedPolicies, iam.SummaryKeyTypeAttachedPoliciesPerGroupQuota: attachedPolicies, iam.SummaryKeyTypeAttachedPoliciesPerRoleQuota: attachedPolicies,
		iam.SummaryKeyTypeUserPolicySizeQuota: policy.InlineUserQuota.Max, iam.SummaryKeyTypeGroupPolicySizeQuota: policy.InlineGroupQuota.Max, iam.SummaryKeyTypeRolePolicySizeQuota: policy.InlineRoleQuota.Max,
		iam.SummaryKeyTypePolicySizeQuota: policy.ManagedQuota.Max, iam.SummaryKeyTypeAssumeRolePolicySizeQuota: policy.TrustQuota.Max,
	}
	for key, quota := range map[iam.SummaryKeyType]int{iam.SummaryKeyTypeUsersQuota: s.MaxUsers, iam.SummaryKeyTypeGroupsQuota: s.MaxGroups,
		iam.SummaryKeyTypeRolesQuota: s.MaxRoles, iam.SummaryKeyTypePoliciesQuota: s.MaxPolicies, iam.SummaryKeyTypeInstanceProfilesQuota: s.MaxRoles} {
		if quota > 0 {
			counts[key] = quota
		}
	}
	summary := map[string]int32{}
	for key, n := range counts {
		summary[string(key)] = int32(n)
	}
	return &iam.GetAccountSummaryOutput{SummaryMap: summary}, nil
}
