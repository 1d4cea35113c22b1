package policy

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// TestConditions: every row names its paragraph. The condition is one operator on k:x; request are the values of k:x, nil when the key is missing.
func TestConditions(t *testing.T) {
	missing := []string(nil)
	for _, c := range []struct {
		paragraph string
		operator  string
		policy    string
		request   []string
		want      bool
	}{
		{"5.4 missing key", "StringEquals", `"a"`, missing, false},
		{"5.4 missing key, negated", "StringNotEquals", `"a"`, missing, true},
		{"5.4 missing key, IfExists", "StringEqualsIfExists", `"a"`, missing, true},
		{"5.4 missing key, negated IfExists", "StringNotEqualsIfExists", `"a"`, missing, true},
		{"5.4 missing key, ForAllValues", "ForAllValues:StringEquals", `"a"`, missing, true},
		{"5.4 missing key, ForAnyValue", "ForAnyValue:StringEquals", `"a"`, missing, false},
		{"5.4 missing key, ForAnyValue negated", "ForAnyValue:StringNotEquals", `"a"`, missing, false},
		{"5.4 missing key, ForAllValues negated", "ForAllValues:StringNotEquals", `"a"`, missing, true},
		{"5.4 missing key, ForAnyValue IfExists", "ForAnyValue:StringEqualsIfExists", `"a"`, missing, true},
		{"5.4 empty set, ForAllValues", "ForAllValues:StringEquals", `"a"`, []string{}, true},
		{"5.4 empty set, ForAnyValue", "ForAnyValue:StringEquals", `"a"`, []string{}, false},
		{"5.4 empty set is missing", "Null", `"true"`, []string{}, true},
		{"5.4 values OR", "StringEquals", `["a","b"]`, []string{"b"}, true},
		{"5.4 values NOR", "StringNotEquals", `["a","b"]`, []string{"b"}, false},
		{"5.4 values NOR, none", "StringNotEquals", `["a","b"]`, []string{"c"}, true},
		{"5.4 IfExists with a key", "StringEqualsIfExists", `"a"`, []string{"b"}, false},
		{"5.4 ForAllValues, all", "ForAllValues:StringEquals", `["a","b"]`, []string{"a", "b", "a"}, true},
		{"5.4 ForAllValues, not all", "ForAllValues:StringEquals", `["a","b"]`, []string{"a", "c"}, false},
		{"5.4 ForAnyValue, one", "ForAnyValue:StringEquals", `["a","b"]`, []string{"c", "b"}, true},
		{"5.4 ForAnyValue, none", "ForAnyValue:StringEquals", `["a","b"]`, []string{"c", "d"}, false},
		{"5.4 ForAllValues negated, none listed", "ForAllValues:StringNotEquals", `["a","b"]`, []string{"c", "d"}, true},
		{"5.4 ForAllValues negated, one listed", "ForAllValues:StringNotEquals", `["a","b"]`, []string{"c", "b"}, false},
		{"5.4 ForAnyValue negated, one not listed", "ForAnyValue:StringNotEquals", `["a","b"]`, []string{"a", "c"}, true},
		{"5.4 ForAnyValue negated, all listed", "ForAnyValue:StringNotEquals", `["a","b"]`, []string{"a", "b"}, false},
		{"5.4 ForAllValues, one value", "ForAllValues:StringEquals", `"a"`, []string{"b"}, false},
		{"5.4 several values without a qualifier", "StringEquals", `"a"`, []string{"b", "a"}, true},
		{"5.4 several values without a qualifier, none", "StringEquals", `"a"`, []string{"b", "c"}, false},
		{"5.4 several values without a qualifier, negated", "StringNotEquals", `"a"`, []string{"b", "a"}, false},
		{"5.4 several values without a qualifier, negated, none", "StringNotEquals", `"a"`, []string{"b", "c"}, true},
		{"5.4 Null true, missing", "Null", `"true"`, missing, true},
		{"5.4 Null true, there", "Null", `"true"`, []string{"a"}, false},
		{"5.4 Null false, missing", "Null", `"false"`, missing, false},
		{"5.4 Null false, there", "Null", `"false"`, []string{""}, true},
		{"5.4 Null both", "Null", `["true","false"]`, missing, true},
		{"5.4 Null both, there", "Null", `["false","true"]`, []string{"a"}, true},
		{"5.2 strings with case", "StringEquals", `"Ada"`, []string{"ada"}, false},
		{"5.4 StringEquals has no wildcards", "StringEquals", `"a*"`, []string{"ab"}, false},
		{"5.4 StringEquals, a star itself", "StringEquals", `"a*"`, []string{"a*"}, true},
		{"5.4 ignoring case", "StringEqualsIgnoreCase", `"ADA"`, []string{"ada"}, true},
		{"5.4 ignoring case has no wildcards", "StringEqualsIgnoreCase", `"A*"`, []string{"ada"}, false},
		{"5.4 not, ignoring case", "StringNotEqualsIgnoreCase", `"ADA"`, []string{"ada"}, false},
		{"5.4 like", "StringLike", `"a?a*"`, []string{"adam"}, true},
		{"5.4 like, with case", "StringLike", `"A*"`, []string{"ada"}, false},
		{"5.4 not like", "StringNotLike", `"a?a*"`, []string{"adam"}, false},
		{"5.4 numbers equal", "NumericEquals", `"10"`, []string{"1e1"}, true},
		{"5.4 numbers not equal", "NumericNotEquals", `"10"`, []string{"11"}, true},
		{"5.4 less", "NumericLessThan", `"10"`, []string{"9.99"}, true},
		{"5.4 less, equal", "NumericLessThan", `"10"`, []string{"10"}, false},
		{"5.4 less or equal", "NumericLessThanEquals", `"10"`, []string{"10.0"}, true},
		{"5.4 less or equal, greater", "NumericLessThanEquals", `"10"`, []string{"10.01"}, false},
		{"5.4 greater", "NumericGreaterThan", `"9"`, []string{"10"}, true},
		{"5.4 greater, equal", "NumericGreaterThan", `10`, []string{"10"}, false},
		{"5.4 greater or equal", "NumericGreaterThanEquals", `10`, []string{"10"}, true},
		{"5.4 greater or equal, less", "NumericGreaterThanEquals", `10`, []string{"9"}, false},
		{"5.4 numbers OR", "NumericEquals", `["1","2"]`, []string{"2"}, true},
		{"IAM-3 no number", "NumericLessThan", `"10"`, []string{"NaN"}, false},
		{"IAM-3 no number, negated", "NumericNotEquals", `"10"`, []string{"0xA"}, true},
		{"5.4 dates equal, epoch and ISO", "DateEquals", `"2026-11-26T10:00:00Z"`, []string{"1795687200"}, true},
		{"5.4 dates not equal", "DateNotEquals", `"2026-11-26T10:00:00Z"`, []string{"2026-11-26T11:00:00+01:00"}, false},
		{"5.4 before", "DateLessThan", `"2026-11-26"`, []string{"2026-11-25T23:59:59Z"}, true},
		{"5.4 before, equal", "DateLessThan", `"2026-11-26"`, []string{"2026-11-26T00:00:00Z"}, false},
		{"5.4 at or before", "DateLessThanEquals", `"2026-11-26"`, []string{"2026-11-26T00:00Z"}, true},
		{"5.4 after", "DateGreaterThan", `"1795687200"`, []string{"2026-11-26T10:00:00.001Z"}, true},
		{"5.4 at or after", "DateGreaterThanEquals", `"1795687200"`, []string{"2026-11-26T09:59:59Z"}, false},
		{"IAM-3 no date", "DateLessThan", `"2026-11-26"`, []string{"yesterday"}, false},
		{"IAM-3 no date, negated", "DateNotEquals", `"2026-11-26"`, []string{"yesterday"}, true},
		{"5.4 bool", "Bool", `"true"`, []string{"true"}, true},
		{"5.4 bool, other", "Bool", `"true"`, []string{"false"}, false},
		{"5.4 bool, false", "Bool", `false`, []string{"false"}, true},
		{"IAM-3 bool in capitals", "Bool", `"True"`, []string{"TRUE"}, true},
		{"IAM-3 no bool", "Bool", `"false"`, []string{"0"}, false},
		{"5.3 bool by a variable", "Bool", `"${k:yes}"`, []string{"true"}, true},
		{"5.3 bool by a variable that is none", "Bool", `"${k:name}"`, []string{"ada"}, false},
		{"5.4 MFA: absent, BoolIfExists", "BoolIfExists", `"false"`, missing, true},
		{"5.4 binary", "BinaryEquals", `"QUI="`, []string{"QUI="}, true},
		{"5.4 binary, other", "BinaryEquals", `"QUI="`, []string{"qui="}, false},
		{"5.4 binary has no variables", "BinaryEquals", `""`, []string{""}, true},
		{"5.4 address", "IpAddress", `"10.0.0.0/8"`, []string{"10.1.2.3"}, true},
		{"5.4 bare address", "IpAddress", `"10.1.2.3"`, []string{"10.1.2.4"}, false},
		{"IAM-3 mapped address", "IpAddress", `"10.0.0.0/8"`, []string{"::ffff:10.1.2.3"}, true},
		{"5.4 not the address", "NotIpAddress", `["10.0.0.0/8","192.0.2.0/24"]`, []string{"192.0.2.1"}, false},
		{"IAM-3 no address, negated", "NotIpAddress", `"10.0.0.0/8"`, []string{"10.1.2.3%eth0"}, true},
		{"5.3 ARN", "ArnEquals", `"arn:aws:iam::*:role/*"`, []string{"arn:aws:iam::1:role/x/y"}, true},
		{"5.3 ARN, six components", "ArnLike", `"arn:aws:s:*:111122223333:finance/*"`, []string{"arn:aws:s:us-east-2:999999999999:store/abc:111122223333:finance/document.txt"}, false},
		{"5.3 the same as a string", "StringLike", `"arn:aws:s:*:111122223333:finance/*"`, []string{"arn:aws:s:us-east-2:999999999999:store/abc:111122223333:finance/document.txt"}, true},
		{"5.3 not the ARN", "ArnNotLike", `"arn:aws:iam::1:role/x"`, []string{"arn:aws:iam::1:role/x"}, false},
		{"5.3 not the ARN, other", "ArnNotEquals", `"arn:aws:iam::1:role/x"`, []string{"arn:aws:iam::1:role/y"}, true},
		{"5.3 no ARN but six components", "ArnLike", `"arn:aws:iam::1:role/x"`, []string{"urn:aws:iam::1:role/x"}, false},
		{"5.3 no ARN", "ArnLike", `"*:*:*:*:*:*"`, []string{"ada"}, false},
		{"5.3 a variable in an ARN", "ArnEquals", `"arn:aws:iam::1:user/${k:name}"`, []string{"arn:aws:iam::1:user/ada"}, true},
		{"5.3 a variable that is an ARN", "ArnEquals", `"${k:arn}"`, []string{"arn:aws:iam::1:user/*"}, true},
		{"5.3 its star is no wildcard", "ArnEquals", `"${k:arn}"`, []string{"arn:aws:iam::1:user/ada"}, false},
		{"5.3 a variable that is no ARN", "ArnEquals", `"${k:name}"`, []string{"arn:aws:iam::1:user/ada"}, false},
		{"5.3 variable", "StringEquals", `"${k:name}"`, []string{"ada"}, true},
		{"5.3 variable ignoring case", "StringEqualsIgnoreCase", `"${k:name}"`, []string{"ADA"}, true},
		{"5.3 variable without value", "StringEquals", `["ada","${k:none}"]`, []string{"ada"}, false},
		{"5.3 variable without value, negated", "StringNotEquals", `"${k:none}"`, []string{"ada"}, false},
		{"5.3 variable without value in an ARN, negated", "ArnNotEquals", `"arn:aws:iam::1:user/${k:none}"`, []string{"x"}, false},
		{"5.3 variable without value, key missing, IfExists", "StringEqualsIfExists", `"${k:none}"`, missing, true},
		{"5.3 variable with default", "StringEquals", `"${k:none, 'ada'}"`, []string{"ada"}, true},
		{"IAM-4 a user named *", "StringLike", `"${k:star}"`, []string{"ada"}, false},
	} {
		t.Run(c.paragraph, func(t *testing.T) {
			p := must(t, Identity, with(`"Effect":"Allow","Action":"*","Resource":"*","Condition":{"`+c.operator+`":{"K:X":`+c.policy+`}}`))
			r := &Request{Action: NewAction("a:b")}
			for k, v := range map[string]string{"k:name": "ada", "k:star": "*", "k:yes": "TRUE", "k:arn": "arn:aws:iam::1:user/*"} {
				r.Set(NewKey(k), v)
			}
			r.SetAll(NewKey("k:x"), c.request)
			if got := p.Evaluate(r, nil).Decision == Allowed; got != c.want {
				t.Errorf("%s %s on %q: %v", c.operator, c.policy, c.request, got)
			}
		})
	}
}

