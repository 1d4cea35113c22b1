package iam

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/awserr"
	"carrel/internal/clock"
	"carrel/internal/ident"
	"carrel/internal/service"
	"carrel/internal/state"
	"carrel/internal/state/memory"
	"carrel/internal/state/statetest"
)

// standing is a clock that shows what the test sets; what waits on it waits on the machine's.
type standing struct{ now time.Time }

func (s *standing) Now() time.Time                                   { return s.now }
func (s *standing) After(d time.Duration) (<-chan time.Time, func()) { return clock.System{}.After(d) }

// openAt is a world whose clock stands, and in which passwords are hashed once.
func openAt(t *testing.T) (*world, *standing) {
	t.Helper()
	clk := &standing{time.Date(2026, 5, 4, 3, 2, 1, 0, time.UTC)}
	g := &gate{Store: memory.New()}
	w := &world{Service: &Service{DB: statetest.OpenDB(t, g, clk), AccountID: account, Partition: "aws", Rand: rand.Reader, PasswordRounds: 1},
		t: t, ctx: t.Context(), rootKey: "AKIAROOTROOTROOTROOT", gate: g}
	w.put(func(tx *state.Tx) {
		state.Put(tx, state.Installations, &state.Installation{Meta: state.Meta{Created: tx.Now()}, AccountID: account, Partition: "aws"})
		state.Put(tx, state.AccessKeys, &state.AccessKey{Meta: state.Meta{Created: tx.Now()}, ID: ident.AccessKeyID(w.rootKey), Secret: "root secret", Active: true})
	})
	return w, clk
}

// refused checks an error's code, as the query protocol spells it, and a part of its text.
func refused(t *testing.T, err error, code, text string) {
	t.Helper()
	statuses := map[string]int{"NoSuchEntity": 404, "EntityAlreadyExists": 409, "LimitExceeded": 409, "DeleteConflict": 409, "InvalidInput": 400, "PasswordPolicyViolation": 400,
		"InvalidUserType": 400, "InvalidAuthenticationCode": 403, "ReportNotPresent": 410, "ReportExpired": 410, "PolicyEvaluation": 500, "MalformedPolicyDocument": 400}
	kinds := map[string]awserr.Kind{"ValidationError": awserr.Validation, "AccessDenied": awserr.AccessDenied, "InternalFailure": awserr.Internal}
	var e *awserr.Error
	kind, common := kinds[code]
	switch {
	case !errors.As(err, &e):
		t.Errorf("%v, want %s", err, code)
	case common && (e.Kind != kind || !strings.Contains(e.Message, text)), !common && (e.Code != code || e.Status != statuses[code] || !strings.Contains(e.Message, text)):
		t.Errorf("%v (%d), want %s %d %q", err, e.Status, code, statuses[code], text)
	}
}

const goodPassword = "Correct-Horse-7"

// login gives a user a password.
func (w *world) login(u *state.User, password string) {
	w.t.Helper()
	if _, err := w.CreateLoginProfile(w.ctx, service.Call{}, &iam.CreateLoginProfileInput{UserName: &u.Name, Password: &password}); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) reread(u *state.User) *state.User {
	w.t.Helper()
	now, ok := state.Get(w.DB.Snapshot(), state.Users, string(u.ID))
	if !ok {
		w.t.Fatalf("%s is gone", u.Name)
	}
	return now
}

func (w *world) passwordIs(u *state.User, password string) bool {
	w.t.Helper()
	right, err := w.verify(w.ctx, w.reread(u).Login, password)
	if err != nil {
		w.t.Fatal(err)
	}
	return right
}

func (w *world) passwordPolicy(in *iam.UpdateAccountPasswordPolicyInput) {
	w.t.Helper()
	if _, err := w.UpdateAccountPasswordPolicy(w.ctx, service.Call{}, in); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) change(u *state.User, old, new string) error {
	_, err := w.ChangePassword(w.ctx, w.by(u), &iam.ChangePasswordInput{OldPassword: &old, NewPassword: &new})
	return err
}

