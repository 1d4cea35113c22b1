package authz

import "encoding/json"

// Explanation is what is kept of a decision: enough to tell why, and to ask the same question of other policies later.
type Explanation struct {
	Allowed bool `json:"allowed"`
	// By says which kind of policy decided, in the words of AWS's denials ("identity-based policy"); empty when none did.
	By string `json:"by,omitempty"`
	// Reason is the end of the denial, or why something is allowed that no policy said.
	Reason string           `json:"reason,omitempty"`
	Checks []ExplainedCheck `json:"checks,omitempty"`
	// Context are the condition keys that all checks had, by their folded names.
	Context map[string][]string `json:"context,omitempty"`
	// Nearest is the smallest single change that would have allowed it.
	Nearest json.RawMessage `json:"nearest,omitempty"`
}

// ExplainedCheck is one pair of an action and a resource.
type ExplainedCheck struct {
	Action   string `json:"action"`
	Resource string `json:"resource"`
	// Decision is as the policy simulator writes it: "allowed", "explicitDeny", "implicitDeny".
	Decision string `json:"decision"`
	// Account is aws:ResourceAccount, Context the condition keys that this check has besides those of all.
	Account string              `json:"account,omitempty"`
	Context map[string][]string `json:"context,omitempty"`
	Matched []Match             `json:"matched,omitempty"`
}

// Explain tells what is to be kept.
func (d *Decision) Explain() *Explanation {
	x := &Explanation{Allowed: d.Allowed, Reason: d.Reason, Context: map[string][]string{}}
	for i := range d.Checks {
		c := &d.Checks[i]
		x.Checks = append(x.Checks, ExplainedCheck{Action: c.Action, Resource: c.Resource, Decision: c.Verdict.Decision.String(),
			Account: c.Account, Context: c.Keys, Matched: d.Matches(c)})
		x.By = c.Verdict.By.String()
		if c.Verdict.Implicitly {
			x.By, x.Reason = "", "the account's root user is allowed implicitly"
		}
	}
	n := d.base
	for name, values := range d.request.Since(0) {
		if n--; n < 0 {
			break
		}
		x.Context[name] = values
	}
	return x
}

// AppendJSON appends the Explanation as one line of JSON to b.
func (d *Decision) AppendJSON(b []byte) []byte {
	text, err := json.Marshal(d.Explain())
	if err != nil {
		return append(b, "null"...) // Texts and lists of them: it cannot fail.
	}
	return append(b, text...)
}
