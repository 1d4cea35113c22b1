package authz_test

import (
	"context"
	"encoding/json"
	"reflect"
	"slices"
	"strings"
	"testing"

	"carrel/internal/api/ec2"
	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/api/workspaces"
	"carrel/internal/app"
	"carrel/internal/authz"
	"carrel/internal/awserr"
	"carrel/internal/ident"
	"carrel/internal/identity"
	"carrel/internal/identity/identitytest"
	"carrel/internal/policy"
	"carrel/internal/state"
)

const prefix = "arn:aws:workspaces:us-east-1:123456789012:"

func terminate(ids ...string) *workspaces.TerminateWorkspacesInput {
	in := &workspaces.TerminateWorkspacesInput{}
	for _, id := range ids {
		in.TerminateWorkspaceRequests = append(in.TerminateWorkspaceRequests, workspaces.TerminateRequest{WorkspaceId: shape.Ptr(id)})
	}
	return in
}

// TestWithoutPoliciesEveryOperationIsDenied holds for all operations of all models, and with them for those still to come.
func TestWithoutPoliciesEveryOperationIsDenied(t *testing.T) {
	w := newWorld(t)
	root, user := identitytest.Root(t, w.db), w.user("ada", "")
	open := []string{"sts:GetCallerIdentity", "sts:GetSessionToken", "sts:AssumeRoleWithSAML", "sts:AssumeRoleWithWebIdentity"}
	n := 0
	for _, api := range app.APIs() {
		for _, op := range api.Operations {
			n++
			action := api.SigningName + ":" + op.Name
			if action != "sts:AssumeRole" { // A role that does not exist trusts not even the root.
				w.allowed(root, op, nil)
			}
			d := w.ask(user, op, nil)
			if d.Allowed != slices.Contains(open, action) || d.Reason == "" {
				t.Errorf("%s by a user without policies: %v %s", action, d.Allowed, d.Reason)
			}
			if !d.Allowed {
				err := d.Denial(context.Background())
				want := "User: arn:aws:iam::123456789012:user/ada is not authorized to perform: "
				if err.Kind != awserr.AccessDenied || !strings.Contains(err.Message, want) || !strings.Contains(err.Message, " on resource: ") {
					t.Errorf("%s: %v", action, err)
				}
			}
			d.Release()
		}
	}
	if n < 400 {
		t.Errorf("only %d operations", n)
	}
}

func TestNobodyIsNotDecidedAbout(t *testing.T) {
	defer func() {
		if p := recover(); p == nil || !strings.Contains(p.(string), "without authentication") {
			t.Errorf("a principal that nobody verified: %v", p)
		}
	}()
	newWorld(t).ask(identity.Principal{}, workspaces.DescribeWorkspaces.Operation, nil)
}

