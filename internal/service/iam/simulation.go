package iam

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"carrel/internal/api/iam"
	"carrel/internal/api/shape"
	"carrel/internal/arn"
	"carrel/internal/awserr"
	"carrel/internal/permissions"
	"carrel/internal/policy"
)

// side is the documents of one kind, compiled into one policy.
type side struct {
	policy  *policy.Policy
	sources []permissions.Source
	docs    []*policy.Document // nil where one cannot be read
}

// newSide compiles documents; none at all give no policy.
func newSide(kind policy.Kind, sources []permissions.Source) side {
	d := side{sources: sources}
	if len(sources) == 0 {
		return d
	}
	texts := make([]string, len(sources))
	for i, source := range sources {
		texts[i] = source.Text
		doc, err := policy.Parse(kind, source.Text)
		if err != nil {
			doc = nil
		}
		d.docs = append(d.docs, doc)
	}
	d.policy, _ = policy.CompileStored(kind, texts...) // one that cannot be read denies everything, as it does in earnest
	return d
}

// bench is a simulation, ready to be asked.
type bench struct {
	*simulated
	set     policy.Set
	sides   map[policy.Kind]side
	rails   []side
	request policy.Request
	trace   policy.Trace
}

func (sim *simulated) bench() *bench {
	b := &bench{simulated: sim, sides: map[policy.Kind]side{
		policy.Identity: newSide(policy.Identity, sim.policies), policy.Boundary: newSide(policy.Boundary, sim.boundaries), policy.Resource: newSide(policy.Resource, sim.resource),
	}}
	b.set = policy.Set{Identity: b.sides[policy.Identity].policy, Boundary: b.sides[policy.Boundary].policy, Resource: b.sides[policy.Resource].policy}
	for _, rail := range sim.guardrails {
		d := newSide(policy.Guardrail, []permissions.Source{rail})
		b.rails = append(b.rails, d)
		b.set.Guardrails = append(b.set.Guardrails, d.policy)
	}
	b.request.Principal = sim.principal
	for _, e := range sim.context {
		b.request.SetAll(policy.NewKey(shape.Val(e.ContextKeyName)), e.ContextKeyValues)
	}
	return b
}

// run simulates a page of the actions.
func (sim *simulated) run(ctx context.Context) ([]iam.EvaluationResult, *string, error) {
	if err := checkContext(sim.context); err != nil {
		return nil, nil, err
	}
	order := make([]int, len(sim.actions))
	for i := range order {
		order[i] = i
	}
	most := int32(max(1, mostPairs/max(1, len(sim.resources))))
	if sim.max != nil {
		most = min(most, *sim.max)
	}
	most = min(most, defaultItems)
	actions, next, err := page(order, func(i int) string { return fmt.Sprintf("%08d", i) }, sim.marker, &most)
	if err != nil {
		return nil, nil, err
	}
	b := sim.bench()
	results := []iam.EvaluationResult{}
	for _, i := range actions {
		if err := ctx.Err(); err != nil {
			return nil, nil, awserr.New(awserr.Unavailable, "The request has ended.").Because(err)
		}
		results = append(results, b.action(sim.actions[i]))
	}
	return results, next, nil
}

// verdict is what one resource's simulation has given.
type verdict struct {
	decision policy.Decision
	matched  []iam.Statement
	missing  []string
	details  map[string]iam.PolicyEvaluationDecisionType
	// bounded and railed are whether the boundary and all guardrails allow.
	bounded, railed bool
}

// action simulates an action on every resource. Of several resources the result as a whole is the worst of theirs, and the details stand with each.
func (b *bench) action(name string) iam.EvaluationResult {
	b.request.Action = policy.NewAction(name)
	resources := b.resources
	if len(resources) == 0 {
		resources = []string{"*"}
	}
	out := iam.EvaluationResult{EvalActionName: &name, EvalResourceName: &resources[0], MatchedStatements: []iam.Statement{}, MissingContextValues: []string{}}
	whole := verdict{decision: policy.Allowed, bounded: true, railed: true}
	for i := range resources {
		v := b.resource(resources[i])
		whole.decision = worse(whole.decision, v.decision)
		whole.bounded, whole.railed = whole.bounded && v.bounded, whole.railed && v.railed
		if len(resources) == 1 {
			out.MatchedStatements, out.EvalDecisionDetails = v.matched, v.details
			if resources[0] == "*" {
				out.MissingContextValues = v.missing
				break
			}
		}
		out.ResourceSpecificResults = append(out.ResourceSpecificResults, iam.ResourceSpecificResult{
			EvalResourceName: &resources[i], EvalResourceDecision: decided(v.decision), MatchedStatements: v.matched, MissingContextValues: v.missing, EvalDecisionDetails: v.details,
			PermissionsBoundaryDecisionDetail: b.boundaryDetail(v.bounded),
		})
	}
	if len(resources) > 1 {
		out.EvalResourceName = shape.Ptr("*")
	}
	out.EvalDecision, out.PermissionsBoundaryDecisionDetail = decided(whole.decision), b.boundaryDetail(whole.bounded)
	if len(b.set.Guardrails) > 0 {
		out.OrganizationsDecisionDetail = &iam.OrganizationsDecisionDetail{AllowedByOrganizations: &whole.railed}
	}
	return out
}

func (b *bench) boundaryDetail(allowed bool) *iam.PermissionsBoundaryDecisionDetail {
	if b.set.Boundary == nil {
		return nil
	}
	return &iam.PermissionsBoundaryDecisionDetail{AllowedByPermissionsBoundary: &allowed}
}

