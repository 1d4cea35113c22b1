package authz_test

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/api/workspaces"
	"carrel/internal/authz"
	"carrel/internal/identity"
	"carrel/internal/identity/identitytest"
	"carrel/internal/state"
)

// session is whom temporary credentials stand for.
func (w *world) session(s identity.Session) identity.Principal {
	w.t.Helper()
	return identitytest.Session(w.t, w.db, s)
}

// of gives a role's permissions with one inline policy.
func of(document string) state.Permissions {
	return state.Permissions{Inline: map[string]string{"Own": document}}
}

// keys are the condition keys of a request, those of its last check included.
func (w *world) keys(p identity.Principal, op *shape.Operation, input any) map[string][]string {
	w.t.Helper()
	d := w.ask(p, op, input)
	defer d.Release()
	var x authz.Explanation
	if err := json.Unmarshal(d.AppendJSON(nil), &x); err != nil {
		w.t.Fatal(err)
	}
	for k, v := range x.Checks[len(x.Checks)-1].Context {
		x.Context[k] = v
	}
	return x.Context
}

// says checks values of condition keys; no value is a key that must be missing.
func says(t *testing.T, have map[string][]string, want map[string][]string) {
	t.Helper()
	for k, v := range want {
		if got := have[strings.ToLower(k)]; !slices.Equal(got, v) {
			t.Errorf("%s is %q, want %q", k, got, v)
		}
	}
}

