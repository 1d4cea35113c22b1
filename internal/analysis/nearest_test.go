package analysis

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"carrel/internal/permissions"
	"carrel/internal/policy"
)

const (
	account = "123456789012"
	ada     = "arn:aws:iam::123456789012:user/ada"
	desk    = "arn:aws:iam::123456789012:role/desk"
	one     = "arn:aws:workspaces:eu-central-1:123456789012:workspace/ws-1"
	two     = "arn:aws:workspaces:eu-central-1:123456789012:workspace/ws-2"
)

// kinds are the kinds of policies of a set, in the order of decisions.
var kinds = []policy.Kind{policy.Guardrail, policy.Trust, policy.Identity, policy.Boundary, policy.Session, policy.Endpoint}

// small is a small world: documents of each kind, and a request.
type small struct {
	docs    map[policy.Kind][]*policy.Document
	request *policy.Request
}

func compiled(docs []*policy.Document) *policy.Policy {
	if docs == nil {
		return nil
	}
	return policy.Compile(docs...)
}

// set compiles everything anew.
func (w *small) set() *policy.Set {
	s := &policy.Set{Identity: compiled(w.docs[policy.Identity]), Boundary: compiled(w.docs[policy.Boundary]), Session: compiled(w.docs[policy.Session]),
		Endpoint: compiled(w.docs[policy.Endpoint]), Resource: compiled(w.docs[policy.Trust])}
	s.Trust = s.Resource != nil
	if g := compiled(w.docs[policy.Guardrail]); g != nil {
		s.Guardrails = []*policy.Policy{g}
	}
	return s
}

func name(k policy.Kind, document int) string { return fmt.Sprintf("%s-%d", k, document) }

func (w *small) sources(k policy.Kind) []permissions.Source {
	var out []permissions.Source
	for i, d := range w.docs[k] {
		out = append(out, permissions.Source{Type: "user", ID: name(k, i), Text: d.String()})
	}
	return out
}

func (w *small) allowed() bool { return w.set().Decide(w.request, nil).Decision == policy.Allowed }

func (w *small) nearest() *Suggestion { return Nearest(w.request, w.set(), w.sources) }

// clone copies the documents, so that they can be changed.
func (w *small) clone() *small {
	c := &small{docs: map[policy.Kind][]*policy.Document{}, request: w.request}
	for k, docs := range w.docs {
		for _, d := range docs {
			copied := *d
			copied.Statements = slices.Clone(d.Statements)
			c.docs[k] = append(c.docs[k], &copied)
		}
	}
	return c
}

// apply does to the documents what a change says, and nothing that it does not say.
func (w *small) apply(t *testing.T, changes []Change) *small {
	t.Helper()
	c := w.clone()
	gone := map[*policy.Document]map[int]bool{}
	for _, change := range changes {
		at := slices.IndexFunc(kinds, func(k policy.Kind) bool { return k.String() == change.Kind })
		if at < 0 {
			t.Fatalf("there is no kind %q", change.Kind)
		}
		k := kinds[at]
		var doc *policy.Document
		for i, d := range c.docs[k] {
			if name(k, i) == change.Policy {
				doc = d
			}
		}
		switch change.Do {
		case Add:
			d, err := policy.Parse(k, `{"Version":"2012-10-17","Statement":[`+string(change.Statement)+`]}`)
			if err != nil {
				t.Fatalf("%s: %v", change.Statement, err)
			}
			c.docs[k] = append(c.docs[k], d)
		case Widen:
			d, err := policy.Parse(k, `{"Version":"`+doc.Version+`","Statement":[`+string(change.Statement)+`]}`)
			if err != nil {
				t.Fatalf("%s: %v", change.Statement, err)
			}
			doc.Statements[change.Number-1] = d.Statements[0]
		case Satisfy:
			st := &doc.Statements[change.Number-1]
			st.Conditions = slices.DeleteFunc(slices.Clone(st.Conditions), func(c policy.Condition) bool { return c.Operator == change.Operator && c.Key == change.Key })
		case Remove:
			if gone[doc] == nil {
				gone[doc] = map[int]bool{}
			}
			gone[doc][change.Number-1] = true
		default:
			t.Fatalf("a change that does %q", change.Do)
		}
	}
	for doc, places := range gone {
		var left []policy.Statement
		for i := range doc.Statements {
			if !places[i] {
				left = append(left, doc.Statements[i])
			}
		}
		doc.Statements = left
	}
	return c
}

// okta is an identity provider that vouches for somebody.
const okta = "arn:aws:iam::123456789012:saml-provider/okta"

