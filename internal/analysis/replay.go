package analysis

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"

	"carrel/internal/arn"
	"carrel/internal/audit"
	"carrel/internal/authz"
	"carrel/internal/permissions"
	"carrel/internal/policy"
)

// Proposal is a policy that is not in force, and whose it would be.
type Proposal struct {
	// Kind is policy.Identity, policy.Boundary or policy.Guardrail.
	Kind policy.Kind
	// Text is the document.
	Text string
	// For are the ARNs of the users, roles and groups it is proposed for; none: everybody. An identity policy is added to those that they have, a
	// boundary takes the place of theirs.
	For []string
	// InPlaceOf is the ARN of a managed policy: the document takes its place wherever it is attached or bounds somebody.
	InPlaceOf string
}

// ProposalKind reads the name of a kind that can be proposed.
func ProposalKind(name string) (policy.Kind, error) {
	switch name {
	case "identity":
		return policy.Identity, nil
	case "boundary":
		return policy.Boundary, nil
	case "guardrail":
		return policy.Guardrail, nil
	}
	return 0, fmt.Errorf("there is no kind of policy %q; there are identity, boundary and guardrail", name)
}

// Replayed is what a proposal would change of the recorded decisions.
type Replayed struct {
	// Records is how many records of calls were looked at, Checks how many pairs of an action and a resource were asked again.
	Records int `json:"records"`
	Checks  int `json:"checks"`
	// Skipped counts the records that could not be asked again, by the reason.
	Skipped map[string]int `json:"skipped,omitempty"`
	// Drifted is how many of the checks today's policies decide otherwise than was recorded: they have changed since.
	Drifted int       `json:"drifted"`
	Changes []Changed `json:"changes"`
}

// Changed is a decision that would change.
type Changed struct {
	Principal string `json:"principal"`
	Action    string `json:"action"`
	Resource  string `json:"resource"`
	// From is what today's policies say, To what they would say with the proposal: "allow" or "deny"; Reason is why it is denied then or now.
	From   string `json:"from"`
	To     string `json:"to"`
	Reason string `json:"reason,omitempty"`
	Count  int    `json:"count"`
	// Example is the request id of the latest such call.
	Example string `json:"example"`
}

// Replay asks recorded questions again.
type Replay struct {
	world    *World
	proposal *Proposal
	document *policy.Document
	members  map[string]*Member  // by unique id
	sets     map[string][2]*sets // now and proposed, by unique id
	trusts   map[string]*policy.Policy
	targets  map[string]bool // unique ids whom the proposal is for; nil: everybody
	groups   map[Changed]*Changed
	out      Replayed
}

// sets are the policies of a member.
type sets struct{ policy.Set }

// NewReplay makes ready to ask about a proposal. It refuses a document that could not be stored, and names that nobody has.
func NewReplay(w *World, p *Proposal) (*Replay, error) {
	kind := p.Kind
	doc, err := policy.Parse(kind, p.Text)
	if err != nil {
		return nil, fmt.Errorf("the proposed policy: %w", err)
	}
	r := &Replay{world: w, proposal: p, document: doc, members: map[string]*Member{}, sets: map[string][2]*sets{}, trusts: map[string]*policy.Policy{}, groups: map[Changed]*Changed{}, out: Replayed{Skipped: map[string]int{}, Changes: []Changed{}}}
	for i := range w.Members {
		r.members[w.Members[i].ID] = &w.Members[i]
	}
	switch {
	case kind == policy.Guardrail && (len(p.For) > 0 || p.InPlaceOf != ""):
		return nil, errors.New("a guardrail is everybody's and takes the place of all guardrails: it is proposed for nobody alone and in place of no other policy")
	case kind == policy.Guardrail:
		return r, nil
	}
	if aws := policy.ManagedQuota.Check("", p.Text); aws != nil {
		return nil, fmt.Errorf("the proposed policy: %w", aws)
	}
	if p.InPlaceOf != "" && !slices.ContainsFunc(w.Documents, func(s permissions.Source) bool { return s.ID == p.InPlaceOf && strings.HasSuffix(s.Type, "-managed") }) {
		return nil, fmt.Errorf("nobody has the managed policy %s", p.InPlaceOf)
	}
	return r, r.aim()
}

// aim finds whom the proposal is for.
func (r *Replay) aim() error {
	for _, name := range r.proposal.For {
		found := false
		for i := range r.world.Members {
			if m := &r.world.Members[i]; m.ARN == name || slices.Contains(m.Groups, name) {
				if m.Type == Root {
					return errors.New("the root has no policies of its own; a guardrail binds it")
				}
				if r.targets == nil {
					r.targets = map[string]bool{}
				}
				r.targets[m.ID], found = true, true
			}
		}
		if !found {
			return fmt.Errorf("there is no user or role %s, and no group of that name has a member", name)
		}
	}
	return nil
}

