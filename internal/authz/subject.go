package authz

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"

	"carrel/internal/identity"
	"carrel/internal/permissions"
	"carrel/internal/policy"
	"carrel/internal/state"
)

// subject is what applies to one principal: its policies, compiled, and its tags.
type subject struct {
	identity, boundary, session                      *policy.Policy
	identitySources, boundarySources, sessionSources []permissions.Source
	guardrails                                       []*policy.Policy
	guardrailSources                                 []permissions.Source
	// owned are the tags of the user or role.
	owned map[string]string
	// serviceLinked tells of a role that belongs to a service.
	serviceLinked bool
}

// subjects are the subjects of one state of the records that policies are in. A change there makes all of them anew, out of what has not changed:
// so nothing that was revoked is used for one request more.
type subjects struct {
	snapshot         *state.Snapshot
	guardrails       []*policy.Policy
	guardrailSources []permissions.Source

	mu    sync.RWMutex
	byKey map[string]*subject
	trust map[*state.Role]*policy.Policy
	// before are the subjects of the state before, for their compiled policies.
	before map[string]*subject
}

// maxSubjects bounds the remembered subjects; when there are more, all are forgotten and made again.
const maxSubjects = 8192

// current gives the subjects for a snapshot.
func (a *Authorizer) current(snap *state.Snapshot) *subjects {
	for {
		have := a.subjects.Load()
		if have != nil && snap.Same(have.snapshot, permissions.Tables...) {
			return have
		}
		fresh := &subjects{snapshot: snap, byKey: map[string]*subject{}, trust: map[*state.Role]*policy.Policy{}}
		if have != nil {
			have.mu.RLock()
			fresh.before = maps.Clone(have.byKey)
			have.mu.RUnlock()
		}
		fresh.guardrailSources = guardrails(snap)
		if len(fresh.guardrailSources) > 0 {
			fresh.guardrails = []*policy.Policy{compile(policy.Guardrail, fresh.guardrailSources)}
		}
		// An older snapshot must not take the place of a newer one's subjects: its request is decided by its own.
		if have != nil && have.snapshot.Revision() > snap.Revision() {
			return fresh
		}
		if a.subjects.CompareAndSwap(have, fresh) {
			return fresh
		}
	}
}

func guardrails(r state.Reader) []permissions.Source {
	account, ok := state.Get(r, state.Accounts, state.Accounts.ID(nil))
	if !ok {
		return nil
	}
	var out []permissions.Source
	for _, name := range slices.Sorted(maps.Keys(account.Guardrails)) {
		out = append(out, permissions.Source{Type: "guardrail", ID: name, Text: account.Guardrails[name]})
	}
	return out
}

// subjectOf finds what applies to a principal.
func (a *Authorizer) subjectOf(snap *state.Snapshot, p identity.Principal) *subject {
	all := a.current(snap)
	key := subjectKey(p)
	all.mu.RLock()
	s := all.byKey[key]
	before := all.before[key]
	all.mu.RUnlock()
	if s != nil {
		return s
	}
	s = a.gather(snap, p, before)
	s.guardrails, s.guardrailSources = all.guardrails, all.guardrailSources
	all.mu.Lock()
	defer all.mu.Unlock()
	if len(all.byKey) >= maxSubjects {
		clear(all.byKey)
	}
	all.byKey[strings.Clone(key)] = s
	return s
}

// subjectKey tells principals apart to whom different policies may apply. Ids are never used again, so a user made anew is another one.
func subjectKey(p identity.Principal) string {
	if s := p.Session(); s != nil {
		return string(s.KeyID)
	}
	return p.UserID()
}

