package sts

import (
	"testing"

	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/awserr"
	"carrel/internal/identity"
	"carrel/internal/identity/identitytest"
	"carrel/internal/service"
	"carrel/internal/state"
)

func TestCallerIdentity(t *testing.T) {
	w := newOffice(t)
	for _, c := range []struct {
		name, id, arn string
		caller        identity.Principal
	}{
		{"the root goes by the account", account, "arn:aws:iam::123456789012:root", w.root(t)},
		{"a user goes by the unique id", string(adaID), "arn:aws:iam::123456789012:user/ops/ada", w.ada(t)},
		{"a role's session by the role's and its own name", string(adminID) + ":ada@desk", "arn:aws:sts::123456789012:assumed-role/admin/ada@desk",
			w.session(t, identity.Session{RoleID: adminID, Name: "ada@desk"})},
		{"a federated user by the account and the name", account + ":bob", "arn:aws:sts::123456789012:federated-user/bob",
			w.session(t, identity.Session{Type: identity.FederatedUser, UserID: adaID, Name: "bob"})},
		{"a user with a session token is the user", string(adaID), "arn:aws:iam::123456789012:user/ops/ada", w.session(t, identity.Session{Type: identity.IAMUser, UserID: adaID})},
		{"the root with a session token is the root", account, "arn:aws:iam::123456789012:root", w.session(t, identity.Session{Type: identity.Root})},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := w.GetCallerIdentity(t.Context(), service.Call{Principal: c.caller}, &sts.GetCallerIdentityInput{})
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
		_, _ = w.GetCallerIdentity(t.Context(), service.Call{}, &sts.GetCallerIdentityInput{})
	})
}

func TestAccessKeyInfo(t *testing.T) {
	w := newOffice(t)
	info := func(id string) (*sts.GetAccessKeyInfoOutput, error) {
		return w.GetAccessKeyInfo(t.Context(), service.Call{Principal: w.ada(t)}, &sts.GetAccessKeyInfoInput{AccessKeyId: &id})
	}
	issued, err := w.GetSessionToken(t.Context(), service.Call{Principal: w.ada(t)}, &sts.GetSessionTokenInput{})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, id, account string }{
		{"a key of the account's", string(identitytest.AddKey(t, w.DB, adaID).ID), account},
		{"a temporary key", *issued.Credentials.AccessKeyId, account},
		{"a temporary key of another account", "ASIAQNZGKIQY56JQ7WML", "029608264753"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if out, err := info(c.id); err != nil || *out.Account != c.account {
				t.Errorf("%+v, %v", out, err)
			}
		})
	}
	for _, bad := range []string{"AKIAIOSFODNN7EXAMPLF", "ASIAIOSFODNN7EXAMPLE", "ASIAQNZGKIQY56JQ7WM", "ABIAQNZGKIQY56JQ7WML"} {
		t.Run("refused: "+bad, func(t *testing.T) {
			_, err := info(bad)
			refusal(t, err, invalid("The access key ID "+bad+" is not valid."))
		})
	}
}

func TestDecodeAuthorizationMessage(t *testing.T) {
	w, other := newOffice(t), newOffice(t)
	decode := func(text string) (*sts.DecodeAuthorizationMessageOutput, error) {
		return w.DecodeAuthorizationMessage(t.Context(), service.Call{Principal: w.ada(t)}, &sts.DecodeAuthorizationMessageInput{EncodedMessage: &text})
	}
	const message = `{"allowed":false,"explicitDeny":true}`
	text, err := w.Tokens.SealMessage(t.Context(), message)
	if err != nil {
		t.Fatal(err)
	}
	if out, err := decode(text); err != nil || *out.DecodedMessage != message {
		t.Errorf("%+v, %v", out, err)
	}
	foreign, err := other.Tokens.SealMessage(t.Context(), message)
	if err != nil {
		t.Fatal(err)
	}
	token, err := w.GetSessionToken(t.Context(), service.Call{Principal: w.ada(t)}, &sts.GetSessionTokenInput{})
	if err != nil {
		t.Fatal(err)
	}
	for name, bad := range map[string]string{"a word": "message", "another installation's": foreign, "cut": text[:len(text)-1], "a session token": *token.Credentials.SessionToken} {
		t.Run("refused: "+name, func(t *testing.T) {
			_, err := decode(bad)
			refusal(t, err, awserr.Model("InvalidAuthorizationMessageException", "Message is not valid"))
		})
	}
}