func TestTheTextsOfDenials(t *testing.T) {
	w := newWorld(t)
	describe := workspaces.DescribeWorkspaceDirectories.Operation
	const action, on = "workspaces:DescribeWorkspaceDirectories", " on resource: " + prefix + "directory/* "
	t.Run("5.7 implicit, identity", func(t *testing.T) {
		w.denied(w.user("a", ""), describe, nil, action+on+"because no identity-based policy allows the "+action+" action")
	})
	t.Run("5.7 explicit, identity", func(t *testing.T) {
		w.denied(w.user("b", document("Deny", "*", "*")), describe, nil, action+on+"with an explicit deny in an identity-based policy")
	})
	t.Run("5.7 boundary", func(t *testing.T) {
		p := w.user("c", allow("*", "*"))
		w.changeUser("c", func(u *state.User) { u.Boundary = w.managed("Narrow", allow("iam:*", "*")) })
		w.denied(p, describe, nil, action+on+"because no permissions boundary allows the "+action+" action")
		w.changeUser("c", func(u *state.User) { u.Boundary = w.managed("Never", document("Deny", "workspaces:*", "*")) })
		w.denied(p, describe, nil, action+on+"with an explicit deny in a permissions boundary")
	})
	t.Run("5.7 VPC endpoint", func(t *testing.T) {
		p := w.user("d", allow("*", "*"))
		w.at.Endpoint = &authz.Endpoint{ID: "vpce-1", VPC: "vpc-1", Policy: parse(t, policy.Endpoint, `{"Statement":{"Effect":"Allow","Principal":"*","Action":"sts:*","Resource":"*"}}`)}
		w.denied(p, describe, nil, action+on+"because no VPC endpoint policy allows the "+action+" action")
		// Not even the root gets through an endpoint that does not let it.
		w.denied(identitytest.Root(t, w.db), describe, nil, action+on+"because no VPC endpoint policy allows the "+action+" action")
		w.at.Endpoint = nil
		w.allowed(p, describe, nil)
	})
	t.Run("5.7 guardrail", func(t *testing.T) {
		p := w.user("e", allow("*", "*"))
		w.update(func(tx *state.Tx) {
			state.Put(tx, state.Accounts, &state.Account{Guardrails: map[string]string{"base": allow("*", "*"), "no": document("Deny", "workspaces:Terminate*", "*")}})
		})
		w.allowed(p, describe, nil)
		for _, who := range []identity.Principal{p, identitytest.Root(t, w.db)} {
			w.denied(who, workspaces.TerminateWorkspaces.Operation, terminate("ws-1"), "workspaces:TerminateWorkspaces on resource: "+prefix+"workspace/ws-1 with an explicit deny in a service control policy")
		}
		w.update(func(tx *state.Tx) {
			state.Put(tx, state.Accounts, &state.Account{Guardrails: map[string]string{"base": allow("iam:*", "*")}})
		})
		w.denied(p, describe, nil, action+on+"because no service control policy allows the "+action+" action")
		w.update(func(tx *state.Tx) { state.Delete(tx, state.Accounts, "this") })
		w.allowed(p, describe, nil)
	})
	t.Run("5.7 EC2 gets a sealed reason", func(t *testing.T) {
		said := ""
		w.a.Encode = func(_ context.Context, s string) (string, error) { said = s; return "sealed", nil }
		d := w.ask(w.user("f", document("Deny", "ec2:*", "*")), ec2.DescribeVpcs.Operation, nil)
		defer d.Release()
		text := d.Denial(t.Context()).Message
		if text != "User: arn:aws:iam::123456789012:user/f is not authorized to perform: ec2:DescribeVpcs on resource: * with an explicit deny in an identity-based policy. Encoded authorization failure message: sealed" {
			t.Error(text)
		}
		var m struct {
			Allowed, ExplicitDeny bool
			MatchedStatements     struct{ Items []struct{ Effect string } }
			Context               struct {
				Principal        struct{ ID, Name, ARN string }
				Action, Resource string
				Conditions       struct {
					Items []struct {
						Key    string
						Values struct{ Items []struct{ Value string } }
					}
				}
			}
		}
		if err := json.Unmarshal([]byte(said), &m); err != nil || m.Allowed || !m.ExplicitDeny || len(m.MatchedStatements.Items) != 1 || m.MatchedStatements.Items[0].Effect != "DENY" ||
			m.Context.Action != "ec2:DescribeVpcs" || m.Context.Resource != "*" || m.Context.Principal.Name != "f" || !strings.Contains(said, `{"key":"aws:sourceip","values":{"items":[{"value":"192.0.2.7"}]}}`) {
			t.Errorf("%v %s", err, said)
		}
	})
}

