package analysis

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"carrel/internal/permissions"
	"carrel/internal/policy"
)

// What a Change does.
const (
	// Satisfy: the request meets a condition; no policy changes.
	Satisfy = "satisfy"
	// Widen: an element of a statement that allows lists one value more, or excludes one less.
	Widen = "widen"
	// Add: a new statement.
	Add = "add"
	// Remove: a Deny statement goes, or does not match any more.
	Remove = "remove"
	// Repair: a document that cannot be read, and therefore denies everything, is put anew.
	Repair = "repair"
)

// Change is one thing to be done.
type Change struct {
	Do string `json:"do"`
	// Kind is the kind of policy in the words of AWS's denials ("identity-based policy"), Policy the document as the policy simulator names it; a new
	// statement that may stand in any document of the kind has none.
	Kind   string `json:"kind"`
	Policy string `json:"policy,omitempty"`
	// Sid and Number name the statement; Number counts from 1.
	Sid    string `json:"sid,omitempty"`
	Number int    `json:"statement,omitempty"`
	// Element is what is in the way ("Action", "NotResource", "Condition"), with Operator and Key of a Condition. Wanted is what the statement
	// lists there, Actual what the request has; of a Deny it is what makes it match.
	Element  string   `json:"element,omitempty"`
	Operator string   `json:"operator,omitempty"`
	Key      string   `json:"key,omitempty"`
	Wanted   []string `json:"wanted,omitempty"`
	Actual   []string `json:"actual,omitempty"`
	// Statement is the new statement, the statement as it would be, or the Deny as it is; missing when it is long.
	Statement json.RawMessage `json:"json,omitempty"`
}

// The sizes of changes. See Suggestion.
const (
	sizeCondition = iota + 1
	sizeResource
	sizeAction
	sizePrincipal
	sizeNew
)

// Bounds of what is told: all of it together goes into an audit record.
const (
	maxStatement = 1024
	maxValues    = 5
	maxValue     = 160
)

// String is the change as a sentence without its end.
func (c *Change) String() string {
	statement := c.where()
	switch c.Do {
	case Satisfy:
		if c.Actual == nil {
			return statement + " would allow it if the request had " + c.Key + " (" + c.Operator + " " + quoted(c.Wanted) + "); it does not have the key"
		}
		return statement + " would allow it if " + c.Key + " were as " + c.Operator + " " + quoted(c.Wanted) + " wants; the request has " + quoted(c.Actual)
	case Widen:
		if strings.HasPrefix(c.Element, "Not") {
			return statement + " would allow it if its " + c.Element + " did not list " + quoted(c.Actual)
		}
		return statement + " would allow it if its " + c.Element + " listed " + quoted(c.Actual) + "; it lists " + quoted(c.Wanted)
	case Add:
		to := "a new statement in "
		if c.Policy != "" {
			return to + "the " + c.Kind + " " + c.Policy
		}
		return to + withArticle(c.Kind)
	case Repair:
		return "the " + c.Kind + " " + c.Policy + " cannot be read and denies everything: put it anew"
	}
	text := "the explicit deny in " + statement + " has to go, or not to match"
	switch {
	case c.Element == "Condition" && c.Actual == nil:
		text += ": it asks " + c.Operator + " " + c.Key + " " + quoted(c.Wanted) + ", and the request does not have the key"
	case c.Element == "Condition":
		text += ": it asks " + c.Operator + " " + c.Key + " " + quoted(c.Wanted) + ", the request has " + quoted(c.Actual)
	case c.Element != "":
		text += ": its " + c.Element + " lists " + quoted(c.Wanted)
	}
	return text
}

// where names the statement.
func (c *Change) where() string {
	text := fmt.Sprintf("statement %d", c.Number)
	if c.Sid != "" {
		text = "statement " + c.Sid
	}
	return text + " of the " + c.Kind + " " + c.Policy
}

func withArticle(noun string) string {
	if strings.HasPrefix(noun, "i") {
		return "an " + noun
	}
	return "a " + noun
}

func quoted(values []string) string {
	text := make([]string, len(values))
	for i, v := range values {
		text[i] = fmt.Sprintf("%q", v)
	}
	return "[" + strings.Join(text, ", ") + "]"
}

// of begins a Change about a statement.
func of(l *layer, do string, w *policy.Reason) Change {
	c := Change{Do: do, Kind: l.kind.String(), Sid: w.Statement.Sid, Number: w.Place + 1, Element: w.Element, Operator: w.Operator, Key: w.Key,
		Wanted: bounded(w.Wanted), Actual: bounded(w.Actual)}
	if w.Document < len(l.sources) {
		c.Policy = l.sources[w.Document].ID
	}
	return c
}