func TestConditionKeysOfSessions(t *testing.T) {
	w := newWorld(t)
	list := workspaces.DescribeWorkspaces.Operation
	role := w.role("dev", "", of(allow("*", "*")))
	w.update(func(tx *state.Tx) {
		r := state.Clone(role)
		r.Path, r.Tags = "/ops/", map[string]string{"Team": "red", "floor": "4"}
		state.Put(tx, state.Roles, r)
	})
	id := identitytest.AddUser(t, w.db, "ada")
	w.changeUser("ada", func(u *state.User) { u.Tags = map[string]string{"desk": "7", "floor": "1"} })
	issued := time.Now().UTC().Add(-5 * time.Minute).Truncate(time.Second)
	ends := issued.Add(time.Hour)
	t.Run("5.4 a role's session", func(t *testing.T) {
		says(t, w.keys(w.session(identity.Session{RoleID: role.ID, Name: "ada", Issued: issued, Expires: ends}), list, nil), map[string][]string{
			// The role's ARN and not the session's: a policy about a role holds for all its sessions.
			"aws:PrincipalArn": {"arn:aws:iam::123456789012:role/ops/dev"}, "aws:PrincipalType": {"AssumedRole"}, "aws:PrincipalAccount": {"123456789012"},
			"aws:userid": {string(role.ID) + ":ada"}, "aws:username": nil, "aws:TokenIssueTime": {issued.Format("2006-01-02T15:04:05Z")},
			"aws:MultiFactorAuthPresent": {"false"}, "aws:MultiFactorAuthAge": nil, "aws:SourceIdentity": nil, "aws:FederatedProvider": nil, "saml:sub": nil,
			"aws:PrincipalTag/team": {"red"}, "aws:PrincipalTag/floor": {"4"}, "sts:RoleSessionName": nil,
		})
	})
	t.Run("5.4 a role's session with everything", func(t *testing.T) {
		p := w.session(identity.Session{RoleID: role.ID, Name: "ada", MFA: w.at.Now.Add(-5 * time.Minute), SourceIdentity: "lovelace", Tags: map[string]string{"TEAM": "blue", "cost": "9"},
			Provider: "arn:aws:iam::123456789012:saml-provider/corp", Claims: map[string][]string{"saml:sub": {"ada-of-corp"}, "saml:edupersonaffiliation": {"staff", "member"}}})
		says(t, w.keys(p, list, nil), map[string][]string{
			"aws:MultiFactorAuthPresent": {"true"}, "aws:MultiFactorAuthAge": {"300"}, "aws:SourceIdentity": {"lovelace"},
			"aws:FederatedProvider": {"arn:aws:iam::123456789012:saml-provider/corp"}, "saml:sub": {"ada-of-corp"}, "saml:edupersonaffiliation": {"staff", "member"},
			// A session's tag replaces the role's, whatever its case; the others stay.
			"aws:PrincipalTag/team": {"blue"}, "aws:PrincipalTag/cost": {"9"}, "aws:PrincipalTag/floor": {"4"},
		})
	})
	t.Run("5.4 credentials of GetSessionToken are the user's", func(t *testing.T) {
		says(t, w.keys(w.session(identity.Session{Type: identity.IAMUser, UserID: id}), list, nil), map[string][]string{
			"aws:PrincipalArn": {"arn:aws:iam::123456789012:user/ada"}, "aws:PrincipalType": {"User"}, "aws:userid": {string(id)}, "aws:username": {"ada"},
			"aws:MultiFactorAuthPresent": {"false"}, "aws:MultiFactorAuthAge": nil, "aws:PrincipalTag/desk": {"7"},
		})
		says(t, w.keys(w.session(identity.Session{Type: identity.Root, MFA: w.at.Now}), list, nil), map[string][]string{
			"aws:PrincipalArn": {"arn:aws:iam::123456789012:root"}, "aws:PrincipalType": {"Account"}, "aws:MultiFactorAuthPresent": {"true"}, "aws:MultiFactorAuthAge": {"0"}, "aws:username": nil,
		})
	})
	t.Run("5.4 a federated user has the user's tags and its own", func(t *testing.T) {
		says(t, w.keys(w.session(identity.Session{Type: identity.FederatedUser, UserID: id, Name: "bob", Tags: map[string]string{"Floor": "3"}}), list, nil), map[string][]string{
			"aws:PrincipalArn": {"arn:aws:sts::123456789012:federated-user/bob"}, "aws:PrincipalType": {"FederatedUser"}, "aws:userid": {"123456789012:bob"}, "aws:username": nil,
			"aws:PrincipalTag/desk": {"7"}, "aws:PrincipalTag/floor": {"3"}, "aws:FederatedProvider": nil,
		})
	})
	t.Run("5.4 the keys of sts", func(t *testing.T) {
		in := &sts.AssumeRoleInput{RoleArn: shape.Ptr("arn:aws:iam::123456789012:role/ops/dev"), RoleSessionName: shape.Ptr("s1"), ExternalId: shape.Ptr("x"), SourceIdentity: shape.Ptr("lovelace"),
			DurationSeconds: shape.Ptr(int32(900)), Tags: []sts.Tag{{Key: shape.Ptr("a"), Value: shape.Ptr("1")}, {Key: shape.Ptr("b"), Value: shape.Ptr("2")}}, TransitiveTagKeys: []string{"a"}}
		says(t, w.keys(w.user("eve", ""), sts.AssumeRole.Operation, in), map[string][]string{
			"sts:RoleSessionName": {"s1"}, "sts:ExternalId": {"x"}, "sts:SourceIdentity": {"lovelace"}, "sts:DurationSeconds": {"900"}, "sts:TransitiveTagKeys": {"a"},
			"aws:TagKeys": {"a", "b"}, "aws:RequestTag/a": {"1"}, "aws:SourceIdentity": nil, "aws:ResourceTag/team": {"red"}, "iam:ResourceTag/team": {"red"},
		})
	})
}

