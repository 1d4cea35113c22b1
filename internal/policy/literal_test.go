package policy

import (
	"encoding/base64"
	"math/big"
	"net"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The literal evaluator: the reference's text, sentence by sentence, with nothing compiled, indexed or shared with the package. It reads documents
// with encoding/json (the caller does), compares with math/big, time and net, and matches wildcards by a table.

// world is what is asked, in the plainest form.
type world struct {
	action, resource string
	principal        Principal
	context          map[string][]string
}

// values finds a key without case (5.2). No values count as no key (5.4: "empty or missing").
func (w *world) values(key string) []string {
	for k, v := range w.context {
		if strings.EqualFold(k, key) {
			return v
		}
	}
	return nil
}

// literalDecide evaluates a decoded document: the decision and the statements that match.
func literalDecide(kind Kind, doc map[string]any, w *world) (Decision, []int, Grant) {
	var matched []int
	allow, deny, grant := false, false, NoGrant
	for i, s := range listOf(doc["Statement"]) {
		st := s.(map[string]any)
		named, ok := literalStatement(kind, doc["Version"] == "2012-10-17", st, w)
		if !ok {
			continue
		}
		matched = append(matched, i)
		if st["Effect"] == "Deny" {
			deny = true
		} else {
			allow, grant = true, max(grant, named)
		}
	}
	switch { // 5.1: explicit deny first, then allow, else implicit deny.
	case deny:
		return ExplicitDeny, matched, grant
	case allow:
		return Allowed, matched, grant
	}
	return ImplicitDeny, matched, grant
}

func literalStatement(kind Kind, vars bool, st map[string]any, w *world) (Grant, bool) {
	grant := NoGrant
	if kind == Trust || kind == Resource || kind == Endpoint {
		if p, ok := st["Principal"]; ok {
			if grant = literalPrincipal(p, &w.principal); grant == NoGrant {
				return NoGrant, false
			}
		} else {
			if literalPrincipal(st["NotPrincipal"], &w.principal) != NoGrant {
				return NoGrant, false
			}
			grant = RoleGrant
		}
	}
	lower := func(s string) string {
		return strings.Map(func(c rune) rune {
			if 'A' <= c && c <= 'Z' {
				return c + 32
			}
			return c
		}, s)
	}
	action := func(list any) bool {
		return slices.ContainsFunc(listOf(list), func(a any) bool { return like(wild(lower(a.(string))), lower(w.action)) })
	}
	if a, ok := st["Action"]; ok && !action(a) || !ok && action(st["NotAction"]) {
		return NoGrant, false
	}
	if kind != Trust {
		list, positive := st["Resource"]
		if !positive {
			list = st["NotResource"]
		}
		found := false
		for _, p := range listOf(list) {
			tokens, ok := literalText(p.(string), vars, true, w)
			if !ok {
				return NoGrant, false // 5.3: an unresolvable variable without default makes the statement not match.
			}
			found = found || p == "*" || literalARN(tokens, w.resource, true)
		}
		if found != positive {
			return NoGrant, false
		}
	}
	conditions, _ := st["Condition"].(map[string]any)
	for op, keys := range conditions { // AND
		for key, list := range keys.(map[string]any) { // AND
			if !literalCondition(op, listOf(list), w.values(key), vars, w) {
				return NoGrant, false
			}
		}
	}
	return grant, true
}

func listOf(v any) []any {
	if l, ok := v.([]any); ok {
		return l
	}
	if v == nil {
		return nil
	}
	return []any{v}
}

// literalPrincipal: 5.2's forms and 5.1's step 5.
func literalPrincipal(el any, p *Principal) Grant {
	if el == "*" {
		return DirectGrant
	}
	grant := NoGrant
	identity := p.Type == Root || p.Type == User || p.Type == RoleSession || p.Type == FederatedUser
	for kind, list := range el.(map[string]any) {
		for _, v := range listOf(list) {
			name := v.(string)
			switch {
			case kind == "Service" && p.Type == Service && p.Name == name, kind == "Federated" && p.Type == Federated && p.Name == name:
				grant = DirectGrant
			case kind != "AWS":
			case name == "*" && (identity || p.Type == Anonymous):
				grant = DirectGrant
			case !identity:
			case name == p.ARN || name == p.ID:
				grant = DirectGrant
			case name == p.Account || strings.HasSuffix(name, ":iam::"+p.Account+":root"):
				if p.Type == Root {
					grant = DirectGrant
				}
				grant = max(grant, AccountGrant)
			case name == p.Issuer || name == p.IssuerID:
				grant = max(grant, RoleGrant)
			}
		}
	}
	return grant
}

// token is a character, or a wildcard.
type token struct {
	char rune
	meta bool
}

func wild(s string) []token {
	t := make([]token, 0, len(s))
	for _, c := range s {
		t = append(t, token{c, c == '*' || c == '?'})
	}
	return t
}

func plainText(s string) []token {
	t := wild(s)
	for i := range t {
		t[i].meta = false
	}
	return t
}

var variable = regexp.MustCompile(`\$\{([^}]*)\}`)

// literalText replaces variables (5.3); false when one has no value.
func literalText(s string, vars, wildcards bool, w *world) ([]token, bool) {
	text := plainText
	if wildcards {
		text = wild
	}
	var out []token
	for vars {
		at := variable.FindStringSubmatchIndex(s)
		if at == nil {
			break
		}
		out = append(out, text(s[:at[0]])...)
		inside := s[at[2]:at[3]]
		s = s[at[1]:]
		if inside == "*" || inside == "?" || inside == "$" {
			out = append(out, plainText(inside)...)
			continue
		}
		key, def, hasDefault := strings.Cut(inside, ",")
		v := w.values(key)
		multi := slices.ContainsFunc([]string{"aws:TagKeys", "aws:CalledVia", "aws:PrincipalOrgPaths", "aws:PrincipalServiceNamesList", "aws:ResourceOrgPaths"}, func(k string) bool { return strings.EqualFold(k, key) })
		switch {
		case len(v) == 1 && !multi:
			out = append(out, plainText(v[0])...)
		case hasDefault:
			out = append(out, plainText(strings.Trim(strings.TrimSpace(def), "'"))...)
		default:
			return nil, false
		}
	}
	return append(out, text(s)...), true
}

// like matches by a table over pattern and text.
func like(p []token, text string) bool {
	s := []rune(text)
	row, next := make([]bool, len(s)+1), make([]bool, len(s)+1)
	row[0] = true
	for _, t := range p {
		for j := range next {
			switch {
			case t.meta && t.char == '*':
				next[j] = row[j] || j > 0 && next[j-1]
			default:
				next[j] = j > 0 && row[j-1] && (t.meta || t.char == s[j-1])
			}
		}
		row, next = next, row
	}
	return row[len(s)]
}

// literalARN compares the six components each (5.3). short tells that a star at the end of a shorter pattern stands for the rest.
func literalARN(p []token, text string, short bool) bool {
	var parts [][]token
	start := 0
	for i, t := range p {
		if t.char == ':' && len(parts) < 5 {
			parts = append(parts, p[start:i])
			start = i + 1
		}
	}
	parts = append(parts, p[start:])
	star := []token{{'*', true}}
	for short && len(parts) < 6 {
		if last := parts[len(parts)-1]; len(last) == 0 || last[len(last)-1] != star[0] {
			return false
		}
		parts = append(parts, star)
	}
	values := strings.SplitN(text, ":", 6)
	if len(parts) != 6 || len(values) != 6 || short && values[0] != "arn" {
		return false
	}
	for i := range values {
		if !like(parts[i], values[i]) {
			return false
		}
	}
	return true
}

func str(v any) string {
	switch v := v.(type) {
	case bool:
		if v {
			return "true"
		}
		return "false"
	case string:
		return v
	}
	panic("the generator makes strings and booleans")
}

// literalCondition: one operator and key, 5.4.
func literalCondition(op string, policy []any, request []string, vars bool, w *world) bool {
	set, base, qualified := strings.Cut(op, ":")
	if !qualified {
		set, base = "", op
	}
	if base == "Null" {
		return slices.ContainsFunc(policy, func(v any) bool { return strings.EqualFold(str(v), "true") == (len(request) == 0) })
	}
	base, ifExists := strings.CutSuffix(base, "IfExists")
	negated := strings.Contains(base, "Not")
	positive := strings.Replace(base, "Not", "", 1)
	if len(request) == 0 {
		switch {
		case ifExists:
			return true
		case set == "ForAllValues":
			return true
		case set == "ForAnyValue":
			return false
		}
		return negated
	}
	var texts [][]token
	for _, v := range policy {
		usesVars := vars && (strings.HasPrefix(positive, "String") || strings.HasPrefix(positive, "Arn") || positive == "Bool")
		wildcards := strings.HasPrefix(positive, "Arn") || positive == "StringLike"
		t, ok := literalText(str(v), usesVars, wildcards, w)
		if !ok {
			return false
		}
		texts = append(texts, t)
	}
	matches := func(v string) bool { // OR
		return slices.ContainsFunc(texts, func(t []token) bool { return literalCompare(positive, t, v) })
	}
	holds := func(v string) bool { return matches(v) != negated }
	switch set {
	case "ForAllValues":
		return !slices.ContainsFunc(request, func(v string) bool { return !holds(v) })
	case "ForAnyValue":
		return slices.ContainsFunc(request, holds)
	}
	return slices.ContainsFunc(request, matches) != negated // NOR
}

func literalCompare(op string, p []token, v string) bool {
	var b strings.Builder
	for _, t := range p {
		b.WriteRune(t.char)
	}
	want := b.String()
	switch {
	case op == "StringEqualsIgnoreCase":
		return strings.EqualFold(want, v)
	case op == "StringEquals" || op == "StringLike":
		return like(p, v)
	case strings.HasPrefix(op, "Arn"):
		return literalARN(p, v, false)
	case op == "Bool":
		return strings.EqualFold(want, v) && (strings.EqualFold(v, "true") || strings.EqualFold(v, "false"))
	case op == "BinaryEquals":
		x, err1 := base64.StdEncoding.DecodeString(want)
		y, err2 := base64.StdEncoding.DecodeString(v)
		return err1 == nil && err2 == nil && string(x) == string(y)
	case op == "IpAddress":
		if !strings.Contains(want, "/") {
			want += map[bool]string{true: "/128", false: "/32"}[strings.Contains(want, ":")]
		}
		_, cidr, err := net.ParseCIDR(want)
		ip := net.ParseIP(v)
		return err == nil && ip != nil && cidr.Contains(ip)
	case strings.HasPrefix(op, "Numeric"):
		x, ok1 := literalNumber(v)
		y, ok2 := literalNumber(want)
		return ok1 && ok2 && literalOrder(strings.TrimPrefix(op, "Numeric"), x.Cmp(y))
	}
	x, ok1 := literalDate(v)
	y, ok2 := literalDate(want)
	return ok1 && ok2 && literalOrder(strings.TrimPrefix(op, "Date"), x.Compare(y))
}

var decimal = regexp.MustCompile(`^[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]{1,4})?$`)

func literalNumber(s string) (*big.Rat, bool) {
	if !decimal.MatchString(s) {
		return nil, false
	}
	return new(big.Rat).SetString(s)
}

func literalDate(s string) (time.Time, bool) {
	if n, ok := new(big.Int).SetString(s, 10); ok && !strings.ContainsAny(s, "+-") {
		return time.Unix(n.Int64(), 0), true
	}
	for _, layout := range []string{"2006-01", "2006-01-02", "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05Z07:00", "2006-01-02T15:04", "2006-01-02T15:04:05"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, true
		}
	}
	return time.Time{}, false
}

func literalOrder(name string, c int) bool {
	switch name {
	case "Equals":
		return c == 0
	case "LessThan":
		return c < 0
	case "LessThanEquals":
		return c <= 0
	case "GreaterThan":
		return c > 0
	}
	return c >= 0
}