// bounded cuts lists and values for the record.
func bounded(values []string) []string {
	if values == nil {
		return nil
	}
	out := make([]string, 0, min(len(values), maxValues))
	for i, v := range values {
		if i == maxValues {
			break
		}
		if i == maxValues-1 && len(values) > maxValues {
			v = fmt.Sprintf("... and %d more", len(values)-i)
		}
		if len(v) > maxValue {
			n := maxValue
			for !utf8.RuneStart(v[n]) {
				n--
			}
			v = v[:n] + "..."
		}
		out = append(out, v)
	}
	return out
}

// written is a statement as JSON, nil when it is long.
func written(s policy.Statement) json.RawMessage {
	whole := (&policy.Document{Statements: []policy.Statement{s}}).String()
	text := strings.TrimSuffix(strings.TrimPrefix(whole, `{"Statement":[`), "]}")
	if len(text) > maxStatement {
		return nil
	}
	return json.RawMessage(text)
}

// misses finds the Allow statements that fail in one element only.
func (s *search) misses(l *layer, reasons []policy.Reason) {
	for _, group := range []struct {
		size     int
		elements []string
	}{{sizeCondition, []string{"Condition"}}, {sizeResource, []string{"Resource", "NotResource"}}, {sizeAction, []string{"Action", "NotAction"}}, {sizePrincipal, []string{"Principal"}}} {
		trials, kept := 0, 0
		for i := range reasons {
			w := &reasons[i]
			if w.Matched || w.Statement.Effect != policy.Allow || !slices.Contains(group.elements, w.Element) || w.Element != "Condition" && l.fixed(w) || w.Element == "Action" && !s.sameService(w.Statement.Actions) {
				continue
			}
			if trials++; trials > maxTrials || kept == maxMisses {
				break
			}
			doc := l.policy.Document(w.Document)
			after, ok := s.repaired(doc, w)
			if !ok {
				continue
			}
			c := of(l, Widen, w)
			if c.Statement = written(after); w.Element == "Condition" {
				c.Do, c.Statement = Satisfy, nil
			}
			if s.offer(l, c, group.size, alone(doc, after)) {
				kept++
			}
		}
	}
}

// fixed tells that nobody here can change the statement's document.
func (l *layer) fixed(w *policy.Reason) bool {
	return w.Document < len(l.sources) && l.sources[w.Document].Type == "aws-managed"
}

// sameService tells whether a list of actions has one of the service that is asked for: a statement about other services is not near.
func (s *search) sameService(actions []string) bool {
	service, _, _ := strings.Cut(strings.ToLower(s.request.Action.String()), ":")
	return slices.ContainsFunc(actions, func(a string) bool {
		of, _, _ := strings.Cut(strings.ToLower(a), ":")
		return of == service
	})
}

// repaired is the statement with the failing element out of the way. Whether it matches then is found by evaluating it.
func (s *search) repaired(doc *policy.Document, w *policy.Reason) (policy.Statement, bool) {
	after := *w.Statement
	switch w.Element {
	case "Condition":
		i := slices.IndexFunc(after.Conditions, func(c policy.Condition) bool { return c.Operator == w.Operator && c.Key == w.Key })
		after.Conditions = slices.Delete(slices.Clone(after.Conditions), i, i+1)
	case "Action":
		after.Actions = append(slices.Clip(after.Actions), s.request.Action.String())
	case "Resource":
		resource, ok := literal(s.request.Resource(), doc.Version)
		if !ok {
			return after, false
		}
		after.Resources = append(slices.Clip(after.Resources), resource)
	case "NotAction":
		after.Actions = s.without(doc, after.Actions, func(v string) policy.Statement {
			return policy.Statement{Effect: policy.Allow, Principals: everybody(doc.Kind), Actions: []string{v}, Resources: anything(doc.Kind)}
		})
	case "NotResource":
		after.Resources = s.without(doc, after.Resources, func(v string) policy.Statement {
			return policy.Statement{Effect: policy.Allow, Principals: everybody(doc.Kind), Actions: []string{"*"}, Resources: []string{v}}
		})
	case "Principal":
		name, ok := nameOf(&s.request.Principal)
		if !ok {
			return after, false
		}
		// Names of one type stand together.
		at := slices.IndexFunc(after.Principals, func(p policy.PrincipalName) bool { return p.Type == name.Type })
		after.Principals = slices.Insert(slices.Clone(after.Principals), max(at, 0), name)
	}
	return after, len(after.Actions) > 0 && (len(after.Resources) > 0 || doc.Kind == policy.Trust)
}

// without leaves out the values that match the request alone.
func (s *search) without(doc *policy.Document, values []string, only func(string) policy.Statement) []string {
	if len(values) > maxTrials {
		return nil
	}
	return slices.DeleteFunc(slices.Clone(values), func(v string) bool {
		return policy.Compile(alone(doc, only(v))).Evaluate(s.request, nil).Decision == policy.Allowed
	})
}

func everybody(k policy.Kind) []policy.PrincipalName {
	if !namesPrincipals(k) {
		return nil
	}
	return []policy.PrincipalName{{Type: "*", Value: "*"}}
}

