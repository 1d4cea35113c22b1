package policy

import (
	"fmt"
	"math/bits"
	"strings"
	"testing"
	"time"
)

// ask is a request of ada's.
func ask(action, resource string) *Request {
	r := &Request{Action: NewAction(action), Principal: callers[2]}
	r.SetResource(resource)
	return r
}

// TestActions: reference 5.2 and 5.3, IAM-1.
func TestActions(t *testing.T) {
	for _, c := range []struct {
		pattern, action string
		want            bool
	}{
		{"*", "workspaces:DescribeTags", true}, {"*:*", "workspaces:DescribeTags", true}, {"workspaces:*", "workspaces:DescribeTags", true}, {"workspaces:*", "workspaces-web:GetPortal", false}, {"ds:*", "ds-data:ListUsers", false},
		{"WORKSPACES:describetags", "workspaces:DescribeTags", true}, {"workspaces:Describe*", "workspaces:describeTags", true}, {"workspaces:*Tags", "workspaces:DescribeTags", true}, {"workspaces:D*T*", "workspaces:DescribeTags", true}, {"workspaces:?escribeTags", "workspaces:DescribeTags", true},
		{"workspaces:DescribeTag", "workspaces:DescribeTags", false}, {"workspaces:DescribeTags", "workspaces:DescribeTag", false}, {"workspaces:Describe.ags", "workspaces:DescribeTags", false}, {"workspaces:${*}", "workspaces:DescribeTags", false}, {"workspaces:${*}", "workspaces:${x}", true}, {"workspaces:${*}", "workspaces:*", false}, {"workspaces:", "workspaces:", true},
	} {
		for _, element := range []string{"Action", "NotAction"} {
			p := must(t, Identity, with(`"Effect":"Allow","`+element+`":"`+c.pattern+`","Resource":"*"`))
			if got := p.Evaluate(ask(c.action, "*"), nil).Decision == Allowed; got != (c.want == (element == "Action")) {
				t.Errorf("%s %s on %s: %v", element, c.pattern, c.action, got)
			}
		}
	}
}

// TestVersions: reference 5.2, the default is the old version, in which ${...} is text.
func TestVersions(t *testing.T) {
	const statement = `"Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:ds:::u/${aws:username}"}`
	for version, variables := range map[string]bool{"": false, `"Version":"2008-10-17",`: false, `"Version":"2012-10-17",`: true} {
		p := must(t, Identity, "{"+version+statement+"}")
		for resource, isText := range map[string]bool{"arn:aws:ds:::u/ada": false, "arn:aws:ds:::u/${aws:username}": true} {
			r := ask("ds:x", resource)
			r.Set(NewKey("aws:username"), "ada")
			if got := p.Evaluate(r, nil).Decision == Allowed; got != (variables != isText) {
				t.Errorf("%s %s: %v", version, resource, got)
			}
		}
	}
}

// TestAVariableWithoutAValue: reference 5.3, the statement does not match, whatever else it lists and whichever effect it has.
func TestAVariableWithoutAValue(t *testing.T) {
	for _, elements := range []string{`"Resource":"arn:aws:ds:::u/${aws:none}"`, `"Resource":["*","arn:aws:ds:::u/${aws:none}"]`, `"Resource":["arn:aws:ds:::u/${aws:none}","*"]`, `"NotResource":"arn:aws:ds:::u/${aws:none}"`} {
		if got := must(t, Identity, with(`"Effect":"Allow","Action":"*",`+elements)).Evaluate(ask("ds:x", "arn:aws:ds:::u/"), nil); got.Decision != ImplicitDeny {
			t.Errorf("%s: %v", elements, got)
		}
	}
}

