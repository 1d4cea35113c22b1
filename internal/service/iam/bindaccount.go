package iam

import (
	"carrel/internal/api/iam"
	"carrel/internal/service"
)

// bindAccount puts the handlers into t of passwords, devices, identity providers, and of the account as a whole.
func (s *Service) bindAccount(t service.Table) {
	service.Bind(t, iam.CreateLoginProfile, s.CreateLoginProfile)
	service.Bind(t, iam.GetLoginProfile, s.GetLoginProfile)
	service.Bind(t, iam.UpdateLoginProfile, s.UpdateLoginProfile)
	service.Bind(t, iam.DeleteLoginProfile, s.DeleteLoginProfile)
	service.Bind(t, iam.ChangePassword, s.ChangePassword)
	service.Bind(t, iam.GetAccountPasswordPolicy, s.GetAccountPasswordPolicy)
	service.Bind(t, iam.UpdateAccountPasswordPolicy, s.UpdateAccountPasswordPolicy)
	service.Bind(t, iam.DeleteAccountPasswordPolicy, s.DeleteAccountPasswordPolicy)

	service.Bind(t, iam.CreateVirtualMFADevice, s.CreateVirtualMFADevice)
	service.Bind(t, iam.DeleteVirtualMFADevice, s.DeleteVirtualMFADevice)
	service.Bind(t, iam.ListVirtualMFADevices, s.ListVirtualMFADevices)
	service.Bind(t, iam.EnableMFADevice, s.EnableMFADevice)
	service.Bind(t, iam.ResyncMFADevice, s.ResyncMFADevice)
	service.Bind(t, iam.DeactivateMFADevice, s.DeactivateMFADevice)
	service.Bind(t, iam.ListMFADevices, s.ListMFADevices)
	service.Bind(t, iam.GetMFADevice, s.GetMFADevice)
	service.Bind(t, iam.TagMFADevice, s.TagMFADevice)
	service.Bind(t, iam.UntagMFADevice, s.UntagMFADevice)
	service.Bind(t, iam.ListMFADeviceTags, s.ListMFADeviceTags)

	service.Bind(t, iam.CreateAccountAlias, s.CreateAccountAlias)
	service.Bind(t, iam.DeleteAccountAlias, s.DeleteAccountAlias)
	service.Bind(t, iam.ListAccountAliases, s.ListAccountAliases)
	service.Bind(t, iam.SetSecurityTokenServicePreferences, s.SetSecurityTokenServicePreferences)
	service.Bind(t, iam.GetAccountSummary, s.GetAccountSummary)

	service.Bind(t, iam.GenerateCredentialReport, s.GenerateCredentialReport)
	service.Bind(t, iam.GetCredentialReport, s.GetCredentialReport)
	service.Bind(t, iam.GetAccountAuthorizationDetails, s.GetAccountAuthorizationDetails)
	service.Bind(t, iam.SimulateCustomPolicy, s.SimulateCustomPolicy)
	service.Bind(t, iam.SimulatePrincipalPolicy, s.SimulatePrincipalPolicy)
	service.Bind(t, iam.GetContextKeysForCustomPolicy, s.GetContextKeysForCustomPolicy)
	service.Bind(t, iam.GetContextKeysForPrincipalPolicy, s.GetContextKeysForPrincipalPolicy)
	service.Bind(t, iam.ListPoliciesGrantingServiceAccess, s.ListPoliciesGrantingServiceAccess)

	s.bindProviders(t)
}

// bindProviders puts the handlers of identity providers into t.
func (s *Service) bindProviders(t service.Table) {
	service.Bind(t, iam.CreateSAMLProvider, s.CreateSAMLProvider)
	service.Bind(t, iam.GetSAMLProvider, s.GetSAMLProvider)
	service.Bind(t, iam.ListSAMLProviders, s.ListSAMLProviders)
	service.Bind(t, iam.UpdateSAMLProvider, s.UpdateSAMLProvider)
	service.Bind(t, iam.DeleteSAMLProvider, s.DeleteSAMLProvider)
	service.Bind(t, iam.TagSAMLProvider, s.TagSAMLProvider)
	service.Bind(t, iam.UntagSAMLProvider, s.UntagSAMLProvider)
	service.Bind(t, iam.ListSAMLProviderTags, s.ListSAMLProviderTags)

	service.Bind(t, iam.CreateOpenIDConnectProvider, s.CreateOpenIDConnectProvider)
	service.Bind(t, iam.GetOpenIDConnectProvider, s.GetOpenIDConnectProvider)
	service.Bind(t, iam.ListOpenIDConnectProviders, s.ListOpenIDConnectProviders)
	service.Bind(t, iam.UpdateOpenIDConnectProviderThumbprint, s.UpdateOpenIDConnectProviderThumbprint)
	service.Bind(t, iam.AddClientIDToOpenIDConnectProvider, s.AddClientIDToOpenIDConnectProvider)
	service.Bind(t, iam.RemoveClientIDFromOpenIDConnectProvider, s.RemoveClientIDFromOpenIDConnectProvider)
	service.Bind(t, iam.DeleteOpenIDConnectProvider, s.DeleteOpenIDConnectProvider)
	service.Bind(t, iam.TagOpenIDConnectProvider, s.TagOpenIDConnectProvider)
	service.Bind(t, iam.UntagOpenIDConnectProvider, s.UntagOpenIDConnectProvider)
	service.Bind(t, iam.ListOpenIDConnectProviderTags, s.ListOpenIDConnectProviderTags)
}
