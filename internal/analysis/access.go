package analysis

import (
	"fmt"
	"slices"
	"strings"

	"carrel/internal/arn"
	"carrel/internal/policy"
)

// Question asks who may do something.
type Question struct {
	Action   string `json:"action"`
	Resource string `json:"resource"`
	// Tags are the resource's; TagsKnown tells that it was found, and has no others.
	Tags      map[string]string `json:"tags,omitempty"`
	TagsKnown bool              `json:"tagsKnown"`
	// With are condition keys of the circumstances that are asked about, Without are keys that are missing in them.
	With    map[string][]string `json:"with,omitempty"`
	Without []string            `json:"without,omitempty"`
}

// Can is the answer for one principal.
type Can string

// The answers.
const (
	Yes     Can = "yes"
	Perhaps Can = "if"
	No      Can = "no"
)

// Answer says of a principal whether it may.
type Answer struct {
	Principal string `json:"principal"`
	// Type is "Root", "User" or "Role"; "Service", "Federated" or "External" of those who may assume a role and are not of the account.
	Type string `json:"type"`
	Can  Can    `json:"can"`
	// Through are the roles that are assumed on the way, in order; none: it may itself.
	Through []string `json:"through,omitempty"`
	// By are the statements that allow; none when the root is allowed implicitly.
	By []Ground `json:"by,omitempty"`
	// If: of each group one has to hold. Unless: none of these may.
	If     [][]Term `json:"if,omitempty"`
	Unless []Term   `json:"unless,omitempty"`
	// Note is what else has to be so.
	Note string `json:"note,omitempty"`
}

// Access is who may.
type Access struct {
	Question Question `json:"question"`
	Answers  []Answer `json:"answers"`
	// Denied are those who may not, neither themselves nor through a role.
	Denied []string `json:"denied,omitempty"`
}

// WhoCan answers for everybody in the world and for whoever may assume a role that can. What depends on the request that nobody has made yet is told as
// a condition. Conditions are not weighed against each other: of two that exclude one another both are told. Sessions of GetFederationToken, and
// sessions with a session policy, have at most what their user or role has, and are not listed.
func (w *World) WhoCan(q Question) (*Access, error) {
	if err := w.checkAction(q.Action); err != nil {
		return nil, err
	}
	if _, err := arn.Parse(q.Resource); err != nil && q.Resource != "*" {
		return nil, fmt.Errorf(`the resource: %w; an action that knows no resource is asked with "*"`, err)
	}
	out := &Access{Question: q, Answers: []Answer{}}
	reached := map[string]bool{}
	var roles []Answer
	for i := range w.Members {
		m := &w.Members[i]
		a := w.judge(m, &q, w.trustAsked(&q))
		if a.Can == No {
			continue
		}
		out.Answers = append(out.Answers, a)
		reached[m.ARN] = true
		if m.Type == Role {
			roles = append(roles, a)
		}
	}
	out.Answers = append(out.Answers, w.paths(roles, out.Answers)...)
	for _, a := range out.Answers {
		reached[a.Principal] = true
	}
	for i := range w.Members {
		if !reached[w.Members[i].ARN] {
			out.Denied = append(out.Denied, w.Members[i].ARN)
		}
	}
	return out, nil
}

// trustAsked is the trust policy that a question about assuming a role is also asked of.
func (w *World) trustAsked(q *Question) *Member {
	if !strings.HasPrefix(strings.ToLower(q.Action), "sts:") {
		return nil
	}
	if m := w.find(q.Resource); m != nil && m.Type == Role {
		return m
	}
	return nil
}