func decided(d policy.Decision) *iam.PolicyEvaluationDecisionType {
	return shape.Ptr(iam.PolicyEvaluationDecisionType(d.String()))
}

// worse gives the decision that allows less: an explicit deny before an implicit one.
func worse(a, b policy.Decision) policy.Decision {
	for _, d := range []policy.Decision{policy.ExplicitDeny, policy.ImplicitDeny} {
		if a == d || b == d {
			return d
		}
	}
	return policy.Allowed
}

// resource simulates the action on one resource.
func (b *bench) resource(name string) verdict {
	b.request.SetResource(name)
	b.set.ResourceAccount = ""
	if b.set.Resource != nil {
		b.set.ResourceAccount = b.owner
		if a, err := arn.Parse(name); err == nil && isAccountID(a.Account) {
			b.set.ResourceAccount = a.Account
		}
	}
	b.trace.Reset()
	v := verdict{decision: b.set.Decide(&b.request, &b.trace).Decision, matched: []iam.Statement{}, bounded: true, railed: true}
	says := map[policy.Kind]policy.Decision{}
	for _, step := range b.trace.Steps {
		says[step.Kind] = step.Result.Decision
		if step.Kind == policy.Guardrail {
			v.railed = v.railed && step.Result.Decision == policy.Allowed
			continue
		}
		v.matched = append(v.matched, b.statements(step, v.decision)...)
	}
	if b.set.Boundary != nil {
		v.bounded = says[policy.Boundary] == policy.Allowed
	}
	v.missing = b.missing()
	if name != "*" {
		v.details = map[string]iam.PolicyEvaluationDecisionType{}
		if b.set.ResourceAccount != "" && b.set.ResourceAccount != b.principal.Account {
			v.details["IAM Policy"], v.details["Resource Policy"] = *decided(says[policy.Identity]), *decided(says[policy.Resource])
		}
	}
	return v
}

// statements are those of a step that made the decision: the denials of a request that is denied explicitly, and what allowed one that is allowed.
// A boundary allows nothing.
func (b *bench) statements(step policy.Step, decision policy.Decision) []iam.Statement {
	effect := policy.Allow
	switch {
	case decision == policy.ExplicitDeny:
		effect = policy.Deny
	case decision == policy.ImplicitDeny || step.Kind == policy.Boundary:
		return nil
	}
	var out []iam.Statement
	d := b.sides[step.Kind]
	for _, id := range step.Matched {
		s, doc, place := step.Policy.Statement(int(id))
		if s.Effect != effect {
			continue
		}
		source := d.sources[doc]
		shown := iam.Statement{SourcePolicyId: shape.Ptr(simulatorID(source)), SourcePolicyType: shape.Ptr(iam.PolicySourceType(source.Type))}
		if d.docs[doc] != nil {
			shown.StartPosition, shown.EndPosition = span(d.docs[doc], place, source.Text)
		}
		out = append(out, shown)
	}
	return out
}

// simulatorID names a policy as the simulator does: a managed one by its name alone.
func simulatorID(source permissions.Source) string {
	if _, err := arn.Parse(source.ID); err == nil {
		return source.ID[strings.LastIndexByte(source.ID, '/')+1:]
	}
	return source.ID
}

// span is where a statement stands, as AWS counts it: from behind the bracket or the statement before it to behind its own end. A statement that is
// not in a list begins behind its own bracket.
func span(doc *policy.Document, place int, text string) (start, end *iam.Position) {
	s := &doc.Statements[place]
	end = &iam.Position{Line: shape.Ptr(int32(s.End.Line)), Column: shape.Ptr(int32(s.End.Column))}
	if place > 0 {
		before := doc.Statements[place-1].End
		return &iam.Position{Line: shape.Ptr(int32(before.Line)), Column: shape.Ptr(int32(before.Column))}, end
	}
	from := s.Start.Offset + 1
	if head := strings.TrimRight(text[:s.Start.Offset], " \t\r\n"); strings.HasSuffix(head, "[") {
		from = len(head)
	}
	head := text[:from]
	line := strings.Count(head, "\n")
	column := utf8.RuneCountInString(head[strings.LastIndexByte(head, '\n')+1:])
	return &iam.Position{Line: shape.Ptr(int32(line + 1)), Column: shape.Ptr(int32(column + 1))}, end
}

// missing lists the condition keys that have no value and that statements ask for which are otherwise for this action and resource.
func (b *bench) missing() []string {
	keys := []string{}
	for _, d := range append([]side{b.sides[policy.Identity], b.sides[policy.Boundary], b.sides[policy.Resource]}, b.rails...) {
		for _, why := range d.policy.Explain(&b.request) {
			if d.docs[why.Document] == nil || !why.Matched && why.Element != "Condition" && why.Variable == "" {
				continue
			}
			one := policy.Document{Kind: d.docs[why.Document].Kind, Version: d.docs[why.Document].Version, Statements: []policy.Statement{*why.Statement}}
			for _, key := range one.ContextKeys() {
				if b.request.Values(policy.NewKey(key)) == nil {
					keys = append(keys, key)
				}
			}
		}
	}
	slices.SortStableFunc(keys, func(a, b string) int { return strings.Compare(strings.ToLower(a), strings.ToLower(b)) })
	return slices.CompactFunc(keys, strings.EqualFold)
}