func TestSessionsOfRoles(t *testing.T) {
	w := newWorld(t)
	list := workspaces.DescribeWorkspaces.Operation
	const on = "workspaces:DescribeWorkspaces on resource: " + prefix + "workspace/* "
	const action = " the workspaces:DescribeWorkspaces action"
	role := w.role("dev", "", of(allow("workspaces:*", "*")))
	as := func(s identity.Session) identity.Principal {
		s.RoleID, s.Name = role.ID, "ada"
		return w.session(s)
	}
	t.Run("5.1 without a session policy it is the role that may", func(t *testing.T) {
		w.allowed(as(identity.Session{}), list, nil)
		w.refused(as(identity.Session{}), iam.ListAccountAliases.Operation, nil, "*")
	})
	t.Run("5.1 a session policy takes away", func(t *testing.T) {
		w.denied(as(identity.Session{Policy: allow("workspaces:Terminate*", "*")}), list, nil, on+"because no session policy allows"+action)
		w.denied(as(identity.Session{Policy: document("Deny", "workspaces:*", "*")}), list, nil, on+"with an explicit deny in a session policy")
		w.allowed(as(identity.Session{Policy: allow("workspaces:Describe*", "*")}), list, nil)
	})
	t.Run("5.1 a session policy gives nothing", func(t *testing.T) {
		w.refused(as(identity.Session{Policy: allow("*", "*")}), iam.ListAccountAliases.Operation, nil, "*")
	})
	t.Run("5.1 managed and inline session policies together", func(t *testing.T) {
		read := w.managed("Read", allow("workspaces:Describe*", "*"))
		w.allowed(as(identity.Session{Policy: allow("iam:*", "*"), PolicyARNs: []string{read}}), list, nil)
		w.denied(as(identity.Session{Policy: allow("*", "*"), PolicyARNs: []string{w.managed("No", document("Deny", "*", "*"))}}), list, nil, on+"with an explicit deny in a session policy")
		w.denied(as(identity.Session{Policy: allow("*", "*"), PolicyARNs: []string{"arn:aws:iam::123456789012:policy/Gone"}}), list, nil, on+"with an explicit deny in a session policy")
	})
	t.Run("SIG-8 sessions from before they were revoked", func(t *testing.T) {
		now := time.Now().UTC().Truncate(time.Second)
		old, young := as(identity.Session{Issued: now.Add(-time.Minute)}), as(identity.Session{Issued: now})
		w.allowed(old, list, nil)
		w.update(func(tx *state.Tx) {
			have, _ := state.Get(tx, state.Roles, string(role.ID))
			r := state.Clone(have)
			r.Inline["AWSRevokeOlderSessions"] = document("Deny", "*", "*", `{"DateLessThan":{"aws:TokenIssueTime":"`+now.Format(time.RFC3339)+`"}}`)
			state.Put(tx, state.Roles, r)
		})
		w.denied(old, list, nil, on+"with an explicit deny in an identity-based policy")
		w.allowed(young, list, nil)
	})
	t.Run("the role's boundary", func(t *testing.T) {
		boundary := w.managed("Fence", allow("iam:*", "*"))
		w.update(func(tx *state.Tx) {
			have, _ := state.Get(tx, state.Roles, string(role.ID))
			r := state.Clone(have)
			r.Boundary = boundary
			state.Put(tx, state.Roles, r)
		})
		w.denied(as(identity.Session{Policy: allow("*", "*")}), list, nil, on+"because no permissions boundary allows"+action)
	})
	t.Run("SIG-8 a role that was deleted", func(t *testing.T) {
		p := as(identity.Session{})
		w.update(func(tx *state.Tx) { state.Delete(tx, state.Roles, string(role.ID)) })
		w.denied(p, list, nil, on+"with an explicit deny in an identity-based policy")
	})
}

func TestGuardrailsDoNotHoldForServiceLinkedRoles(t *testing.T) {
	w := newWorld(t)
	plain, linked := w.role("plain", "", of(allow("*", "*"))), w.role("AWSServiceRoleForDesks", "", of(allow("*", "*")))
	w.update(func(tx *state.Tx) {
		r := state.Clone(linked)
		r.Service = "workspaces.amazonaws.com"
		state.Put(tx, state.Roles, r)
		state.Put(tx, state.Accounts, &state.Account{Guardrails: map[string]string{"only": allow("iam:*", "*")}})
	})
	list := workspaces.DescribeWorkspaces.Operation
	w.allowed(w.session(identity.Session{RoleID: linked.ID, Name: "desks"}), list, nil)
	w.denied(w.session(identity.Session{RoleID: plain.ID, Name: "desks"}), list, nil,
		"workspaces:DescribeWorkspaces on resource: "+prefix+"workspace/* because no service control policy allows the workspaces:DescribeWorkspaces action")
}