// TestPrincipals: reference 5.1 step 5 and 5.2, IAM-5. The grants are of callers, in their order.
func TestPrincipals(t *testing.T) {
	const no, acct, role, all = NoGrant, AccountGrant, RoleGrant, DirectGrant
	//                     nobody root ada eve session federated federatedByRoot service web
	for _, c := range []struct {
		element string
		want    [9]Grant
	}{
		{`"*"`, [9]Grant{all, all, all, all, all, all, all, all, all}},
		{`{"AWS":"*"}`, [9]Grant{all, all, all, all, all, all, all, no, no}},
		{`{"AWS":"123456789012"}`, [9]Grant{no, all, acct, no, acct, acct, acct, no, no}},
		{`{"AWS":"arn:aws:iam::123456789012:root"}`, [9]Grant{no, all, acct, no, acct, acct, acct, no, no}},
		{`{"AWS":"` + ada + `"}`, [9]Grant{no, no, all, no, no, role, no, no, no}},
		{`{"AWS":"AIDAEXAMPLEEXAMPLE01"}`, [9]Grant{no, no, all, no, no, role, no, no, no}},
		{`{"AWS":"arn:aws:iam::123456789012:user/Ada"}`, [9]Grant{}},
		{`{"AWS":"` + desk + `"}`, [9]Grant{no, no, no, no, role, no, no, no, no}},
		{`{"AWS":"AROAEXAMPLEEXAMPLE01"}`, [9]Grant{no, no, no, no, role, no, no, no, no}},
		{`{"AWS":"` + shift + `"}`, [9]Grant{no, no, no, no, all, no, no, no, no}},
		{`{"AWS":"` + guest + `"}`, [9]Grant{no, no, no, no, no, all, all, no, no}},
		{`{"AWS":["` + desk + `","` + shift + `"]}`, [9]Grant{no, no, no, no, all, no, no, no, no}},
		{`{"AWS":["123456789012","` + ada + `"]}`, [9]Grant{no, all, all, no, acct, role, acct, no, no}},
		{`{"Service":"workspaces.amazonaws.com"}`, [9]Grant{no, no, no, no, no, no, no, all, no}},
		{`{"Service":"ec2.amazonaws.com"}`, [9]Grant{}},
		{`{"Federated":["accounts.google.com","www.amazon.com"]}`, [9]Grant{no, no, no, no, no, no, no, no, all}},
		{`{"AWS":"999999999999","Federated":"accounts.google.com"}`, [9]Grant{no, no, no, acct, no, no, no, no, all}},
		{`{"AWS":"1234567891011"}`, [9]Grant{}},
	} {
		for i, caller := range callers {
			r := ask("ds:x", "*")
			r.Principal = caller
			got := must(t, Resource, with(`"Effect":"Allow","Action":"*","Resource":"*","Principal":`+c.element)).Evaluate(r, nil)
			if got.Grant != c.want[i] || (got.Decision == Allowed) != (c.want[i] != no) {
				t.Errorf("%s names caller %d %v by %d, not %d", c.element, i, got.Decision, got.Grant, c.want[i])
			}
			// NotX is the complement of X.
			not := must(t, Resource, with(`"Effect":"Allow","Action":"*","Resource":"*","NotPrincipal":`+c.element)).Evaluate(r, nil)
			if (not.Decision == Allowed) == (got.Decision == Allowed) || not.Decision == Allowed && not.Grant != RoleGrant {
				t.Errorf("NotPrincipal %s: %+v for caller %d", c.element, not, i)
			}
		}
	}
}

// TestSomebodyMadeAgainDoesNotInherit: IAM-5. A trust policy is stored with ids, and a new user of the old name has another.
func TestSomebodyMadeAgainDoesNotInherit(t *testing.T) {
	d, err := Parse(Trust, with(`"Effect":"Allow","Principal":{"AWS":["`+ada+`","*","123456789012"],"Service":"x.amazonaws.com"},"Action":"sts:AssumeRole"`))
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	stored := d.MapPrincipals(func(name string) string {
		seen = append(seen, name)
		return strings.Replace(name, ada, "AIDAEXAMPLEEXAMPLE01", 1)
	})
	if fmt.Sprint(seen) != "["+ada+" 123456789012]" || strings.Contains(stored.String(), ada) || !strings.Contains(d.String(), ada) {
		t.Errorf("%v\n%s\n%s", seen, stored, d)
	}
	p := must(t, Trust, strings.Replace(strings.Replace(stored.String(), `,"*"`, "", 1), `,"123456789012"`, "", 1))
	r := ask("sts:AssumeRole", desk)
	if got := p.Evaluate(r, nil); got.Grant != DirectGrant {
		t.Errorf("ada herself: %+v", got)
	}
	r.Principal.ID = "AIDAEXAMPLEEXAMPLE99"
	if got := p.Evaluate(r, nil); got.Decision != ImplicitDeny {
		t.Errorf("the new ada: %+v", got)
	}
}

