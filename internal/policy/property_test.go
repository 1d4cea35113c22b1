package policy

import (
	"math/rand/v2"
	"slices"
	"testing"
)

// rounds of a property test.
func rounds(n int) int {
	if testing.Short() {
		return n / 10
	}
	return n
}

// parsed reads a document of the generator.
func parsed(t *testing.T, kind Kind, doc map[string]any) *Document {
	t.Helper()
	d, err := Parse(kind, encode(doc))
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// aimed makes a document and a request that a part of its statements match: few would at random.
func (d *dice) aimed(kind Kind) (map[string]any, *world) {
	var doc map[string]any
	var w *world
	for range 6 {
		doc, w = d.document(kind), d.world(kind == Trust)
		if decision, _, _ := literalDecide(kind, doc, w); decision != ImplicitDeny {
			break
		}
	}
	return doc, w
}

// TestAddingADenyNeverAllows, nor does taking an Allow away.
func TestAddingADenyNeverAllows(t *testing.T) {
	d := newDice(21, nil)
	denied := 0
	for range rounds(10000) {
		kind := d.kind()
		doc, w := d.aimed(kind)
		before := Compile(parsed(t, kind, doc)).Evaluate(w.request(), nil)
		extra := d.statement(kind, doc["Version"] == Version2012)
		extra["Effect"] = "Deny"
		list := doc["Statement"].([]any)
		at := d.intn(len(list) + 1)
		doc["Statement"] = slices.Insert(slices.Clone(list), at, any(extra))
		after := Compile(parsed(t, kind, doc)).Evaluate(w.request(), nil)
		if after.Decision == Allowed && before.Decision != Allowed || before.Decision == ExplicitDeny && after.Decision != ExplicitDeny {
			t.Fatalf("%v became %v with %s\n%s\n%s", before, after, encode(extra), encode(doc), w)
		}
		if before.Decision == Allowed && after.Decision == ExplicitDeny {
			denied++
		}
		var fewer []any
		for i, s := range list {
			if i != at || s.(map[string]any)["Effect"] == "Deny" {
				fewer = append(fewer, s)
			}
		}
		if fewer == nil {
			continue
		}
		doc["Statement"] = fewer
		if after = Compile(parsed(t, kind, doc)).Evaluate(w.request(), nil); after.Decision == Allowed && before.Decision != Allowed {
			t.Fatalf("fewer Allows allow: %s\n%s", encode(doc), w)
		}
	}
	if denied < rounds(10000)/100 {
		t.Errorf("only %d Denies did anything", denied)
	}
}

// TestOrderDoesNotMatter: of statements, of documents, of values in lists, of the keys a request is told.
func TestOrderDoesNotMatter(t *testing.T) {
	d := newDice(22, nil)
	r := rand.New(rand.NewPCG(5, 5))
	var shuffle func(v any)
	shuffle = func(v any) {
		switch v := v.(type) {
		case []any:
			r.Shuffle(len(v), func(i, j int) { v[i], v[j] = v[j], v[i] })
			for _, x := range v {
				shuffle(x)
			}
		case map[string]any:
			for _, x := range v {
				shuffle(x)
			}
		}
	}
	for range rounds(10000) {
		kind := d.kind()
		doc, w := d.aimed(kind)
		other := d.document(kind)
		one, two := parsed(t, kind, doc), parsed(t, kind, other)
		before := Compile(one, two).Evaluate(w.request(), nil)
		shuffle(doc)
		if after := Compile(two, parsed(t, kind, doc)).Evaluate(w.request(), nil); after != before {
			t.Fatalf("%+v became %+v\n%s\n%s", before, after, encode(doc), w)
		}
	}
}

// TestNotIsTheComplement: of an action, a resource, a principal; a statement and its twin never both match, and one always does unless
// something else is in the way.
func TestNotIsTheComplement(t *testing.T) {
	d := newDice(23, nil)
	for range rounds(10000) {
		kind := d.kind()
		st := d.statement(kind, false)
		delete(st, "Condition")
		element := [...]string{"Action", "Resource", "Principal"}[d.intn(3)]
		value, ok := st[element]
		if !ok {
			continue
		}
		w := d.world(kind == Trust)
		// The other elements do not stand in the way.
		open := map[string]any{"Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*"}
		if kind == Trust {
			open["Action"] = "sts:*"
			delete(open, "Resource")
		}
		if !kind.namesPrincipals() {
			delete(open, "Principal")
		}
		open[element] = value
		plain := Compile(parsed(t, kind, map[string]any{"Statement": open})).Evaluate(w.request(), nil).Matched
		delete(open, element)
		open["Not"+element] = value
		if twin := Compile(parsed(t, kind, map[string]any{"Statement": open})).Evaluate(w.request(), nil).Matched; plain+twin != 1 {
			t.Fatalf("%s %s and its twin match %d times\n%s", element, encode(value), plain+twin, w)
		}
	}
}

// set makes a Set of compiled random documents; every policy may be missing.
func (d *dice) set(t *testing.T, trust bool) *Set {
	maybe := func(kind Kind) *Policy {
		if d.one(3) {
			return nil
		}
		doc := d.document(kind)
		if d.one(2) { // Mostly allowing, so that filters have something to filter.
			st := map[string]any{"Effect": "Allow", "Action": "*", "Resource": "*", "Principal": "*"}
			if kind == Trust {
				st["Action"] = "sts:*"
				delete(st, "Resource")
			}
			if !kind.namesPrincipals() {
				delete(st, "Principal")
			} else {
				st["Principal"] = d.principalElement()
			}
			doc["Statement"] = append(doc["Statement"].([]any), st)
		}
		return Compile(parsed(t, kind, doc))
	}
	s := &Set{Trust: trust, Identity: maybe(Identity), Boundary: maybe(Boundary), Session: maybe(Session), Endpoint: maybe(Endpoint)}
	if s.Resource = maybe(Resource); trust {
		s.Resource = maybe(Trust)
	}
	for range d.intn(3) {
		if g := maybe(Guardrail); g != nil {
			s.Guardrails = append(s.Guardrails, g)
		}
	}
	if d.one(3) {
		s.ResourceAccount = d.of("123456789012", "999999999999")
	}
	return s
}

// TestAFilterNeverGrants: a boundary, a session policy, a guardrail and an endpoint's policy only narrow; a session never exceeds its role; and a
// trace changes nothing.
func TestAFilterNeverGrants(t *testing.T) {
	d := newDice(24, nil)
	allowed, narrowed := 0, 0
	var with *Set
	trust := false
	for i := range rounds(30000) {
		if i%5 == 0 {
			trust = d.one(4)
			with = d.set(t, trust)
		}
		w := d.world(trust)
		r := w.request()
		got := with.Decide(r, nil)
		if traced := with.Decide(r, &Trace{}); traced != got {
			t.Fatalf("with a trace %+v, without %+v", traced, got)
		}
		for name, without := range map[string]func(s *Set){
			"boundary": func(s *Set) { s.Boundary = nil }, "guardrails": func(s *Set) { s.Guardrails = nil }, "endpoint": func(s *Set) { s.Endpoint = nil },
			"session policy": func(s *Set) {
				if w.principal.Type != FederatedUser { // Without one a federated user has nothing: it is a grant there.
					s.Session = nil
				}
			},
		} {
			free := *with
			without(&free)
			freely := free.Decide(r, nil)
			if got.Decision == Allowed && freely.Decision != Allowed {
				t.Fatalf("the %s grants: %+v, without it %+v\n%s", name, got, freely, w)
			}
			if got.Decision != Allowed && freely.Decision == Allowed {
				narrowed++
			}
		}
		if got.Decision == Allowed {
			allowed++
			// Nothing is allowed that no policy allows, but to the root.
			if with.Identity.Evaluate(r, nil).Decision != Allowed && with.Resource.Evaluate(r, nil).Decision != Allowed && !w.principal.rootPowers() {
				t.Fatalf("nobody allowed %s", w)
			}
		}
	}
	if n := rounds(30000); allowed < n/20 || narrowed < n/50 {
		t.Errorf("of %d, %d allowed and %d narrowed: the test has lost its aim", n, allowed, narrowed)
	}
}

// TestASetIsDecidedAsTheReferenceSays: the combination against the nine steps of reference 5.1, written down once more in their own order.
func TestASetIsDecidedAsTheReferenceSays(t *testing.T) {
	d := newDice(25, nil)
	var seen [3]int
	var s *Set
	trust := false
	for i := range rounds(30000) {
		if i%5 == 0 {
			trust = d.one(4)
			s = d.set(t, trust)
		}
		w := d.world(trust)
		w.principal.ServiceLinked = d.one(10)
		r := w.request()
		want := literalSet(s, r)
		if got := s.Decide(r, nil).Decision; got != want {
			t.Fatalf("%v, the reference says %v\n%+v\n%s", got, want, s, w)
		}
		seen[want]++
	}
	for i, n := range seen {
		if n < rounds(30000)/30 {
			t.Errorf("only %d are %v", n, Decision(i))
		}
	}
}

func literalSet(s *Set, r *Request) Decision {
	p := &r.Principal
	identity := p.Type == Root || p.Type == User || p.Type == RoleSession || p.Type == FederatedUser
	says := func(q *Policy) Decision { return q.Evaluate(r, nil).Decision }
	guarded := identity && !p.ServiceLinked
	// 3: explicit deny in any applicable policy.
	applicable := []*Policy{s.Resource, s.Identity, s.Boundary, s.Session, s.Endpoint}
	if guarded {
		applicable = append(applicable, s.Guardrails...)
	}
	for _, q := range applicable {
		if says(q) == ExplicitDeny {
			return ExplicitDeny
		}
	}
	// 9 and 4: filters that apply to whatever the others say.
	if s.Endpoint != nil && says(s.Endpoint) != Allowed {
		return ImplicitDeny
	}
	for _, q := range s.Guardrails {
		if guarded && says(q) != Allowed {
			return ImplicitDeny
		}
	}
	// 5: the resource's policy.
	granted := s.Resource.Evaluate(r, nil).Grant
	if s.Trust && granted == NoGrant {
		return ImplicitDeny
	}
	if !identity {
		if granted == DirectGrant || granted == RoleGrant {
			return Allowed
		}
		return ImplicitDeny
	}
	crossAccount := s.ResourceAccount != "" && s.ResourceAccount != p.Account
	if crossAccount && granted == NoGrant {
		return ImplicitDeny
	}
	if !crossAccount && granted == DirectGrant {
		return Allowed
	}
	// 6: identity policies; the root is allowed implicitly.
	byRoot := p.Type == Root || p.Type == FederatedUser && p.Issuer == root
	if says(s.Identity) != Allowed && !byRoot && (crossAccount || granted != RoleGrant) {
		return ImplicitDeny
	}
	// 7 and 8.
	if s.Boundary != nil && says(s.Boundary) != Allowed {
		return ImplicitDeny
	}
	if s.Session == nil && p.Type == FederatedUser || s.Session != nil && says(s.Session) != Allowed {
		return ImplicitDeny
	}
	return Allowed
}