func TestBindPutsEveryOperation(t *testing.T) {
	table := service.Table{}
	new(Service).Bind(table)
	if len(table) != 6 {
		t.Errorf("%d operations", len(table))
	}
}

func TestGetSessionToken(t *testing.T) {
	w := newOffice(t)
	get := func(t *testing.T, p identity.Principal, seconds int32) (*sts.Credentials, error) {
		t.Helper()
		in := &sts.GetSessionTokenInput{}
		if seconds > 0 {
			in.DurationSeconds = &seconds
		}
		out, err := w.GetSessionToken(t.Context(), service.Call{Principal: p}, in)
		if err != nil {
			return nil, err
		}
		return out.Credentials, nil
	}
	for _, c := range []struct {
		name        string
		p           identity.Principal
		asked, want int32
	}{
		{"a user's last twelve hours", w.ada(t), 0, 43200}, {"or as long as asked", w.ada(t), 900, 900}, {"up to a day and a half", w.ada(t), 129600, 129600},
		{"the root's last an hour", w.root(t), 0, 3600}, {"or less", w.root(t), 900, 900}, {"and not longer when more is asked", w.root(t), 129600, 3600},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, err := get(t, c.p, c.asked)
			if err != nil {
				t.Fatal(err)
			}
			p := w.holder(t, got)
			if p.ARN() != c.p.ARN() || p.UserID() != c.p.UserID() || p.Type() != c.p.Type() || p.AccessKeyID() != *got.AccessKeyId {
				t.Errorf("%s %s %s", p.Type(), p.ARN(), p.UserID())
			}
			s := p.Session()
			if life := got.Expiration.Sub(w.clk.Now()).Seconds(); int32(life) != c.want || !s.Expires.Equal(*got.Expiration) || !s.Issued.Equal(w.clk.Now()) || !s.MFA.IsZero() {
				t.Errorf("%v s, %+v", life, s)
			}
		})
	}
	t.Run("SIG-8 they end by the second", func(t *testing.T) {
		w := newOffice(t)
		out, err := w.GetSessionToken(t.Context(), service.Call{Principal: w.ada(t)}, &sts.GetSessionTokenInput{DurationSeconds: shape.Ptr(int32(900))})
		if err != nil {
			t.Fatal(err)
		}
		w.clk.pass(899e9)
		w.holder(t, out.Credentials)
		w.clk.pass(1e9)
		_, err = w.use(t, out.Credentials)
		refusal(t, err, awserr.New(awserr.ExpiredToken, "The security token included in the request is expired"))
	})
	for name, s := range map[string]identity.Session{
		"a session token": {Type: identity.IAMUser, UserID: adaID}, "the root's session token": {Type: identity.Root}, "a role": {RoleID: adminID, Name: "x1"},
		"a federated user": {Type: identity.FederatedUser, Name: "bob"},
	} {
		t.Run("refused with the credentials of "+name, func(t *testing.T) {
			_, err := get(t, w.session(t, s), 0)
			refusal(t, err, denied("Cannot call GetSessionToken with session credentials"))
			_, err = w.GetFederationToken(t.Context(), service.Call{Principal: w.session(t, s)}, &sts.GetFederationTokenInput{Name: shape.Ptr("bob")})
			refusal(t, err, denied("Cannot call GetFederationToken with session credentials"))
		})
	}
	t.Run("a user who is deleted has no more use of them", func(t *testing.T) {
		got, err := get(t, w.ada(t), 0)
		if err != nil {
			t.Fatal(err)
		}
		w.update(t, func(tx *state.Tx) { state.Delete(tx, state.Users, string(adaID)) })
		_, err = w.use(t, got)
		refusal(t, err, awserr.New(awserr.UnknownKey, "The security token included in the request is invalid."))
	})
}