// TestDenyWinsAndOrderDoesNotMatter: reference 5.1.
func TestDenyWinsAndOrderDoesNotMatter(t *testing.T) {
	const allow, deny = `{"Effect":"Allow","Principal":"*","Action":"*","Resource":"*"}`, `{"Effect":"Deny","Principal":"*","Action":"ds:*","Resource":"*"}`
	for _, list := range []string{allow + "," + deny, deny + "," + allow} {
		p := must(t, Resource, `{"Statement":[`+list+`]}`)
		matched := make([]int32, 2)
		if got := p.Evaluate(ask("ds:x", "*"), matched); got.Decision != ExplicitDeny || got.Matched != 2 || matched[0] != 0 || matched[1] != 1 {
			t.Errorf("%+v %v", got, matched)
		}
		if got := p.Evaluate(ask("iam:x", "*"), matched); got.Decision != Allowed || got.Matched != 1 {
			t.Errorf("%+v", got)
		}
		// A buffer that is too small is filled, and the count is right.
		if got := p.Evaluate(ask("ds:x", "*"), matched[:1]); got.Decision != ExplicitDeny || got.Matched != 2 {
			t.Errorf("%+v", got)
		}
	}
	var none *Policy
	if got := none.Evaluate(ask("ds:x", "*"), nil); got != (Result{}) || none.Explain(ask("ds:x", "*")) != nil {
		t.Errorf("no policy: %+v", got)
	}
	if got := Compile().Evaluate(ask("ds:x", "*"), nil); got != (Result{}) || Compile().Len() != 0 {
		t.Errorf("a policy of nothing: %+v", got)
	}
	for _, action := range []string{`"Action":"*"`, `"Action":"ds:*"`, `"NotAction":"ds:*"`} {
		all := must(t, Identity, with(`"Effect":"Allow",`+action+`,"Resource":"*"`))
		if got := all.Evaluate(&Request{}, nil); got != (Result{}) || all.Explain(&Request{})[0].Matched {
			t.Errorf("a request of nothing, %s: %+v", action, got)
		}
		if got := (&Set{Identity: all}).Decide(&Request{Principal: callers[1]}, nil); got.Decision != ImplicitDeny {
			t.Errorf("a request of nothing by the root: %+v", got)
		}
	}
}

// TestAPolicyThatCannotBeReadDenies: IAM-2, figure R18.
func TestAPolicyThatCannotBeReadDenies(t *testing.T) {
	for _, kind := range []Kind{Identity, Boundary, Session, Guardrail, Trust, Resource, Endpoint} {
		good := encode(map[string]any{"Statement": newDice(1, nil).statement(kind, false)})
		p, errs := CompileStored(kind, good, `{"Statement":`, good)
		if len(errs) != 1 || p.Len() != 3 {
			t.Fatalf("%v: %v, %d statements", kind, errs, p.Len())
		}
		for _, caller := range callers {
			r := ask("sts:AssumeRole", "*")
			r.Principal = caller
			if got := p.Evaluate(r, nil).Decision; got != ExplicitDeny {
				t.Errorf("%v: %v", kind, got)
			}
		}
		if s, document, place := p.Statement(1); s.Sid != "UnreadablePolicy" || document != 1 || place != 0 {
			t.Errorf("%+v %d %d", s, document, place)
		}
	}
	if p, errs := CompileStored(Identity); len(errs) != 0 || p.Len() != 0 {
		t.Error(errs)
	}
}

