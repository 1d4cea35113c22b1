package policy

import (
	"reflect"
	"strings"
	"testing"
)

// TestExplain: the first element in the way, what the statement wants and what the request has.
func TestExplain(t *testing.T) {
	for _, c := range []struct {
		kind      Kind
		statement string
		want      string
	}{
		{Identity, `"Effect":"Allow","Action":"ds:*","Resource":"*"`, `statement 1 matches`},
		{Identity, `"Sid":"Own","Effect":"Allow","Action":["iam:*","sts:*"],"Resource":"*"`, `statement Own: Action wants ["iam:*", "sts:*"], the request has ["ds:X"]`},
		{Identity, `"Effect":"Allow","NotAction":"DS:x","Resource":"*"`, `statement 1: NotAction excludes ["DS:x"], the request has ["ds:X"]`},
		{Identity, `"Effect":"Allow","Action":"*","Resource":"arn:aws:ds:::y"`, `statement 1: Resource wants ["arn:aws:ds:::y"], the request has ["arn:aws:ds:::x"]`},
		{Identity, `"Effect":"Allow","Action":"*","NotResource":"arn:aws:ds:::*"`, `statement 1: NotResource excludes ["arn:aws:ds:::*"], the request has ["arn:aws:ds:::x"]`},
		{Identity, `"Effect":"Allow","Action":"*","Resource":["*","arn:aws:ds:::${aws:Nobody}","arn:aws:ds:::${aws:None}"]`, `statement 1: Resource has the variable ${aws:Nobody}, which has no value in the request`},
		{Identity, `"Effect":"Allow","Action":"*","NotResource":"arn:aws:ds:::${aws:Nobody}"`, `statement 1: NotResource has the variable ${aws:Nobody}, which has no value in the request`},
		{Identity, `"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringLike":{"AWS:username":["b\"ob","eve*"]}}`, `statement 1: Condition StringLike AWS:username wants ["b\"ob", "eve*"], the request has ["ada"]`},
		{Identity, `"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringLike":{"aws:username":"a*"},"ForAnyValue:StringEquals":{"aws:TagKeys":"c"}}`, `statement 1: Condition ForAnyValue:StringEquals aws:TagKeys wants ["c"], the request has ["a", "b"]`},
		{Identity, `"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Bool":{"aws:MultiFactorAuthPresent":true}}`, `statement 1: Condition Bool aws:MultiFactorAuthPresent wants ["true"], the request does not have the key`},
		{Identity, `"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:username":"${aws:Nobody}"}}`, `statement 1: Condition StringEquals aws:username has the variable ${aws:Nobody}, which has no value in the request`},
		{Identity, `"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ArnLike":{"aws:username":"arn:aws:iam::1:${aws:Nobody}"}}`, `statement 1: Condition ArnLike aws:username has the variable ${aws:Nobody}, which has no value in the request`},
		{Resource, `"Effect":"Allow","Action":"*","Resource":"*","Principal":{"AWS":"` + desk + `","Service":"ec2.amazonaws.com"}`, `statement 1: Principal wants ["` + desk + `", "ec2.amazonaws.com"], the request has ["` + ada + `"]`},
		{Resource, `"Effect":"Allow","Action":"*","Resource":"*","NotPrincipal":"*"`, `statement 1: NotPrincipal excludes ["*"], the request has ["` + ada + `"]`},
	} {
		r := ask("ds:X", "arn:aws:ds:::x")
		r.Set(NewKey("aws:username"), "ada")
		r.SetAll(NewKey("aws:TagKeys"), []string{"a", "b"})
		reasons := must(t, c.kind, with(c.statement)).Explain(r)
		if got := reasons[0].String(); got != c.want || len(reasons) != 1 {
			t.Errorf("%s\nnot\n%s", got, c.want)
		}
	}
	r := ask("ds:X", "*")
	r.Principal = callers[7]
	reasons := must(t, Resource, with(`"Effect":"Allow","Action":"*","Resource":"*","Principal":{"AWS":"123456789012"}`)).Explain(r)
	if got := reasons[0].String(); !strings.HasSuffix(got, `the request has ["workspaces.amazonaws.com"]`) {
		t.Error(got)
	}
}

func TestExplainNumbersStatementsByDocument(t *testing.T) {
	a, errA := Parse(Identity, `{"Statement":[{"Sid":"a","Effect":"Allow","Action":"ds:*","Resource":"*"},{"Sid":"b","Effect":"Deny","Action":"iam:*","Resource":"*"}]}`)
	b, errB := Parse(Identity, with(`"Sid":"c","Effect":"Allow","Action":"*","Resource":"*"`))
	if errA != nil || errB != nil {
		t.Fatal(errA, errB)
	}
	p := Compile(a, b)
	var got [][4]any
	for _, why := range p.Explain(ask("ds:X", "*")) {
		got = append(got, [4]any{why.ID, why.Document, why.Place, why.Matched})
		if s, document, place := p.Statement(why.ID); s != why.Statement || document != why.Document || place != why.Place {
			t.Errorf("%+v", why)
		}
	}
	if want := [][4]any{{0, 0, 0, true}, {1, 0, 1, false}, {2, 1, 0, true}}; !reflect.DeepEqual(got, want) || p.Len() != 3 {
		t.Error(got)
	}
	if p.Document(0) != a || p.Document(1) != b {
		t.Error("documents have other numbers than the statements say")
	}
}