// TestEveryOperatorIsKnown: reference 5.4 lists them.
func TestEveryOperatorIsKnown(t *testing.T) {
	names := "StringEquals StringNotEquals StringEqualsIgnoreCase StringNotEqualsIgnoreCase StringLike StringNotLike Bool BinaryEquals IpAddress NotIpAddress ArnEquals ArnLike ArnNotEquals ArnNotLike Null"
	for _, kind := range []string{"Numeric", "Date"} {
		for _, rel := range []string{"Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals"} {
			names += " " + kind + rel
		}
	}
	list := strings.Fields(names)
	if len(list) != len(operators) {
		t.Errorf("%d operators, the reference has %d", len(operators), len(list))
	}
	for _, name := range list {
		op, ok := parseOperator(name)
		if !ok || op.negated != strings.Contains(name, "Not") || op.each != plain || op.ifExists {
			t.Errorf("%s: %+v %v", name, op, ok)
		}
		for qualifier, each := range map[string]quantifier{"": plain, "ForAllValues:": forAll, "ForAnyValue:": forAny} {
			for _, suffix := range []string{"", "IfExists"} {
				op, ok := parseOperator(qualifier + name + suffix)
				if name == "Null" {
					if bare := qualifier+suffix == ""; ok != bare {
						t.Errorf("%sNull%s: %v", qualifier, suffix, ok)
					}
				} else if !ok || op.each != each || op.ifExists != (suffix != "") {
					t.Errorf("%s%s%s: %+v %v", qualifier, name, suffix, op, ok)
				}
			}
		}
	}
}

