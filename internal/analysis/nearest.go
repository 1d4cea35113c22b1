package analysis

import (
	"cmp"
	"encoding/json"
	"slices"

	"carrel/internal/authz"
	"carrel/internal/permissions"
	"carrel/internal/policy"
)

// Suggestion is the smallest change that would have allowed a denied check.
//
// Sizes rise in this order: the request meets a condition of a statement that would allow it otherwise, and no policy changes; one value more in
// the Resource, in the Action, in the Principal of a statement; a new statement. An explicit deny has to go whatever else is changed. Every
// suggestion was found by evaluating the changed policies.
type Suggestion struct {
	// Single tells that one change is enough; else all of Changes are needed, and More that are left out here.
	Single  bool     `json:"single"`
	Changes []Change `json:"changes"`
	More    int      `json:"more,omitempty"`
	// Instead are other single changes that would do alone.
	Instead []Change `json:"instead,omitempty"`
	// Asked are the condition keys, as they are written, that the statements for this action and this resource ask for.
	Asked []string `json:"asked,omitempty"`
}

// The bounds of a search: what is beyond them is not tried, so that a denial costs no more than milliseconds whatever the policies are.
const (
	maxTrials  = 64 // statements of a policy that are tried for each element
	maxMisses  = 4  // statements kept of a policy that fail in one element only
	maxChanges = 8  // changes that are told
	maxAsked   = 32
)

// layer is one policy's part in a decision.
type layer struct {
	kind     policy.Kind
	policy   *policy.Policy // nil: there is none
	sources  []permissions.Source
	denies   []policy.Reason    // Deny statements that match
	allows   []*policy.Document // Allow statements that match, each as a document
	options  []option           // what would make it allow
	required bool               // without its Allow nothing goes
}

// option is a change and the statement that there is after it.
type option struct {
	change Change
	size   int
	grant  policy.Grant
	after  *policy.Policy // the layer with it, and without its denies
}

// search looks for changes.
type search struct {
	request *policy.Request
	set     *policy.Set
	layers  []layer
	plain   []*policy.Policy // the layers without their denies and with nothing else changed
}

// Nearest gives the smallest change that would have allowed what the set denies; nil when the set allows it, or when no change of a policy would
// help: the role or user is not there any more, or there is no policy that could say it. sources are the documents that the policies
// of a kind were compiled from. The request is read only.
func Nearest(request *policy.Request, set *policy.Set, sources func(policy.Kind) []permissions.Source) *Suggestion {
	var trace policy.Trace
	if request.Action.String() == "" || set.Decide(request, &trace).Decision == policy.Allowed {
		return nil
	}
	s := &search{request: request, set: set}
	asked := s.open(&trace, sources)
	if s.hopeless() {
		return nil
	}
	denies := s.denies()
	best := s.single(denies)
	if best == nil {
		best = s.several(denies)
	}
	if best != nil {
		best.Asked = asked
	}
	return best
}

// Attach gives the Suggestion for a decision that has denied, as authz.Explanation.Nearest keeps it; nil when there is none.
func Attach(d *authz.Decision) json.RawMessage {
	request, set, sources := d.Question()
	if request == nil {
		return nil
	}
	s := Nearest(request, set, sources)
	if s == nil {
		return nil
	}
	text, err := json.Marshal(s)
	if err != nil {
		return nil // Texts and lists of them: it cannot fail.
	}
	return text
}

