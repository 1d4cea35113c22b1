package authz

import (
	"encoding/json"
	"iter"
	"maps"
	"slices"
	"strconv"
)

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
	}
	x.By, x.Reason = d.by()
	for name, values := range d.common() {
		x.Context[name] = values
	}
	return x
}

// by tells which kind of policy decided, and why.
func (d *Decision) by() (kind, reason string) {
	if len(d.Checks) == 0 {
		return "", d.Reason
	}
	last := d.Checks[len(d.Checks)-1].Verdict
	if last.Implicitly {
		return "", "the account's root user is allowed implicitly"
	}
	return last.By.String(), d.Reason
}

// common visits the condition keys that all checks have.
func (d *Decision) common() iter.Seq2[string, []string] {
	return func(yield func(string, []string) bool) {
		n := d.base
		for name, values := range d.request.Since(0) {
			if n--; n < 0 || !yield(name, values) {
				return
			}
		}
	}
}

// AppendJSON appends the Explanation as one line of JSON to b, as encoding/json would: every request of every caller takes this way.
func (d *Decision) AppendJSON(b []byte) []byte {
	b = append(b, `{"allowed":`...)
	b = strconv.AppendBool(b, d.Allowed)
	by, reason := d.by()
	b = optional(b, "by", by)
	b = optional(b, "reason", reason)
	for i := range d.Checks {
		b = append(b, [...]string{`,"checks":[`, `,`}[min(i, 1)]...)
		b = d.appendCheck(b, &d.Checks[i])
	}
	if len(d.Checks) > 0 {
		b = append(b, ']')
	}
	if d.base > 0 {
		b = append(b, `,"context":`...)
		b = appendKeys(b, d.common())
	}
	return append(b, '}')
}

func (d *Decision) appendCheck(b []byte, c *Check) []byte {
	b = append(b, `{"action":`...)
	b = appendText(b, c.Action)
	b = append(b, `,"resource":`...)
	b = appendText(b, c.Resource)
	b = optional(b, "decision", c.Verdict.Decision.String())
	b = optional(b, "account", c.Account)
	if len(c.Keys) > 0 {
		b = append(b, `,"context":`...)
		b = appendKeys(b, func(yield func(string, []string) bool) {
			for _, name := range slices.Sorted(maps.Keys(c.Keys)) {
				if !yield(name, c.Keys[name]) {
					return
				}
			}
		})
	}
	first := true
	for m := range d.matches(c) {
		if first {
			b = append(b, `,"matched":[`...)
		} else {
			b = append(b, ',')
		}
		first = false
		b = append(b, `{"kind":`...)
		b = appendText(b, m.Kind)
		b = append(b, `,"policy":`...)
		b = appendText(b, m.Policy)
		b = optional(b, "sid", m.Sid)
		b = append(b, `,"statement":`...)
		b = strconv.AppendInt(b, int64(m.Statement), 10)
		b = optional(b, "effect", m.Effect)
		b = append(b, '}')
	}
	if !first {
		b = append(b, ']')
	}
	return append(b, '}')
}

func appendKeys(b []byte, keys iter.Seq2[string, []string]) []byte {
	sep := byte('{')
	for name, values := range keys {
		b = append(b, sep)
		sep = ','
		b = appendText(b, name)
		for i, v := range values {
			b = append(b, [...]string{`:[`, `,`}[min(i, 1)]...)
			b = appendText(b, v)
		}
		b = append(b, ']')
	}
	if sep == '{' {
		b = append(b, '{')
	}
	return append(b, '}')
}

func optional(b []byte, name, value string) []byte {
	if value == "" {
		return b
	}
	b = append(b, ',', '"')
	b = append(b, name...)
	b = append(b, `":`...)
	return appendText(b, value)
}

// appendText appends s as a JSON string: as it is where nothing in it needs an escape.
func appendText(b []byte, s string) []byte {
	for i := range len(s) {
		if !plain[s[i]] {
			text, err := json.Marshal(s)
			if err != nil {
				return append(b, `""`...) // A string can always be written.
			}
			return append(b, text...)
		}
	}
	b = append(b, '"')
	b = append(b, s...)
	return append(b, '"')
}

// plain are the bytes that encoding/json writes as they are.
var plain = func() (is [256]bool) {
	for c := ' '; c <= '~'; c++ {
		is[c] = c != '"' && c != '\\' && c != '<' && c != '>' && c != '&'
	}
	return is
}()