func anything(k policy.Kind) []string {
	if k == policy.Trust {
		return nil
	}
	return []string{"*"}
}

func namesPrincipals(k policy.Kind) bool { return k >= policy.Trust }

// addition offers the new statement that allows this action on this resource and nothing else.
func (s *search) addition(l *layer) {
	st := policy.Statement{Effect: policy.Allow, Actions: []string{s.request.Action.String()}}
	if namesPrincipals(l.kind) {
		name, ok := nameOf(&s.request.Principal)
		if !ok {
			return
		}
		st.Principals = []policy.PrincipalName{name}
	}
	if l.kind != policy.Trust {
		resource, _ := literal(s.request.Resource(), policy.Version2012)
		st.Resources = []string{resource}
	}
	doc := &policy.Document{Kind: l.kind, Version: policy.Version2012, Statements: []policy.Statement{st}}
	read, err := policy.Parse(l.kind, doc.String())
	if err != nil {
		return // A resource that no policy can name.
	}
	c := Change{Do: Add, Kind: l.kind.String(), Statement: written(st)}
	if one := l.kind == policy.Boundary || l.kind == policy.Trust; one && len(l.sources) == 1 {
		c.Policy = l.sources[0].ID
	}
	s.offer(l, c, sizeNew, read)
}

// nameOf is how a policy names the caller: a session by its role, because its own name is there for an hour.
func nameOf(p *policy.Principal) (policy.PrincipalName, bool) {
	switch p.Type {
	case policy.Root, policy.User, policy.FederatedUser:
		return policy.PrincipalName{Type: "AWS", Value: p.ARN}, true
	case policy.RoleSession:
		return policy.PrincipalName{Type: "AWS", Value: p.Issuer}, true
	case policy.Service:
		return policy.PrincipalName{Type: "Service", Value: p.Name}, true
	case policy.Federated:
		return policy.PrincipalName{Type: "Federated", Value: p.Name}, true
	}
	return policy.PrincipalName{}, false
}

// literal writes a resource so that it stands for itself alone: a caller chooses its name, and a star of theirs must not become a wildcard of an
// administrator's. The star that is asked for when no resource is named ("workspace/*") stays. The old version of the language cannot escape.
func literal(resource, version string) (string, bool) {
	body, end := resource, ""
	if strings.HasSuffix(resource, "/*") || strings.HasSuffix(resource, ":*") || resource == "*" {
		body, end = resource[:len(resource)-1], "*"
	}
	if version != policy.Version2012 {
		return resource, !strings.ContainsAny(body, "*?")
	}
	return strings.NewReplacer("*", "${*}", "?", "${?}", "${", "${$}{").Replace(body) + end, true
}

// removal is what is said of a Deny that matches: the narrowest of its elements, which would have to be otherwise.
func (s *search) removal(l *layer, w policy.Reason) Change {
	c := of(l, Remove, &w)
	if w.Document < len(l.sources) && unreadable(l.kind, l.sources[w.Document]) {
		c.Do, c.Sid, c.Number = Repair, "", 0
		return c
	}
	c.Statement = written(*w.Statement)
	doc := l.policy.Document(w.Document)
	if conditions := w.Statement.Conditions; len(conditions) > 0 {
		i := max(slices.IndexFunc(conditions, func(c policy.Condition) bool { return len(s.request.Values(policy.NewKey(c.Key))) > 0 }), 0)
		c.Element, c.Operator, c.Key = "Condition", conditions[i].Operator, conditions[i].Key
		c.Wanted, c.Actual = bounded(conditions[i].Values), bounded(s.request.Values(policy.NewKey(c.Key)))
		return c
	}
	listed := func(element string, values []string, only func(string) policy.Statement) bool {
		if len(values) == 0 || len(values) > maxTrials || slices.Contains(values, "*") {
			return false
		}
		var matching []string
		for _, v := range values {
			if policy.Compile(alone(doc, only(v))).Evaluate(s.request, nil).Decision == policy.Allowed {
				matching = append(matching, v)
			}
		}
		c.Element, c.Wanted = element, bounded(matching)
		return true
	}
	if !w.Statement.NotResource && listed("Resource", w.Statement.Resources, func(v string) policy.Statement {
		return policy.Statement{Effect: policy.Allow, Principals: everybody(doc.Kind), Actions: []string{"*"}, Resources: []string{v}}
	}) {
		c.Actual = bounded([]string{s.request.Resource()})
		return c
	}
	if !w.Statement.NotAction && listed("Action", w.Statement.Actions, func(v string) policy.Statement {
		return policy.Statement{Effect: policy.Allow, Principals: everybody(doc.Kind), Actions: []string{v}, Resources: anything(doc.Kind)}
	}) {
		c.Actual = bounded([]string{s.request.Action.String()})
	}
	return c
}

// unreadable tells of a document in whose place everything is denied.
func unreadable(k policy.Kind, s permissions.Source) bool {
	_, err := policy.Parse(k, s.Text)
	return err != nil
}
