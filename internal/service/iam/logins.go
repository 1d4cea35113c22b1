package iam

import (
	"context"
	"slices"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/awserr"
	"carrel/internal/identity"
	"carrel/internal/service"
	"carrel/internal/state"
)

// userOrCaller is the user of that name, or the caller when no name is given. A caller that is no user must give one.
func userOrCaller(r state.Reader, call service.Call, name *string) (*state.User, error) {
	if name != nil {
		return findUser(r, *name)
	}
	return caller(r, call.Principal)
}

func describeLogin(u *state.User) *iam.LoginProfile {
	return &iam.LoginProfile{UserName: shape.Ptr(u.Name), CreateDate: shape.Ptr(u.Login.Created), PasswordResetRequired: shape.Ptr(u.Login.ResetRequired)}
}

// CreateLoginProfile gives a user a password.
func (s *Service) CreateLoginProfile(ctx context.Context, call service.Call, in *iam.CreateLoginProfileInput) (*iam.CreateLoginProfileOutput, error) {
	if in.Password == nil { // it is missing only with sessions of AssumeRoot, which are not given here
		return nil, invalidValue("1 validation error detected: Value at 'password' failed to satisfy constraint: Member must not be null")
	}
	// What would be refused is refused before the hash, which is dear, is made.
	snap := s.DB.Snapshot()
	user, err := userOrCaller(snap, call, in.UserName)
	if err != nil {
		return nil, err
	}
	free := func(u *state.User) error {
		if u.Login != nil {
			return alreadyExists("Login Profile for User %s already exists.", u.Name)
		}
		return nil
	}
	if err := free(user); err != nil {
		return nil, err
	}
	if err := s.checkPassword(snap, *in.Password); err != nil {
		return nil, err
	}
	salt, err := s.newSalt()
	if err != nil {
		return nil, awserr.Fault(err)
	}
	hash, err := s.hash(ctx, salt, *in.Password)
	if err != nil {
		return nil, awserr.Fault(err)
	}
	out := &iam.CreateLoginProfileOutput{}
	err = s.update(ctx, func(tx *state.Tx) error {
		old, err := userOrCaller(tx, call, in.UserName)
		if err != nil {
			return err
		}
		if err := free(old); err != nil {
			return err
		}
		if err := s.checkPassword(tx, *in.Password); err != nil {
			return err
		}
		u := state.Clone(old)
		u.Login = &state.Login{Created: tx.Now(), Changed: tx.Now(), Hash: hash, ResetRequired: shape.Val(in.PasswordResetRequired)}
		state.Put(tx, state.Users, u)
		out.LoginProfile = describeLogin(u)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// GetLoginProfile tells that a user has a password, and since when.
func (s *Service) GetLoginProfile(_ context.Context, call service.Call, in *iam.GetLoginProfileInput) (*iam.GetLoginProfileOutput, error) {
	u, err := userOrCaller(s.DB.Snapshot(), call, in.UserName)
	if err != nil {
		return nil, err
	}
	if u.Login == nil {
		return nil, noSuchLogin(u.Name)
	}
	return &iam.GetLoginProfileOutput{LoginProfile: describeLogin(u)}, nil
}

// UpdateLoginProfile changes a user's password, whether it must be changed, or both.
func (s *Service) UpdateLoginProfile(ctx context.Context, _ service.Call, in *iam.UpdateLoginProfileInput) (*iam.UpdateLoginProfileOutput, error) {
	find := func(r state.Reader) (*state.User, error) { return findUser(r, shape.Val(in.UserName)) }
	flag := func(login *state.Login) {
		if in.PasswordResetRequired != nil {
			login.ResetRequired = *in.PasswordResetRequired
		}
	}
	if in.Password != nil {
		return &iam.UpdateLoginProfileOutput{}, s.setPassword(ctx, find, *in.Password, flag)
	}
	return &iam.UpdateLoginProfileOutput{}, s.update(ctx, func(tx *state.Tx) error {
		u, err := withLogin(find(tx))
		if err != nil {
			return err
		}
		u = state.Clone(u)
		flag(u.Login)
		state.Put(tx, state.Users, u)
		return nil
	})
}

func withLogin(u *state.User, err error) (*state.User, error) {
	if err == nil && u.Login == nil {
		err = noSuchLogin(u.Name)
	}
	return u, err
}

// setPassword gives the user that find finds a new password, and lets then change the rest of the login profile.
func (s *Service) setPassword(ctx context.Context, find func(state.Reader) (*state.User, error), password string, then func(*state.Login)) error {
	snap := s.DB.Snapshot()
	seen, err := withLogin(find(snap))
	if err != nil {
		return err
	}
	if err := s.checkPassword(snap, password); err != nil {
		return err
	}
	hash, err := s.hash(ctx, saltOf(seen.Login.Hash), password)
	if err != nil {
		return awserr.Fault(err)
	}
	return s.update(ctx, func(tx *state.Tx) error {
		old, err := withLogin(find(tx))
		if err != nil {
			return err
		}
		if old.ID != seen.ID || saltOf(old.Login.Hash) != saltOf(hash) {
			return noSuchLogin(old.Name) // the profile that was asked for was deleted meanwhile, and this is another one
		}
		if err := s.checkPassword(tx, password); err != nil {
			return err
		}
		kept := 0
		if p := accountOf(tx).Passwords; p != nil {
			kept = p.Remembered
		}
		if remembered(old.Login, hash, kept) {
			return passwordViolation("Policy constraint violation with password reuse prevention during password change.")
		}
		u := state.Clone(old)
		u.Login.History = slices.Insert(u.Login.History, 0, u.Login.Hash)
		u.Login.History = u.Login.History[:min(len(u.Login.History), passwordsKept-1)]
		u.Login.Hash, u.Login.Changed = hash, tx.Now()
		then(u.Login)
		state.Put(tx, state.Users, u)
		return nil
	})
}

// DeleteLoginProfile takes a user's password away. Access keys go on to work.
func (s *Service) DeleteLoginProfile(ctx context.Context, call service.Call, in *iam.DeleteLoginProfileInput) (*iam.DeleteLoginProfileOutput, error) {
	return &iam.DeleteLoginProfileOutput{}, s.update(ctx, func(tx *state.Tx) error {
		u, err := withLogin(userOrCaller(tx, call, in.UserName))
		if err != nil {
			return err
		}
		u = state.Clone(u)
		u.Login = nil
		state.Put(tx, state.Users, u)
		return nil
	})
}

// ChangePassword changes the caller's own password, which it must know.
func (s *Service) ChangePassword(ctx context.Context, call service.Call, in *iam.ChangePasswordInput) (*iam.ChangePasswordOutput, error) {
	if call.Principal.Type() != identity.IAMUser {
		return nil, awserr.Model("InvalidUserType", "Only IAM Users can change their own password").WithStatus(400)
	}
	own := func(r state.Reader) (*state.User, error) { return userOrCaller(r, call, nil) }
	u, err := withLogin(own(s.DB.Snapshot()))
	if err != nil {
		return nil, err
	}
	right, err := s.verify(ctx, u.Login, shape.Val(in.OldPassword))
	if err != nil {
		return nil, awserr.Fault(err)
	}
	if !right {
		return nil, awserr.New(awserr.AccessDenied, "The old password was incorrect.")
	}
	// Of what was verified it is this password, or none, that is changed: not one that an administrator has set since.
	find := func(r state.Reader) (*state.User, error) {
		now, err := own(r)
		if err == nil && now.Login != nil && !sameHash(now.Login.Hash, u.Login.Hash) {
			err = awserr.New(awserr.AccessDenied, "The old password was incorrect.")
		}
		return now, err
	}
	return &iam.ChangePasswordOutput{}, s.setPassword(ctx, find, shape.Val(in.NewPassword), func(l *state.Login) { l.ResetRequired = false })
}

// signsIn refuses to delete a user who has a password or an MFA device. One that is made at the same time conflicts: both write the user too.
func signsIn(r state.Reader, u *state.User) error {
	switch {
	case u.Login != nil:
		return deleteConflict("Cannot delete entity, must delete login profile first.")
	case state.CountBy(r, state.MFADevices, state.MFADevicesByUser, string(u.ID)) > 0:
		return deleteConflict("Cannot delete entity, must delete MFA device first.")
	}
	return nil
}