// TestTheIndexFindsWhatTheStatementsSay puts patterns of every kind among many others: short and long prefixes, variables, exact names, in policies
// of sizes about a machine word.
func TestTheIndexFindsWhatTheStatementsSay(t *testing.T) {
	long := strings.Repeat("p", maxPrefix)
	wanted := []string{"*", "arn:aws:ds:::" + long + "/one", "arn:aws:ds:::" + long + "*", "arn:aws:ds:::" + long[:maxPrefix-1] + "?/one", "arn:aws:ds:::" + long + "/${aws:username}", "arn:aws:ds:::${aws:username, 'x'}*", "arn:aws:ds:::p*", "arn:aws:ds:::*one", "arn:aws:ds:*", "arn:aws:ds:::?*"}
	for _, n := range []int{1, 2, 63, 64, 65, 128, 129, 700} {
		for at := range min(n, 130) {
			var docs []*Document
			for i := range n {
				resource := fmt.Sprintf("arn:aws:ds:::other/%d", i)
				if i == at {
					resource = wanted[(at+n)%len(wanted)]
				}
				docs = append(docs, &Document{Version: Version2012, Statements: []Statement{{Effect: Allow, Actions: []string{"ds:Get*", "iam:*"}, Resources: []string{resource}}}})
			}
			r := ask("ds:GetOne", "arn:aws:ds:::"+long+"/one")
			r.Set(NewKey("aws:username"), "one")
			if strings.Contains(docs[at].Statements[0].Resources[0], "${aws:username, 'x'}") {
				r = ask("ds:GetOne", "arn:aws:ds:::x/one")
			}
			buffer := make([]int32, 2)
			if got := Compile(docs...).Evaluate(r, buffer); got.Matched != 1 || int(buffer[0]) != at {
				t.Fatalf("%d statements, %s at %d: %+v %v", n, docs[at].Statements[0].Resources, at, got, buffer)
			}
		}
	}
}

// TestTheIndexLeavesOutWhatCannotMatch: neither half of the index may lead to all statements, nor lose what stands before a wildcard or a variable.
func TestTheIndexLeavesOutWhatCannotMatch(t *testing.T) {
	for _, c := range []struct {
		name, action, resource string // of statement i, when i is put in
	}{
		{"exact actions", "ds:Get%d", "*"}, {"actions that begin alike", "ds:Get%dx*", "*"}, {"exact resources", "*", "arn:aws:ds:::thing/%d"}, {"resources that begin alike", "*", "arn:aws:ds:::thing/%d/*"}, {"question marks", "*", "arn:aws:ds:::thing/%d/?"},
		{"variables", "*", "arn:aws:ds:::thing/%d/${aws:username}"}, {"a variable and a star before it", "*", "arn:aws:ds:::thing/%d/*${aws:username}"}, {"both", "ds:Get%d", "arn:aws:ds:::thing/%d"}, {"wildcards in the account", "*", "arn:aws:ds:*:*:thing/%d"},
	} {
		fill := func(pattern string, i int) string { return strings.ReplaceAll(pattern, "%d", fmt.Sprintf("%05d", i)) }
		var docs []*Document
		for i := range 1000 {
			docs = append(docs, &Document{Version: Version2012, Statements: []Statement{{Effect: Allow, Actions: []string{fill(c.action, i)}, Resources: []string{fill(c.resource, i)}}}})
		}
		r := ask(strings.Replace(fill(c.action, 321), "*", "y", 1), strings.NewReplacer("*", "z", "?", "z", "${aws:username}", "z").Replace(fill(c.resource, 321)))
		if c.action == "*" {
			r.Action = NewAction("ds:GetThing")
		}
		p := Compile(docs...)
		for w, word := range p.index.candidates(r) {
			if want := uint64(1) << (321 % 64); w == 321/64 && word != want || w != 321/64 && word != 0 {
				t.Errorf("%s: word %d is %b", c.name, w, word)
			}
		}
	}
}

