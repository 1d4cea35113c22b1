package iam

import (
	"context"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/service"
	"carrel/internal/state"
)

// CreateAccountAlias names the account. There is one alias: a new one takes the place of the old one, as in AWS.
func (s *Service) CreateAccountAlias(ctx context.Context, _ service.Call, in *iam.CreateAccountAliasInput) (*iam.CreateAccountAliasOutput, error) {
	return &iam.CreateAccountAliasOutput{}, s.setAccount(ctx, func(_ *state.Tx, a *state.Account) error {
		if a.Alias == shape.Val(in.AccountAlias) {
			return alreadyExists("The account alias %s already exists.", a.Alias)
		}
		a.Alias = shape.Val(in.AccountAlias)
		return nil
	})
}

// DeleteAccountAlias takes the alias away, which must be named.
func (s *Service) DeleteAccountAlias(ctx context.Context, _ service.Call, in *iam.DeleteAccountAliasInput) (*iam.DeleteAccountAliasOutput, error) {
	return &iam.DeleteAccountAliasOutput{}, s.setAccount(ctx, func(_ *state.Tx, a *state.Account) error {
		if a.Alias == "" || a.Alias != shape.Val(in.AccountAlias) {
			return noSuchEntity("The account alias with name %s cannot be found.", shape.Val(in.AccountAlias))
		}
		a.Alias = ""
		return nil
	})
}

// ListAccountAliases lists the one alias, if there is one.
func (s *Service) ListAccountAliases(_ context.Context, _ service.Call, in *iam.ListAccountAliasesInput) (*iam.ListAccountAliasesOutput, error) {
	var all []string
	if alias := accountOf(s.DB.Snapshot()).Alias; alias != "" {
		all = []string{alias}
	}
	aliases, next, err := page(all, func(alias string) string { return alias }, in.Marker, in.MaxItems)
	if err != nil {
		return nil, err
	}
	return &iam.ListAccountAliasesOutput{AccountAliases: append([]string{}, aliases...), IsTruncated: shape.Ptr(next != nil), Marker: next}, nil
}

// SetSecurityTokenServicePreferences chooses the version of the global endpoint's tokens. It is stored and shown by GetAccountSummary; the tokens
// here are valid in every Region whichever it is.
func (s *Service) SetSecurityTokenServicePreferences(ctx context.Context, _ service.Call, in *iam.SetSecurityTokenServicePreferencesInput) (*iam.SetSecurityTokenServicePreferencesOutput, error) {
	return &iam.SetSecurityTokenServicePreferencesOutput{}, s.setAccount(ctx, func(_ *state.Tx, a *state.Account) error {
		a.TokenVersion = string(shape.Val(in.GlobalEndpointTokenVersion))
		return nil
	})
}
