package analysis

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"carrel/internal/audit"
	"carrel/internal/authz"
	"carrel/internal/permissions"
	"carrel/internal/policy"
)

// question is one that somebody has asked.
type question struct {
	member           int
	action, resource string
	circumstance
}

// event is the record of a question as the door keeps it.
func (w *World) event(t *testing.T, n int, q question) *audit.Event {
	t.Helper()
	m := &w.Members[q.member]
	e := &audit.Event{}
	u := &e.Record.UserIdentity
	u.ARN, u.AccountID, u.PrincipalID = m.ARN, account, m.ID
	e.Record.RequestID = fmt.Sprintf("00000000-0000-0000-0000-%012d", n)
	context := map[string][]string{}
	team := m.Tags["team"]
	switch m.Type {
	case Root:
		u.Type = "Root"
	case User:
		u.Type = "IAMUser"
		context["aws:username"] = []string{m.Name}
	case Role:
		u.Type, u.ARN, u.PrincipalID = "AssumedRole", "arn:aws:sts::123456789012:assumed-role/"+m.Name+"/*", m.ID+":late"
		team = q.team
	}
	if team != "" {
		context["aws:principaltag/team"] = []string{team}
	}
	if q.mfa != "" {
		context["aws:multifactorauthpresent"] = []string{q.mfa}
	}
	decision := policy.ImplicitDeny
	if w.decides(m, q.action, q.resource, q.circumstance) {
		decision = policy.Allowed
	}
	d := Recorded{ID: e.Record.RequestID, Explanation: authz.Explanation{Allowed: decision == policy.Allowed, Context: context,
		Checks: []authz.ExplainedCheck{{Action: q.action, Resource: q.resource, Decision: decision.String(), Account: account}}}}
	text, err := json.Marshal(map[string]any{"additionalEventData": map[string]any{"decision": d}})
	if err != nil {
		t.Fatal(err)
	}
	e.Raw = text
	return e
}

// with is the world in which a proposal is in force.
func (w *World) with(p *Proposal) *World {
	c := *w
	c.Documents = append(slices.Clone(w.Documents), permissions.Source{Type: "user", ID: "proposed", Text: p.Text})
	c.Members = slices.Clone(w.Members)
	n := len(w.Documents)
	if p.Kind == policy.Guardrail {
		c.Guardrails = []int{n}
		return &c
	}
	for i := range c.Members {
		m := &c.Members[i]
		switch {
		case m.Type == Root || p.For != nil && !slices.Contains(p.For, m.ARN):
		case p.InPlaceOf != "":
			m.Identity, m.Boundary = slices.Clone(m.Identity), slices.Clone(m.Boundary)
			for j := range m.Identity {
				if w.Documents[m.Identity[j].Document].ID == p.InPlaceOf {
					m.Identity[j].Document = n
				}
			}
			for j := range m.Boundary {
				if w.Documents[m.Boundary[j]].ID == p.InPlaceOf {
					m.Boundary[j] = n
				}
			}
		case p.Kind == policy.Boundary:
			m.Boundary = []int{n}
		default:
			m.Identity = append(slices.Clone(m.Identity), Applied{Document: n})
		}
	}
	return &c
}

func (g generator) proposal(t *testing.T, w *World) *Proposal {
	p := &Proposal{Kind: []policy.Kind{policy.Identity, policy.Boundary, policy.Guardrail}[g.IntN(3)]}
	p.Text = g.documents(t, p.Kind)[0].String()
	if p.Kind == policy.Guardrail {
		return p
	}
	if g.IntN(2) == 0 {
		p.For = []string{g.of(ada, grace, desk)}
	}
	if n := g.IntN(len(w.Documents)); g.IntN(2) == 0 && strings.HasPrefix(w.Documents[n].ID, p.Kind.String()) {
		w.Documents[n].Type, w.Documents[n].ID = "user-managed", "arn:aws:iam::123456789012:policy/managed"
		p.InPlaceOf = w.Documents[n].ID
	}
	return p
}