func TestALoginProfileIsMadeReadAndDeleted(t *testing.T) {
	w, clk := openAt(t)
	ada := w.user("ada")
	out, err := w.CreateLoginProfile(w.ctx, service.Call{}, &iam.CreateLoginProfileInput{UserName: &ada.Name, Password: shape.Ptr(goodPassword), PasswordResetRequired: shape.Ptr(true)})
	if err != nil || *out.LoginProfile.UserName != "ada" || !out.LoginProfile.CreateDate.Equal(clk.now) || !*out.LoginProfile.PasswordResetRequired {
		t.Fatalf("%+v, %v", out, err)
	}
	if !w.passwordIs(ada, goodPassword) || w.passwordIs(ada, goodPassword+" ") || w.passwordIs(ada, "") {
		t.Error("the password is not what was set")
	}
	got, err := w.GetLoginProfile(w.ctx, w.by(ada), &iam.GetLoginProfileInput{})
	if err != nil || *got.LoginProfile.UserName != "ada" || !*got.LoginProfile.PasswordResetRequired {
		t.Errorf("the caller's own: %+v, %v", got, err)
	}
	t.Run("the record does not hold the password, and does not print the hash", func(t *testing.T) {
		rec := w.reread(ada)
		if text := rec.Login.Hash.Reveal(); strings.Contains(text, goodPassword) || !strings.HasPrefix(text, "pbkdf2-sha256$1$") {
			t.Error(text)
		}
		if text := fmt.Sprintf("%+v", rec.Login); strings.Contains(text, "pbkdf2") {
			t.Error(text)
		}
	})
	t.Run("two users of one password have different hashes", func(t *testing.T) {
		bob := w.user("bob")
		w.login(bob, goodPassword)
		if w.reread(bob).Login.Hash == w.reread(ada).Login.Hash {
			t.Error("the same")
		}
	})
	t.Run("what must be changed is set alone, and the password stays", func(t *testing.T) {
		if _, err := w.UpdateLoginProfile(w.ctx, service.Call{}, &iam.UpdateLoginProfileInput{UserName: &ada.Name, PasswordResetRequired: shape.Ptr(false)}); err != nil {
			t.Fatal(err)
		}
		if w.reread(ada).Login.ResetRequired || !w.passwordIs(ada, goodPassword) {
			t.Errorf("%+v", w.reread(ada).Login)
		}
	})
	t.Run("the password is set alone, and is another one", func(t *testing.T) {
		clk.now = clk.now.Add(time.Hour)
		if _, err := w.UpdateLoginProfile(w.ctx, service.Call{}, &iam.UpdateLoginProfileInput{UserName: &ada.Name, Password: shape.Ptr("Other-Horse-8")}); err != nil {
			t.Fatal(err)
		}
		if l := w.reread(ada).Login; !w.passwordIs(ada, "Other-Horse-8") || w.passwordIs(ada, goodPassword) || !l.Changed.Equal(clk.now) || l.Created.Equal(clk.now) {
			t.Errorf("%+v", l)
		}
	})
	t.Run("a user with a password is not deleted", func(t *testing.T) {
		_, err := w.DeleteUser(w.ctx, service.Call{}, &iam.DeleteUserInput{UserName: &ada.Name})
		refused(t, err, "DeleteConflict", "Cannot delete entity, must delete login profile first.")
	})
	if _, err := w.DeleteLoginProfile(w.ctx, service.Call{}, &iam.DeleteLoginProfileInput{UserName: &ada.Name}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.DeleteUser(w.ctx, service.Call{}, &iam.DeleteUserInput{UserName: &ada.Name}); err != nil {
		t.Error(err)
	}
}

func TestPasswordsAreHashedAsOftenAsTheyShould(t *testing.T) {
	w, _ := openAt(t)
	w.PasswordRounds = 0
	salt, err := w.newSalt()
	if err != nil || !strings.HasPrefix(salt, "pbkdf2-sha256$600000$") {
		t.Fatal(salt, err)
	}
	// The published vector of PBKDF2-HMAC-SHA256 for "password", "salt" and 4096 rounds (RFC 6070 with the other hash).
	const want = "pbkdf2-sha256$4096$c2FsdA$xeR41ZKIyEGqUw22hFxMjZYok6ABzk4RpJY4c6qYE0o"
	if got, err := w.hash(w.ctx, "pbkdf2-sha256$4096$c2FsdA", "password"); err != nil || got.Reveal() != want {
		t.Errorf("%s, %v", got.Reveal(), err)
	}
	for _, bad := range []string{"", "pbkdf2-sha256$1", "bcrypt$1$c2FsdA", "pbkdf2-sha256$0$c2FsdA", "pbkdf2-sha256$x$c2FsdA", "pbkdf2-sha256$1$!"} {
		if _, err := w.hash(w.ctx, bad, "password"); err == nil {
			t.Errorf("%q was taken", bad)
		}
	}
}

func TestLoginOperationsRefuse(t *testing.T) {
	w, _ := openAt(t)
	ada, bob := w.user("ada"), w.user("bob")
	w.login(ada, goodPassword)
	gone := w.by(&state.User{ID: "AIDAGONE", Name: "gone", Path: "/"})
	call := service.Call{}
	create := func(call service.Call, name, password *string) error {
		_, err := w.CreateLoginProfile(w.ctx, call, &iam.CreateLoginProfileInput{UserName: name, Password: password})
		return err
	}
	get := func(call service.Call, name *string) error {
		_, err := w.GetLoginProfile(w.ctx, call, &iam.GetLoginProfileInput{UserName: name})
		return err
	}
	update := func(name string, password *string) error {
		_, err := w.UpdateLoginProfile(w.ctx, call, &iam.UpdateLoginProfileInput{UserName: &name, Password: password, PasswordResetRequired: shape.Ptr(true)})
		return err
	}
	del := func(call service.Call, name *string) error {
		_, err := w.DeleteLoginProfile(w.ctx, call, &iam.DeleteLoginProfileInput{UserName: name})
		return err
	}
	good := shape.Ptr(goodPassword)
	for _, c := range []struct {
		name       string
		err        error
		code, text string
	}{
		{"making a second one", create(call, &ada.Name, good), "EntityAlreadyExists", "Login Profile for User ada already exists."},
		{"making one without a password", create(call, &bob.Name, nil), "ValidationError", "Value at 'password' failed to satisfy constraint: Member must not be null"},
		{"making one for nobody", create(call, shape.Ptr("nobody"), good), "NoSuchEntity", "The user with name nobody cannot be found."},
		{"making one for the root, which has none", create(w.by(nil), nil, good), "ValidationError", "Must specify userName when calling with non-User credentials"},
		{"making one for a caller who was deleted meanwhile", create(gone, nil, good), "NoSuchEntity", "The user with name gone cannot be found."},
		{"reading what is not there", get(call, &bob.Name), "NoSuchEntity", "Login Profile for User bob cannot be found."},
		{"reading nobody's", get(call, shape.Ptr("nobody")), "NoSuchEntity", "nobody"},
		{"reading the root's", get(w.by(nil), nil), "ValidationError", "userName"},
		{"changing what is not there", update("bob", good), "NoSuchEntity", "Login Profile for User bob cannot be found."},
		{"changing what is not there, without a password", update("bob", nil), "NoSuchEntity", "Login Profile for User bob cannot be found."},
		{"changing nobody's", update("nobody", good), "NoSuchEntity", "nobody"},
		{"deleting what is not there", del(w.by(bob), nil), "NoSuchEntity", "Login Profile for User bob cannot be found."},
		{"deleting the root's", del(w.by(nil), nil), "ValidationError", "userName"},
		{"a root that changes its password", w.change(nil, "x", "y"), "InvalidUserType", "Only IAM Users can change their own password"},
		{"a user without a password who changes it", w.change(bob, "x", "y"), "NoSuchEntity", "Login Profile for User bob cannot be found."},
		{"a wrong old password", w.change(ada, goodPassword+"x", "Other-Horse-8"), "AccessDenied", "The old password was incorrect."},
		{"no old password", w.change(ada, "", "Other-Horse-8"), "AccessDenied", "The old password was incorrect."},
	} {
		t.Run(c.name, func(t *testing.T) { refused(t, c.err, c.code, c.text) })
	}
	if !w.passwordIs(ada, goodPassword) || w.reread(ada).Login.ResetRequired {
		t.Error("a refusal has changed something")
	}
}

func TestPasswordsAreHeldToThePolicy(t *testing.T) {
	all := &iam.UpdateAccountPasswordPolicyInput{MinimumPasswordLength: shape.Ptr(int32(10)), RequireLowercaseCharacters: shape.Ptr(true), RequireUppercaseCharacters: shape.Ptr(true),
		RequireNumbers: shape.Ptr(true), RequireSymbols: shape.Ptr(true)}
	for _, c := range []struct {
		name     string
		policy   *iam.UpdateAccountPasswordPolicyInput
		password string
		text     string // "": taken
	}{
		{"three kinds of characters are enough by default", nil, "abcdefG1", ""},
		{"seven characters are not", nil, "abcdeG1", "Password should have a minimum length of 8"},
		{"two kinds are not", nil, "abcdefg1", "Password should meet 1 more of the following requirements: Password should have at least one uppercase letter, Password should have at least one symbol"},
		{"one kind is not", nil, "abcdefgh", "Password should meet 2 more of the following requirements: Password should have at least one uppercase letter, Password should have at least one number, Password should have at least one symbol"},
		{"none of the kinds is not", nil, "ßßßßßßßß", "Password should meet 3 more of the following requirements: "},
		{"the account's alias is not, in any case", nil, "Team-Alpha-1", "Password should not be the name of the account"},
		{"a policy without wishes wants six characters", &iam.UpdateAccountPasswordPolicyInput{}, "aaaaaa", ""},
		{"and not five", &iam.UpdateAccountPasswordPolicyInput{}, "aaaaa", "Password should have a minimum length of 6"},
		{"characters are counted, not bytes", &iam.UpdateAccountPasswordPolicyInput{}, "ßßßßß", "Password should have a minimum length of 6"},
		{"all wishes are met", all, "abcdefGH1!", ""},
		{"a character of no other kind is no symbol", all, "abcdefGH1 ", "Password should have at least one symbol"},
		{"every wish that is not met is told", all, "abcdefghi", "Password should have a minimum length of 10, Password should have at least one uppercase letter, Password should have at least one number, Password should have at least one symbol"},
		{"upper case alone", all, "ABCDEFGH1!", "Password should have at least one lowercase letter"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w, _ := openAt(t)
			if _, err := w.CreateAccountAlias(w.ctx, service.Call{}, &iam.CreateAccountAliasInput{AccountAlias: shape.Ptr("team-alpha-1")}); err != nil {
				t.Fatal(err)
			}
			if c.policy != nil {
				w.passwordPolicy(c.policy)
			}
			ada := w.user("ada")
			_, err := w.CreateLoginProfile(w.ctx, service.Call{}, &iam.CreateLoginProfileInput{UserName: &ada.Name, Password: &c.password})
			if c.text == "" && err != nil {
				t.Error(err)
			}
			if c.text != "" {
				refused(t, err, "PasswordPolicyViolation", c.text)
				if w.reread(ada).Login != nil {
					t.Error("it was set all the same")
				}
			}
		})
	}
}