func TestResources(t *testing.T) {
	w := newWorld(t)
	op := workspaces.TerminateWorkspaces.Operation
	t.Run("IAM-6 every resource of a batch must be allowed", func(t *testing.T) {
		p := w.user("a", allow("workspaces:TerminateWorkspaces", prefix+"workspace/ws-a*"))
		w.allowed(p, op, terminate("ws-a1", "ws-a2"))
		w.denied(p, op, terminate("ws-a1", "ws-b2", "ws-a3"), "workspaces:TerminateWorkspaces on resource: "+prefix+"workspace/ws-b2 because no identity-based policy allows the workspaces:TerminateWorkspaces action")
	})
	t.Run("IAM-1 case of actions does not matter, of resources it does", func(t *testing.T) {
		p := w.user("b", allow("WORKSPACES:terminateworkspaces", prefix+"workspace/ws-a"))
		w.allowed(p, op, terminate("ws-a"))
		w.denied(p, op, terminate("ws-A"), "workspaces:TerminateWorkspaces on resource: "+prefix+"workspace/ws-A because no identity-based policy allows the workspaces:TerminateWorkspaces action")
	})
	t.Run("5.6 a list is allowed by any of the type and by a star, not by one id", func(t *testing.T) {
		list := workspaces.DescribeWorkspaces.Operation
		w.allowed(w.user("c", allow("workspaces:Describe*", "*")), list, nil)
		w.allowed(w.user("d", allow("workspaces:Describe*", prefix+"workspace/*")), list, nil)
		w.denied(w.user("e", allow("workspaces:Describe*", prefix+"workspace/ws-1")), list, nil,
			"workspaces:DescribeWorkspaces on resource: "+prefix+"workspace/* because no identity-based policy allows the workspaces:DescribeWorkspaces action")
	})
	t.Run("NUL and look-alikes in ids are other ids", func(t *testing.T) {
		p := w.user("f", allow("workspaces:TerminateWorkspaces", prefix+"workspace/ws-a"))
		for _, id := range []string{"ws-a\x00", "ws-\u0430", "ws-a ", "ws-a/../ws-b", "ws-*", "ws-?", ""} {
			d := w.ask(p, op, terminate(id))
			if d.Allowed {
				t.Errorf("%q is allowed", id)
			}
			d.Release()
		}
	})
	t.Run("an operation on two resources needs both", func(t *testing.T) {
		in := &workspaces.AssociateIpGroupsInput{DirectoryId: shape.Ptr("d-1"), GroupIds: []string{"wsipg-1", "wsipg-2"}}
		w.denied(w.user("g", allow("*", prefix+"directory/*")), workspaces.AssociateIpGroups.Operation, in,
			"workspaces:AssociateIpGroups on resource: "+prefix+"workspaceipgroup/wsipg-1 because no identity-based policy allows the workspaces:AssociateIpGroups action")
		w.allowed(w.user("h", both(allow("*", prefix+"directory/d-1"), allow("*", prefix+"workspaceipgroup/wsipg-?"))), workspaces.AssociateIpGroups.Operation, in)
	})
}

func TestTags(t *testing.T) {
	w := newWorld(t)
	w.update(func(tx *state.Tx) {
		for id, team := range map[string]string{"ws-red": "red", "ws-blue": "blue"} {
			rec := &state.Workspace{ID: ident.WorkspaceID(id)}
			rec.Tags = map[string]string{"Team": team}
			state.Put(tx, state.Workspaces, rec)
		}
	})
	t.Run("IAM-6 aws:ResourceTag is each resource's own", func(t *testing.T) {
		p := w.user("a", allow("workspaces:*", "*", `{"StringEquals":{"aws:ResourceTag/team":"red"}}`))
		w.allowed(p, workspaces.TerminateWorkspaces.Operation, terminate("ws-red"))
		for _, ids := range [][]string{{"ws-blue"}, {"ws-red", "ws-blue"}, {"ws-blue", "ws-red"}, {"ws-none"}} {
			d := w.ask(p, workspaces.TerminateWorkspaces.Operation, terminate(ids...))
			if d.Allowed {
				t.Errorf("%v", ids)
			}
			d.Release()
		}
	})
	t.Run("IAM-6 a change of tags counts at the next request", func(t *testing.T) {
		p := w.user("b", allow("workspaces:*", "*", `{"StringEquals":{"aws:ResourceTag/Team":"${aws:PrincipalTag/Team}"}}`))
		d := w.ask(p, workspaces.TerminateWorkspaces.Operation, terminate("ws-red"))
		if d.Allowed {
			t.Error("a user without the tag")
		}
		d.Release()
		w.changeUser("b", func(u *state.User) { u.Tags = map[string]string{"team": "red"} })
		w.allowed(p, workspaces.TerminateWorkspaces.Operation, terminate("ws-red"))
	})
	create := func(tags ...string) *workspaces.CreateWorkspacesInput {
		in := &workspaces.CreateWorkspacesInput{}
		for _, tag := range tags {
			r := workspaces.WorkspaceRequest{DirectoryId: shape.Ptr("d-1"), BundleId: shape.Ptr("wsb-1"), UserName: shape.Ptr("ada")}
			if tag != "" {
				r.Tags = []workspaces.Tag{{Key: shape.Ptr("team"), Value: shape.Ptr(tag)}}
			}
			in.Workspaces = append(in.Workspaces, r)
		}
		return in
	}
	t.Run("IAM-6 each item of a batch is held to its own tags", func(t *testing.T) {
		p := w.user("c", allow("workspaces:CreateWorkspaces", "*", `{"StringEquals":{"aws:RequestTag/team":"red"}}`))
		w.allowed(p, workspaces.CreateWorkspaces.Operation, create("red", "red"))
		for _, tags := range [][]string{{""}, {"blue"}, {"red", ""}, {"", "red"}, {"red", "blue"}} {
			d := w.ask(p, workspaces.CreateWorkspaces.Operation, create(tags...))
			if d.Allowed {
				t.Errorf("%q", tags)
			}
			d.Release()
		}
	})
	t.Run("aws:TagKeys are those of the request", func(t *testing.T) {
		p := w.user("d", allow("workspaces:DeleteTags", "*", `{"ForAllValues:StringEquals":{"aws:TagKeys":["team","cost"]}}`))
		w.allowed(p, workspaces.DeleteTags.Operation, &workspaces.DeleteTagsInput{ResourceId: shape.Ptr("ws-red"), TagKeys: []string{"team"}})
		d := w.ask(p, workspaces.DeleteTags.Operation, &workspaces.DeleteTagsInput{ResourceId: shape.Ptr("ws-red"), TagKeys: []string{"team", "owner"}})
		if d.Allowed {
			t.Error("another key is allowed")
		}
		d.Release()
	})
}

