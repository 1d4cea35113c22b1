package analysis

import (
	"regexp"
	"slices"
	"strings"

	"carrel/internal/arn"
	"carrel/internal/identity"
	"carrel/internal/policy"
)

// Term is a statement that counts if its conditions hold.
type Term struct {
	Ground
	// Conditions and Resources depend on what is not known beforehand: keys of the request, and variables in names of resources.
	Conditions []Condition `json:"conditions,omitempty"`
	Resources  []string    `json:"resources,omitempty"`
}

// Condition is a condition of a policy.
type Condition struct {
	Operator string   `json:"operator"`
	Key      string   `json:"key"`
	Values   []string `json:"values"`
}

// Ground is a statement of a document.
type Ground struct {
	Kind   string `json:"kind"`
	Policy string `json:"policy"`
	// Type is where the document is: IAM's PolicySourceType. Group is the group through which it applies.
	Type  string `json:"type,omitempty"`
	Group string `json:"group,omitempty"`
	Sid   string `json:"sid,omitempty"`
	// Statement counts from 1.
	Statement int `json:"statement"`
}

// String is the statement's name: `statement Own of user_ada_Own, through group desks`.
func (g Ground) String() string {
	text := (&Change{Sid: g.Sid, Number: g.Statement, Kind: g.Kind, Policy: g.Policy}).where()
	if g.Group != "" {
		text += ", through " + g.Group
	}
	return text
}

// String is the term as a sentence.
func (t Term) String() string {
	var parts []string
	for _, c := range t.Conditions {
		parts = append(parts, c.Operator+" "+c.Key+" "+quoted(c.Values))
	}
	for _, r := range t.Resources {
		parts = append(parts, "the resource is "+r)
	}
	return strings.Join(parts, " and ") + " (" + t.Ground.String() + ")"
}

// knowledge is what is known of a request that nobody has made yet: the values of keys by their folded names, none of a key that is known to be
// missing.
type knowledge struct {
	values map[string][]string
	// principalTags and resourceTags tell that tags that are not among the values are known to be missing.
	principalTags, resourceTags bool
}

const (
	principalTag = "aws:principaltag/"
	resourceTag  = "aws:resourcetag/"
)

// twins are the names that services give aws:ResourceTag besides.
var twins = []string{"iam:resourcetag/", "ec2:resourcetag/"}

func (k *knowledge) set(key string, values ...string) { k.values[policy.NewKey(key).String()] = values }

func (k *knowledge) knows(key string) bool {
	name := policy.NewKey(key).String()
	if _, ok := k.values[name]; ok {
		return true
	}
	switch {
	case strings.HasPrefix(name, principalTag):
		return k.principalTags
	case strings.HasPrefix(name, resourceTag):
		return k.resourceTags
	}
	return k.resourceTags && slices.ContainsFunc(twins, func(t string) bool { return strings.HasPrefix(name, t) })
}

// of says what is known of a member's requests before they are made. Keys that a session can have or not, or that the client chooses, are not.
func (w *World) knowledge(m *Member, q *Question) *knowledge {
	k := &knowledge{values: map[string][]string{}, principalTags: m.Type != Role, resourceTags: q.TagsKnown}
	k.set("aws:PrincipalArn", m.ARN)
	k.set("aws:PrincipalAccount", w.Account)
	k.set("aws:PrincipalIsAWSService", "false")
	k.set("aws:ViaAWSService", "false")
	// There is no door without TLS.
	k.set("aws:SecureTransport", "true")
	k.set("aws:username")
	switch m.Type {
	case Root:
		k.set("aws:PrincipalType", "Account")
		k.set("aws:userid", m.ID)
	case User:
		k.set("aws:PrincipalType", "User")
		k.set("aws:userid", m.ID)
		k.set("aws:username", m.Name)
	case Role:
		k.set("aws:PrincipalType", "AssumedRole")
	}
	if m.Type != Role { // A session may have been given others.
		for name, value := range m.Tags {
			k.set("aws:PrincipalTag/"+name, value)
		}
	}
	region := w.Region
	if strings.HasPrefix(strings.ToLower(q.Action), "iam:") {
		region = identity.GlobalRegion(w.Partition)
	}
	k.set("aws:RequestedRegion", region)
	if a, err := arn.Parse(q.Resource); err == nil && a.Account != "" {
		k.set("aws:ResourceAccount", a.Account)
	}
	if q.TagsKnown {
		for name, value := range q.Tags {
			k.set("aws:ResourceTag/"+name, value)
			for _, t := range twins {
				k.set(t+name, value)
			}
		}
	}
	for name, values := range q.With {
		k.set(name, values...)
	}
	for _, name := range q.Without {
		k.set(name)
	}
	return k
}

// request is what is known as a request.
func (k *knowledge) request(p policy.Principal, action, resource string) *policy.Request {
	r := &policy.Request{Action: policy.NewAction(action), Principal: p}
	r.SetResource(resource)
	for name, values := range k.values {
		r.SetAll(policy.NewKey(name), values)
	}
	return r
}

// piece is a statement that may match: what of it does not depend on anything unknown does.
type piece struct {
	document *policy.Document
	effect   policy.Effect
	term     Term
	sure     bool
}

var variable = regexp.MustCompile(`\$\{([^},]*)[^}]*\}`)

// piece takes what is unknown out of a statement and tells whether the rest matches.
func (k *knowledge) piece(doc *policy.Document, s policy.Statement, r *policy.Request) (piece, bool) {
	p := piece{effect: s.Effect, sure: true}
	rest := s
	rest.Conditions = nil
	for _, c := range s.Conditions {
		if k.knowsAll(alone(doc, policy.Statement{Conditions: []policy.Condition{c}})) {
			rest.Conditions = append(rest.Conditions, c)
			continue
		}
		p.sure = false
		p.term.Conditions = append(p.term.Conditions, Condition{c.Operator, c.Key, c.Values})
	}
	rest.Resources = nil
	for _, text := range s.Resources {
		if k.knowsAll(alone(doc, policy.Statement{Resources: []string{text}})) {
			rest.Resources = append(rest.Resources, text)
			continue
		}
		p.sure = false
		p.term.Resources = append(p.term.Resources, text)
		if !s.NotResource {
			// It might be anything.
			rest.Resources = append(rest.Resources, variable.ReplaceAllStringFunc(text, func(v string) string {
				name := strings.TrimSpace(variable.FindStringSubmatch(v)[1])
				if name == "*" || name == "?" || name == "$" || k.knows(name) {
					return v
				}
				return "*"
			}))
		}
	}
	if s.NotResource && len(rest.Resources) == 0 {
		rest.NotResource, rest.Resources = false, []string{"*"}
	}
	p.document = alone(doc, rest)
	return p, policy.Compile(p.document).Evaluate(r, nil).Matched > 0
}

func (k *knowledge) knowsAll(doc *policy.Document) bool {
	return !slices.ContainsFunc(doc.ContextKeys(), func(key string) bool { return !k.knows(key) })
}