// TestTheIndexIsNoLargerThanItsPatterns: a set costs a number for each of its statements or a bit for each of all, whichever is less.
func TestTheIndexIsNoLargerThanItsPatterns(t *testing.T) {
	var docs []*Document
	for i := range 1280 {
		s := Statement{Effect: Allow, Actions: []string{fmt.Sprintf("ds:Get%d", i/10), fmt.Sprintf("ds:Put%d*", i/40), "iam:*"}, Resources: []string{fmt.Sprintf("arn:aws:ds:::%d", i/20), fmt.Sprintf("arn:aws:ds:::x/%d/*", i/21)}}
		if i%300 == 0 {
			s.Resources, s.Actions = []string{"*"}, []string{"*"}
		}
		docs = append(docs, &Document{Version: Version2012, Statements: []Statement{s}})
	}
	many := append([]*Document(nil), docs...)
	for i := range many {
		many[i] = &Document{Version: Version2012, Statements: []Statement{{Effect: Allow, Actions: []string{"*"}, Resources: []string{"*"}}}}
	}
	seen := [2]int{}
	check := func(text string, set posting) {
		n := len(set.ids)
		if set.bits != nil {
			n = 0
			for _, w := range set.bits {
				n += bits.OnesCount64(w)
			}
			seen[1]++
		} else {
			seen[0]++
		}
		if (set.bits != nil) != (n > 20) || set.bits != nil && (len(set.ids) != 0 || len(set.bits) != 20) {
			t.Errorf("%q: %d statements in %d numbers and %d words", text, n, len(set.ids), len(set.bits))
		}
	}
	for _, p := range []*Policy{Compile(docs...), Compile(many...)} {
		for _, l := range []lookup{p.index.actions, p.index.resource} {
			check("", l.always)
			for _, m := range []map[string]posting{l.exact, l.prefixes} {
				for text, set := range m {
					check(text, set)
				}
			}
		}
	}
	if seen[0] < 100 || seen[1] < 30 {
		t.Errorf("%d sets of numbers, %d of bits", seen[0], seen[1])
	}
}

// TestEvaluationDoesNotAllocate: figure P5.
func TestEvaluationDoesNotAllocate(t *testing.T) {
	p, r, matched := workloadPolicy(t, 1000), workloadRequest(), make([]int32, 16)
	variables := must(t, Endpoint, with(`"Effect":"Allow","Principal":{"AWS":["123456789012"]},"Action":"workspaces:*","Resource":"arn:aws:workspaces:*:*:workspace/*","Condition":{"StringLike":{"aws:ResourceTag/team":["*${aws:username}*","*e?m*b","team-?"]},"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:user/${aws:username}"},
		"NumericGreaterThan":{"aws:EpochTime":"1e9"},"DateGreaterThan":{"aws:CurrentTime":"2026-01-01T00:00:00Z"},"StringEqualsIgnoreCase":{"aws:username":"ADA"},"Null":{"aws:TokenIssueTime":"true"},"IpAddress":{"aws:SourceIp":"10.0.0.0/8"},"ForAllValues:StringEquals":{"aws:TagKeys":"a"}}`))
	set, trace := &Set{Identity: p, Boundary: p, Endpoint: variables, Guardrails: []*Policy{p, p}}, &Trace{}
	if got := set.Decide(r, trace); got.Decision != Allowed || len(trace.Steps) != 5 {
		t.Fatalf("%+v", got)
	}
	if n := testing.AllocsPerRun(100, func() {
		p.Evaluate(r, matched)
		variables.Evaluate(r, matched)
		trace.Reset()
		set.Decide(r, trace)
		set.Decide(r, nil)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

// TestTimeDoesNotGrowWithThePolicy: figure P5, 1,000 statements within twice the time of 10. test/bench/policy tells the figures; this guards the
// index on busy machines too: tested one by one, 1,000 statements take some thirty times as long.
func TestTimeDoesNotGrowWithThePolicy(t *testing.T) {
	r := workloadRequest()
	few, many := workloadPolicy(t, 10), workloadPolicy(t, 1000)
	once := func(p *Policy) time.Duration {
		begin := time.Now()
		for range 1000 {
			p.Evaluate(r, nil)
		}
		return time.Since(begin)
	}
	a, b := time.Hour, time.Hour
	for try := 0; try < 10 || try < 1000 && b > 4*a; try++ {
		a, b = min(a, once(few)), min(b, once(many))
	}
	if b > 4*a {
		t.Errorf("%v for 10 statements, %v for 1,000", a/1000, b/1000)
	}
}
