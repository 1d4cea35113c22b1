package analysis

import (
	"crypto/rand"
	"encoding/json"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/api/workspaces"
	"carrel/internal/audit"
	"carrel/internal/authz"
	"carrel/internal/ident"
	"carrel/internal/identity"
	"carrel/internal/identity/identitytest"
	"carrel/internal/permissions"
	"carrel/internal/policy"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

// court is an account in which authz decides.
type court struct {
	db    *state.DB
	authz *authz.Authorizer
	of    permissions.Account
}

func newCourt(t *testing.T) *court {
	db := statetest.NewDB(t)
	return &court{db, &authz.Authorizer{DB: db, Account: identitytest.Account, Region: identitytest.Region, Partition: identitytest.Partition}, permissions.Account{ID: identitytest.Account, Partition: identitytest.Partition}}
}

func (c *court) update(t *testing.T, fn func(*state.Tx)) {
	t.Helper()
	if _, err := c.db.Update(t.Context(), func(tx *state.Tx) error { fn(tx); return nil }); err != nil {
		t.Fatal(err)
	}
}

func (c *court) world() *World {
	return NewWorld(c.db.Snapshot(), c.of, identitytest.Region, []string{"workspaces:TerminateWorkspaces", "sts:AssumeRole"})
}

const (
	wsOne   = "arn:aws:workspaces:us-east-1:123456789012:workspace/ws-000000001"
	deskARN = "arn:aws:iam::123456789012:role/desk"
)

// people are users with policies of every kind, and a role.
func (c *court) people(t *testing.T) map[string]identity.Principal {
	with := func(statements string) string { return `{"Version":"2012-10-17","Statement":[` + statements + `]}` }
	all := with(`{"Effect":"Allow","Action":"*","Resource":"*"}`)
	group := &state.Group{ID: ident.NewGroupID(rand.Reader), Name: "desks", Path: "/", Permissions: state.Permissions{Inline: map[string]string{"In": with(`{"Effect":"Allow","Action":"workspaces:*","Resource":"*"}`)}}}
	bound := &state.Policy{ID: ident.NewPolicyID(rand.Reader), Name: "bound", Path: "/", Default: "v1", Next: 2, Versions: []state.PolicyVersion{{ID: "v1", Document: with(`{"Effect":"Allow","Action":"ds:*","Resource":"*"}`)}}}
	c.update(t, func(tx *state.Tx) {
		state.Put(tx, state.Groups, group)
		state.Put(tx, state.Policies, bound)
		ws := &state.Workspace{ID: "ws-000000001"}
		ws.Tags = map[string]string{"team": "ops"}
		state.Put(tx, state.Workspaces, ws)
	})
	changes := map[string]func(*state.User){
		"none":    func(*state.User) {},
		"all":     func(u *state.User) { u.Inline = map[string]string{"Own": all} },
		"managed": func(u *state.User) { u.Attached = []string{"arn:aws:iam::aws:policy/AdministratorAccess"} },
		"grouped": func(u *state.User) { u.Groups = []ident.GroupID{group.ID} },
		"bounded": func(u *state.User) { u.Inline, u.Boundary = map[string]string{"Own": all}, c.of.ARN(bound) },
		"team": func(u *state.User) {
			u.Inline, u.Tags = map[string]string{"Own": with(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/team":"${aws:PrincipalTag/team}"}}}`)}, map[string]string{"team": "ops"}
		},
		"other": func(u *state.User) {
			u.Inline, u.Tags = map[string]string{"Own": with(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/team":"${aws:PrincipalTag/team}"}}}`)}, map[string]string{"team": "core"}
		},
		"inside": func(u *state.User) {
			u.Inline = map[string]string{"Own": with(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"192.0.2.0/24"}}}`)}
		},
		"outside": func(u *state.User) {
			u.Inline = map[string]string{"Own": with(`{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"NotIpAddress":{"aws:SourceIp":"192.0.2.0/24"}}}`)}
		},
		"denied": func(u *state.User) {
			u.Inline = map[string]string{"Own": all, "No": with(`{"Effect":"Deny","Action":"workspaces:*","Resource":"` + wsOne + `"}`)}
		},
		"unread":  func(u *state.User) { u.Inline = map[string]string{"Own": all, "Bad": "{"} },
		"trusted": func(*state.User) {},
		"ResOther": func(u *state.User) {
			u.Inline = map[string]string{"Own": with(`{"Effect":"Allow","NotAction":"sts:*","NotResource":"` + wsOne + `"}`)}
		},
	}
	out := map[string]identity.Principal{}
	for name, change := range changes {
		id := identitytest.AddUser(t, c.db, name)
		c.update(t, func(tx *state.Tx) {
			old, _ := state.Get(tx, state.Users, string(id))
			u := state.Clone(old)
			change(u)
			state.Put(tx, state.Users, u)
		})
		out["arn:aws:iam::123456789012:user/"+name] = identitytest.Principal(t, c.db, identitytest.AddKey(t, c.db, id))
		if name == "trusted" {
			c.update(t, func(tx *state.Tx) {
				state.Put(tx, state.Roles, &state.Role{ID: ident.NewRoleID(rand.Reader), Name: "desk", Path: "/", MaxSession: 3600,
					Trust: with(`{"Effect":"Allow","Principal":{"AWS":"` + string(id) + `"},"Action":"sts:AssumeRole"},{"Effect":"Allow","Principal":{"AWS":"123456789012"},"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"x"}}}`)})
			})
		}
	}
	out["arn:aws:iam::123456789012:root"] = identitytest.Root(t, c.db)
	return out
}

// decide asks authz, and gives the record that the door would keep.
func (c *court) decide(t *testing.T, p identity.Principal, op *shape.Operation, input any) (*audit.Event, bool) {
	t.Helper()
	d := c.authz.Decide(&authz.Ask{Principal: p, Op: op, Input: input, Circumstances: &authz.Circumstances{Now: time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC), Source: netip.MustParseAddr("192.0.2.7"), TLS: true}})
	defer d.Release()
	e := &audit.Event{Raw: json.RawMessage(fmt.Sprintf(`{"additionalEventData":{"decision":%s}}`, d.AppendJSON(nil)))}
	e.Record.RequestID = "1f0c"
	e.Record.UserIdentity = audit.UserIdentity{Type: string(p.Type()), PrincipalID: p.UserID(), ARN: p.ARN(), AccountID: p.AccountID()}
	if text := Attach(d); (text == nil) != d.Allowed {
		t.Errorf("%s, allowed %v: the nearest allow is %s", p.ARN(), d.Allowed, text)
	}
	return e, d.Allowed
}

func terminate() any {
	return &workspaces.TerminateWorkspacesInput{TerminateWorkspaceRequests: []workspaces.TerminateRequest{{WorkspaceId: shape.Ptr("ws-000000001")}}}
}

func assume(external string) any {
	in := &sts.AssumeRoleInput{RoleArn: shape.Ptr(deskARN), RoleSessionName: shape.Ptr("late")}
	if external != "" {
		in.ExternalId = shape.Ptr(external)
	}
	return in
}

func TestWhoCanIsWhatIsDecided(t *testing.T) {
	c := newCourt(t)
	people := c.people(t)
	w := c.world()
	can := func(q Question) map[string]Can {
		access, err := w.WhoCan(q)
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]Can{}
		for _, a := range access.Answers {
			if len(a.Through) == 0 {
				out[a.Principal] = a.Can
			}
		}
		return out
	}
	here := map[string][]string{"aws:SourceIp": {"192.0.2.7"}}
	tags, known := ResourceTags(c.db.Snapshot(), c.of, wsOne)
	ws := can(Question{Action: "workspaces:TerminateWorkspaces", Resource: wsOne, Tags: tags, TagsKnown: known, With: here})
	plain := can(Question{Action: "sts:AssumeRole", Resource: deskARN, TagsKnown: true, With: here, Without: []string{"sts:ExternalId"}})
	external := can(Question{Action: "sts:AssumeRole", Resource: deskARN, TagsKnown: true, With: map[string][]string{"aws:SourceIp": {"192.0.2.7"}, "sts:ExternalId": {"x"}}})
	count := 0
	for name, p := range people {
		for what, ask := range map[string]struct {
			op    *shape.Operation
			input any
			said  Can
		}{
			"terminate": {workspaces.TerminateWorkspaces.Operation, terminate(), ws[name]},
			"assume":    {sts.AssumeRole.Operation, assume(""), plain[name]},
			"assume x":  {sts.AssumeRole.Operation, assume("x"), external[name]},
		} {
			_, allowed := c.decide(t, p, ask.op, ask.input)
			if allowed {
				count++
			}
			if allowed != (ask.said == Yes) || ask.said == Perhaps {
				t.Errorf("%s %s: who-can says %q, authz %v", name, what, ask.said, allowed)
			}
		}
	}
	if count < 10 {
		t.Errorf("only %d of them were allowed", count)
	}
}

