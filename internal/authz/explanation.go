package authz

import "encoding/json"

// Explanation is what is kept of a decision: enough to tell why, and to ask the same question of other policies later.
type Explanation struct {
	Allowed bool `json:"allowed"`
	// By says which check decided, in the words of AWS's denials ("identity-based policy"); empty when no policy was asked.
	By string `json:"by,omitempty"`
	// Reason is the end of the denial, or why nothing was asked.
	Reason string           `json:"reason,omitempty"`
	Checks []ExplainedCheck `json:"checks,omitempty"`
	// Context are the condition keys by their folded names: those of the denied pair, else what all pairs have.
	Context map[string][]string `json:"context,omitempty"`
	// Nearest is the smallest single change that would have allowed it.
	Nearest json.RawMessage `json:"nearest,omitempty"`
}

// ExplainedCheck is one pair of an action and a resource.
type ExplainedCheck struct {
	Action   string  `json:"action"`
	Resource string  `json:"resource"`
	Decision string  `json:"decision"`
	Matched  []Match `json:"matched,omitempty"`
	// Tags are the resource's, which belong to this check alone.
	Tags map[string]string `json:"tags,omitempty"`
}

// Explain tells what is to be kept.
func (d *Decision) Explain() *Explanation {
	x := &Explanation{Allowed: d.Allowed, Reason: d.Reason, Context: map[string][]string{}}
	for i := range d.Checks {
		c := &d.Checks[i]
		x.Checks = append(x.Checks, ExplainedCheck{Action: c.Action, Resource: c.Resource, Decision: c.Verdict.Decision.String(), Matched: d.Matches(c)})
		x.By = c.Verdict.By.String()
		if c.Verdict.Implicitly {
			x.By, x.Reason = "", "the account's root user is allowed implicitly"
		}
	}
	if !d.Allowed && len(d.said) > 0 {
		for _, k := range d.said {
			x.Context[k.name] = k.values
		}
		return x
	}
	for name, values := range d.request.All() {
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