func TestReplayIsWhatEvaluatingTheChangedPoliciesSays(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(5, 6))}
	changes, places := 0, 0
	for range 300 {
		w := g.people(t)
		p := g.proposal(t, w)
		if p.InPlaceOf != "" {
			places++
		}
		r, err := NewReplay(w, p)
		if err != nil {
			t.Fatal(err)
		}
		changed := w.with(p)
		want := map[Changed]int{}
		for n := range 30 {
			q := question{g.IntN(5), "workspaces:TerminateWorkspaces", g.of(one, two), circumstances[g.IntN(len(circumstances))]}
			if g.IntN(3) == 0 {
				q.action, q.resource = "sts:AssumeRole", g.of(desk, night)
			}
			r.Add(w.event(t, n, q))
			m := &w.Members[q.member]
			before, after := w.decides(m, q.action, q.resource, q.circumstance), changed.decides(&changed.Members[q.member], q.action, q.resource, q.circumstance)
			if before != after {
				want[Changed{Principal: m.ARN, Action: q.action, Resource: q.resource, From: word(before), To: word(after)}]++
			}
		}
		out := r.Result()
		got := map[Changed]int{}
		for _, c := range out.Changes {
			if (c.From == "deny" || c.To == "deny") != (c.Reason != "") || c.Example == "" {
				t.Errorf("%+v has no reason or no example", c)
			}
			got[Changed{Principal: c.Principal, Action: c.Action, Resource: c.Resource, From: c.From, To: c.To}] = c.Count
		}
		if !reflect.DeepEqual(got, want) || out.Records != 30 || out.Checks != 30 || out.Drifted != 0 || len(out.Skipped) != 0 {
			t.Fatalf("got %+v\nwant %+v\nof %+v\n%+v\n%+v", got, want, p, w, out)
		}
		changes += len(want)
	}
	t.Logf("%d changes, %d proposals in place of a policy", changes, places)
	if changes < 300 || places < 20 {
		t.Error("the worlds are too small")
	}
}

func word(allowed bool) string {
	if allowed {
		return "allow"
	}
	return "deny"
}

