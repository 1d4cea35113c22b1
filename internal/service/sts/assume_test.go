package sts

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/audit"
	"carrel/internal/awserr"
	"carrel/internal/identity"
	"carrel/internal/service"
	"carrel/internal/state"
	"carrel/internal/totp"
)

const readOnly = `{"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "workspaces:Describe*", "Resource": "*"}}`

func tags(pairs ...string) (list []sts.Tag) {
	for i := 0; i < len(pairs); i += 2 {
		list = append(list, sts.Tag{Key: &pairs[i], Value: &pairs[i+1]})
	}
	return list
}

func arns(names ...string) (list []sts.PolicyDescriptorType) {
	for i := range names {
		list = append(list, sts.PolicyDescriptorType{Arn: &names[i]})
	}
	return list
}

func TestAssumeRole(t *testing.T) {
	w := newOffice(t)
	t.Run("with nothing but a role and a name", func(t *testing.T) {
		out, err := w.assume(t.Context(), w.ada(t), nil)
		if err != nil {
			t.Fatal(err)
		}
		if *out.AssumedRoleUser.Arn != "arn:aws:sts::123456789012:assumed-role/admin/ada@desk" || *out.AssumedRoleUser.AssumedRoleId != string(adminID)+":ada@desk" ||
			out.PackedPolicySize != nil || out.SourceIdentity != nil || !out.Credentials.Expiration.Equal(w.clk.Now().Add(time.Hour)) {
			t.Errorf("%+v", out)
		}
		p := w.holder(t, out.Credentials)
		if p.ARN() != *out.AssumedRoleUser.Arn || p.UserID() != *out.AssumedRoleUser.AssumedRoleId || p.Role() != adminID || p.Issuer() != admin {
			t.Errorf("%s %s %s", p.ARN(), p.UserID(), p.Issuer())
		}
		if s := p.Session(); s.Chained || !s.MFA.IsZero() || s.Tags != nil || s.Transitive != nil || s.Policy != "" || s.PolicyARNs != nil || s.SourceIdentity != "" {
			t.Errorf("%+v", s)
		}
	})
	t.Run("with everything", func(t *testing.T) {
		out, err := w.assume(t.Context(), w.ada(t), func(in *sts.AssumeRoleInput) {
			in.DurationSeconds, in.SourceIdentity, in.ExternalId = shape.Ptr(int32(7200)), shape.Ptr("lovelace"), shape.Ptr("desk 4")
			in.Policy, in.PolicyArns = shape.Ptr(readOnly), arns("arn:aws:iam::aws:policy/AdministratorAccess", "arn:aws:iam::123456789012:policy/desks/read", "arn:aws:iam::aws:policy/AdministratorAccess")
			in.Tags, in.TransitiveTagKeys = tags("Team", "ops", "desk", ""), []string{"team", "TEAM"}
		})
		if err != nil {
			t.Fatal(err)
		}
		s := w.holder(t, out.Credentials).Session()
		if *out.SourceIdentity != "lovelace" || s.SourceIdentity != "lovelace" || s.Expires.Sub(s.Issued) != 2*time.Hour {
			t.Errorf("%+v", s)
		}
		if s.Policy != `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"workspaces:Describe*","Resource":"*"}]}` || !slices.Equal(s.PolicyARNs, []string{"arn:aws:iam::aws:policy/AdministratorAccess", "arn:aws:iam::123456789012:policy/desks/read"}) {
			t.Errorf("%s %s", s.Policy, s.PolicyARNs)
		}
		if !maps.Equal(s.Tags, map[string]string{"Team": "ops", "desk": ""}) || !slices.Equal(s.Transitive, []string{"Team"}) {
			t.Errorf("%v %v", s.Tags, s.Transitive)
		}
		if n := *out.PackedPolicySize; n < 5 || n > 15 {
			t.Errorf("%d %% packed", n)
		}
	})
	t.Run("with the credentials of GetSessionToken", func(t *testing.T) {
		out, err := w.assume(t.Context(), w.session(t, identity.Session{Type: identity.IAMUser, UserID: adaID, MFA: w.clk.Now()}), func(in *sts.AssumeRoleInput) { in.DurationSeconds = shape.Ptr(int32(7200)) })
		if err != nil {
			t.Fatal(err)
		}
		if s := w.holder(t, out.Credentials).Session(); s.Chained || !s.MFA.IsZero() {
			t.Errorf("%+v", s)
		}
	})
	t.Run("a role that does not say how long its sessions may last allows an hour", func(t *testing.T) {
		if _, err := roleLife(&state.Role{}, shape.Ptr(int32(3600)), false); err != nil {
			t.Error(err)
		}
		_, err := roleLife(&state.Role{}, shape.Ptr(int32(3601)), false)
		refusal(t, err, overMaxSession().(*awserr.Error))
	})
}