// generator makes small worlds.
type generator struct{ *rand.Rand }

func (g generator) of(list ...string) string { return list[g.IntN(len(list))] }

func (g generator) statement(k policy.Kind) policy.Statement {
	s := policy.Statement{Effect: policy.Allow}
	if g.IntN(4) == 0 {
		s.Effect = policy.Deny
	}
	if k == policy.Trust {
		s.Actions = []string{g.of("sts:AssumeRole", "sts:AssumeRole", "sts:*", "sts:TagSession")}
	} else {
		s.Actions = []string{g.of("*", "workspaces:*", "workspaces:TerminateWorkspaces", "workspaces:RebootWorkspaces", "sts:AssumeRole", "ds:*")}
		s.Resources = []string{g.of("*", one, two, desk, "arn:aws:workspaces:*:*:workspace/${aws:username}")}
		s.NotAction, s.NotResource = g.IntN(8) == 0, g.IntN(8) == 0
		if s.Effect == policy.Allow {
			s.NotAction = s.NotAction && k != policy.Guardrail
		}
	}
	if namesPrincipals(k) {
		s.Principals = []policy.PrincipalName{{Type: "AWS", Value: g.of("*", ada, desk, "arn:aws:iam::123456789012:root", "arn:aws:iam::999999999999:root", "arn:aws:sts::123456789012:assumed-role/desk/late")}}
		if k == policy.Trust && g.IntN(4) == 0 {
			s.Principals = []policy.PrincipalName{{Type: "Federated", Value: g.of(okta, okta+"2")}}
		}
	}
	for range g.IntN(3) * g.IntN(2) {
		c := policy.Condition{Operator: g.of("Bool", "BoolIfExists"), Key: "aws:MultiFactorAuthPresent", Values: []string{g.of("true", "false")}}
		if len(s.Conditions) == 1 || g.IntN(2) == 0 {
			c = policy.Condition{Operator: g.of("StringEquals", "StringNotEquals", "StringLike"), Key: "aws:PrincipalTag/team", Values: []string{g.of("ops", "core", "${aws:username}")}}
		}
		if !slices.ContainsFunc(s.Conditions, func(o policy.Condition) bool { return o.Key == c.Key }) {
			s.Conditions = append(s.Conditions, c)
		}
	}
	return s
}

func (g generator) documents(t *testing.T, k policy.Kind) []*policy.Document {
	var out []*policy.Document
	for range 1 + g.IntN(2) {
		d := &policy.Document{Kind: k, Version: policy.Version2012}
		for range 1 + g.IntN(3) {
			d.Statements = append(d.Statements, g.statement(k))
		}
		read, err := policy.Parse(k, d.String())
		if err != nil {
			t.Fatalf("%s: %v", d, err)
		}
		out = append(out, read)
	}
	return out
}

func (g generator) world(t *testing.T) *small {
	w := &small{docs: map[policy.Kind][]*policy.Document{}, request: &policy.Request{}}
	r := w.request
	r.Principal = []policy.Principal{
		{Type: policy.Root, Account: account, ARN: "arn:aws:iam::123456789012:root", ID: account},
		{Type: policy.User, Account: account, ARN: ada, ID: "AIDAEXAMPLEEXAMPLE01"},
		{Type: policy.User, Account: account, ARN: ada, ID: "AIDAEXAMPLEEXAMPLE01"},
		{Type: policy.RoleSession, Account: account, ARN: "arn:aws:sts::123456789012:assumed-role/desk/late", Issuer: desk, IssuerID: "AROAEXAMPLEEXAMPLE01"},
		{Type: policy.FederatedUser, Account: account, ARN: "arn:aws:sts::123456789012:federated-user/guest", Issuer: ada, IssuerID: "AIDAEXAMPLEEXAMPLE01"},
		{Type: policy.Federated, Name: okta},
	}[g.IntN(6)]
	if r.Principal.Type == policy.User {
		r.Set(policy.NewKey("aws:username"), "ada")
	}
	if g.IntN(2) == 0 {
		r.Set(policy.NewKey("aws:PrincipalTag/team"), g.of("ops", "core"))
	}
	if g.IntN(2) == 0 {
		r.Set(policy.NewKey("aws:MultiFactorAuthPresent"), g.of("true", "false"))
	}
	r.Action = policy.NewAction("workspaces:TerminateWorkspaces")
	r.SetResource(one)
	for _, k := range kinds {
		if k == policy.Trust || g.IntN(3) > 0 && k != policy.Identity {
			continue
		}
		w.docs[k] = g.documents(t, k)
	}
	if g.IntN(3) == 0 || r.Principal.Type == policy.Federated {
		w.docs[policy.Trust] = g.documents(t, policy.Trust)
		r.Action = policy.NewAction("sts:AssumeRole")
		r.SetResource(desk)
	}
	return w
}