func TestFederatedUsers(t *testing.T) {
	w := newWorld(t)
	list := workspaces.DescribeWorkspaces.Operation
	const on = "workspaces:DescribeWorkspaces on resource: " + prefix + "workspace/* "
	const action = " the workspaces:DescribeWorkspaces action"
	w.user("maker", allow("workspaces:*", "*"))
	w.user("poor", "")
	w.user("barred", both(allow("*", "*"), document("Deny", "workspaces:*", "*")))
	by := func(maker, policy string) identity.Principal {
		s := identity.Session{Type: identity.FederatedUser, Name: "bob", Policy: policy}
		if maker != "" {
			s.UserID = identitytest.AddUser(t, w.db, maker)
		}
		return w.session(s)
	}
	t.Run("without a session policy they may nothing", func(t *testing.T) {
		w.denied(by("maker", ""), list, nil, on+"because no session policy allows"+action)
		w.denied(by("", ""), list, nil, on+"because no session policy allows"+action)
	})
	t.Run("what both the maker's policies and the session's allow", func(t *testing.T) {
		w.allowed(by("maker", allow("*", "*")), list, nil)
		w.denied(by("maker", allow("iam:*", "*")), list, nil, on+"because no session policy allows"+action)
		w.denied(by("poor", allow("*", "*")), list, nil, on+"because no identity-based policy allows"+action)
		w.denied(by("barred", allow("*", "*")), list, nil, on+"with an explicit deny in an identity-based policy")
	})
	t.Run("the root's have what their session policy allows", func(t *testing.T) {
		w.allowed(by("", allow("workspaces:*", "*")), list, nil)
		w.denied(by("", allow("iam:*", "*")), list, nil, on+"because no session policy allows"+action)
	})
	t.Run("managed session policies do as well", func(t *testing.T) {
		s := identity.Session{Type: identity.FederatedUser, Name: "bob", UserID: identitytest.AddUser(t, w.db, "maker"), PolicyARNs: []string{w.managed("Read", allow("workspaces:Describe*", "*"))}}
		w.allowed(w.session(s), list, nil)
	})
	t.Run("tags for one need an action of their own", func(t *testing.T) {
		const name = "arn:aws:sts::123456789012:federated-user/bob"
		in := &sts.GetFederationTokenInput{Name: shape.Ptr("bob")}
		p := w.user("broker", allow("sts:GetFederationToken", name))
		w.allowed(p, sts.GetFederationToken.Operation, in)
		in.Tags = []sts.Tag{{Key: shape.Ptr("team"), Value: shape.Ptr("red")}}
		w.denied(p, sts.GetFederationToken.Operation, in, "sts:TagSession on resource: "+name+" because no identity-based policy allows the sts:TagSession action")
		w.allowed(w.user("tagger", both(allow("sts:GetFederationToken", name), allow("sts:TagSession", name, `{"StringEquals":{"aws:RequestTag/team":"red"}}`))), sts.GetFederationToken.Operation, in)
	})
}