func TestAssumeRoleIsRefused(t *testing.T) {
	w := newOffice(t)
	const unauthorized = "User: %s is not authorized to perform: sts:AssumeRole on resource: %s"
	ada, federated := w.ada(t), w.session(t, identity.Session{Type: identity.FederatedUser, UserID: adaID, Name: "bob"})
	many := make([]string, 11)
	for i := range many {
		many[i] = "arn:aws:iam::aws:policy/AdministratorAccess"
	}
	long := `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"arn:aws:s3:::` + strings.Repeat("x", 2048) + `"}]}`
	var wide []sts.Tag
	for i := range 30 {
		wide = append(wide, tags(fmt.Sprintf("%0128d", i), strings.Repeat("ü", 20))...)
	}
	for _, c := range []struct {
		name   string
		p      identity.Principal
		change func(*sts.AssumeRoleInput)
		want   *awserr.Error
	}{
		{"by the root", w.root(t), nil, denied("Roles may not be assumed by root accounts.")},
		{"by the root with a session token", w.session(t, identity.Session{Type: identity.Root}), nil, denied("Roles may not be assumed by root accounts.")},
		{"by a federated user", federated, nil, denied(fmt.Sprintf(unauthorized, federated.ARN(), admin))},
		{"a role that there is not", ada, func(in *sts.AssumeRoleInput) { in.RoleArn = shape.Ptr("arn:aws:iam::123456789012:role/ops/nobody") }, denied(fmt.Sprintf(unauthorized, ada.ARN(), "arn:aws:iam::123456789012:role/ops/nobody"))},
		{"a role under another path", ada, func(in *sts.AssumeRoleInput) { in.RoleArn = shape.Ptr("arn:aws:iam::123456789012:role/admin") }, denied(fmt.Sprintf(unauthorized, ada.ARN(), "arn:aws:iam::123456789012:role/admin"))},
		{"a role in another case", ada, func(in *sts.AssumeRoleInput) { in.RoleArn = shape.Ptr("arn:aws:iam::123456789012:role/ops/Admin") }, denied(fmt.Sprintf(unauthorized, ada.ARN(), "arn:aws:iam::123456789012:role/ops/Admin"))},
		{"a role of another account", ada, func(in *sts.AssumeRoleInput) { in.RoleArn = shape.Ptr("arn:aws:iam::210987654321:role/ops/admin") }, denied(fmt.Sprintf(unauthorized, ada.ARN(), "arn:aws:iam::210987654321:role/ops/admin"))},
		{"what is no role", ada, func(in *sts.AssumeRoleInput) { in.RoleArn = shape.Ptr("arn:aws:iam::123456789012:user/ops/ada") }, denied(fmt.Sprintf(unauthorized, ada.ARN(), "arn:aws:iam::123456789012:user/ops/ada"))},
		{"for longer than the role allows", ada, func(in *sts.AssumeRoleInput) { in.DurationSeconds = shape.Ptr(int32(7201)) }, invalid("The requested DurationSeconds exceeds the MaxSessionDuration set for this role.")},
		{"a session policy that is none", ada, func(in *sts.AssumeRoleInput) { in.Policy = shape.Ptr("{}") }, nil},
		{"a session policy that names principals", ada, func(in *sts.AssumeRoleInput) {
			in.Policy = shape.Ptr(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}]}`)
		}, nil},
		{"a session policy that is too long", ada, func(in *sts.AssumeRoleInput) { in.Policy = &long }, awserr.Model("PackedPolicyTooLarge", "Packed policy consumes 105% of allotted space, please use smaller policy.")},
		{"a managed policy that there is not", ada, func(in *sts.AssumeRoleInput) { in.PolicyArns = arns("arn:aws:iam::aws:policy/Nothing") }, invalid("The managed policy arn:aws:iam::aws:policy/Nothing does not exist or is not attachable.")},
		{"a managed policy without an ARN", ada, func(in *sts.AssumeRoleInput) { in.PolicyArns = make([]sts.PolicyDescriptorType, 1) }, invalid("The managed policy  does not exist or is not attachable.")},
		{"eleven managed policies", ada, func(in *sts.AssumeRoleInput) { in.PolicyArns = arns(many...) }, invalid("1 validation error detected: Value at 'policyArns' failed to satisfy constraint: Member must have length less than or equal to 10")},
		{"a tag twice", ada, func(in *sts.AssumeRoleInput) { in.Tags = tags("Team", "a", "tEAM", "b") }, awserr.Model("InvalidParameterValue", "Duplicate tag keys found. Please note that Tag keys are case insensitive.")},
		{"a tag of AWS's", ada, func(in *sts.AssumeRoleInput) { in.Tags = tags("AWS:x", "a") }, awserr.Model("InvalidParameterValue", "Tag keys that start with 'aws:' are reserved for system use.")},
		{"a transitive tag that is not given", ada, func(in *sts.AssumeRoleInput) { in.Tags, in.TransitiveTagKeys = tags("team", "a"), []string{"desk"} }, awserr.Model("InvalidParameterValue", "The specified transitive tag key must be included in the requested tags.")},
		{"tags that are too long together", ada, func(in *sts.AssumeRoleInput) { in.Tags = wide }, awserr.Model("PackedPolicyTooLarge", "Packed size of session tags consumes 109% of allotted space.")},
		{"a context of another provider", ada, func(in *sts.AssumeRoleInput) {
			in.ProvidedContexts = []sts.ProvidedContext{{ProviderArn: shape.Ptr("arn:aws:iam::aws:contextProvider/Mine")}}
		}, invalid("The context provider arn:aws:iam::aws:contextProvider/Mine is not valid.")},
		{"a context that nobody has made", ada, func(in *sts.AssumeRoleInput) {
			in.ProvidedContexts = []sts.ProvidedContext{{ProviderArn: shape.Ptr("arn:aws:iam::aws:contextProvider/IdentityCenter"), ContextAssertion: shape.Ptr("assertion")}}
		}, invalid("The provided context assertion is not valid.")},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := w.assume(t.Context(), c.p, c.change)
			if out != nil {
				t.Error("there are credentials all the same")
			}
			if c.want != nil {
				refusal(t, err, c.want)
				return
			}
			var e *awserr.Error
			if !errors.As(err, &e) || e.Code != "MalformedPolicyDocument" {
				t.Errorf("%v, want MalformedPolicyDocument", err)
			}
		})
	}
}

func TestAChainOfRoles(t *testing.T) {
	w := newOffice(t)
	first := w.session(t, identity.Session{RoleID: adminID, Name: "first", SourceIdentity: "lovelace",
		Tags: map[string]string{"Team": "ops", "desk": "4"}, Transitive: []string{"Team"}, Policy: readOnly})
	t.Run("the source identity and the transitive tags go on, other tags and policies do not", func(t *testing.T) {
		out, err := w.assume(t.Context(), first, func(in *sts.AssumeRoleInput) { in.Tags, in.TransitiveTagKeys = tags("Desk", "5"), []string{"Desk"} })
		if err != nil {
			t.Fatal(err)
		}
		s := w.holder(t, out.Credentials).Session()
		if !s.Chained || s.SourceIdentity != "lovelace" || *out.SourceIdentity != "lovelace" || s.Policy != "" {
			t.Errorf("%+v", s)
		}
		if !maps.Equal(s.Tags, map[string]string{"Team": "ops", "Desk": "5"}) || !slices.Equal(s.Transitive, []string{"Desk", "Team"}) {
			t.Errorf("%v %v", s.Tags, s.Transitive)
		}
	})
	t.Run("the same source identity may be named again", func(t *testing.T) {
		if _, err := w.assume(t.Context(), first, func(in *sts.AssumeRoleInput) { in.SourceIdentity = shape.Ptr("lovelace") }); err != nil {
			t.Error(err)
		}
	})
	for _, c := range []struct {
		name   string
		change func(*sts.AssumeRoleInput)
		want   *awserr.Error
	}{
		{"another source identity", func(in *sts.AssumeRoleInput) { in.SourceIdentity = shape.Ptr("Lovelace") }, invalid("The source identity is already set for this assume role session")},
		{"a transitive tag again, in whatever case", func(in *sts.AssumeRoleInput) { in.Tags = tags("tEAM", "root") }, awserr.Model("InvalidParameterValue", "One of the specified transitive tag keys can't be set because it conflicts with a transitive tag key from the calling session.")},
		{"more than an hour, though the role allows two", func(in *sts.AssumeRoleInput) { in.DurationSeconds = shape.Ptr(int32(3601)) }, invalid("The requested DurationSeconds exceeds the 1 hour session limit for roles assumed by role chaining.")},
		{"a code: a role has no device", func(in *sts.AssumeRoleInput) {
			in.SerialNumber, in.TokenCode = shape.Ptr("arn:aws:iam::123456789012:mfa/ada"), shape.Ptr("123456")
		}, denied("MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user.")},
		{"more tags than fifty with those that go on", func(in *sts.AssumeRoleInput) {
			for i := range 50 {
				in.Tags = append(in.Tags, tags(fmt.Sprint(i), "")...)
			}
		}, invalid("1 validation error detected: Value at 'tags' failed to satisfy constraint: Member must have length less than or equal to 50")},
	} {
		t.Run("refused: "+c.name, func(t *testing.T) {
			_, err := w.assume(t.Context(), first, c.change)
			refusal(t, err, c.want)
		})
	}
}

func TestSecondFactor(t *testing.T) {
	w := newOffice(t)
	const seedText, serial, rootSerial = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ", "arn:aws:iam::123456789012:mfa/ada", "arn:aws:iam::123456789012:mfa/root"
	seed, err := totp.Seed(seedText)
	if err != nil {
		t.Fatal(err)
	}
	w.update(t, func(tx *state.Tx) {
		state.Put(tx, state.MFADevices, &state.MFADevice{Serial: serial, Name: "ada", Path: "/", Seed: seedText, UserID: string(adaID), Enabled: tx.Now()})
		state.Put(tx, state.MFADevices, &state.MFADevice{Serial: rootSerial, Name: "root", Path: "/", Seed: seedText, UserID: state.RootDevice, Enabled: tx.Now()})
	})
	code := func() *string { return shape.Ptr(totp.Code(seed, totp.Step(w.clk.Now()))) }
	show := func(t *testing.T, p identity.Principal, serial, code *string) (*sts.Credentials, error) {
		t.Helper()
		out, err := w.GetSessionToken(t.Context(), service.Call{Principal: p}, &sts.GetSessionTokenInput{SerialNumber: serial, TokenCode: code})
		if err != nil {
			return nil, err
		}
		return out.Credentials, nil
	}
	const (
		wrong = "MultiFactorAuthentication failed with invalid MFA one time pass code. "
		half  = "MultiFactorAuthentication failed, must provide both MFA serial number and one time pass code."
		alien = "MultiFactorAuthentication failed, unable to validate MFA code.  Please verify your MFA serial number is valid and associated with this user."
	)
	t.Run("a session says when a code was shown for it", func(t *testing.T) {
		got, err := show(t, w.ada(t), shape.Ptr(serial), code())
		if err != nil {
			t.Fatal(err)
		}
		if s := w.holder(t, got).Session(); !s.MFA.Equal(w.clk.Now()) {
			t.Errorf("%+v", s)
		}
	})
	t.Run("MFA-3 a code is taken once, also by another operation", func(t *testing.T) {
		_, err := show(t, w.ada(t), shape.Ptr(serial), code())
		refusal(t, err, denied(wrong))
		_, err = w.assume(t.Context(), w.ada(t), func(in *sts.AssumeRoleInput) { in.SerialNumber, in.TokenCode = shape.Ptr(serial), code() })
		refusal(t, err, denied(wrong))
	})
	w.clk.pass(time.Minute)
	t.Run("a request that is refused for something else does not spend the code", func(t *testing.T) {
		_, err := w.assume(t.Context(), w.ada(t), func(in *sts.AssumeRoleInput) {
			in.SerialNumber, in.TokenCode, in.DurationSeconds = shape.Ptr(serial), code(), shape.Ptr(int32(7201))
		})
		refusal(t, err, overMaxSession().(*awserr.Error))
	})
	t.Run("a role's session says so too", func(t *testing.T) {
		out, err := w.assume(t.Context(), w.ada(t), func(in *sts.AssumeRoleInput) { in.SerialNumber, in.TokenCode = shape.Ptr(serial), code() })
		if err != nil {
			t.Fatal(err)
		}
		if s := w.holder(t, out.Credentials).Session(); !s.MFA.Equal(w.clk.Now()) {
			t.Errorf("%+v", s)
		}
	})
	t.Run("the root has devices of its own", func(t *testing.T) {
		if _, err := show(t, w.root(t), shape.Ptr(rootSerial), code()); err != nil {
			t.Error(err)
		}
	})
	w.clk.pass(time.Minute)
	for _, c := range []struct {
		name         string
		serial, code *string
		text         string
	}{
		{"a wrong code", shape.Ptr(serial), shape.Ptr("000000"), wrong},
		{"a code without a device", nil, code(), half},
		{"a device without a code", shape.Ptr(serial), nil, half},
		{"a device that there is not", shape.Ptr("arn:aws:iam::123456789012:mfa/none"), code(), alien},
		{"the root's device", shape.Ptr(rootSerial), code(), alien},
	} {
		t.Run("refused: "+c.name, func(t *testing.T) {
			_, err := show(t, w.ada(t), c.serial, c.code)
			refusal(t, err, denied(c.text))
		})
	}
}

func TestGetFederationToken(t *testing.T) {
	w := newOffice(t)
	get := func(t *testing.T, p identity.Principal, change func(*sts.GetFederationTokenInput)) (*sts.GetFederationTokenOutput, error) {
		t.Helper()
		in := &sts.GetFederationTokenInput{Name: shape.Ptr("bob")}
		if change != nil {
			change(in)
		}
		return w.GetFederationToken(t.Context(), service.Call{Principal: p}, in)
	}
	for _, c := range []struct {
		name   string
		p      identity.Principal
		asked  *int32
		want   time.Duration
		issuer string
	}{
		{"a user's lasts twelve hours", w.ada(t), nil, 12 * time.Hour, "arn:aws:iam::123456789012:user/ops/ada"},
		{"or as long as asked", w.ada(t), shape.Ptr(int32(129600)), 36 * time.Hour, "arn:aws:iam::123456789012:user/ops/ada"},
		{"the root's lasts an hour", w.root(t), shape.Ptr(int32(129600)), time.Hour, "arn:aws:iam::123456789012:root"},
	} {
		t.Run(c.name, func(t *testing.T) {
			out, err := get(t, c.p, func(in *sts.GetFederationTokenInput) { in.DurationSeconds = c.asked })
			if err != nil {
				t.Fatal(err)
			}
			p := w.holder(t, out.Credentials)
			if *out.FederatedUser.Arn != "arn:aws:sts::123456789012:federated-user/bob" || *out.FederatedUser.FederatedUserId != "123456789012:bob" || *out.PackedPolicySize != 0 ||
				p.ARN() != *out.FederatedUser.Arn || p.UserID() != *out.FederatedUser.FederatedUserId || p.Issuer() != c.issuer || p.User() != c.p.User() {
				t.Errorf("%+v is %s of %s", out.FederatedUser, p.ARN(), p.Issuer())
			}
			if s := p.Session(); s.Expires.Sub(s.Issued) != c.want || s.Policy != "" || s.Tags != nil {
				t.Errorf("%+v", s)
			}
		})
	}
	t.Run("policies and tags", func(t *testing.T) {
		out, err := get(t, w.ada(t), func(in *sts.GetFederationTokenInput) {
			in.Policy, in.PolicyArns, in.Tags = shape.Ptr(readOnly), arns("arn:aws:iam::123456789012:policy/desks/read"), tags("team", "ops")
		})
		if err != nil {
			t.Fatal(err)
		}
		if s := w.holder(t, out.Credentials).Session(); s.Policy == "" || len(s.PolicyARNs) != 1 || s.Tags["team"] != "ops" || *out.PackedPolicySize == 0 {
			t.Errorf("%+v", s)
		}
	})
	for _, c := range []struct {
		name   string
		change func(*sts.GetFederationTokenInput)
		code   string
	}{
		{"a policy that is none", func(in *sts.GetFederationTokenInput) { in.Policy = shape.Ptr("no") }, "MalformedPolicyDocument"},
		{"a tag twice", func(in *sts.GetFederationTokenInput) { in.Tags = tags("a", "", "A", "") }, "InvalidParameterValue"},
	} {
		t.Run("refused: "+c.name, func(t *testing.T) {
			var e *awserr.Error
			if _, err := get(t, w.ada(t), c.change); !errors.As(err, &e) || e.Code != c.code {
				t.Error(err)
			}
		})
	}
}

func TestRecordsOfCallsHoldNoSecret(t *testing.T) {
	w := newOffice(t)
	out, err := w.assume(t.Context(), w.ada(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Run("SIG-13 an answer's", func(t *testing.T) {
		shown, err := audit.Elements(sts.AssumeRole.Operation, out).MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{*out.Credentials.SecretAccessKey, *out.Credentials.SessionToken} {
			if strings.Contains(string(shown), secret) {
				t.Errorf("%s", shown)
			}
		}
		if n := strings.Count(string(shown), "HIDDEN_DUE_TO_SECURITY_REASONS"); n != 2 || !strings.Contains(string(shown), *out.Credentials.AccessKeyId) {
			t.Errorf("%s", shown)
		}
	})
	t.Run("SIG-13 a request's", func(t *testing.T) {
		shown, err := audit.Parameters(sts.AssumeRole.Operation, &sts.AssumeRoleInput{RoleArn: shape.Ptr(admin), TokenCode: shape.Ptr("123456")}).MarshalJSON()
		if err != nil || strings.Contains(string(shown), "123456\"") {
			t.Errorf("%s, %v", shown, err)
		}
	})
}