// single tells whether a statement less, or one more of those that allow just this, would do: all of them are tried.
func (w *small) single(t *testing.T) bool {
	for k, docs := range w.docs {
		for i := range docs {
			for j := range docs[i].Statements {
				c := w.clone()
				c.docs[k][i].Statements = slices.Delete(c.docs[k][i].Statements, j, j+1)
				if c.allowed() {
					return true
				}
			}
		}
	}
	for _, k := range kinds {
		if w.docs[k] == nil && k != policy.Identity && (k != policy.Session || w.request.Principal.Type != policy.FederatedUser) {
			continue
		}
		s := policy.Statement{Effect: policy.Allow, Actions: []string{w.request.Action.String()}, Resources: []string{w.request.Resource()}}
		if namesPrincipals(k) {
			n, _ := nameOf(&w.request.Principal)
			s.Principals = []policy.PrincipalName{n}
		}
		if k == policy.Trust {
			s.Resources = nil
		}
		c := w.clone()
		c.docs[k] = append(c.docs[k], &policy.Document{Kind: k, Version: policy.Version2012, Statements: []policy.Statement{s}})
		if c.allowed() {
			return true
		}
	}
	return false
}

func (w *small) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s as %s\n", w.request.Action, w.request.Resource(), w.request.Principal.ARN)
	for k, v := range w.request.Since(0) {
		fmt.Fprintf(&b, "  %s = %q\n", k, v)
	}
	for _, k := range kinds {
		for i, d := range w.docs[k] {
			fmt.Fprintf(&b, "%s: %s\n", name(k, i), d)
		}
	}
	return b.String()
}

func show(s *Suggestion) string {
	text, _ := json.Marshal(s)
	return string(text)
}

func TestTheNearestAllowIsTrueAndTheSmallest(t *testing.T) {
	g := generator{rand.New(rand.NewPCG(1, 2))}
	did, denied, single := map[string]int{}, 0, 0
	for range 2_500 {
		w := g.world(t)
		s := w.nearest()
		if w.allowed() {
			if s != nil {
				t.Fatalf("something to change for what is allowed: %s\n%s", show(s), w)
			}
			continue
		}
		denied++
		if s == nil {
			t.Fatalf("nothing would help\n%s", w)
		}
		if s.More > 0 {
			continue
		}
		if !w.apply(t, s.Changes).allowed() {
			t.Fatalf("it is still denied after %s\n%s", show(s), w)
		}
		if s.Single != (len(s.Changes) == 1) || !s.Single && w.single(t) {
			t.Fatalf("a single change would do, or it does not count: %s\n%s", show(s), w)
		}
		for i, c := range s.Changes {
			did[c.Do]++
			if !s.Single && w.apply(t, slices.Delete(slices.Clone(s.Changes), i, i+1)).allowed() {
				t.Fatalf("change %d is not needed: %s\n%s", i, show(s), w)
			}
			if c.String() == "" || strings.Contains(c.String(), "%!") {
				t.Fatal(c.String())
			}
		}
		for _, c := range s.Instead {
			if !w.apply(t, []Change{c}).allowed() {
				t.Fatalf("it is still denied after instead %s\n%s", show(s), w)
			}
		}
		if s.Single {
			single++
		}
	}
	t.Logf("%d denied, %d by a single change, %v", denied, single, did)
	for _, do := range []string{Satisfy, Widen, Add, Remove} {
		if did[do] < 100 {
			t.Errorf("only %d suggestions to %s: the worlds are too small", did[do], do)
		}
	}
}

// world1 is ada's world: one document for each given kind.
func world1(t testing.TB, docs map[policy.Kind]string) *small {
	t.Helper()
	w := &small{docs: map[policy.Kind][]*policy.Document{}, request: &policy.Request{Principal: policy.Principal{Type: policy.User, Account: account, ARN: ada, ID: "AIDAEXAMPLEEXAMPLE01"}}}
	for k, text := range docs {
		d, err := policy.Parse(k, `{"Version":"2012-10-17","Statement":[`+text+`]}`)
		if err != nil {
			t.Fatal(err)
		}
		w.docs[k] = []*policy.Document{d}
	}
	w.request.Action = policy.NewAction("workspaces:TerminateWorkspaces")
	w.request.SetResource(one)
	w.request.Set(policy.NewKey("aws:MultiFactorAuthPresent"), "false")
	return w
}