func TestChainsOfRoles(t *testing.T) {
	w := newWorld(t)
	op := sts.AssumeRole.Operation
	const session = "arn:aws:sts::123456789012:assumed-role/dev/"
	trust := func(principal string, actions ...string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + principal + `"},"Action":["` + strings.Join(actions, `","`) + `"]}]}`
	}
	may := func(actions ...string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":["` + strings.Join(actions, `","`) + `"],"Resource":"*"}]}`
	}
	const assume, tag, source = "sts:AssumeRole", "sts:TagSession", "sts:SetSourceIdentity"
	dev, weak := w.role("dev", "", of(may(assume, tag, source))), w.role("weak", "", of(may(assume)))
	w.role("ofSession", trust(session+"ada", assume), state.Permissions{})
	w.role("ofRole", trust(string(dev.ID), assume), state.Permissions{})
	w.role("ofAccount", trust("123456789012", assume), state.Permissions{})
	w.role("open", trust("123456789012", assume, tag, source), state.Permissions{})
	in := func(name string) *sts.AssumeRoleInput {
		return &sts.AssumeRoleInput{RoleArn: shape.Ptr("arn:aws:iam::123456789012:role/" + name), RoleSessionName: shape.Ptr("next")}
	}
	no := func(action, role, kind string) string {
		return action + " on resource: arn:aws:iam::123456789012:role/" + role + " because no " + kind + " allows the " + action + " action"
	}
	as := func(role *state.Role, s identity.Session) identity.Principal {
		s.RoleID = role.ID
		if s.Name == "" {
			s.Name = "ada"
		}
		return w.session(s)
	}
	t.Run("a trust policy that names a session trusts that one", func(t *testing.T) {
		w.allowed(as(dev, identity.Session{}), op, in("ofSession"))
		w.denied(as(dev, identity.Session{Name: "bob"}), op, in("ofSession"), no(assume, "ofSession", "role trust policy"))
		w.denied(as(weak, identity.Session{}), op, in("ofSession"), no(assume, "ofSession", "role trust policy"))
	})
	t.Run("one that names a role trusts all its sessions", func(t *testing.T) {
		w.allowed(as(dev, identity.Session{Name: "bob"}), op, in("ofRole"))
		w.denied(as(weak, identity.Session{}), op, in("ofRole"), no(assume, "ofRole", "role trust policy"))
	})
	t.Run("IAM-5 a role made again under its name is not trusted", func(t *testing.T) {
		old := w.role("brief", "", of(may(assume)))
		w.role("ofBrief", trust(string(old.ID), assume), state.Permissions{})
		w.allowed(as(old, identity.Session{}), op, in("ofBrief"))
		w.update(func(tx *state.Tx) { state.Delete(tx, state.Roles, string(old.ID)) })
		w.denied(as(w.role("brief", "", of(may(assume))), identity.Session{}), op, in("ofBrief"), no(assume, "ofBrief", "role trust policy"))
	})
	t.Run("a source identity that goes on is asked for like one that is set", func(t *testing.T) {
		known := identity.Session{SourceIdentity: "lovelace"}
		w.denied(as(dev, known), op, in("ofAccount"), no(source, "ofAccount", "role trust policy"))
		w.denied(as(weak, known), op, in("open"), no(source, "open", "identity-based policy"))
		w.allowed(as(dev, known), op, in("open"))
		w.allowed(as(dev, identity.Session{}), op, in("ofAccount"))
	})
	t.Run("tags that go on are asked for like those that are passed", func(t *testing.T) {
		tags := map[string]string{"team": "red"}
		handed := identity.Session{Tags: tags, Transitive: []string{"team"}}
		w.denied(as(dev, handed), op, in("ofAccount"), no(tag, "ofAccount", "role trust policy"))
		w.denied(as(weak, handed), op, in("open"), no(tag, "open", "identity-based policy"))
		w.allowed(as(dev, handed), op, in("open"))
		w.allowed(as(dev, identity.Session{Tags: tags}), op, in("ofAccount"))
	})
	t.Run("the source identity counts as aws:SourceIdentity", func(t *testing.T) {
		w.role("strict", `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"123456789012"},"Action":["sts:AssumeRole","sts:SetSourceIdentity"],"Condition":{"StringEquals":{"aws:SourceIdentity":"lovelace"}}}]}`, state.Permissions{})
		w.allowed(as(dev, identity.Session{SourceIdentity: "lovelace"}), op, in("strict"))
		w.denied(as(dev, identity.Session{SourceIdentity: "babbage"}), op, in("strict"), no(assume, "strict", "role trust policy"))
		w.denied(as(dev, identity.Session{}), op, in("strict"), no(assume, "strict", "role trust policy"))
	})
}

