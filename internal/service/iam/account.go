package iam

import (
	"context"

	"carrel/internal/api/iam"
	"carrel/internal/service"
	"carrel/internal/state"
)

// GetAccountSummary counts what the account has and what it may have. What Carrel does not have yet counts 0.
func (s *Service) GetAccountSummary(context.Context, service.Call, *iam.GetAccountSummaryInput) (*iam.GetAccountSummaryOutput, error) {
	snap := s.DB.Snapshot()
	summary := map[string]int32{
		string(iam.SummaryKeyTypeUsers):                    int32(state.Count(snap, state.Users)),
		string(iam.SummaryKeyTypeAccessKeysPerUserQuota):   keysPerUser,
		string(iam.SummaryKeyTypeAccountAccessKeysPresent): 0,
	}
	if s.MaxUsers > 0 {
		summary[string(iam.SummaryKeyTypeUsersQuota)] = int32(s.MaxUsers)
	}
	if len(holder{}.keys(snap)) > 0 {
		summary[string(iam.SummaryKeyTypeAccountAccessKeysPresent)] = 1
	}
	for _, none := range []iam.SummaryKeyType{
		iam.SummaryKeyTypeGroups, iam.SummaryKeyTypeRoles, iam.SummaryKeyTypePolicies, iam.SummaryKeyTypePolicyVersionsInUse,
		iam.SummaryKeyTypeInstanceProfiles, iam.SummaryKeyTypeProviders, iam.SummaryKeyTypeServerCertificates,
		iam.SummaryKeyTypeMFADevices, iam.SummaryKeyTypeMFADevicesInUse, iam.SummaryKeyTypeAccountMFAEnabled,
		iam.SummaryKeyTypeAccountPasswordPresent, iam.SummaryKeyTypeAccountSigningCertificatesPresent,
	} {
		summary[string(none)] = 0
	}
	return &iam.GetAccountSummaryOutput{SummaryMap: summary}, nil
}