func TestSuggestionsAreSentences(t *testing.T) {
	const all = `{"Effect":"Allow","Action":"*","Resource":"*"}`
	for _, c := range []struct {
		name string
		docs map[policy.Kind]string
		want []string
		json string
	}{
		{"nothing allows", nil, []string{"a new statement in an identity-based policy"}, `{"Effect":"Allow","Action":"workspaces:TerminateWorkspaces","Resource":"` + one + `"}`},
		{"another resource", map[policy.Kind]string{policy.Identity: `{"Sid":"Own","Effect":"Allow","Action":"workspaces:*","Resource":"` + two + `"}`},
			[]string{`statement Own of the identity-based policy identity-based policy-0 would allow it if its Resource listed ["` + one + `"]; it lists ["` + two + `"]`},
			`{"Sid":"Own","Effect":"Allow","Action":"workspaces:*","Resource":["` + two + `","` + one + `"]}`},
		{"another action", map[policy.Kind]string{policy.Identity: `{"Effect":"Allow","Action":"ds:*","Resource":"*"},{"Effect":"Allow","Action":["workspaces:RebootWorkspaces"],"Resource":"*"}`},
			[]string{`statement 2 of the identity-based policy identity-based policy-0 would allow it if its Action listed ["workspaces:TerminateWorkspaces"]; it lists ["workspaces:RebootWorkspaces"]`},
			`{"Effect":"Allow","Action":["workspaces:RebootWorkspaces","workspaces:TerminateWorkspaces"],"Resource":"*"}`},
		{"an exception of the statement", map[policy.Kind]string{policy.Identity: `{"Effect":"Allow","NotAction":["iam:*","workspaces:Terminate*"],"Resource":"*"}`},
			[]string{`statement 1 of the identity-based policy identity-based policy-0 would allow it if its NotAction did not list ["workspaces:TerminateWorkspaces"]`}, `{"Effect":"Allow","NotAction":"iam:*","Resource":"*"}`},
		{"a condition", map[policy.Kind]string{policy.Identity: `{"Sid":"MFA","Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"aws:MultiFactorAuthPresent":"true"}}}`},
			[]string{`statement MFA of the identity-based policy identity-based policy-0 would allow it if aws:MultiFactorAuthPresent were as Bool ["true"] wants; the request has ["false"]`}, ""},
		{"a key that is missing", map[policy.Kind]string{policy.Identity: `{"Sid":"T","Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:RequestTag/team":["ops"]}}}`},
			[]string{`statement T of the identity-based policy identity-based policy-0 would allow it if the request had aws:RequestTag/team (StringEquals ["ops"]); it does not have the key`}, ""},
		{"a deny", map[policy.Kind]string{policy.Identity: all + `,{"Sid":"Never","Effect":"Deny","Action":["ds:*","workspaces:Term*"],"Resource":"*"}`},
			[]string{`the explicit deny in statement Never of the identity-based policy identity-based policy-0 has to go, or not to match: its Action lists ["workspaces:Term*"]`}, `{"Sid":"Never","Effect":"Deny","Action":["ds:*","workspaces:Term*"],"Resource":"*"}`},
		{"a deny with a condition", map[policy.Kind]string{policy.Identity: all + `,{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"BoolIfExists":{"aws:MultiFactorAuthPresent":"false"}}}`},
			[]string{`the explicit deny in statement 2 of the identity-based policy identity-based policy-0 has to go, or not to match: it asks BoolIfExists aws:MultiFactorAuthPresent ["false"], the request has ["false"]`},
			`{"Effect":"Deny","Action":"*","Resource":"*","Condition":{"BoolIfExists":{"aws:MultiFactorAuthPresent":"false"}}}`},
		{"two policies that miss it", map[policy.Kind]string{policy.Boundary: `{"Effect":"Allow","Action":"ds:*","Resource":"*"}`},
			[]string{"a new statement in an identity-based policy", "a new statement in the permissions boundary permissions boundary-0"}, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := world1(t, c.docs).nearest()
			if s == nil || s.Single != (len(c.want) == 1) || len(s.Changes) != len(c.want) {
				t.Fatal(show(s))
			}
			for i, want := range c.want {
				if got := s.Changes[i].String(); got != want {
					t.Errorf("got  %s\nwant %s", got, want)
				}
			}
			if got := string(s.Changes[0].Statement); s.Single && got != c.json {
				t.Errorf("got  %s\nwant %s", got, c.json)
			}
		})
	}
}

