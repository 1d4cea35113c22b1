package authz

import (
	"encoding/json"
	"slices"

	"carrel/internal/policy"
)

// listed is a list as authorization messages have them.
type listed[T any] struct {
	Items []T `json:"items"`
}

type messageValue struct {
	Value string `json:"value"`
}

type messageCondition struct {
	Key    string               `json:"key"`
	Values listed[messageValue] `json:"values"`
}

type messageStatement struct {
	StatementID string               `json:"statementId"`
	Effect      string               `json:"effect"`
	Actions     listed[messageValue] `json:"actions"`
	Resources   listed[messageValue] `json:"resources"`
}

// message is what an encoded authorization message says when it is decoded (STS API reference, DecodeAuthorizationMessage).
type message struct {
	Allowed           bool                     `json:"allowed"`
	ExplicitDeny      bool                     `json:"explicitDeny"`
	MatchedStatements listed[messageStatement] `json:"matchedStatements"`
	Failures          listed[messageValue]     `json:"failures"`
	Context           struct {
		Principal struct {
			ID   string `json:"id"`
			Name string `json:"name,omitempty"`
			ARN  string `json:"arn"`
		} `json:"principal"`
		Action     string                   `json:"action"`
		Resource   string                   `json:"resource"`
		Conditions listed[messageCondition] `json:"conditions"`
	} `json:"context"`
}

// message is the decision in the form of an authorization message: whether a deny was explicit, the denies that matched, and the request as it was
// decided about. Statements that allow are not in it, nor where policies are attached.
func (d *Decision) message() string {
	m := message{MatchedStatements: listed[messageStatement]{[]messageStatement{}}, Failures: listed[messageValue]{[]messageValue{}}}
	m.Context.Principal.ID, m.Context.Principal.Name, m.Context.Principal.ARN = d.principal.UserID(), d.principal.Name(), d.principal.ARN()
	m.Context.Action, m.Context.Resource = d.action.String(), d.Resource
	m.Context.Conditions.Items = []messageCondition{}
	if n := len(d.Checks); n > 0 {
		last := &d.Checks[n-1]
		m.Context.Action, m.ExplicitDeny = last.Action, last.Verdict.Decision == policy.ExplicitDeny
		for _, step := range d.trace.Steps[last.steps[0]:last.steps[1]] {
			for _, id := range step.Matched {
				if s, _, _ := step.Policy.Statement(int(id)); s.Effect == policy.Deny {
					m.MatchedStatements.Items = append(m.MatchedStatements.Items, messageStatement{s.Sid, "DENY", messageValues(s.Actions), messageValues(s.Resources)})
				}
			}
		}
	}
	for name, values := range d.request.Since(0) {
		m.Context.Conditions.Items = append(m.Context.Conditions.Items, messageCondition{name, messageValues(values)})
	}
	slices.SortFunc(m.Context.Conditions.Items, func(a, b messageCondition) int {
		if a.Key < b.Key {
			return -1
		}
		return 1
	})
	text, err := json.Marshal(&m)
	if err != nil {
		return "{}" // Texts and lists of them: it cannot fail.
	}
	return string(text)
}

func messageValues(values []string) listed[messageValue] {
	out := listed[messageValue]{make([]messageValue, 0, len(values))}
	for _, v := range values {
		out.Items = append(out.Items, messageValue{v})
	}
	return out
}