// gather finds and compiles the policies of a principal; what an earlier subject has compiled of the same texts is used again.
func (a *Authorizer) gather(snap *state.Snapshot, p identity.Principal, before *subject) *subject {
	s := &subject{}
	account := a.account()
	boundary := ""
	switch {
	case p.Role() != "":
		role, ok := state.Get(snap, state.Roles, string(p.Role()))
		if !ok {
			return nobody()
		}
		s.identitySources, boundary, s.owned, s.serviceLinked = account.OfRole(snap, role), role.Boundary, role.Tags, role.Service != ""
	case p.User() != "":
		user, ok := state.Get(snap, state.Users, string(p.User()))
		if !ok {
			return nobody()
		}
		s.identitySources, boundary, s.owned = account.OfUser(snap, user), user.Boundary, user.Tags
	}
	s.boundarySources = account.Boundary(snap, boundary)
	if session := p.Session(); session != nil {
		if session.Policy != "" {
			s.sessionSources = append(s.sessionSources, permissions.Source{Type: "none", ID: "session_policy", Text: session.Policy})
		}
		s.sessionSources = append(s.sessionSources, account.Attached(snap, session.PolicyARNs)...)
	}
	if before == nil {
		before = &subject{}
	}
	s.identity = reuse(policy.Identity, s.identitySources, before.identitySources, before.identity)
	s.boundary = reuse(policy.Boundary, s.boundarySources, before.boundarySources, before.boundary)
	s.session = reuse(policy.Session, s.sessionSources, before.sessionSources, before.session)
	return s
}

// nobody is a subject that was deleted since its request was authenticated: everything is denied.
func nobody() *subject {
	gone := []permissions.Source{{Type: "none", ID: "deleted", Text: permissions.Missing}}
	return &subject{identity: compile(policy.Identity, gone), identitySources: gone}
}

func reuse(k policy.Kind, sources, before []permissions.Source, compiled *policy.Policy) *policy.Policy {
	switch {
	case len(sources) == 0:
		return nil
	case compiled != nil && slices.Equal(sources, before):
		return compiled
	}
	return compile(k, sources)
}

// compile compiles stored documents. One that cannot be read any more denies everything.
func compile(k policy.Kind, sources []permissions.Source) *policy.Policy {
	texts := make([]string, len(sources))
	for i := range sources {
		texts[i] = sources[i].Text
	}
	compiled, _ := policy.CompileStored(k, texts...)
	return compiled
}

// trustOf is a role's trust policy.
func (a *Authorizer) trustOf(snap *state.Snapshot, role *state.Role) *policy.Policy {
	all := a.current(snap)
	all.mu.RLock()
	p := all.trust[role]
	all.mu.RUnlock()
	if p != nil {
		return p
	}
	p, _ = policy.CompileStored(policy.Trust, role.Trust)
	all.mu.Lock()
	defer all.mu.Unlock()
	if len(all.trust) >= maxSubjects {
		clear(all.trust)
	}
	all.trust[role] = p
	return p
}

// tags are the principal's: of a session its own and those of its role or user that it does not replace.
func (s *subject) tags(session *identity.Session) iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		if session == nil {
			for k, v := range s.owned {
				if !yield(k, v) {
					return
				}
			}
			return
		}
		replaced := map[string]bool{}
		for k, v := range session.Tags {
			replaced[strings.ToLower(k)] = true
			if !yield(k, v) {
				return
			}
		}
		for k, v := range s.owned {
			if !replaced[strings.ToLower(k)] && !yield(k, v) {
				return
			}
		}
	}
}

// describe is a principal as Principal elements name it.
func (s *subject) describe(p identity.Principal) policy.Principal {
	out := policy.Principal{Account: p.AccountID(), ARN: p.ARN(), Issuer: p.Issuer(), ServiceLinked: s.serviceLinked}
	switch p.Type() {
	case identity.Root:
		out.Type = policy.Root
	case identity.IAMUser:
		out.Type, out.ID = policy.User, string(p.User())
	case identity.AssumedRole:
		out.Type, out.IssuerID = policy.RoleSession, string(p.Role())
	case identity.FederatedUser:
		out.Type, out.IssuerID = policy.FederatedUser, string(p.User())
	}
	return out
}