// TestConditionsAreANDed: operators of a block and keys of an operator (reference 5.4).
func TestConditionsAreANDed(t *testing.T) {
	p := must(t, Identity, with(`"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"k:a":"1","k:b":"1"},"Bool":{"k:c":"true"}}`))
	for i := range 8 {
		r := &Request{Action: NewAction("a:b")}
		for bit, kv := range [][2]string{{"k:a", "1"}, {"k:b", "1"}, {"k:c", "true"}} {
			if i>>bit&1 == 1 {
				r.Set(NewKey(kv[0]), kv[1])
			}
		}
		if got := p.Evaluate(r, nil).Decision == Allowed; got != (i == 7) {
			t.Errorf("%03b: %v", i, got)
		}
	}
}

// TestTagsThatDifferInCaseHideNothing: a second tag of the same folded name is a second value.
func TestTagsThatDifferInCaseHideNothing(t *testing.T) {
	r := &Request{Action: NewAction("a:b")}
	r.Set(NewKey("aws:RequestTag/Team"), "dev")
	r.Set(NewKey("aws:RequestTag/team"), "ops")
	r.Set(NewKey("aws:RequestTag/TEAM"), "x")
	if got := fmt.Sprint(r.Values(NewKey("aws:requesttag/team"))); got != "[dev ops x]" {
		t.Error(got)
	}
	for _, team := range []string{"dev", "ops", "x"} {
		if got := must(t, Identity, with(`"Effect":"Deny","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:RequestTag/team":"`+team+`"}}`)).Evaluate(r, nil).Decision; got != ExplicitDeny {
			t.Errorf("the tag %s is hidden", team)
		}
	}
}

