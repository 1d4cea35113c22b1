package policy

import (
	"regexp"
	"strings"
	"testing"
)

// conformance is the language by its paragraphs: each row names the paragraph of the reference (5.1 to 5.4, which follow the IAM User Guide's
// "Policy evaluation logic", "Grammar", "Resource" and "Condition operators") that it holds the engine to.
var conformance = []struct {
	// row begins with its paragraph.
	row string
	// statements are those of an identity policy of version 2012-10-17; a document of its own begins with {"Version".
	statements string
	// ask is "action resource key=value key=value|value ...".
	ask  string
	want Decision
}{
	{"5.1 nothing is allowed by default", `{"Effect":"Allow","Action":"ws:Start","Resource":"*"}`, "ws:Stop *", ImplicitDeny},
	{"5.1 an explicit deny wins, whatever the order", `{"Effect":"Deny","Action":"ws:*","Resource":"*"},{"Effect":"Allow","Action":"*","Resource":"*"}`, "ws:Stop *", ExplicitDeny},
	{"5.1 an explicit deny wins, the other way round", `{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"ws:*","Resource":"*"}`, "ws:Stop *", ExplicitDeny},
	{"5.1 a deny of something else is none", `{"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"ws:Stop","Resource":"*"}`, "ws:Start *", Allowed},

	{"5.2 a statement need not stand in a list", `{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"ws:Stop","Resource":"*"}}`, "ws:Stop *", Allowed},
	{"5.2 strings or lists everywhere", `{"Effect":"Allow","Action":["ws:Start","ws:Stop"],"Resource":["arn:aws:ws:r:1:x/a","arn:aws:ws:r:1:x/b"]}`, "ws:Stop arn:aws:ws:r:1:x/b", Allowed},
	{"5.2 NotAction is all the others", `{"Effect":"Allow","NotAction":"ws:Stop","Resource":"*"}`, "ws:Start *", Allowed},
	{"5.2 NotAction is not what it names", `{"Effect":"Allow","NotAction":"ws:Stop","Resource":"*"}`, "ws:Stop *", ImplicitDeny},
	{"5.2 NotResource is all the others", `{"Effect":"Allow","Action":"*","NotResource":"arn:aws:ws:r:1:x/a"}`, "ws:Stop arn:aws:ws:r:1:x/b", Allowed},
	{"5.2 NotResource is not what it names", `{"Effect":"Allow","Action":"*","NotResource":"arn:aws:ws:r:1:x/a"}`, "ws:Stop arn:aws:ws:r:1:x/a", ImplicitDeny},
	{"5.2 actions are compared without case", `{"Effect":"Allow","Action":"WS:sTOP","Resource":"*"}`, "ws:Stop *", Allowed},
	{"5.2 condition keys are compared without case", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"AWS:USERNAME":"ada"}}}`, "ws:Stop * aws:username=ada", Allowed},
	{"5.2 resources are compared with case", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ws:r:1:x/A"}`, "ws:Stop arn:aws:ws:r:1:x/a", ImplicitDeny},
	{"5.2 the old version has no variables", `{"Version":"2008-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:ws:r:1:x/${aws:username}"}}`, "ws:Stop arn:aws:ws:r:1:x/ada aws:username=ada", ImplicitDeny},
	{"5.2 in the old version they are text", `{"Version":"2008-10-17","Statement":{"Effect":"Allow","Action":"*","Resource":"arn:aws:ws:r:1:x/${aws:username}"}}`, "ws:Stop arn:aws:ws:r:1:x/${aws:username} aws:username=ada", Allowed},

	{"5.3 a star in an action", `{"Effect":"Allow","Action":"ws:Desc*","Resource":"*"}`, "ws:DescribeAll *", Allowed},
	{"5.3 a question mark in an action", `{"Effect":"Allow","Action":"ws:Sto?","Resource":"*"}`, "ws:Stop *", Allowed},
	{"5.3 a question mark is one character", `{"Effect":"Allow","Action":"ws:St?","Resource":"*"}`, "ws:Stop *", ImplicitDeny},
	{"5.3 a star spans slashes", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ws:r:1:x/*"}`, "ws:Stop arn:aws:ws:r:1:x/a/b/c", Allowed},
	{"5.3 a star stays within its segment", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ws:r*:1:x/a"}`, "ws:Stop arn:aws:ws:r:2:1:x/a", ImplicitDeny},
	{"5.3 any number of stars in a segment", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ws:*-*-1:1:x/*a*b*"}`, "ws:Stop arn:aws:ws:eu-west-1:1:x/1a2b3", Allowed},
	{"5.3 the resource part has colons of its own", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ws:r:1:x:*"}`, "ws:Stop arn:aws:ws:r:1:x:a:b", Allowed},
	{"5.3 a star alone is everything", `{"Effect":"Allow","Action":"*","Resource":"*"}`, "ws:Stop arn:aws:ws:r:1:x/a", Allowed},
	{"5.3 a variable", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ws:r:1:x/${aws:username}"}`, "ws:Stop arn:aws:ws:r:1:x/ada aws:username=ada", Allowed},
	{"5.3 a variable's value is no pattern", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ws:r:1:x/${aws:username}"}`, "ws:Stop arn:aws:ws:r:1:x/ada aws:username=*", ImplicitDeny},
	{"5.3 a variable without value matches nothing", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ws:r:1:x/${aws:username}*"}`, "ws:Stop arn:aws:ws:r:1:x/ada", ImplicitDeny},
	{"5.3 a variable with a default", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ws:r:1:x/${aws:username, 'guest'}"}`, "ws:Stop arn:aws:ws:r:1:x/guest", Allowed},
	{"5.3 a default is not asked when there is a value", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ws:r:1:x/${aws:username, 'guest'}"}`, "ws:Stop arn:aws:ws:r:1:x/guest aws:username=ada", ImplicitDeny},
	{"5.3 a star that is meant", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ws:r:1:x/${*}"}`, "ws:Stop arn:aws:ws:r:1:x/*", Allowed},
	{"5.3 a star that is meant is no pattern", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ws:r:1:x/${*}"}`, "ws:Stop arn:aws:ws:r:1:x/ada", ImplicitDeny},
	{"5.3 a variable of a key with several values", `{"Effect":"Allow","Action":"*","Resource":"arn:aws:ws:r:1:x/${aws:TagKeys}"}`, "ws:Stop arn:aws:ws:r:1:x/a aws:tagkeys=a", ImplicitDeny},

	{"5.4 keys of an operator are all wanted", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"a:x":"1","a:y":"2"}}}`, "ws:Stop * a:x=1 a:y=3", ImplicitDeny},
	{"5.4 operators are all wanted", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"a:x":"1"},"StringLike":{"a:y":"2*"}}}`, "ws:Stop * a:x=1 a:y=22", Allowed},
	{"5.4 one of a key's values is enough", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"a:x":["1","2"]}}}`, "ws:Stop * a:x=2", Allowed},
	{"5.4 a negated operator wants none of them", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringNotEquals":{"a:x":["1","2"]}}}`, "ws:Stop * a:x=2", ImplicitDeny},
	{"5.4 a missing key is false", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"a:x":"1"}}}`, "ws:Stop *", ImplicitDeny},
	{"5.4 a missing key is true for a negated operator", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringNotEquals":{"a:x":"1"}}}`, "ws:Stop *", Allowed},
	{"5.4 a missing key is true with IfExists", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"BoolIfExists":{"aws:MultiFactorAuthPresent":"true"}}}`, "ws:Stop *", Allowed},
	{"5.4 a key that is there counts with IfExists", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"BoolIfExists":{"aws:MultiFactorAuthPresent":"true"}}}`, "ws:Stop * aws:multifactorauthpresent=false", ImplicitDeny},
	{"5.4 Null true wants it missing", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Null":{"aws:TokenIssueTime":"true"}}}`, "ws:Stop *", Allowed},
	{"5.4 Null false wants it there", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"Null":{"aws:TokenIssueTime":"false"}}}`, "ws:Stop *", ImplicitDeny},
	{"5.4 ForAllValues is true of none", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":["a"]}}}`, "ws:Stop *", Allowed},
	{"5.4 ForAllValues wants each", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ForAllValues:StringEquals":{"aws:TagKeys":["a","b"]}}}`, "ws:Stop * aws:tagkeys=a|c", ImplicitDeny},
	{"5.4 ForAnyValue is false of none", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"aws:TagKeys":["a"]}}}`, "ws:Stop *", ImplicitDeny},
	{"5.4 ForAnyValue wants one", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ForAnyValue:StringEquals":{"aws:TagKeys":["a"]}}}`, "ws:Stop * aws:tagkeys=a|c", Allowed},
	{"5.4 StringEqualsIgnoreCase", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEqualsIgnoreCase":{"a:x":"ABC"}}}`, "ws:Stop * a:x=abc", Allowed},
	{"5.4 StringEquals has case, and no stars", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"a:x":"a*"}}}`, "ws:Stop * a:x=abc", ImplicitDeny},
	{"5.4 StringLike has stars", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringLike":{"a:x":"a*"}}}`, "ws:Stop * a:x=abc", Allowed},
	{"5.4 StringNotLike", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringNotLike":{"a:x":"a*"}}}`, "ws:Stop * a:x=abc", ImplicitDeny},
	{"5.4 numbers are compared as numbers", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"NumericLessThan":{"a:x":"10"}}}`, "ws:Stop * a:x=9", Allowed},
	{"5.4 NumericGreaterThanEquals", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"NumericGreaterThanEquals":{"a:x":"10"}}}`, "ws:Stop * a:x=10.0", Allowed},
	{"5.4 dates, ISO and epoch alike", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"DateLessThan":{"aws:CurrentTime":"2026-01-01T00:00:00Z"}}}`, "ws:Stop * aws:currenttime=1700000000", Allowed},
	{"5.4 DateGreaterThan", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"DateGreaterThan":{"aws:CurrentTime":"2026-01-01T00:00:00Z"}}}`, "ws:Stop * aws:currenttime=2025-12-31T23:59:59Z", ImplicitDeny},
	{"5.4 BinaryEquals", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"BinaryEquals":{"a:x":"QmluYXJ5"}}}`, "ws:Stop * a:x=QmluYXJ5", Allowed},
	{"5.4 an address without a length is one address", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":"192.0.2.7"}}}`, "ws:Stop * aws:sourceip=192.0.2.7", Allowed},
	{"5.4 IpAddress, a network", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"IpAddress":{"aws:SourceIp":["10.0.0.0/8","2001:db8::/32"]}}}`, "ws:Stop * aws:sourceip=2001:db8:1::9", Allowed},
	{"5.4 NotIpAddress", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"NotIpAddress":{"aws:SourceIp":"10.0.0.0/8"}}}`, "ws:Stop * aws:sourceip=10.1.2.3", ImplicitDeny},
	{"5.4 ArnLike is segment by segment", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ArnLike":{"aws:PrincipalArn":"arn:aws:iam::*:role/a*"}}}`, "ws:Stop * aws:principalarn=arn:aws:iam::1:role/admin", Allowed},
	{"5.4 ArnEquals is ArnLike", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::*:role/a*"}}}`, "ws:Stop * aws:principalarn=arn:aws:iam::1:role/admin", Allowed},
	{"5.4 a star of ArnLike crosses no colon", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ArnLike":{"aws:PrincipalArn":"arn:aws:*:*:1:role/admin"}}}`, "ws:Stop * aws:principalarn=arn:aws:iam::2:1:role/admin", ImplicitDeny},
	{"5.4 ArnNotEquals", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"ArnNotEquals":{"aws:PrincipalArn":"arn:aws:iam::1:role/*"}}}`, "ws:Stop * aws:principalarn=arn:aws:iam::1:role/admin", ImplicitDeny},
	{"5.4 a variable in a value", `{"Effect":"Allow","Action":"*","Resource":"*","Condition":{"StringEquals":{"aws:ResourceTag/team":"${aws:PrincipalTag/team}"}}}`, "ws:Stop * aws:resourcetag/team=red aws:principaltag/team=red", Allowed},
}

func TestConformance(t *testing.T) {
	paragraph := regexp.MustCompile(`^5\.[1-4] \S`)
	held := map[string]int{}
	for _, c := range conformance {
		t.Run(c.row, func(t *testing.T) {
			if !paragraph.MatchString(c.row) {
				t.Fatal("it names no paragraph of the reference")
			}
			held[c.row[:3]]++
			text := c.statements
			if !strings.HasPrefix(text, `{"Version"`) {
				text = `{"Version":"2012-10-17","Statement":[` + text + `]}`
			}
			d, err := Parse(Identity, text)
			if err != nil {
				t.Fatal(err)
			}
			ask := strings.Split(c.ask, " ")
			r := &Request{Action: NewAction(ask[0])}
			r.SetResource(ask[1])
			for _, pair := range ask[2:] {
				key, values, _ := strings.Cut(pair, "=")
				r.SetAll(NewKey(key), strings.Split(values, "|"))
			}
			if got := Compile(d).Evaluate(r, nil).Decision; got != c.want {
				t.Errorf("%s, want %s", got, c.want)
			}
		})
	}
	for _, p := range []string{"5.1", "5.2", "5.3", "5.4"} {
		if held[p] < 4 {
			t.Errorf("only %d rows hold the engine to %s", held[p], p)
		}
	}
}
