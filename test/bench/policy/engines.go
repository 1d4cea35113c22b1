package main

import (
	"fmt"
	"log"
	"net/netip"
	"strings"

	cedar "github.com/cedar-policy/cedar-go"
	"github.com/cedar-policy/cedar-go/types"

	"carrel/internal/policy"
)

// The workload: each team's desktops by tag and by id, with conditions, statements for everybody, denials. The request reboots the desktop of
// statement 5; the one that is not allowed that of statement 6, which has none.
const (
	allowedARN = "arn:aws:workspaces:eu-central-1:123456789012:workspace/ws-00000005"
	deniedARN  = "arn:aws:workspaces:eu-central-1:123456789012:workspace/ws-00000006"
)

// iam is statement i in the policy language.
func iam(i int) string {
	switch i % 5 {
	case 0:
		return fmt.Sprintf(`{"Effect":"Allow","Action":["workspaces:RebootWorkspaces","workspaces:StartWorkspaces","workspaces:StopWorkspaces"],"Resource":"arn:aws:workspaces:eu-central-1:123456789012:workspace/ws-%08d"}`, i)
	case 1:
		return fmt.Sprintf(`{"Effect":"Allow","Action":"workspaces:*","Resource":"arn:aws:workspaces:*:123456789012:workspace/ws-team%05d*","Condition":{"StringEquals":{"aws:ResourceTag/team":"team-%d"}}}`, i, i)
	case 2:
		return fmt.Sprintf(`{"Effect":"Allow","Action":["iam:Get*","iam:List*"],"Resource":"arn:aws:iam::123456789012:user/team-%d/${aws:username}"}`, i)
	case 3:
		return fmt.Sprintf(`{"Effect":"Allow","Action":"workspaces:Modify*","Resource":"arn:aws:workspaces:eu-central-1:123456789012:directory/d-%08d","Condition":{"IpAddress":{"aws:SourceIp":"10.%d.0.0/16"},"Bool":{"aws:SecureTransport":"true"}}}`, i, i%250)
	}
	return fmt.Sprintf(`{"Effect":"Deny","Action":"ds:Delete*","Resource":"arn:aws:ds:eu-central-1:123456789012:directory/d-%08d","Condition":{"BoolIfExists":{"aws:MultiFactorAuthPresent":"false"}}}`, i)
}

// inCedar is statement i in Cedar, with the action as its name where it has wildcards.
func inCedar(i int) string {
	switch i % 5 {
	case 0:
		return fmt.Sprintf(`permit(principal, action in [Action::"workspaces:RebootWorkspaces", Action::"workspaces:StartWorkspaces", Action::"workspaces:StopWorkspaces"], resource == Resource::"arn:aws:workspaces:eu-central-1:123456789012:workspace/ws-%08d");`, i)
	case 1:
		return fmt.Sprintf(`permit(principal, action, resource) when { context.action like "workspaces:*" && resource.arn like "arn:aws:workspaces:*:123456789012:workspace/ws-team%05d*" && resource.team == "team-%d" };`, i, i)
	case 2:
		return fmt.Sprintf(`permit(principal, action, resource) when { (context.action like "iam:Get*" || context.action like "iam:List*") && resource.arn like "arn:aws:iam::123456789012:user/team-%d/ada" };`, i)
	case 3:
		return fmt.Sprintf(`permit(principal, action, resource == Resource::"arn:aws:workspaces:eu-central-1:123456789012:directory/d-%08d") when { context.action like "workspaces:Modify*" && context.sourceIp.isInRange(ip("10.%d.0.0/16")) && context.secure };`, i, i%250)
	}
	return fmt.Sprintf(`forbid(principal, action, resource == Resource::"arn:aws:ds:eu-central-1:123456789012:directory/d-%08d") when { context.action like "ds:Delete*" && !context.mfa };`, i)
}

func carrelEngine(n int) engine {
	var docs []*policy.Document
	for from := 0; from < n; from += 100 {
		var statements []string
		for i := from; i < min(from+100, n); i++ {
			statements = append(statements, iam(i))
		}
		d, err := policy.Parse(policy.Identity, `{"Version":"2012-10-17","Statement":[`+strings.Join(statements, ",")+`]}`)
		if err != nil {
			log.Fatal(err)
		}
		docs = append(docs, d)
	}
	p := policy.Compile(docs...)
	request := func(arn string) *policy.Request {
		r := &policy.Request{Action: policy.NewAction("workspaces:RebootWorkspaces"), Principal: policy.Principal{Type: policy.User, Account: "123456789012", ARN: "arn:aws:iam::123456789012:user/ada"}}
		r.SetResource(arn)
		for k, v := range map[string]string{"aws:username": "ada", "aws:PrincipalArn": "arn:aws:iam::123456789012:user/ada", "aws:PrincipalAccount": "123456789012", "aws:SourceIp": "10.3.4.5", "aws:SecureTransport": "true", "aws:CurrentTime": "2026-11-26T10:00:00Z",
			"aws:RequestedRegion": "eu-central-1", "aws:UserAgent": "aws-cli/2.31", "aws:ResourceTag/team": "team-6", "aws:MultiFactorAuthPresent": "false"} {
			r.Set(policy.NewKey(k), v)
		}
		return r
	}
	yes, no := request(allowedARN), request(deniedARN)
	matched := make([]int32, 16)
	return engine{"carrel", func(allowed bool) bool {
		if allowed {
			return p.Evaluate(yes, matched).Decision == policy.Allowed
		}
		return p.Evaluate(no, matched).Decision == policy.Allowed
	}}
}

func cedarEngine(n int) engine {
	var b strings.Builder
	for i := range n {
		b.WriteString(inCedar(i) + "\n")
	}
	set, err := cedar.NewPolicySetFromBytes("workload", []byte(b.String()))
	if err != nil {
		log.Fatal(err)
	}
	request := func(arn string) (cedar.Request, cedar.EntityMap) {
		resource := cedar.NewEntityUID("Resource", types.String(arn))
		entities := cedar.EntityMap{resource: {UID: resource, Attributes: cedar.NewRecord(cedar.RecordMap{"arn": types.String(arn), "team": types.String("team-6")})}}
		context := cedar.NewRecord(cedar.RecordMap{"action": types.String("workspaces:RebootWorkspaces"), "username": types.String("ada"), "sourceIp": types.IPAddr(netip.MustParsePrefix("10.3.4.5/32")), "secure": types.True, "mfa": types.False})
		return cedar.Request{Principal: cedar.NewEntityUID("User", "ada"), Action: cedar.NewEntityUID("Action", "workspaces:RebootWorkspaces"), Resource: resource, Context: context}, entities
	}
	yes, yesEntities := request(allowedARN)
	no, noEntities := request(deniedARN)
	return engine{"cedar-go", func(allowed bool) bool {
		if allowed {
			ok, _ := cedar.Authorize(set, yesEntities, yes)
			return ok == cedar.Allow
		}
		ok, _ := cedar.Authorize(set, noEntities, no)
		return ok == cedar.Allow
	}}
}
