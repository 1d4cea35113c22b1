package analysis

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"carrel/internal/permissions"
	"carrel/internal/policy"
)

const (
	grace = "arn:aws:iam::123456789012:user/grace"
	night = "arn:aws:iam::123456789012:role/night"
	root  = "arn:aws:iam::123456789012:root"
)

// people makes a world of the root, two users and two roles, with random documents.
func (g generator) people(t *testing.T) *World {
	w := &World{Account: account, Region: "eu-central-1", Partition: "aws", Actions: []string{"workspaces:TerminateWorkspaces", "sts:AssumeRole"}}
	put := func(k policy.Kind) []int {
		var out []int
		for i, d := range g.documents(t, k) {
			w.Documents = append(w.Documents, permissions.Source{Type: "user", ID: fmt.Sprintf("%s-%d-%d", k, len(w.Documents), i), Text: d.String()})
			out = append(out, len(w.Documents)-1)
		}
		return out
	}
	if g.IntN(3) == 0 {
		w.Guardrails = put(policy.Guardrail)
	}
	w.Members = []Member{{Type: Root, ARN: root, ID: account}, {Type: User, ARN: ada, ID: "AIDAEXAMPLEEXAMPLE01", Name: "ada", Tags: map[string]string{"team": "ops"}}, {Type: User, ARN: grace, ID: "AIDAEXAMPLEEXAMPLE02", Name: "grace"},
		{Type: Role, ARN: desk, ID: "AROAEXAMPLEEXAMPLE01", Name: "desk"}, {Type: Role, ARN: night, ID: "AROAEXAMPLEEXAMPLE02", Name: "night", Tags: map[string]string{"team": "core"}}}
	for i := range w.Members {
		m := &w.Members[i]
		if m.Type != Root && g.IntN(4) > 0 {
			m.Identity = applied(put(policy.Identity))
		}
		if m.Type != Root && g.IntN(4) == 0 {
			m.Boundary = put(policy.Boundary)
		}
		if m.Type == Role {
			m.Trust = put(policy.Trust)
		}
	}
	return w
}

// circumstance is one of those that the world does not know beforehand.
type circumstance struct{ mfa, team string }

var circumstances = []circumstance{{"", ""}, {"true", ""}, {"false", ""}, {"", "ops"}, {"true", "ops"}, {"false", "ops"}, {"", "core"}, {"true", "core"}, {"false", "core"}}

// decides evaluates the whole set of a member, all documents compiled as they are.
func (w *World) decides(m *Member, action, resource string, c circumstance) bool {
	all := func(k policy.Kind, documents []int) *policy.Policy {
		if len(documents) == 0 {
			return nil
		}
		var texts []string
		for _, n := range documents {
			texts = append(texts, w.Documents[n].Text)
		}
		p, _ := policy.CompileStored(k, texts...)
		return p
	}
	var own []int
	for _, a := range m.Identity {
		own = append(own, a.Document)
	}
	s := policy.Set{Identity: all(policy.Identity, own), Boundary: all(policy.Boundary, m.Boundary)}
	if g := all(policy.Guardrail, w.Guardrails); g != nil {
		s.Guardrails = []*policy.Policy{g}
	}
	if role := w.find(resource); role != nil {
		s.Resource, s.Trust = all(policy.Trust, role.Trust), true
	}
	r := &policy.Request{Action: policy.NewAction(action), Principal: w.principal(m)}
	r.SetResource(resource)
	team := m.Tags["team"]
	switch m.Type {
	case User:
		r.Set(policy.NewKey("aws:username"), m.Name)
	case Role:
		team = c.team
	}
	if team != "" {
		r.Set(policy.NewKey("aws:PrincipalTag/team"), team)
	}
	if c.mfa != "" {
		r.Set(policy.NewKey("aws:MultiFactorAuthPresent"), c.mfa)
	}
	return s.Decide(r, nil).Decision == policy.Allowed
}

// reach are those who may, themselves or from role to role.
func (w *World) reach(action, resource string, c circumstance) map[string]bool {
	can := map[string]bool{}
	for i := range w.Members {
		can[w.Members[i].ARN] = w.decides(&w.Members[i], action, resource, c)
	}
	for range w.Members {
		for i := range w.Members {
			for j := range w.Members {
				if role := &w.Members[j]; role.Type == Role && can[role.ARN] && w.decides(&w.Members[i], "sts:AssumeRole", role.ARN, c) {
					can[w.Members[i].ARN] = true
				}
			}
		}
	}
	return can
}