// open explains every policy once.
func (s *search) open(trace *policy.Trace, sources func(policy.Kind) []permissions.Source) (asked []string) {
	for _, g := range s.set.Guardrails {
		s.layers = append(s.layers, layer{kind: policy.Guardrail, policy: g, required: true})
	}
	if s.set.Trust {
		s.layers = append(s.layers, layer{kind: policy.Trust, policy: s.set.Resource})
	} else if s.set.Resource != nil {
		s.layers = append(s.layers, layer{kind: policy.Resource, policy: s.set.Resource})
	}
	s.layers = append(s.layers, layer{kind: policy.Identity, policy: s.set.Identity})
	if s.set.Boundary != nil {
		s.layers = append(s.layers, layer{kind: policy.Boundary, policy: s.set.Boundary})
	}
	if s.set.Session != nil || s.request.Principal.Type == policy.FederatedUser {
		s.layers = append(s.layers, layer{kind: policy.Session, policy: s.set.Session})
	}
	if s.set.Endpoint != nil {
		s.layers = append(s.layers, layer{kind: policy.Endpoint, policy: s.set.Endpoint, required: true})
	}
	s.layers = slices.DeleteFunc(s.layers, func(l layer) bool {
		return l.policy != nil && !slices.ContainsFunc(trace.Steps, func(t policy.Step) bool { return t.Policy == l.policy && t.Kind == l.kind })
	})
	for i := range s.layers {
		l := &s.layers[i]
		l.sources = sources(l.kind)
		reasons := l.policy.Explain(s.request)
		l.sort(reasons)
		asked = l.asked(reasons, asked)
		s.plain = append(s.plain, l.with(nil))
		if !l.allowing() || namesPrincipals(l.kind) && l.kind != policy.Endpoint {
			s.misses(l, reasons)
			s.addition(l)
		}
	}
	return asked
}

// sort takes in the statements that match. Of those that allow one is as good as all, unless they name principals.
func (l *layer) sort(reasons []policy.Reason) {
	for i := range reasons {
		w := &reasons[i]
		switch {
		case !w.Matched:
		case w.Statement.Effect == policy.Deny:
			l.denies = append(l.denies, *w)
		case len(l.allows) == 0 || namesPrincipals(l.kind):
			l.allows = append(l.allows, alone(l.policy.Document(w.Document), *w.Statement))
		}
	}
}

func (l *layer) allowing() bool { return len(l.allows) > 0 }

// asked adds the condition keys of the statements that are about this action and resource.
func (l *layer) asked(reasons []policy.Reason, asked []string) []string {
	for i := range reasons {
		if w := &reasons[i]; w.Matched || w.Element == "Condition" {
			for _, c := range w.Statement.Conditions {
				if len(asked) < maxAsked && !slices.Contains(asked, c.Key) {
					asked = append(asked, c.Key)
				}
			}
		}
	}
	return asked
}

// alone is a document of one statement of another one's kind and version.
func alone(of *policy.Document, s policy.Statement) *policy.Document {
	return &policy.Document{Kind: of.Kind, Version: of.Version, Statements: []policy.Statement{s}}
}

// with compiles what of the layer bears on the request, without its denies, and with one statement more. Statements that do not match, and
// of several Allows all but one, change nothing of what a policy says.
func (l *layer) with(more *policy.Document) *policy.Policy {
	docs := slices.Clip(l.allows)
	if more != nil {
		docs = append(docs, more)
	}
	if len(docs) == 0 && l.policy == nil {
		return nil
	}
	return policy.Compile(docs...)
}

// offer keeps an option when the changed statement really matches.
func (s *search) offer(l *layer, change Change, size int, changed *policy.Document) bool {
	said := policy.Compile(changed).Evaluate(s.request, nil)
	if said.Decision != policy.Allowed {
		return false
	}
	l.options = append(l.options, option{change: change, size: size, grant: said.Grant, after: l.with(changed)})
	return true
}

// hopeless tells that there is no policy to change: the role that is to be assumed does not exist, or the caller does not any more.
func (s *search) hopeless() bool {
	for i := range s.layers {
		l := &s.layers[i]
		if l.kind == policy.Trust && len(l.sources) == 0 {
			return true
		}
		if l.kind == policy.Identity && len(l.sources) == 1 && l.sources[0].Type == "none" && l.sources[0].Text == permissions.Missing {
			return true
		}
	}
	return false
}

