// Package authz decides whether a principal may carry out an operation, and keeps the reasons.
//
// It knows which actions and resources an operation is checked against (reference 5.6), what the condition keys say and when they are
// present (5.4), and which policies apply to whom; the language and the order of evaluation (5.1 to 5.3) are policy's. It denies by default:
// an operation without a row in the tables is denied to everybody, the account's root included. It refuses to look at HTTP, and to answer
// anything but what is asked: what is stored is shown by others.
package authz

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/awserr"
	"carrel/internal/identity"
	"carrel/internal/permissions"
	"carrel/internal/policy"
	"carrel/internal/state"
)

// Authorizer decides. All fields but Encode must be set before its first use; its methods may be called concurrently.
type Authorizer struct {
	DB *state.DB
	// Account, Region and Partition are the installation's.
	Account, Region, Partition string
	// Encode seals a decision for EC2's encoded authorization message, which only sts:DecodeAuthorizationMessage opens; nil: there is none.
	Encode func(ctx context.Context, text string) (string, error)

	subjects atomic.Pointer[subjects]
	second   atomic.Pointer[second]
	pool     sync.Pool
}

// Circumstances are what the listener knows of a request; nothing in it is a header's word but UserAgent and Referer.
type Circumstances struct {
	Now     time.Time
	Source  netip.Addr
	TLS     bool
	Referer string
	// UserAgent and Referer are the client's words.
	UserAgent string
	// Endpoint is the VPC interface endpoint that the connection came through, nil for the public door.
	Endpoint *Endpoint
}

// Endpoint is a VPC interface endpoint.
type Endpoint struct {
	// ID and VPC are "vpce-0a1b2c3d4e5f60718" and "vpc-0a1b2c3d4e5f60718".
	ID, VPC string
	// Policy filters what may be asked through it; nil: nothing is filtered.
	Policy *policy.Policy
}

// Ask is a question: may Principal carry out Op with Input?
type Ask struct {
	Principal identity.Principal
	Op        *shape.Operation
	// Input is a pointer to the operation's generated input.
	Input         any
	Circumstances *Circumstances
}

// Decide is the whole evaluation for one operation: every pair of an action and a resource must be allowed. A zero Principal panics: it was
// never authenticated. The Decision is the caller's until Release.
func (a *Authorizer) Decide(ask *Ask) *Decision {
	d := a.begin(ask)
	row := rowOf(ask.Op)
	switch {
	case row == nil:
		d.deny("", "because the "+d.action.String()+" action has no row in the authorization tables")
	case row.open != "":
		d.Allowed, d.Reason = true, row.open
	default:
		a.evaluate(d, row, ask)
	}
	return d
}

// take takes a Decision that nobody uses.
func (a *Authorizer) take() *Decision {
	d, _ := a.pool.Get().(*Decision)
	if d == nil {
		d = &Decision{}
	}
	d.owner = a
	return d
}

// begin takes a Decision and fills in who asks, and under which circumstances.
func (a *Authorizer) begin(ask *Ask) *Decision {
	d := a.take()
	d.principal, d.op = ask.Principal, ask.Op
	d.action = actionOf(ask.Op)
	d.snapshot = a.DB.Snapshot()
	d.subject = a.subjectOf(d.snapshot, ask.Principal)
	d.request.Principal = d.subject.describe(ask.Principal)
	d.set = policy.Set{Guardrails: d.subject.guardrails, Identity: d.subject.identity, Boundary: d.subject.boundary, Session: d.subject.session}
	if e := ask.Circumstances.Endpoint; e != nil {
		d.set.Endpoint = e.Policy
	}
	a.setCaller(d, ask)
	region := a.Region
	if ask.Op.Service.Name == "iam" {
		region = identity.GlobalRegion(a.Partition)
	}
	a.setCircumstances(d, ask.Circumstances, region)
	d.base = d.request.Mark()
	return d
}

// evaluate asks for each item and each pair until one is denied: AWS tells of one.
func (a *Authorizer) evaluate(d *Decision, row *compiled, ask *Ask) {
	d.Allowed = true
	e := env{Authorizer: a, snapshot: d.snapshot, principal: ask.Principal, op: ask.Op}
	row.each(ask.Input, func(item input) bool {
		e.in = item
		mark := d.request.Mark()
		row.setKeys(d, item)
		for i := range row.pairs {
			if !a.pair(d, &row.pairs[i], item, &e) {
				break
			}
		}
		if d.Allowed {
			d.request.Rewind(mark)
		}
		return d.Allowed
	})
}

// pair asks for one action on each resource that the item names. It is false once something is denied.
func (a *Authorizer) pair(d *Decision, p *pair, item input, e *env) bool {
	if !p.asked(item, e.principal.Session()) {
		return true
	}
	action := d.action
	if p.action.String() != "" {
		action = p.action
	}
	if p.kind == nil {
		return a.check(d, action, target{arn: "*"})
	}
	if !p.ids(item, func(id string) bool { return a.check(d, action, p.kind.target(e, id)) }) {
		return a.check(d, action, p.kind.nobody(e))
	}
	return d.Allowed
}

// check asks for one pair and keeps what was said. After a denial the request stays as it was asked, for whoever explains it.
func (a *Authorizer) check(d *Decision, action policy.Action, t target) bool {
	mark := d.request.Mark()
	d.request.Action = action
	d.request.SetResource(t.arn)
	for k, v := range t.tags {
		d.request.Set(policy.NewKey("aws:ResourceTag/"+k), v)
		if t.also != "" {
			d.request.Set(policy.NewKey(t.also+k), v)
		}
	}
	for _, k := range t.keys {
		d.request.Set(k.key, k.value)
	}
	c := Check{Action: action.String(), Resource: t.arn, Account: t.account, role: t.role}
	for name, values := range d.request.Since(d.base) {
		if c.Keys == nil {
			c.Keys = map[string][]string{}
		}
		c.Keys[name] = slices.Clone(values)
	}
	if t.account != "" {
		d.request.Set(keyResourceAccount, t.account)
	}
	d.set.Resource, d.set.Trust = t.trust, t.trust != nil
	c.steps[0] = len(d.trace.Steps)
	c.Verdict = d.set.Decide(&d.request, &d.trace)
	c.steps[1] = len(d.trace.Steps)
	d.Checks = append(d.Checks, c)
	if c.Verdict.Decision != policy.Allowed {
		d.deny(t.arn, c.Verdict.Because(c.Action))
		return false
	}
	d.request.Rewind(mark)
	return true
}

// Denial is the error a denied caller gets, in AWS's words (reference 5.7).
func (d *Decision) Denial(ctx context.Context) *awserr.Error {
	action := d.action.String()
	if n := len(d.Checks); n > 0 {
		action = d.Checks[n-1].Action
	}
	if d.principal.IsZero() {
		return d.notVouchedFor(action)
	}
	text := "User: " + d.principal.ARN() + " is not authorized to perform: " + action
	if d.Resource != "" {
		text += " on resource: " + d.Resource
	}
	text += " " + d.Reason
	if d.op.Service.Protocol == shape.EC2Query {
		if encode := d.owner.Encode; encode != nil {
			if sealed, err := encode(ctx, d.message()); err == nil {
				text += ". Encoded authorization failure message: " + sealed
			}
		}
	}
	return awserr.New(awserr.AccessDenied, "%s", text)
}

// account resolves policies.
func (a *Authorizer) account() permissions.Account {
	return permissions.Account{ID: a.Account, Partition: a.Partition}
}