const everything = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"*","Resource":"*"}]}`

func TestWhatCannotBeAskedAgainIsCounted(t *testing.T) {
	w := office()
	ask := question{1, "workspaces:TerminateWorkspaces", one, circumstance{}}
	for _, c := range []struct {
		name   string
		change func(e *audit.Event)
		want   string
	}{
		{"a record without a decision", func(e *audit.Event) { e.Raw = json.RawMessage(`{}`) }, skipNone},
		{"a record that is no JSON", func(e *audit.Event) { e.Raw = json.RawMessage(`{`) }, skipNone},
		{"a user who was deleted", func(e *audit.Event) { e.Record.UserIdentity.PrincipalID = "AIDAGONEGONEGONEGONE" }, skipGone},
		{"a user made again under the name", func(e *audit.Event) { e.Record.UserIdentity.PrincipalID = "AIDAEXAMPLEEXAMPLE99" }, skipGone},
		{"a caller without credentials of the account", func(e *audit.Event) { e.Record.UserIdentity.Type = "WebIdentityUser" }, skipStranger},
		{"somebody for whom an identity provider vouched", func(e *audit.Event) {
			e.Record.EventSource, e.Record.EventName, e.Record.UserIdentity.Type = "sts.amazonaws.com", "AssumeRoleWithWebIdentity", "WebIdentityUser"
		}, skipVouched},
		{"such a call that somebody signed all the same", func(e *audit.Event) {
			e.Record.EventSource, e.Record.EventName = "sts.amazonaws.com", "AssumeRoleWithSAML"
		}, skipVouched},
		{"an operation that is everybody's", func(e *audit.Event) {
			e.Raw = json.RawMessage(`{"additionalEventData":{"decision":{"id":"x","allowed":true}}}`)
		}, skipFree},
		{"a decision that was too long", func(e *audit.Event) {
			e.Raw = json.RawMessage(`{"additionalEventData":{"decision":{"id":"x","allowed":false,"shortened":true}}}`)
		}, skipShortened},
		{"a role that was deleted", func(e *audit.Event) {
			e.Raw = json.RawMessage(strings.NewReplacer("workspaces:TerminateWorkspaces", "sts:AssumeRole", one, night).Replace(string(e.Raw)))
		}, skipRole},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := NewReplay(w, &Proposal{Kind: policy.Identity, Text: everything})
			if err != nil {
				t.Fatal(err)
			}
			e := w.event(t, 1, ask)
			c.change(e)
			r.Add(e)
			if out := r.Result(); out.Checks != 0 || len(out.Changes) != 0 || out.Skipped[c.want] != 1 {
				t.Errorf("%+v", out)
			}
		})
	}
}

func TestPoliciesThatChangedSinceAreTold(t *testing.T) {
	w := office()
	e := w.event(t, 1, question{1, "workspaces:TerminateWorkspaces", one, circumstance{}})
	w.Members[1].Identity = []Applied{{Document: 0}}
	r, err := NewReplay(w, &Proposal{Kind: policy.Identity, Text: everything})
	if err != nil {
		t.Fatal(err)
	}
	r.Add(e)
	if out := r.Result(); out.Drifted != 1 || len(out.Changes) != 0 {
		t.Errorf("%+v", out)
	}
}

func TestASessionPolicySaysAgainWhatItSaid(t *testing.T) {
	w := office()
	for _, c := range []struct{ name, matched, decision, by, want string }{
		{"none", ``, "implicitDeny", "identity-based policy", "allow"},
		{"one that allowed", `{"kind":"session policy","effect":"Allow"}`, "implicitDeny", "identity-based policy", "allow"},
		{"one that denied", `{"kind":"session policy","effect":"Deny"}`, "explicitDeny", "session policy", ""},
		{"one that said nothing", ``, "implicitDeny", "session policy", ""},
		{"an endpoint's that said nothing", ``, "implicitDeny", "VPC endpoint policy", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			r, err := NewReplay(w, &Proposal{Kind: policy.Identity, Text: everything, For: []string{ada}})
			if err != nil {
				t.Fatal(err)
			}
			e := w.event(t, 1, question{1, "workspaces:TerminateWorkspaces", one, circumstance{}})
			e.Raw = json.RawMessage(`{"additionalEventData":{"decision":{"allowed":false,"by":"` + c.by + `","checks":[{"action":"workspaces:TerminateWorkspaces","resource":"` + one + `","decision":"` + c.decision + `","matched":[` + c.matched + `]}]}}}`)
			r.Add(e)
			out := r.Result()
			if got := ""; len(out.Changes) > 0 {
				got = out.Changes[0].To
				if got != c.want {
					t.Errorf("%+v", out)
				}
			} else if c.want != "" {
				t.Errorf("%+v", out)
			}
		})
	}
}

func TestProposalsThatAreNoneAreRefused(t *testing.T) {
	w := office()
	w.Members[1].Groups = []string{"arn:aws:iam::123456789012:group/desks"}
	for _, c := range []struct {
		name string
		p    Proposal
		want string
	}{
		{"no policy", Proposal{Text: "{"}, "the proposed policy: "},
		{"principals in an identity policy", Proposal{Text: strings.Replace(everything, `"Action"`, `"Principal":"*","Action"`, 1)}, "the proposed policy: "},
		{"too long", Proposal{Text: strings.Replace(everything, `"*"`, `"`+strings.Repeat("x", 7000)+`:y"`, 1)}, "the proposed policy: "},
		{"for nobody", Proposal{Text: everything, For: []string{ada, "arn:aws:iam::123456789012:user/nobody"}}, "user/nobody"},
		{"for the root", Proposal{Text: everything, For: []string{root}}, "the root has no policies"},
		{"in place of what nobody has", Proposal{Text: everything, InPlaceOf: "arn:aws:iam::aws:policy/None"}, "nobody has the managed policy"},
		{"a guardrail for somebody", Proposal{Kind: policy.Guardrail, Text: everything, For: []string{ada}}, "a guardrail is everybody's"},
		{"a guardrail in place of a policy", Proposal{Kind: policy.Guardrail, Text: everything, InPlaceOf: "x"}, "a guardrail is everybody's"},
	} {
		if _, err := NewReplay(w, &c.p); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	r, err := NewReplay(w, &Proposal{Text: everything, For: []string{"arn:aws:iam::123456789012:group/desks"}})
	if err != nil || len(r.targets) != 1 || !r.targets["AIDAEXAMPLEEXAMPLE01"] {
		t.Errorf("a group: %v %v", r, err)
	}
	if _, err := ProposalKind("session"); err == nil {
		t.Error("a kind that cannot be proposed was taken")
	}
}

func TestFindingARequest(t *testing.T) {
	dir, log := newLog(t)
	at := time.Date(2026, 11, 26, 10, 0, 0, 0, time.UTC)
	for i, id := range []string{"aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000002", "bbbbbbbb-0000-4000-8000-000000000003"} {
		log(audit.Record{EventTime: at.Add(time.Duration(i) * time.Hour), RequestID: id, EventID: "eeeeeee" + id[7:], EventName: "DescribeTags"})
	}
	for _, c := range []struct{ id, want, err string }{
		{"aaaaaaaa-0000-4000-8000-000000000001", "aaaaaaaa-0000-4000-8000-000000000001", ""},
		{" AAAAAAAA-0000-4000-8000-000000000002\n", "aaaaaaaa-0000-4000-8000-000000000002", ""},
		{"bbbbbbbb", "bbbbbbbb-0000-4000-8000-000000000003", ""},
		{"eeeeeeeb-0000-4000-8000-000000000003", "bbbbbbbb-0000-4000-8000-000000000003", ""},
		{"aaaaaaaa-0000", "", "give more of the id"},
		{"cccccccc-0000-4000-8000-000000000001", "", "aws cloudtrail lookup-events"},
		{"aaaa", "", "at least its first 8"},
		{"", "", "at least its first 8"},
	} {
		e, err := Find(dir, c.id)
		switch {
		case c.err != "":
			if err == nil || !strings.Contains(err.Error(), c.err) {
				t.Errorf("%q: %v", c.id, err)
			}
		case err != nil:
			t.Errorf("%q: %v", c.id, err)
		case e.Record.RequestID != c.want:
			t.Errorf("%q: %s", c.id, e.Record.RequestID)
		}
	}
	var seen []string
	if err := Since(dir, at.Add(time.Hour), func(e *audit.Event) { seen = append(seen, e.Record.RequestID[:1]) }); err != nil || strings.Join(seen, "") != "ba" {
		t.Errorf("%v %v", seen, err)
	}
}