func TestConditionKeysArePresentExactlyWhenAWSHasThem(t *testing.T) {
	w := newWorld(t)
	p := w.user("ada", allow("*", "*"))
	keys := func() map[string][]string {
		d := w.ask(p, workspaces.DescribeWorkspaces.Operation, nil)
		defer d.Release()
		var x authz.Explanation
		if err := json.Unmarshal(d.AppendJSON(nil), &x); err != nil {
			t.Fatal(err)
		}
		return x.Context
	}
	is := func(have map[string][]string, want map[string]string, missing ...string) {
		t.Helper()
		for k, v := range want {
			if got := have[strings.ToLower(k)]; len(got) != 1 || got[0] != v {
				t.Errorf("%s is %q, want %s", k, got, v)
			}
		}
		for _, k := range missing {
			if got, ok := have[strings.ToLower(k)]; ok {
				t.Errorf("%s is %q", k, got)
			}
		}
	}
	always := map[string]string{"aws:SecureTransport": "true", "aws:CurrentTime": "2026-03-04T05:06:07Z", "aws:EpochTime": "1772600767", "aws:RequestedRegion": "us-east-1",
		"aws:ViaAWSService": "false", "aws:UserAgent": "aws-cli/2", "aws:PrincipalArn": "arn:aws:iam::123456789012:user/ada", "aws:PrincipalAccount": "123456789012",
		"aws:PrincipalType": "User", "aws:userid": p.UserID(), "aws:username": "ada"}
	t.Run("5.4 the public door", func(t *testing.T) {
		is(keys(), always, "aws:SourceVpc", "aws:SourceVpce", "aws:VpcSourceIp", "aws:Referer", "aws:MultiFactorAuthPresent", "aws:MultiFactorAuthAge", "aws:TokenIssueTime",
			"aws:FederatedProvider", "aws:SourceIdentity")
		is(keys(), map[string]string{"aws:SourceIp": "192.0.2.7"})
	})
	t.Run("VPC-1 an endpoint", func(t *testing.T) {
		w.at.Endpoint = &authz.Endpoint{ID: "vpce-1", VPC: "vpc-1"}
		defer func() { w.at.Endpoint = nil }()
		is(keys(), always, "aws:SourceIp")
		is(keys(), map[string]string{"aws:SourceVpce": "vpce-1", "aws:SourceVpc": "vpc-1", "aws:VpcSourceIp": "192.0.2.7"})
	})
	t.Run("5.4 the root", func(t *testing.T) {
		p = identitytest.Root(t, w.db)
		is(keys(), map[string]string{"aws:PrincipalType": "Account", "aws:PrincipalArn": "arn:aws:iam::123456789012:root", "aws:userid": "123456789012"}, "aws:username")
	})
}