// paths finds who gets to the roles that can, from role to role, each role by its shortest way.
func (w *World) paths(roles, direct []Answer) []Answer {
	var out []Answer
	sure := map[string]bool{}
	for _, a := range direct {
		sure[a.Principal] = a.Can == Yes
	}
	for _, target := range roles {
		seen := map[string]bool{target.Principal: true}
		queue := []Answer{target}
		for len(queue) > 0 {
			at := queue[0]
			queue = queue[1:]
			role := w.find(at.Principal)
			for _, a := range w.assumers(role) {
				if seen[a.Principal] {
					continue
				}
				seen[a.Principal] = true
				a.Through = append([]string{at.Principal}, at.Through...)
				a.If, a.Unless = append(a.If, at.If...), append(a.Unless, at.Unless...)
				if at.Can == Perhaps {
					a.Can = Perhaps
				}
				if a.Type == Role {
					queue = append(queue, a)
				}
				if !sure[a.Principal] {
					out = append(out, a)
				}
			}
		}
	}
	return out
}

// assumers are those who may assume a role.
func (w *World) assumers(role *Member) []Answer {
	q := &Question{Action: "sts:AssumeRole", Resource: role.ARN, Tags: role.Tags, TagsKnown: true}
	var out []Answer
	for i := range w.Members {
		if a := w.judge(&w.Members[i], q, role); a.Can != No {
			out = append(out, a)
		}
	}
	return append(out, w.strangers(role, q)...)
}

// strangers are those whom a trust policy names and who are not of the account.
func (w *World) strangers(role *Member, q *Question) []Answer {
	var out []Answer
	seen := map[policy.PrincipalName]bool{}
	for _, n := range role.Trust {
		for _, s := range w.document(policy.Trust, n).Statements {
			for _, name := range s.Principals {
				if seen[name] || s.Effect != policy.Allow || s.NotPrincipal {
					continue
				}
				seen[name] = true
				out = append(out, w.stranger(role, q, name)...)
			}
		}
	}
	return out
}

func (w *World) stranger(role *Member, q *Question, name policy.PrincipalName) []Answer {
	p, kind, note := policy.Principal{}, name.Type, ""
	actions := []string{q.Action}
	switch {
	case name.Type == "Service":
		p = policy.Principal{Type: policy.Service, Name: name.Value}
	case name.Type == "Federated":
		p = policy.Principal{Type: policy.Federated, Name: name.Value}
		actions = []string{"sts:AssumeRoleWithSAML", "sts:AssumeRoleWithWebIdentity"}
	case name.Value == "*":
		p, kind, note = policy.Principal{Type: policy.User, Account: "*", ARN: "*"}, "External", "anybody of any account whose own policies allow it"
	default:
		account := name.Value
		if a, err := arn.Parse(name.Value); err == nil {
			account = a.Account
		}
		if account == w.Account || len(account) != 12 {
			return nil // One of the account's own, or somebody who was deleted.
		}
		p, kind, note = policy.Principal{Type: policy.User, Account: account, ARN: name.Value}, "External", "the policies of the other account have to allow it too"
	}
	for _, action := range actions {
		k := w.knowledge(&Member{Type: Role}, q)
		for _, key := range []string{"aws:PrincipalArn", "aws:PrincipalAccount", "aws:PrincipalType", "aws:username", "aws:PrincipalIsAWSService"} {
			delete(k.values, policy.NewKey(key).String())
		}
		e := evaluation{world: w, request: k.request(p, action, role.ARN), knowledge: k}
		trust := e.layer(policy.Trust, applied(role.Trust))
		a := Answer{Principal: name.Value, Type: kind, Note: note, By: trust.grounds()}
		a.Can = e.decide(&a, func(sure bool) policy.Decision {
			return trust.policy(sure).Evaluate(e.request, nil).Decision
		})
		if a.Can == Yes && kind == "External" {
			a.Can = Perhaps
		}
		if a.Can != No {
			return []Answer{a}
		}
	}
	return nil
}

func applied(documents []int) []Applied {
	var out []Applied
	for _, n := range documents {
		out = append(out, Applied{Document: n})
	}
	return out
}

// evaluation is one question about one principal.
type evaluation struct {
	world     *World
	request   *policy.Request
	knowledge *knowledge
	layers    []*pieces
}

// pieces are the statements of one kind that may match.
type pieces struct {
	kind policy.Kind
	all  []piece
}

