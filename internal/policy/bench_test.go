package policy

import (
	"fmt"
	"strings"
	"testing"
)

// workload is a policy of n statements, numbered from from, as an installation of many teams has them: each team's desktops by tag and by id, with conditions, a few
// statements for everybody, and a few denials. test/bench/policy writes the same for other engines.
func workload(from, n int) string {
	var b strings.Builder
	b.WriteString(`{"Version":"2012-10-17","Statement":[`)
	for i := from; i < from+n; i++ {
		if i > from {
			b.WriteString(",")
		}
		switch i % 5 {
		case 0:
			fmt.Fprintf(&b, `{"Effect":"Allow","Action":["workspaces:RebootWorkspaces","workspaces:StartWorkspaces","workspaces:StopWorkspaces"],"Resource":"arn:aws:workspaces:eu-central-1:123456789012:workspace/ws-%08d"}`, i)
		case 1:
			fmt.Fprintf(&b, `{"Effect":"Allow","Action":"workspaces:*","Resource":"arn:aws:workspaces:*:123456789012:workspace/ws-team%05d*","Condition":{"StringEquals":{"aws:ResourceTag/team":"team-%d"}}}`, i, i)
		case 2:
			fmt.Fprintf(&b, `{"Effect":"Allow","Action":["iam:Get*","iam:List*"],"Resource":"arn:aws:iam::123456789012:user/team-%d/${aws:username}"}`, i)
		case 3:
			fmt.Fprintf(&b, `{"Effect":"Allow","Action":"workspaces:Modify*","Resource":"arn:aws:workspaces:eu-central-1:123456789012:directory/d-%08d","Condition":{"IpAddress":{"aws:SourceIp":"10.%d.0.0/16"},"Bool":{"aws:SecureTransport":"true"}}}`, i, i%250)
		case 4:
			fmt.Fprintf(&b, `{"Effect":"Deny","Action":"ds:Delete*","Resource":"arn:aws:ds:eu-central-1:123456789012:directory/d-%08d","Condition":{"BoolIfExists":{"aws:MultiFactorAuthPresent":"false"}}}`, i)
		}
	}
	b.WriteString(`]}`)
	return b.String()
}

// workloadPolicy compiles a workload in documents that are short enough.
func workloadPolicy(tb testing.TB, n int) *Policy {
	tb.Helper()
	var docs []*Document
	for from := 0; from < n; from += 500 {
		d, err := Parse(Identity, workload(from, min(n-from, 500)))
		if err != nil {
			tb.Fatal(err)
		}
		docs = append(docs, d)
	}
	return Compile(docs...)
}

// workloadRequest asks to reboot the desktop of statement 5, which two statements may match and one allows.
func workloadRequest() *Request {
	r := &Request{Action: NewAction("workspaces:RebootWorkspaces"), Principal: Principal{Type: User, Account: "123456789012", ARN: "arn:aws:iam::123456789012:user/ada", ID: "AIDAEXAMPLEEXAMPLE01"}}
	r.SetResource("arn:aws:workspaces:eu-central-1:123456789012:workspace/ws-00000005")
	for _, kv := range [][2]string{{"aws:username", "ada"}, {"aws:userid", "AIDAEXAMPLEEXAMPLE01"}, {"aws:PrincipalArn", "arn:aws:iam::123456789012:user/ada"}, {"aws:PrincipalAccount", "123456789012"},
		{"aws:PrincipalType", "User"}, {"aws:SourceIp", "10.3.4.5"}, {"aws:SecureTransport", "true"}, {"aws:CurrentTime", "2026-11-26T10:00:00Z"}, {"aws:EpochTime", "1795687200"},
		{"aws:RequestedRegion", "eu-central-1"}, {"aws:ViaAWSService", "false"}, {"aws:UserAgent", "aws-cli/2.31"}, {"aws:ResourceTag/team", "team-6"}, {"aws:ResourceAccount", "123456789012"}} {
		r.Set(NewKey(kv[0]), kv[1])
	}
	return r
}

func BenchmarkEvaluate(b *testing.B) {
	for _, n := range []int{10, 100, 1000, 10000} {
		b.Run(fmt.Sprintf("%d statements", n), func(b *testing.B) {
			p, r := workloadPolicy(b, n), workloadRequest()
			matched := make([]int32, 16)
			if res := p.Evaluate(r, matched); res.Decision != Allowed {
				b.Fatal(res)
			}
			b.ReportAllocs()
			for b.Loop() {
				p.Evaluate(r, matched)
			}
		})
	}
}

func BenchmarkCompile(b *testing.B) {
	text := workload(0, 100)
	b.ReportAllocs()
	for b.Loop() {
		d, err := Parse(Identity, text)
		if err != nil {
			b.Fatal(err)
		}
		Compile(d)
	}
}

func BenchmarkWildcard(b *testing.B) {
	text := strings.Repeat("a", 2048)
	for _, p := range []string{strings.Repeat("*a", 1000) + "b", strings.Repeat("*a?a", 500) + "b", "*" + strings.Repeat("?", 60) + "b*"} {
		pat, _ := parsePattern(p, true, false)
		b.Run(p[:8], func(b *testing.B) {
			for b.Loop() {
				pat.match(text, nil)
			}
		})
	}
}