// denies are the explicit denies, which have to go in any case.
func (s *search) denies() []Change {
	var out []Change
	for i := range s.layers {
		for _, w := range s.layers[i].denies {
			out = append(out, s.removal(&s.layers[i], w))
		}
	}
	return out
}

// allowed evaluates the set with one option, or none, for each layer.
func (s *search) allowed(chosen map[int]*option) bool {
	changed := policy.Set{Trust: s.set.Trust, ResourceAccount: s.set.ResourceAccount}
	for i := range s.layers {
		p := s.plain[i]
		if o := chosen[i]; o != nil {
			p = o.after
		}
		switch s.layers[i].kind {
		case policy.Guardrail:
			changed.Guardrails = append(changed.Guardrails, p)
		case policy.Trust, policy.Resource:
			changed.Resource = p
		case policy.Identity:
			changed.Identity = p
		case policy.Boundary:
			changed.Boundary = p
		case policy.Session:
			changed.Session = p
		case policy.Endpoint:
			changed.Endpoint = p
		}
	}
	return changed.Decide(s.request, nil).Decision == policy.Allowed
}

// single looks for one change that is enough.
func (s *search) single(denies []Change) *Suggestion {
	switch {
	case len(denies) > 1:
		return nil
	case len(denies) == 1:
		if s.allowed(nil) {
			return &Suggestion{Single: true, Changes: denies}
		}
		return nil
	}
	var found []*option
	for i := range s.layers {
		for j := range s.layers[i].options {
			if o := &s.layers[i].options[j]; s.allowed(map[int]*option{i: o}) {
				found = append(found, o)
			}
		}
	}
	if len(found) == 0 {
		return nil
	}
	slices.SortStableFunc(found, func(a, b *option) int { return cmp.Compare(a.size, b.size) })
	out := &Suggestion{Single: true, Changes: []Change{found[0].change}}
	// Besides the next one a new statement is told, which grants nothing else.
	for _, add := range []bool{false, true} {
		if k := slices.IndexFunc(found[1:], func(o *option) bool { return (o.change.Do == Add) == add }); k >= 0 {
			out.Instead = append(out.Instead, found[1+k].change)
		}
	}
	return out
}

// several looks for the fewest changes that are enough together.
func (s *search) several(denies []Change) *Suggestion {
	var best map[int]*option
	size := 0
	s.choose(0, map[int]*option{}, func(chosen map[int]*option) {
		total := 0
		for _, o := range chosen {
			total += o.size
		}
		if better := best == nil || len(chosen) < len(best) || len(chosen) == len(best) && total < size; better && s.allowed(chosen) {
			best, size = map[int]*option{}, total
			for i, o := range chosen {
				best[i] = o
			}
		}
	})
	if best == nil {
		return nil
	}
	all := slices.Clip(denies)
	for i := range s.layers {
		if o := best[i]; o != nil {
			all = append(all, o.change)
		}
	}
	out := &Suggestion{Single: len(all) == 1, Changes: all}
	if len(all) > maxChanges {
		out.Changes, out.More = all[:maxChanges], len(all)-maxChanges
	}
	return out
}

// choose visits every choice of at most one option for each layer; of options that grant alike the smallest stands for all.
func (s *search) choose(at int, chosen map[int]*option, visit func(map[int]*option)) {
	if at == len(s.layers) {
		visit(chosen)
		return
	}
	l := &s.layers[at]
	if !l.required || l.allowing() {
		s.choose(at+1, chosen, visit)
	}
	if l.allowing() && !namesPrincipals(l.kind) {
		return
	}
	seen := map[policy.Grant]bool{}
	for i := range l.options {
		o := &l.options[i]
		if seen[o.grant] || l.kind == policy.Endpoint && len(seen) > 0 {
			continue
		}
		seen[o.grant] = true
		chosen[at] = o
		s.choose(at+1, chosen, visit)
		delete(chosen, at)
	}
}