// TestARequestIsUsedAgain: what belongs to one resource is forgotten for the next.
func TestARequestIsUsedAgain(t *testing.T) {
	p := must(t, Identity, with(`"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/team":"dev","aws:username":"ada"}}`))
	r := &Request{Action: NewAction("a:b")}
	r.Set(NewKey("aws:username"), "ada")
	mark := r.Mark()
	for i, team := range []string{"dev", "", "ops", "dev"} {
		r.Rewind(mark)
		if team != "" {
			r.Set(NewKey("aws:ResourceTag/team"), team)
		}
		if got := p.Evaluate(r, nil).Decision == Allowed; got != (team == "dev") {
			t.Errorf("%d %s: %v", i, team, got)
		}
	}
	if r.Values(NewKey("aws:none")) != nil {
		t.Error("a key that was never set has values")
	}
}

// TestInvalidTextIsReadAsTheReplacementCharacter: values come from headers too; any bytes must be decided.
func TestInvalidTextIsReadAsTheReplacementCharacter(t *testing.T) {
	r := &Request{Action: NewAction("a:b")}
	r.SetResource("arn:aws:ds:::\xff")
	r.Set(NewKey("aws:UserAgent"), "a\xfe\xffb")
	for value, want := range map[string]bool{"a*b": true, "a?b": true, "a\ufffdb": true, "a??b": false, "ab": false} {
		text, _ := json.Marshal(value)
		if got := must(t, Identity, with(`"Effect":"Allow","Action":"*","Resource":"arn:aws:ds:::?","Condition":{"StringLike":{"aws:UserAgent":`+string(text)+`}}`)).Evaluate(r, nil).Decision == Allowed; got != want {
			t.Errorf("%q: %v", value, got)
		}
	}
}

func TestKeysAreVisitedInTheOrderTheyWereSet(t *testing.T) {
	var r Request
	r.Set(NewKey("aws:UserName"), "ada")
	mark := r.Mark()
	r.SetAll(NewKey("aws:TagKeys"), []string{"team", "cost"})
	visit := func(mark, most int) (said string) {
		for name, values := range r.Since(mark) {
			said += fmt.Sprint(name, values, " ")
			if most--; most == 0 {
				break
			}
		}
		return said
	}
	if all, first, last := visit(0, 9), visit(0, 1), visit(mark, 9); all != "aws:username[ada] aws:tagkeys[team cost] " || first != "aws:username[ada] " || last != "aws:tagkeys[team cost] " {
		t.Errorf("%q, %q, %q", all, first, last)
	}
}