// judge answers for one member; role is whose trust policy is asked besides.
func (w *World) judge(m *Member, q *Question, role *Member) Answer {
	k := w.knowledge(m, q)
	e := evaluation{world: w, request: k.request(w.principal(m), q.Action, q.Resource), knowledge: k}
	guardrail := e.layer(policy.Guardrail, applied(w.Guardrails))
	identity := e.layer(policy.Identity, m.Identity)
	boundary := e.layer(policy.Boundary, applied(m.Boundary))
	var trust *pieces
	if role != nil {
		trust = e.layer(policy.Trust, applied(role.Trust))
	}
	a := Answer{Principal: m.ARN, Type: m.Type}
	var by policy.Verdict
	set := func(sure bool) policy.Decision {
		s := policy.Set{Identity: identity.policy(sure), Boundary: boundary.policy(sure), Resource: trust.policy(sure), Trust: role != nil}
		if guardrail != nil {
			s.Guardrails = []*policy.Policy{guardrail.policy(sure)}
		}
		v := s.Decide(e.request, nil)
		if !sure {
			by = v
		}
		return v.Decision
	}
	a.Can = e.decide(&a, set)
	switch {
	case a.Can == No || by.Implicitly:
	case by.By == policy.Trust:
		a.By = trust.grounds()
	default:
		a.By = identity.grounds()
		if trust != nil {
			a.By = append(a.By, trust.grounds()...)
		}
	}
	return a
}

// layer takes the statements of documents that may match. Nil stands for no document at all.
func (e *evaluation) layer(k policy.Kind, documents []Applied) *pieces {
	if len(documents) == 0 {
		return nil
	}
	l := &pieces{kind: k}
	for _, d := range documents {
		doc, source := e.world.document(k, d.Document), e.world.Documents[d.Document]
		for i, s := range doc.Statements {
			p, may := e.knowledge.piece(doc, s, e.request)
			if !may {
				continue
			}
			p.term.Ground = Ground{Kind: k.String(), Policy: source.ID, Type: source.Type, Group: d.Group, Sid: s.Sid, Statement: i + 1}
			l.all = append(l.all, p)
		}
	}
	e.layers = append(e.layers, l)
	return l
}

// policy compiles the statements: those that deny for certain and those that allow for certain; and of the others the denying ones when sure, else
// the allowing ones. So what is allowed when sure is allowed whatever the request is like, and what is denied when not is denied always.
func (l *pieces) policy(sure bool) *policy.Policy {
	if l == nil {
		return nil
	}
	var docs []*policy.Document
	for i := range l.all {
		if p := &l.all[i]; p.sure || sure == (p.effect == policy.Deny) {
			docs = append(docs, p.document)
		}
	}
	return policy.Compile(docs...)
}

// decide tells whether it is allowed always, never, or depending on the request; and then on what.
func (e *evaluation) decide(a *Answer, decide func(sure bool) policy.Decision) Can {
	if decide(false) != policy.Allowed {
		return No
	}
	if decide(true) == policy.Allowed {
		return Yes
	}
	for _, l := range e.layers {
		var group []Term
		for i := range l.all {
			switch p := &l.all[i]; {
			case p.sure:
			case p.effect == policy.Deny:
				a.Unless = append(a.Unless, p.term)
			default:
				group = append(group, p.term)
			}
		}
		certain := slices.ContainsFunc(l.all, func(p piece) bool { return p.sure && p.effect == policy.Allow })
		if len(group) > 0 && (!certain || namesPrincipals(l.kind)) {
			a.If = append(a.If, group)
		}
	}
	return Perhaps
}

// grounds are the statements that allow: for certain where there are such.
func (l *pieces) grounds() []Ground {
	if l == nil {
		return nil
	}
	var sure, perhaps []Ground
	for i := range l.all {
		switch p := &l.all[i]; {
		case p.effect != policy.Allow:
		case p.sure:
			sure = append(sure, p.term.Ground)
		default:
			perhaps = append(perhaps, p.term.Ground)
		}
	}
	if sure != nil {
		return sure
	}
	return perhaps
}