func TestPasswordsAreRemembered(t *testing.T) {
	w, _ := openAt(t)
	w.passwordPolicy(&iam.UpdateAccountPasswordPolicyInput{PasswordReusePrevention: shape.Ptr(int32(3))})
	ada := w.user("ada")
	w.login(ada, "password-0")
	const again = "Policy constraint violation with password reuse prevention during password change."
	for i := range 4 {
		if err := w.change(ada, fmt.Sprint("password-", i), fmt.Sprint("password-", i+1)); err != nil {
			t.Fatal(err)
		}
	}
	for i, text := range map[int]string{4: again, 3: again, 2: again} {
		refused(t, w.change(ada, "password-4", fmt.Sprint("password-", i)), "PasswordPolicyViolation", text)
	}
	t.Run("an administrator is held to it as well", func(t *testing.T) {
		_, err := w.UpdateLoginProfile(w.ctx, service.Call{}, &iam.UpdateLoginProfileInput{UserName: &ada.Name, Password: shape.Ptr("password-3")})
		refused(t, err, "PasswordPolicyViolation", again)
	})
	t.Run("the one before those is taken", func(t *testing.T) {
		if err := w.change(ada, "password-4", "password-1"); err != nil {
			t.Error(err)
		}
	})
	t.Run("without a policy the same one is taken", func(t *testing.T) {
		if _, err := w.DeleteAccountPasswordPolicy(w.ctx, service.Call{}, &iam.DeleteAccountPasswordPolicyInput{}); err != nil {
			t.Fatal(err)
		}
		if err := w.change(ada, "password-1", "Password-1"); err != nil {
			t.Fatal(err)
		}
		if err := w.change(ada, "Password-1", "Password-1"); err != nil {
			t.Error(err)
		}
	})
	t.Run("no more are kept than a policy can ask for", func(t *testing.T) {
		for i := range 30 {
			if _, err := w.UpdateLoginProfile(w.ctx, service.Call{}, &iam.UpdateLoginProfileInput{UserName: &ada.Name, Password: shape.Ptr(fmt.Sprint("Password-", i))}); err != nil {
				t.Fatal(err)
			}
		}
		if n := len(w.reread(ada).Login.History); n != passwordsKept-1 {
			t.Errorf("%d", n)
		}
		w.passwordPolicy(&iam.UpdateAccountPasswordPolicyInput{PasswordReusePrevention: shape.Ptr(int32(24))})
		refused(t, w.change(ada, "Password-29", "Password-6"), "PasswordPolicyViolation", again)
		if err := w.change(ada, "Password-29", "Password-5"); err != nil {
			t.Error(err)
		}
	})
}