func TestWhatWasDecidedIsDecidedAgainAlike(t *testing.T) {
	c := newCourt(t)
	people := c.people(t)
	record := func(r *Replay) {
		for _, p := range people {
			for _, ask := range []struct {
				op    *shape.Operation
				input any
			}{{workspaces.TerminateWorkspaces.Operation, terminate()}, {sts.AssumeRole.Operation, assume("")}, {sts.AssumeRole.Operation, assume("x")}} {
				e, _ := c.decide(t, p, ask.op, ask.input)
				r.Add(e)
			}
		}
	}
	r, err := NewReplay(c.world(), &Proposal{Kind: policy.Identity, Text: strings.Replace(everything, `"Action":"*"`, `"Action":"s3:*"`, 1)})
	if err != nil {
		t.Fatal(err)
	}
	record(r)
	if out := r.Result(); out.Checks != 3*len(people) || out.Drifted != 0 || len(out.Changes) != 0 || len(out.Skipped) != 0 {
		t.Errorf("a policy about nothing of it changes %+v", out)
	}
	// What is proposed, and what comes of it when it is put.
	deny := strings.Replace(everything, "Allow", "Deny", 1)
	if r, err = NewReplay(c.world(), &Proposal{Kind: policy.Guardrail, Text: deny}); err != nil {
		t.Fatal(err)
	}
	record(r)
	changed := 0
	for _, ch := range r.Result().Changes {
		changed += ch.Count
		if ch.To != "deny" {
			t.Errorf("%+v", ch)
		}
	}
	before := 0
	for _, p := range people {
		for _, input := range []any{assume(""), assume("x")} {
			if _, allowed := c.decide(t, p, sts.AssumeRole.Operation, input); allowed {
				before++
			}
		}
		if _, allowed := c.decide(t, p, workspaces.TerminateWorkspaces.Operation, terminate()); allowed {
			before++
		}
	}
	if changed != before || before == 0 {
		t.Errorf("%d decisions would change, and %d were allowed", changed, before)
	}
	c.update(t, func(tx *state.Tx) {
		state.Put(tx, state.Accounts, &state.Account{Guardrails: map[string]string{"no": deny}})
	})
	for name, p := range people {
		if _, allowed := c.decide(t, p, workspaces.TerminateWorkspaces.Operation, terminate()); allowed {
			t.Errorf("%s may, whatever the guardrail says", name)
		}
	}
}