func TestWhatIsRevokedIsGoneAtTheNextRequest(t *testing.T) {
	w := newWorld(t)
	op := workspaces.DescribeWorkspaces.Operation
	const no = "workspaces:DescribeWorkspaces on resource: " + prefix + "workspace/* because no identity-based policy allows the workspaces:DescribeWorkspaces action"
	p := w.user("ada", allow("*", "*"))
	w.allowed(p, op, nil)
	w.changeUser("ada", func(u *state.User) { u.Inline = nil })
	w.denied(p, op, nil, no)

	name := w.managed("Read", allow("workspaces:Describe*", "*"))
	w.changeUser("ada", func(u *state.User) { u.Attached = []string{name} })
	w.allowed(p, op, nil)
	w.update(func(tx *state.Tx) {
		for old := range state.All(tx, state.Policies) {
			c := state.Clone(old)
			c.Versions, c.Default = append(c.Versions, state.PolicyVersion{ID: "v2", Document: allow("iam:*", "*")}), "v2"
			state.Put(tx, state.Policies, c)
		}
	})
	w.denied(p, op, nil, no)

	group := &state.Group{ID: "AGPAAAAAAAAAAAAAAAAAA", Name: "readers", Path: "/"}
	group.Attached = []string{"arn:aws:iam::aws:policy/AdministratorAccess"}
	w.update(func(tx *state.Tx) { state.Put(tx, state.Groups, group) })
	w.changeUser("ada", func(u *state.User) { u.Attached, u.Groups = nil, []ident.GroupID{group.ID} })
	w.allowed(p, op, nil)
	w.update(func(tx *state.Tx) { state.Delete(tx, state.Groups, string(group.ID)) })
	w.denied(p, op, nil, no)

	w.update(func(tx *state.Tx) { state.Delete(tx, state.Users, p.UserID()) })
	w.denied(p, op, nil, "workspaces:DescribeWorkspaces on resource: "+prefix+"workspace/* with an explicit deny in an identity-based policy")
}

func TestIAM2APolicyThatCannotBeReadDenies(t *testing.T) {
	w := newWorld(t)
	w.denied(w.user("ada", allow("*", "*")[:40]), workspaces.DescribeWorkspaces.Operation, nil,
		"workspaces:DescribeWorkspaces on resource: "+prefix+"workspace/* with an explicit deny in an identity-based policy")
}

func TestAssumingARole(t *testing.T) {
	w := newWorld(t)
	op := sts.AssumeRole.Operation
	trust := func(principal, more string) string {
		return `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"AWS":"` + principal + `"},"Action":"sts:AssumeRole"` + more + `}]}`
	}
	ada, bob := w.user("ada", ""), w.user("bob", allow("sts:AssumeRole", "*"))
	w.role("named", trust(ada.UserID(), ""), state.Permissions{})
	w.role("account", trust("123456789012", ""), state.Permissions{})
	w.role("external", trust("123456789012", `,"Condition":{"StringEquals":{"sts:ExternalId":"secret"}}`), state.Permissions{})
	in := func(name string) *sts.AssumeRoleInput {
		return &sts.AssumeRoleInput{RoleArn: shape.Ptr("arn:aws:iam::123456789012:role/" + name), RoleSessionName: shape.Ptr("s1")}
	}
	const on = "sts:AssumeRole on resource: arn:aws:iam::123456789012:role/"
	t.Run("5.1 a trust policy that names the user needs no other", func(t *testing.T) { w.allowed(ada, op, in("named")) })
	t.Run("5.1 one that names the account delegates", func(t *testing.T) {
		w.denied(ada, op, in("account"), on+"account because no identity-based policy allows the sts:AssumeRole action")
		w.allowed(bob, op, in("account"))
	})
	t.Run("5.1 without the trust policy's word nothing goes", func(t *testing.T) {
		w.denied(bob, op, in("named"), on+"named because no role trust policy allows the sts:AssumeRole action")
	})
	t.Run("a role that does not exist is denied in the same words", func(t *testing.T) {
		w.denied(bob, op, in("nothing"), on+"nothing because no role trust policy allows the sts:AssumeRole action")
	})
	t.Run("the external id", func(t *testing.T) {
		w.denied(bob, op, in("external"), on+"external because no role trust policy allows the sts:AssumeRole action")
		with := in("external")
		with.ExternalId = shape.Ptr("secret")
		w.allowed(bob, op, with)
	})
	t.Run("session tags and a source identity need actions of their own", func(t *testing.T) {
		tagged := in("account")
		tagged.Tags = []sts.Tag{{Key: shape.Ptr("team"), Value: shape.Ptr("red")}}
		w.denied(bob, op, tagged, "sts:TagSession on resource: arn:aws:iam::123456789012:role/account because no role trust policy allows the sts:TagSession action")
		known := in("account")
		known.SourceIdentity = shape.Ptr("bob")
		w.denied(bob, op, known, "sts:SetSourceIdentity on resource: arn:aws:iam::123456789012:role/account because no role trust policy allows the sts:SetSourceIdentity action")
	})
	t.Run("IAM-5 who is made again under an old name is not trusted", func(t *testing.T) {
		w.update(func(tx *state.Tx) { state.Delete(tx, state.Users, ada.UserID()); tx.Release("user/ada") })
		again := w.user("ada", allow("sts:*", "*"))
		if again.UserID() == ada.UserID() {
			t.Fatal("the same id")
		}
		w.denied(again, op, in("named"), on+"named because no role trust policy allows the sts:AssumeRole action")
	})
}