func TestWhoCanIsWhatEvaluatingEverybodySays(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(3, 4))}
	said, mixed := map[Can]int{}, 0
	for range 300 {
		w := g.people(t)
		access, err := w.WhoCan(Question{Action: "workspaces:TerminateWorkspaces", Resource: one})
		if err != nil {
			t.Fatal(err)
		}
		var reached []map[string]bool
		for _, c := range circumstances {
			reached = append(reached, w.reach("workspaces:TerminateWorkspaces", one, c))
		}
		best := map[string]Can{}
		for _, name := range access.Denied {
			best[name] = No
		}
		for _, a := range access.Answers {
			if best[a.Principal] == No || a.Can == No {
				t.Fatalf("%s is told of twice: %+v", a.Principal, access)
			}
			if a.Can == Perhaps && len(a.If)+len(a.Unless) == 0 && a.Type != "External" {
				t.Fatalf("%s may if nothing: %+v", a.Principal, a)
			}
			if best[a.Principal] != Yes {
				best[a.Principal] = a.Can
			}
		}
		for i := range w.Members {
			m := &w.Members[i]
			always, never := true, true
			for _, r := range reached {
				always, never = always && r[m.ARN], never && !r[m.ARN]
			}
			said[best[m.ARN]]++
			if best[m.ARN] == Yes && !always || best[m.ARN] == No && !never || best[m.ARN] == "" {
				t.Fatalf("%s: %q, and always %v never %v\n%+v\n%+v", m.ARN, best[m.ARN], always, never, w, access)
			}
			if best[m.ARN] == Perhaps && !always && !never {
				mixed++
			}
		}
	}
	t.Logf("%v, %d that depend on the request for certain", said, mixed)
	if said[Yes] < 100 || said[No] < 100 || mixed < said[Perhaps]/2 {
		t.Error("the answers are too seldom exact, or the worlds too small")
	}
}

// office is a world of documents by hand.
func office() *World {
	w := &World{Account: account, Region: "eu-central-1", Partition: "aws", Actions: []string{"workspaces:TerminateWorkspaces", "workspaces:DescribeWorkspaces", "sts:AssumeRole"}}
	for id, text := range []string{
		`{"Sid":"Desks","Effect":"Allow","Action":"workspaces:*","Resource":"*"}`,
		`{"Sid":"MFA","Effect":"Allow","Action":"workspaces:*","Resource":"*","Condition":{"Bool":{"aws:MultiFactorAuthPresent":"true"}}}`,
		`{"Sid":"NotFromOutside","Effect":"Deny","Action":"*","Resource":"*","Condition":{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}`,
		`{"Sid":"Trust","Effect":"Allow","Principal":{"AWS":"` + grace + `","Federated":"arn:aws:iam::123456789012:saml-provider/okta"},"Action":["sts:AssumeRole","sts:AssumeRoleWithSAML"]},{"Effect":"Allow","Principal":{"AWS":"999999999999","Service":"workspaces.amazonaws.com"},"Action":"sts:AssumeRole","Condition":{"StringEquals":{"sts:ExternalId":"x"}}}`,
		`{"Sid":"Team","Effect":"Allow","Action":"workspaces:TerminateWorkspaces","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/team":"${aws:PrincipalTag/team}"}}}`,
		`{"Sid":"Own","Effect":"Allow","Action":"workspaces:TerminateWorkspaces","Resource":"arn:aws:workspaces:*:*:workspace/${aws:SourceIdentity}"}`,
	} {
		w.Documents = append(w.Documents, permissions.Source{Type: "user-managed", ID: fmt.Sprintf("doc-%d", id), Text: `{"Version":"2012-10-17","Statement":[` + text + `]}`})
	}
	w.Members = []Member{{Type: Root, ARN: root, ID: account},
		{Type: User, ARN: ada, ID: "AIDAEXAMPLEEXAMPLE01", Name: "ada"}, {Type: User, ARN: grace, ID: "AIDAEXAMPLEEXAMPLE02", Name: "grace", Tags: map[string]string{"team": "ops"}},
		{Type: Role, ARN: desk, ID: "AROAEXAMPLEEXAMPLE01", Name: "desk", Trust: []int{3}}}
	return w
}

