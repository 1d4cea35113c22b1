package policy

import (
	"strings"
	"testing"
)

// TestNULAndLookAlikesInARNs: text that people or C programs take for another text is no more than itself, in documents and requests,
// and a look-alike of a colon parts nothing.
func TestNULAndLookAlikesInARNs(t *testing.T) {
	const ws = "arn:aws:workspaces:eu-central-1:123456789012:workspace/ws-ada"
	for name, alike := range map[string]string{
		"a NUL at the end":           ws + "\x00",
		"a NUL and another end":      ws + "\x00-not",
		"a NUL within":               strings.Replace(ws, "ws-", "ws-\x00", 1),
		"a Cyrillic letter":          strings.Replace(ws, "ada", "\u0430da", 1),
		"a letter and a combining":   strings.Replace(ws, "ada", "a\u0301da", 1),
		"a full-width letter":        strings.Replace(ws, "ada", "\uff41da", 1),
		"a full-width colon":         strings.Replace(ws, "workspaces:", "workspaces\uff1a", 1),
		"a full-width slash":         strings.Replace(ws, "workspace/", "workspace\uff0f", 1),
		"a zero-width space":         strings.Replace(ws, "ada", "a\u200bda", 1),
		"a right-to-left override":   strings.Replace(ws, "ada", "\u202eada", 1),
		"an Arabic digit":            strings.Replace(ws, "123456789012", "\u0661"+"23456789012", 1),
		"a non-breaking hyphen":      strings.Replace(ws, "ws-ada", "ws\u2011ada", 1),
		"bytes that are not UTF-8":   strings.Replace(ws, "ada", "\xe0da", 1),
		"an overlong slash":          strings.Replace(ws, "workspace/", "workspace\xc0\xaf", 1),
		"a percent-encoded slash":    strings.Replace(ws, "workspace/", "workspace%2F", 1),
		"upper case":                 strings.Replace(ws, "ada", "ADA", 1),
		"a space at the end":         ws + " ",
		"a look-alike of the prefix": strings.Replace(ws, "arn:", "\u0430rn:", 1),
	} {
		t.Run(name, func(t *testing.T) {
			named := must(t, Identity, with(`"Effect":"Allow","Action":"*","Resource":"`+ws+`"`))
			if got := named.Evaluate(ask("workspaces:TerminateWorkspaces", alike), nil); got.Decision == Allowed {
				t.Errorf("%q is allowed by the name of %s", alike, ws)
			}
			if got := named.Evaluate(ask("workspaces:TerminateWorkspaces", ws), nil); got.Decision != Allowed {
				t.Errorf("the control: %v", got.Decision)
			}
			denied := must(t, Identity, with(`"Effect":"Allow","Action":"*","Resource":"*"},{"Effect":"Deny","Action":"*","NotResource":"`+ws+`"`))
			if got := denied.Evaluate(ask("workspaces:TerminateWorkspaces", alike), nil); got.Decision != ExplicitDeny {
				t.Errorf("%q passes as %s", alike, ws)
			}
		})
	}
	for _, action := range []string{"\u0456am:GetUser", "iam:GetUser\x00", "iam\uff1aGetUser", "iam:Get\u200bUser"} {
		if must(t, Identity, with(`"Effect":"Allow","Action":"iam:GetUser","Resource":"*"`)).Evaluate(ask(action, "*"), nil).Decision == Allowed {
			t.Errorf("%q passes as iam:GetUser", action)
		}
	}
	for _, user := range []string{ada + "\x00", strings.Replace(ada, "ada", "\u0430da", 1), strings.Replace(ada, "ada", "a\u0301da", 1), strings.Replace(ada, "user/", "user\uff0f", 1), ada + "\u200b", strings.Replace(ada, "ada", "Ada", 1)} {
		r := ask("ds:x", "*")
		r.Principal = Principal{Type: User, Account: "123456789012", ARN: user, ID: "AIDAEXAMPLEEXAMPLE09"}
		if got := must(t, Resource, with(`"Effect":"Allow","Action":"*","Resource":"*","Principal":{"AWS":"`+ada+`"}`)).Evaluate(r, nil); got.Decision == Allowed {
			t.Errorf("%q is trusted as %s", user, ada)
		}
	}
}