func TestTheExplanationKeepsWhatMatched(t *testing.T) {
	w := newWorld(t)
	p := w.user("ada", `{"Version":"2012-10-17","Statement":[{"Sid":"Read","Effect":"Allow","Action":"workspaces:*","Resource":"*"},{"Sid":"Never","Effect":"Deny","Action":"workspaces:Terminate*","Resource":"*"}]}`)
	d := w.ask(p, workspaces.TerminateWorkspaces.Operation, terminate("ws-1"))
	defer d.Release()
	x := d.Explain()
	if x.Allowed || x.By != "identity-based policy" || len(x.Checks) != 1 || x.Checks[0].Decision != "explicitDeny" || x.Checks[0].Account != "123456789012" {
		t.Fatalf("%+v", x)
	}
	want := []authz.Match{{Kind: "identity-based policy", Policy: "user_ada_Own", Sid: "Read", Statement: 1, Effect: "Allow"},
		{Kind: "identity-based policy", Policy: "user_ada_Own", Sid: "Never", Statement: 2, Effect: "Deny"}}
	if !slices.Equal(x.Checks[0].Matched, want) {
		t.Errorf("%+v", x.Checks[0].Matched)
	}
	var read authz.Explanation
	if err := json.Unmarshal(d.AppendJSON(nil), &read); err != nil || !reflect.DeepEqual(&read, x) {
		t.Errorf("%v\nwritten and read again %+v\nwant %+v", err, read, x)
	}
	if request, set, sources := d.Question(); request.Resource() != prefix+"workspace/ws-1" || set.Identity == nil || sources(policy.Identity)[0].ID != "user_ada_Own" {
		t.Error("the question is not as it was asked")
	}
}

func TestWhateverIsAskedTheExplanationIsJSON(t *testing.T) {
	w := newWorld(t)
	for _, odd := range []string{`"`, `\`, "\x00", "\n\r\t", "\u2028", "\xff\xfe", "</script>", "\u202e", "\x7f", "'&<>", "𝒳", `\u0000`, `",{"allowed":true}`} {
		p := w.user("odd", allow("*", "*"))
		w.changeUser("odd", func(u *state.User) { u.Tags = map[string]string{"k" + odd: odd} })
		w.at.UserAgent, w.at.Referer = odd, odd+odd
		for _, in := range []*workspaces.TerminateWorkspacesInput{terminate(odd), terminate("ws-1", odd+"x")} {
			d := w.ask(p, workspaces.TerminateWorkspaces.Operation, in)
			var read authz.Explanation
			if err := json.Unmarshal(d.AppendJSON(nil), &read); err != nil || len(read.Checks) != len(in.TerminateWorkspaceRequests) || !read.Allowed {
				t.Errorf("%q: %v %+v", odd, err, read)
			}
			d.Release()
		}
	}
}