// ask gives the answers as lines.
func (w *World) ask(t *testing.T, q Question) string {
	t.Helper()
	if q.Action == "" {
		q.Action, q.Resource = "workspaces:TerminateWorkspaces", one
	}
	access, err := w.WhoCan(q)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, a := range access.Answers {
		fmt.Fprintf(&b, "%s %s", a.Can, a.Principal[strings.LastIndexAny(a.Principal, ":")+1:])
		for _, r := range a.Through {
			fmt.Fprintf(&b, " through %s", r[strings.LastIndexAny(r, ":")+1:])
		}
		for _, by := range a.By {
			fmt.Fprintf(&b, " by %s", by.Sid)
			if by.Group != "" {
				fmt.Fprintf(&b, " of %s", by.Group)
			}
		}
		for _, group := range a.If {
			for _, term := range group {
				fmt.Fprintf(&b, " if %s", term)
			}
		}
		for _, term := range a.Unless {
			fmt.Fprintf(&b, " unless %s", term)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

func TestAnswersHaveTheWayAndTheConditions(t *testing.T) {
	const rootCan = "yes root\n"
	for _, c := range []struct {
		name   string
		change func(w *World)
		q      Question
		want   string
	}{
		{"nobody but the root", func(*World) {}, Question{}, rootCan},
		{"a user of their own, and one through a group", func(w *World) {
			w.Members[1].Identity = []Applied{{Document: 0}}
			w.Members[2].Identity = []Applied{{Document: 0, Group: "desks"}}
		}, Question{}, rootCan + "yes user/ada by Desks\nyes user/grace by Desks of desks\n"},
		{"a condition of the request", func(w *World) { w.Members[1].Identity = []Applied{{Document: 1}} }, Question{},
			rootCan + `if user/ada by MFA if Bool aws:MultiFactorAuthPresent ["true"] (statement MFA of the identity-based policy doc-1)` + "\n"},
		{"the condition is met", func(w *World) { w.Members[1].Identity = []Applied{{Document: 1}} }, Question{With: map[string][]string{"AWS:MultiFactorAuthPresent": {"true"}}}, rootCan + "yes user/ada by MFA\n"},
		{"the condition is not met", func(w *World) { w.Members[1].Identity = []Applied{{Document: 1}} }, Question{Without: []string{"aws:MultiFactorAuthPresent"}}, rootCan},
		{"a deny that depends", func(w *World) { w.Members[1].Identity = []Applied{{Document: 0}, {Document: 2}} }, Question{},
			rootCan + `if user/ada by Desks unless NotIpAddress aws:SourceIp ["10.0.0.0/8"] (statement NotFromOutside of the identity-based policy doc-2)` + "\n"},
		{"tags of the resource that are known", func(w *World) {
			w.Members[1].Identity, w.Members[2].Identity = []Applied{{Document: 4}}, []Applied{{Document: 4}}
		},
			Question{Tags: map[string]string{"team": "ops"}, TagsKnown: true}, rootCan + "yes user/grace by Team\n"},
		{"tags of the resource that are not known", func(w *World) { w.Members[2].Identity = []Applied{{Document: 4}} }, Question{},
			rootCan + `if user/grace by Team if StringEquals aws:ResourceTag/team ["${aws:PrincipalTag/team}"] (statement Team of the identity-based policy doc-4)` + "\n"},
		{"a variable of the request in the resource", func(w *World) { w.Members[1].Identity = []Applied{{Document: 5}} }, Question{},
			rootCan + `if user/ada by Own if the resource is arn:aws:workspaces:*:*:workspace/${aws:SourceIdentity} (statement Own of the identity-based policy doc-5)` + "\n"},
		{"a role and those who may assume it", func(w *World) { w.Members[3].Identity = []Applied{{Document: 0}} }, Question{}, rootCan + "yes role/desk by Desks\n" +
			"yes user/grace through role/desk by Trust\n" +
			"yes saml-provider/okta through role/desk by Trust\n" +
			`if 999999999999 through role/desk by  if StringEquals sts:ExternalId ["x"] (statement 2 of the role trust policy doc-3)` + "\n" +
			`if workspaces.amazonaws.com through role/desk by  if StringEquals sts:ExternalId ["x"] (statement 2 of the role trust policy doc-3)` + "\n"},
		{"a boundary", func(w *World) { w.Members[1].Identity, w.Members[1].Boundary = []Applied{{Document: 0}}, []int{1} }, Question{},
			rootCan + `if user/ada by Desks if Bool aws:MultiFactorAuthPresent ["true"] (statement MFA of the permissions boundary doc-1)` + "\n"},
		{"a guardrail binds the root", func(w *World) { w.Guardrails = []int{2} }, Question{}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := office()
			c.change(w)
			if got := w.ask(t, c.q); got != c.want {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
}

func TestQuestionsThatAreNoneAreRefused(t *testing.T) {
	for _, c := range []struct{ action, resource, want string }{
		{"TerminateWorkspaces", one, "is not an action"},
		{"workspaces:*", one, "is not an action"},
		{"workspaces:TerminateWorkspace", one, "there are workspaces:TerminateWorkspaces"},
		{"s3:GetObject", one, "there is no action s3:GetObject"},
		{"workspaces:TerminateWorkspaces", "ws-1", "is not an ARN"},
		{"workspaces:TerminateWorkspaces", "", "is not an ARN"},
	} {
		if _, err := office().WhoCan(Question{Action: c.action, Resource: c.resource}); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s on %q: %v, want %q", c.action, c.resource, err, c.want)
		}
	}
	if access, err := office().WhoCan(Question{Action: "workspaces:DescribeWorkspaces", Resource: "*"}); err != nil || !slices.Contains(access.Denied, ada) {
		t.Errorf("%+v %v", access, err)
	}
}