func TestASecondFactorWithAssumeRole(t *testing.T) {
	w := newWorld(t)
	op := sts.AssumeRole.Operation
	trust := func(condition string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"123456789012"},"Action":"sts:AssumeRole","Condition":` + condition + `}]}`
	}
	w.role("present", trust(`{"Bool":{"aws:MultiFactorAuthPresent":"true"}}`), state.Permissions{})
	w.role("fresh", trust(`{"NumericLessThan":{"aws:MultiFactorAuthAge":"3600"}}`), state.Permissions{})
	w.role("unset", trust(`{"Null":{"aws:MultiFactorAuthPresent":"true"}}`), state.Permissions{})
	const serial, code = "arn:aws:iam::123456789012:mfa/ada", "123456"
	in := func(role string, with ...string) *sts.AssumeRoleInput {
		in := &sts.AssumeRoleInput{RoleArn: shape.Ptr("arn:aws:iam::123456789012:role/" + role), RoleSessionName: shape.Ptr("s1")}
		if slices.Contains(with, serial) {
			in.SerialNumber = shape.Ptr(serial)
		}
		if slices.Contains(with, code) {
			in.TokenCode = shape.Ptr(code)
		}
		return in
	}
	no := func(role string) string {
		return "sts:AssumeRole on resource: arn:aws:iam::123456789012:role/" + role + " because no role trust policy allows the sts:AssumeRole action"
	}
	ada := w.user("ada", allow("sts:AssumeRole", "*"))
	t.Run("a long-term key alone has no such key", func(t *testing.T) {
		w.denied(ada, op, in("present"), no("present"))
		w.denied(ada, op, in("fresh"), no("fresh"))
		w.allowed(ada, op, in("unset"))
	})
	t.Run("with number and code the trust policy sees the factor", func(t *testing.T) {
		w.allowed(ada, op, in("present", serial, code))
		w.allowed(ada, op, in("fresh", serial, code))
		w.denied(ada, op, in("unset", serial, code), no("unset"))
		says(t, w.keys(ada, op, in("present", serial, code)), map[string][]string{"aws:MultiFactorAuthPresent": {"true"}, "aws:MultiFactorAuthAge": {"0"}, "aws:TokenIssueTime": nil})
	})
	t.Run("one of the two is none", func(t *testing.T) {
		w.denied(ada, op, in("present", serial), no("present"))
		w.denied(ada, op, in("present", code), no("present"))
	})
	t.Run("identity policies see it too", func(t *testing.T) {
		eve := w.user("eve", allow("sts:AssumeRole", "*", `{"Bool":{"aws:MultiFactorAuthPresent":"true"}}`))
		w.denied(eve, op, in("unset"), "sts:AssumeRole on resource: arn:aws:iam::123456789012:role/unset because no identity-based policy allows the sts:AssumeRole action")
		w.allowed(eve, op, in("present", serial, code))
		bob := w.user("bob", both(allow("*", "*"), document("Deny", "*", "*", `{"BoolIfExists":{"aws:MultiFactorAuthPresent":"false"}}`)))
		w.denied(bob, op, in("unset"), "sts:AssumeRole on resource: arn:aws:iam::123456789012:role/unset with an explicit deny in an identity-based policy")
		w.allowed(bob, op, in("present", serial, code))
	})
	t.Run("it takes the place of the session's", func(t *testing.T) {
		old := w.session(identity.Session{Type: identity.IAMUser, UserID: ada.User(), MFA: w.at.Now.Add(-2 * time.Hour)})
		w.denied(old, op, in("fresh"), no("fresh"))
		w.allowed(old, op, in("fresh", serial, code))
		without := w.session(identity.Session{Type: identity.IAMUser, UserID: ada.User()})
		w.denied(without, op, in("present"), no("present"))
		w.allowed(without, op, in("present", serial, code))
	})
	t.Run("no other operation's input is a factor", func(t *testing.T) {
		p := w.user("joe", allow("iam:*", "*", `{"Bool":{"aws:MultiFactorAuthPresent":"true"}}`))
		d := w.ask(p, iam.EnableMFADevice.Operation, &iam.EnableMFADeviceInput{UserName: shape.Ptr("joe"), SerialNumber: shape.Ptr(serial), AuthenticationCode1: shape.Ptr(code), AuthenticationCode2: shape.Ptr(code)})
		defer d.Release()
		if d.Allowed {
			t.Error("codes that are not verified yet count")
		}
	})
}

func TestUsersMayChangeTheirPasswords(t *testing.T) {
	w := newWorld(t)
	change, read := iam.ChangePassword.Operation, iam.GetAccountPasswordPolicy.Operation
	set := func(may bool) {
		w.update(func(tx *state.Tx) {
			state.Put(tx, state.Accounts, &state.Account{Passwords: &state.PasswordPolicy{UsersMayChange: may}})
		})
	}
	w.changeUser("ada", func(u *state.User) { u.Path = "/a*?$\"/" })
	ada := w.user("ada", "")
	const own = iamARN + "user/a*?$\"/ada"
	t.Run("not without the setting", func(t *testing.T) {
		w.refused(ada, change, nil, own)
		set(false)
		w.refused(ada, change, nil, own)
		w.refused(ada, read, nil, "*")
	})
	set(true)
	t.Run("with it, and nothing else", func(t *testing.T) {
		w.allowed(ada, change, nil)
		w.allowed(ada, read, nil)
		w.allowed(w.session(identity.Session{Type: identity.IAMUser, UserID: ada.User(), MFA: w.at.Now}), change, nil)
		w.refused(ada, iam.UpdateLoginProfile.Operation, &iam.UpdateLoginProfileInput{UserName: shape.Ptr("ada")}, own)
		w.refused(ada, iam.UpdateAccountPasswordPolicy.Operation, nil, "*")
		d := w.ask(ada, change, nil)
		defer d.Release()
		if x := d.Explain(); len(x.Checks[0].Matched) != 1 || x.Checks[0].Matched[0].Policy != "AllowUsersToChangePassword" {
			t.Errorf("%+v", x)
		}
	})
	t.Run("an explicit deny wins", func(t *testing.T) {
		w.denied(w.user("eve", document("Deny", "iam:ChangePassword", "*")), change, nil, "iam:ChangePassword on resource: "+iamARN+"user/eve with an explicit deny in an identity-based policy")
	})
	t.Run("it is for users", func(t *testing.T) {
		w.refused(w.session(identity.Session{RoleID: w.role("dev", "", state.Permissions{}).ID, Name: "ada"}), change, nil, iamARN+"user/*")
	})
	t.Run("taken back at the next request", func(t *testing.T) {
		w.allowed(ada, change, nil)
		set(false)
		w.refused(ada, change, nil, own)
	})
}

// TestASessionNeverExceedsItsRoleAndItsPolicy (5.1) over small random policies: a role's session is allowed exactly what its role, its boundary and its
// session policy allow, each by itself; a federated user what its maker and its session policy do.
func TestASessionNeverExceedsItsRoleAndItsPolicy(t *testing.T) {
	w := newWorld(t)
	r := rand.New(rand.NewPCG(8, 5))
	one := func(list ...string) string { return list[r.IntN(len(list))] }
	random := func() string {
		var statements []string
		for range 1 + r.IntN(3) {
			statements = append(statements, fmt.Sprintf(`{"Effect":%q,"Action":%q,"Resource":%q}`, one("Allow", "Allow", "Deny"),
				one("*", "workspaces:*", "workspaces:Terminate*", "workspaces:DescribeWorkspaces", "iam:*"), one("*", "*", prefix+"workspace/*", prefix+"workspace/ws-1")))
		}
		return `{"Version":"2012-10-17","Statement":[` + strings.Join(statements, ",") + `]}`
	}
	questions := []struct {
		op *shape.Operation
		in any
	}{{workspaces.TerminateWorkspaces.Operation, terminate("ws-1")}, {workspaces.TerminateWorkspaces.Operation, terminate("ws-1", "ws-2")},
		{workspaces.DescribeWorkspaces.Operation, nil}, {iam.ListAccountAliases.Operation, nil}}
	counts := map[bool]int{}
	for i := range 60 {
		own, session, bound := random(), random(), random()
		// Users for whom one of the policies is all they have say what it allows.
		owner, limit, fence := w.user("owner", own), w.user("limit", session), w.user("fence", bound)
		role := w.role(fmt.Sprint("r", i), "", of(own))
		boundary := w.managed(fmt.Sprint("b", i), bound)
		other := role.ID[:len(role.ID)-1] + "A"
		if other == role.ID {
			other = role.ID[:len(role.ID)-1] + "B"
		}
		bounded := &state.Role{ID: other, Name: fmt.Sprint("x", i), Path: "/", Permissions: of(own), Boundary: boundary}
		w.update(func(tx *state.Tx) { state.Put(tx, state.Roles, bounded) })
		free, cut := identity.Session{RoleID: role.ID, Name: "s"}, identity.Session{RoleID: role.ID, Name: "s", Policy: session}
		who := map[string]identity.Principal{"free": w.session(free), "cut": w.session(cut), "bounded": w.session(identity.Session{RoleID: bounded.ID, Name: "s", Policy: session}),
			"federated": w.session(identity.Session{Type: identity.FederatedUser, UserID: owner.User(), Name: "f", Policy: session}), "unlimited": w.session(identity.Session{Type: identity.FederatedUser, UserID: owner.User(), Name: "f"})}
		for _, q := range questions {
			may := func(p identity.Principal) bool {
				d := w.ask(p, q.op, q.in)
				defer d.Release()
				return d.Allowed
			}
			o, l, f := may(owner), may(limit), may(fence)
			for name, want := range map[string]bool{"free": o, "cut": o && l, "bounded": o && l && f, "federated": o && l, "unlimited": false} {
				if got := may(who[name]); got != want {
					t.Fatalf("%s %s: %v, want %v\nrole    %s\nsession %s\nbounds  %s", q.op.Name, name, got, want, own, session, bound)
				}
				counts[want]++
			}
		}
	}
	if counts[true] < 50 || counts[false] < 50 {
		t.Errorf("the worlds are of one kind: %v", counts)
	}
}