// of gives a member's policies, now and as proposed.
func (r *Replay) of(m *Member) [2]*sets {
	if s, ok := r.sets[m.ID]; ok {
		return s
	}
	s := [2]*sets{r.build(m, false), r.build(m, true)}
	r.sets[m.ID] = s
	return s
}

func (r *Replay) build(m *Member, proposed bool) *sets {
	w, p := r.world, r.proposal
	proposed = proposed && (p.Kind == policy.Guardrail || m.Type != Root && (r.targets == nil || r.targets[m.ID]))
	documents := func(k policy.Kind, places []int) (docs []*policy.Document) {
		for _, n := range places {
			if proposed && p.InPlaceOf != "" && w.Documents[n].ID == p.InPlaceOf {
				docs = append(docs, r.document)
				continue
			}
			docs = append(docs, w.document(k, n))
		}
		return docs
	}
	var own []int
	for _, a := range m.Identity {
		own = append(own, a.Document)
	}
	identity, boundary, guardrails := documents(policy.Identity, own), documents(policy.Boundary, m.Boundary), documents(policy.Guardrail, w.Guardrails)
	if proposed && p.InPlaceOf == "" {
		switch p.Kind {
		case policy.Identity:
			identity = append(identity, r.document)
		case policy.Boundary:
			boundary = []*policy.Document{r.document}
		case policy.Guardrail:
			guardrails = []*policy.Document{r.document}
		}
	}
	compile := func(docs []*policy.Document) *policy.Policy {
		if docs == nil {
			return nil
		}
		return policy.Compile(docs...)
	}
	s := &sets{policy.Set{Identity: compile(identity), Boundary: compile(boundary)}}
	if g := compile(guardrails); g != nil {
		s.Guardrails = []*policy.Policy{g}
	}
	return s
}

// Reasons for which a record is not asked again.
const (
	skipNone      = "refused before anything was decided, or recorded without its decision"
	skipFree      = "no policy has a say"
	skipStranger  = "the caller is nobody of the account"
	skipVouched   = "an identity provider vouched for the caller: only the role's trust policy has a say, which no proposal changes"
	skipGone      = "the user or role does not exist any more"
	skipRole      = "the role that was to be assumed does not exist any more"
	skipShortened = "the decision was too long to be recorded whole"
)

// Recorded is the decision that a record keeps.
type Recorded struct {
	ID string `json:"id"`
	// Shortened tells that not all of it was kept.
	Shortened bool `json:"shortened,omitempty"`
	authz.Explanation
}

// ReadDecision reads the document of a record's decision; false when none was kept.
func ReadDecision(raw json.RawMessage) (*Recorded, bool) {
	var line struct {
		Additional struct {
			Decision *Recorded `json:"decision"`
		} `json:"additionalEventData"`
	}
	if json.Unmarshal(raw, &line) != nil || line.Additional.Decision == nil {
		return nil, false
	}
	return line.Additional.Decision, true
}

// Add asks again what a record says was asked.
func (r *Replay) Add(e *audit.Event) {
	r.out.Records++
	d, ok := ReadDecision(e.Raw)
	if !ok {
		r.out.Skipped[skipNone]++
		return
	}
	by, why := r.caller(&e.Record.UserIdentity)
	switch {
	case vouched(&e.Record):
		r.out.Skipped[skipVouched]++
		return
	case why != "":
		r.out.Skipped[why]++
		return
	case len(d.Checks) == 0 && d.Shortened:
		r.out.Skipped[skipShortened]++
		return
	case len(d.Checks) == 0:
		r.out.Skipped[skipFree]++
		return
	}
	for i := range d.Checks {
		if why := r.again(e, d, &d.Checks[i], by); why != "" {
			r.out.Skipped[why]++
			return
		}
	}
}

// vouched tells of the calls in which it is decided about an identity provider's word, and not about who has signed, if anybody has.
func vouched(r *audit.Record) bool {
	return r.EventSource == "sts.amazonaws.com" && (r.EventName == "AssumeRoleWithSAML" || r.EventName == "AssumeRoleWithWebIdentity")
}

// caller is who made a recorded call, and the member whose policies are asked.
type caller struct {
	policy.Principal
	member *Member
}

