package iam

import (
	"context"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/service"
	"carrel/internal/state"
)

// shortestPassword is the MinimumPasswordLength of a policy that names none.
const shortestPassword = 6

// accountOf is what is set for the account; nothing when there is no record. In a *state.Tx the commit checks that it has not changed. It is shared:
// nobody changes it.
func accountOf(r state.Reader) *state.Account {
	if a, ok := state.Get(r, state.Accounts, "this"); ok {
		return a
	}
	return &state.Account{}
}

// setAccount lets fn change what is set for the account.
func (s *Service) setAccount(ctx context.Context, fn func(tx *state.Tx, a *state.Account) error) error {
	return s.update(ctx, func(tx *state.Tx) error {
		a := state.Clone(accountOf(tx))
		if a.Created.IsZero() {
			a.Created = tx.Now()
		}
		if err := fn(tx, a); err != nil {
			return err
		}
		state.Put(tx, state.Accounts, a)
		return nil
	})
}

// GetAccountPasswordPolicy gives the policy that was set; the one that counts when none was is not shown, as in AWS.
func (s *Service) GetAccountPasswordPolicy(context.Context, service.Call, *iam.GetAccountPasswordPolicyInput) (*iam.GetAccountPasswordPolicyOutput, error) {
	p := accountOf(s.DB.Snapshot()).Passwords
	if p == nil {
		return nil, noSuchEntity("The Password Policy with domain name %s cannot be found.", s.AccountID)
	}
	out := &iam.PasswordPolicy{
		MinimumPasswordLength: shape.Ptr(int32(p.MinLength)), RequireSymbols: &p.Symbols, RequireNumbers: &p.Numbers, RequireUppercaseCharacters: &p.Upper,
		RequireLowercaseCharacters: &p.Lower, AllowUsersToChangePassword: &p.UsersMayChange, ExpirePasswords: shape.Ptr(p.MaxAgeDays > 0), HardExpiry: &p.HardExpiry,
	}
	if p.MaxAgeDays > 0 {
		out.MaxPasswordAge = shape.Ptr(int32(p.MaxAgeDays))
	}
	if p.Remembered > 0 {
		out.PasswordReusePrevention = shape.Ptr(int32(p.Remembered))
	}
	return &iam.GetAccountPasswordPolicyOutput{PasswordPolicy: out}, nil
}

// UpdateAccountPasswordPolicy sets the policy as a whole: what is not named takes its default, whatever it was before (IAM API reference).
func (s *Service) UpdateAccountPasswordPolicy(ctx context.Context, _ service.Call, in *iam.UpdateAccountPasswordPolicyInput) (*iam.UpdateAccountPasswordPolicyOutput, error) {
	p := state.PasswordPolicy{
		MinLength: shortestPassword, MaxAgeDays: int(shape.Val(in.MaxPasswordAge)), Remembered: int(shape.Val(in.PasswordReusePrevention)),
		Symbols: shape.Val(in.RequireSymbols), Numbers: shape.Val(in.RequireNumbers), Upper: shape.Val(in.RequireUppercaseCharacters), Lower: shape.Val(in.RequireLowercaseCharacters),
		UsersMayChange: shape.Val(in.AllowUsersToChangePassword), HardExpiry: shape.Val(in.HardExpiry),
	}
	if in.MinimumPasswordLength != nil {
		p.MinLength = int(*in.MinimumPasswordLength)
	}
	return &iam.UpdateAccountPasswordPolicyOutput{}, s.setAccount(ctx, func(_ *state.Tx, a *state.Account) error {
		a.Passwords = &p
		return nil
	})
}

// DeleteAccountPasswordPolicy takes the policy away; AWS's default counts then.
func (s *Service) DeleteAccountPasswordPolicy(ctx context.Context, _ service.Call, _ *iam.DeleteAccountPasswordPolicyInput) (*iam.DeleteAccountPasswordPolicyOutput, error) {
	return &iam.DeleteAccountPasswordPolicyOutput{}, s.setAccount(ctx, func(_ *state.Tx, a *state.Account) error {
		if a.Passwords == nil {
			return noSuchEntity("The account policy with name PasswordPolicy cannot be found.")
		}
		a.Passwords = nil
		return nil
	})
}