func TestAPasswordThatWasSetMeanwhileIsNotChanged(t *testing.T) {
	w, _ := openAt(t)
	ada := w.user("ada")
	w.login(ada, goodPassword)
	const at = 8
	w.gate.arm(at)
	results := make([]error, at)
	var all sync.WaitGroup
	call := w.by(ada)
	for i := range at {
		all.Go(func() {
			_, results[i] = w.ChangePassword(w.ctx, call, &iam.ChangePasswordInput{OldPassword: shape.Ptr(goodPassword), NewPassword: shape.Ptr(fmt.Sprint("Other-Horse-", i))})
		})
	}
	all.Wait()
	won := 0
	for _, err := range results {
		if err == nil {
			won++
		} else {
			refused(t, err, "AccessDenied", "The old password was incorrect.")
		}
	}
	if won != 1 {
		t.Errorf("%d changed it", won)
	}
}

func TestThePasswordPolicyIsSetAsAWhole(t *testing.T) {
	w, _ := openAt(t)
	call := service.Call{}
	get := func() (*iam.PasswordPolicy, error) {
		out, err := w.GetAccountPasswordPolicy(w.ctx, call, &iam.GetAccountPasswordPolicyInput{})
		if err != nil {
			return nil, err
		}
		return out.PasswordPolicy, nil
	}
	_, err := get()
	refused(t, err, "NoSuchEntity", "The Password Policy with domain name 123456789012 cannot be found.")
	_, err = w.DeleteAccountPasswordPolicy(w.ctx, call, &iam.DeleteAccountPasswordPolicyInput{})
	refused(t, err, "NoSuchEntity", "The account policy with name PasswordPolicy cannot be found.")

	w.passwordPolicy(&iam.UpdateAccountPasswordPolicyInput{MinimumPasswordLength: shape.Ptr(int32(12)), RequireSymbols: shape.Ptr(true), RequireNumbers: shape.Ptr(true),
		RequireUppercaseCharacters: shape.Ptr(true), RequireLowercaseCharacters: shape.Ptr(true), AllowUsersToChangePassword: shape.Ptr(true),
		MaxPasswordAge: shape.Ptr(int32(90)), PasswordReusePrevention: shape.Ptr(int32(5)), HardExpiry: shape.Ptr(true)})
	p, err := get()
	if err != nil || *p.MinimumPasswordLength != 12 || !*p.RequireSymbols || !*p.RequireNumbers || !*p.RequireUppercaseCharacters || !*p.RequireLowercaseCharacters ||
		!*p.AllowUsersToChangePassword || !*p.ExpirePasswords || *p.MaxPasswordAge != 90 || *p.PasswordReusePrevention != 5 || !*p.HardExpiry {
		t.Errorf("%+v, %v", p, err)
	}
	w.passwordPolicy(&iam.UpdateAccountPasswordPolicyInput{RequireNumbers: shape.Ptr(true)})
	p, err = get()
	if err != nil || *p.MinimumPasswordLength != 6 || *p.RequireSymbols || !*p.RequireNumbers || *p.RequireUppercaseCharacters || *p.RequireLowercaseCharacters ||
		*p.AllowUsersToChangePassword || *p.ExpirePasswords || p.MaxPasswordAge != nil || p.PasswordReusePrevention != nil || *p.HardExpiry {
		t.Errorf("%+v, %v", p, err)
	}
	if _, err := w.DeleteAccountPasswordPolicy(w.ctx, call, &iam.DeleteAccountPasswordPolicyInput{}); err != nil {
		t.Error(err)
	}
	_, err = get()
	refused(t, err, "NoSuchEntity", "123456789012")
}