// caller finds who made a recorded call, or says why they cannot be asked about.
func (r *Replay) caller(u *audit.UserIdentity) (caller, string) {
	p := policy.Principal{Account: u.AccountID, ARN: u.ARN}
	id := u.PrincipalID
	switch u.Type {
	case "Root":
		p.Type = policy.Root
	case "IAMUser":
		p.Type, p.ID = policy.User, id
	case "AssumedRole":
		id, _, _ = strings.Cut(id, ":")
		p.Type, p.IssuerID = policy.RoleSession, id
	case "FederatedUser":
		p.Type = policy.FederatedUser
		if c := u.SessionContext; c != nil {
			id, p.Issuer = c.SessionIssuer.PrincipalID, c.SessionIssuer.ARN
		}
		if id != r.world.Account {
			p.IssuerID = id
		}
	default:
		return caller{}, skipStranger
	}
	m := r.members[id]
	if m == nil {
		return caller{}, skipGone
	}
	if u.Type == "AssumedRole" {
		p.Issuer, p.ServiceLinked = m.ARN, m.ServiceLinked
	}
	return caller{p, m}, ""
}

// again asks one check of today's policies and of the proposed ones.
func (r *Replay) again(e *audit.Event, d *Recorded, c *authz.ExplainedCheck, by caller) string {
	request := &policy.Request{Action: policy.NewAction(c.Action), Principal: by.Principal}
	request.SetResource(c.Resource)
	for _, context := range []map[string][]string{d.Context, c.Context} {
		for name, values := range context {
			request.SetAll(policy.NewKey(name), values)
		}
	}
	if c.Account != "" {
		request.Set(policy.NewKey("aws:ResourceAccount"), c.Account)
	}
	var trust *policy.Policy
	if strings.HasPrefix(c.Action, "sts:") && isRole(c.Resource) {
		role := r.world.find(c.Resource)
		if role == nil || role.Type != Role {
			return skipRole
		}
		trust = r.trust(role)
	}
	var verdicts [2]policy.Verdict
	for i, s := range r.of(by.member) {
		s.Resource, s.Trust = trust, trust != nil
		s.Session, s.Endpoint = recorded(policy.Session, c, d), recorded(policy.Endpoint, c, d)
		verdicts[i] = s.Decide(request, nil)
	}
	r.out.Checks++
	now, then := verdicts[0].Decision == policy.Allowed, verdicts[1].Decision == policy.Allowed
	if now != (c.Decision == policy.Allowed.String()) {
		r.out.Drifted++
	}
	if now != then {
		r.note(e, c, by.member, verdicts)
	}
	return ""
}

// trust is a role's trust policy.
func (r *Replay) trust(role *Member) *policy.Policy {
	p := r.trusts[role.ID]
	if p == nil {
		var docs []*policy.Document
		for _, n := range role.Trust {
			docs = append(docs, r.world.document(policy.Trust, n))
		}
		p = policy.Compile(docs...)
		r.trusts[role.ID] = p
	}
	return p
}

func isRole(name string) bool {
	a, err := arn.Parse(name)
	return err == nil && a.Service == "iam" && strings.HasPrefix(a.Resource, "role/")
}

// recorded stands for a policy that only the call itself had, that of its session or of its endpoint: it says again what it said then. One that
// did not match, and did not decide, may as well not have been there.
func recorded(k policy.Kind, c *authz.ExplainedCheck, d *Recorded) *policy.Policy {
	found := c.Decision != policy.Allowed.String() && d.By == k.String()
	var statements []policy.Statement
	for _, m := range c.Matched {
		if m.Kind != k.String() {
			continue
		}
		found = true
		s := policy.Statement{Effect: policy.Allow, Actions: []string{"*"}, Resources: []string{"*"}, Principals: everybody(k)}
		if m.Effect == policy.Deny.String() {
			s.Effect = policy.Deny
		}
		statements = append(statements, s)
	}
	if !found {
		return nil
	}
	return policy.Compile(&policy.Document{Kind: k, Version: policy.Version2012, Statements: statements})
}

// note counts a decision that would change.
func (r *Replay) note(e *audit.Event, c *authz.ExplainedCheck, m *Member, verdicts [2]policy.Verdict) {
	names := [2]string{"deny", "deny"}
	reason := ""
	for i, v := range verdicts {
		if v.Decision == policy.Allowed {
			names[i] = "allow"
		} else {
			reason = v.Because(c.Action)
		}
	}
	key := Changed{Principal: m.ARN, Action: c.Action, Resource: c.Resource, From: names[0], To: names[1]}
	g := r.groups[key]
	if g == nil {
		copied := key
		g = &copied
		g.Example, g.Reason = e.Record.RequestID, reason
		r.groups[key] = g
	}
	g.Count++
}

// Result is what was found: what would be denied first, the most frequent first. Records are best added with the newest first, for the examples.
func (r *Replay) Result() *Replayed {
	out := r.out
	for _, g := range r.groups {
		out.Changes = append(out.Changes, *g)
	}
	slices.SortFunc(out.Changes, func(a, b Changed) int {
		return cmp.Or(strings.Compare(b.To, a.To), cmp.Compare(b.Count, a.Count), strings.Compare(a.Principal, b.Principal), strings.Compare(a.Action, b.Action), strings.Compare(a.Resource, b.Resource))
	})
	return &out
}