func TestAPolicyThatCannotBeReadIsToBePutAnew(t *testing.T) {
	w := world1(t, nil)
	broken, errs := policy.CompileStored(policy.Identity, "{")
	if errs == nil {
		t.Fatal("it was read")
	}
	s := Nearest(w.request, &policy.Set{Identity: broken}, func(k policy.Kind) []permissions.Source {
		if k != policy.Identity {
			return nil
		}
		return []permissions.Source{{Type: "user", ID: "user_ada_Own", Text: "{"}}
	})
	if s == nil || s.Changes[0].Do != Repair || !strings.Contains(s.Changes[0].String(), "user_ada_Own cannot be read") {
		t.Error(show(s))
	}
}

func TestNothingIsSuggestedForWhoOrWhatIsNotThere(t *testing.T) {
	w := world1(t, nil)
	gone, _ := policy.CompileStored(policy.Identity, permissions.Missing)
	if s := Nearest(w.request, &policy.Set{Identity: gone}, func(k policy.Kind) []permissions.Source {
		return []permissions.Source{{Type: "none", ID: "deleted", Text: permissions.Missing}}
	}); s != nil {
		t.Errorf("a user who was deleted: %s", show(s))
	}
	w.request.Action = policy.NewAction("sts:AssumeRole")
	w.request.SetResource(desk)
	if s := Nearest(w.request, &policy.Set{Resource: policy.Compile(), Trust: true}, func(policy.Kind) []permissions.Source { return nil }); s != nil {
		t.Errorf("a role that does not exist: %s", show(s))
	}
	if s := Nearest(&policy.Request{}, &policy.Set{}, w.sources); s != nil {
		t.Errorf("a request that was never filled in: %s", show(s))
	}
	w.request.Principal = policy.Principal{}
	if s := w.nearest(); s != nil {
		t.Errorf("a caller without credentials: %s", show(s))
	}
}

func TestANameThatACallerChoseIsNoWildcardOfTheSuggestion(t *testing.T) {
	for _, version := range []string{policy.Version2012, policy.Version2008} {
		for _, id := range []string{"ws-*", "ws-?", "${aws:username}", "*", "a*/b"} {
			w := world1(t, map[policy.Kind]string{policy.Identity: `{"Effect":"Allow","Action":"workspaces:*","Resource":"` + two + `"}`})
			w.docs[policy.Identity][0].Version = version
			w.request.SetResource("arn:aws:workspaces:eu-central-1:123456789012:workspace/" + id)
			s := w.nearest()
			after := w.apply(t, s.Changes)
			if !after.allowed() {
				t.Fatalf("%s: %s does not do", id, show(s))
			}
			for _, other := range []string{"ws-1", "ws-12", "ada", "a1/b"} {
				after.request.SetResource("arn:aws:workspaces:eu-central-1:123456789012:workspace/" + other)
				if after.allowed() && id != "*" {
					t.Errorf("%s allows %s as well: %s", id, other, show(s))
				}
			}
		}
	}
}

func TestSuggestionsFitIntoARecord(t *testing.T) {
	long := strings.Repeat("x", 2000)
	var many []string
	for i := range 40 {
		many = append(many, fmt.Sprintf(`{"Sid":"D%d","Effect":"Deny","Action":"*","Resource":["%s","%s*"]}`, i, one, two+long))
	}
	w := world1(t, map[policy.Kind]string{policy.Identity: strings.Join(many, ",")})
	s := w.nearest()
	if s.Single || len(s.Changes) != maxChanges || s.More != 41-maxChanges || len(show(s)) > 24<<10 {
		t.Errorf("%d changes, %d more, %d bytes", len(s.Changes), s.More, len(show(s)))
	}
}

func BenchmarkNearest(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			d := &policy.Document{Kind: policy.Identity, Version: policy.Version2012}
			for i := range n {
				d.Statements = append(d.Statements, policy.Statement{Effect: policy.Allow, Actions: []string{"workspaces:RebootWorkspaces"}, Resources: []string{fmt.Sprintf("%s%d", two, i)}})
			}
			w := world1(b, nil)
			w.docs[policy.Identity] = []*policy.Document{d}
			set := w.set()
			for b.Loop() {
				if Nearest(w.request, set, func(policy.Kind) []permissions.Source { return nil }) == nil {
					b.Fatal("nothing")
				}
			}
		})
	}
}
