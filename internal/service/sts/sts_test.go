package sts

import (
	"errors"
	"testing"

	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/awserr"
	"carrel/internal/identity"
	"carrel/internal/service"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

func TestCallerIdentity(t *testing.T) {
	s := &Service{DB: statetest.NewDB(t)}
	for _, c := range []struct {
		name, id, arn string
		caller        identity.Principal
	}{
		{"the root goes by the account", account, "arn:aws:iam::123456789012:root", root(t)},
		{"a user goes by the unique id", "AIDAJQABLZS4A3QDU576Q", "arn:aws:iam::123456789012:user/ops/ada", ada(t)},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := s.GetCallerIdentity(t.Context(), service.Call{Principal: c.caller}, &sts.GetCallerIdentityInput{})
			if err != nil || *out.UserId != c.id || *out.Arn != c.arn || *out.Account != account {
				t.Errorf("%v %v %v, %v", *out.UserId, *out.Arn, *out.Account, err)
			}
		})
	}
	t.Run("nobody is nobody: the zero Principal panics", func(t *testing.T) {
		defer func() {
			if recover() == nil {
				t.Error("an unauthenticated call was answered")
			}
		}()
		_, _ = s.GetCallerIdentity(t.Context(), service.Call{}, &sts.GetCallerIdentityInput{})
	})
}

func TestAccessKeyInfo(t *testing.T) {
	const known = "AKIAIOSFODNN7EXAMPLE"
	s := &Service{DB: statetest.NewDB(t)}
	if _, err := s.DB.Update(t.Context(), func(tx *state.Tx) error {
		state.Put(tx, state.AccessKeys, &state.AccessKey{ID: known})
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	out, err := s.GetAccessKeyInfo(t.Context(), service.Call{Principal: ada(t)}, &sts.GetAccessKeyInfoInput{AccessKeyId: shape.Ptr(known)})
	if err != nil || *out.Account != account {
		t.Errorf("%+v, %v", out, err)
	}
	t.Run("a key that is not of this account is refused", func(t *testing.T) {
		_, err := s.GetAccessKeyInfo(t.Context(), service.Call{}, &sts.GetAccessKeyInfoInput{AccessKeyId: shape.Ptr("AKIAIOSFODNN7EXAMPLF")})
		var e *awserr.Error
		if !errors.As(err, &e) || e.Kind != awserr.Validation {
			t.Errorf("%v", err)
		}
	})
}

func TestBindPutsEveryOperation(t *testing.T) {
	table := service.Table{}
	new(Service).Bind(table)
	if len(table) != 2 {
		t.Errorf("%d operations", len(table))
	}
}
