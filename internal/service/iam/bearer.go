package iam

import (
	"cmp"
	"context"
	"errors"
	"iter"
	"net/url"
	"slices"
	"strings"

	"carrel/internal/api/shape"
	"carrel/internal/policy"
	"carrel/internal/state"
)

// bearer is a user, group or role, as what has policies. It is a copy of the record: save puts it back.
type bearer struct {
	kind, name string
	own        *state.Permissions
	// boundary is nil for groups, which cannot have one.
	boundary *string
	// attached is the name of the quota of attached policies, inline the quota of inline ones.
	attached string
	inline   policy.Quota
	// linked: only its service changes it.
	linked bool
	save   func(*state.Tx)
}

// bearers finds one by its name, or is the error that says there is none.
type bearers func(r state.Reader, name *string) (*bearer, error)

func userBearer(r state.Reader, name *string) (*bearer, error) {
	found, err := findUser(r, shape.Val(name))
	if err != nil {
		return nil, err
	}
	u := state.Clone(found)
	return &bearer{kind: "user", name: u.Name, own: &u.Permissions, boundary: &u.Boundary, attached: "PoliciesPerUser", inline: policy.InlineUserQuota,
		save: func(tx *state.Tx) { state.Put(tx, state.Users, u) }}, nil
}

func groupBearer(r state.Reader, name *string) (*bearer, error) {
	found, err := findGroup(r, shape.Val(name))
	if err != nil {
		return nil, err
	}
	g := state.Clone(found)
	return &bearer{kind: "group", name: g.Name, own: &g.Permissions, attached: "PoliciesPerGroup", inline: policy.InlineGroupQuota,
		save: func(tx *state.Tx) { state.Put(tx, state.Groups, g) }}, nil
}

func roleBearer(r state.Reader, name *string) (*bearer, error) {
	found, err := findRole(r, shape.Val(name))
	if err != nil {
		return nil, err
	}
	role := state.Clone(found)
	return &bearer{kind: "role", name: role.Name, own: &role.Permissions, boundary: &role.Boundary, attached: "PoliciesPerRole", inline: policy.InlineRoleQuota,
		linked: role.Service != "", save: func(tx *state.Tx) { state.Put(tx, state.Roles, role) }}, nil
}

// change lets fn change the policies of the bearer of that name, and saves it. A role that is linked to a service is refused.
func (s *Service) change(ctx context.Context, find bearers, name *string, fn func(*state.Tx, *bearer) error) error {
	return s.update(ctx, func(tx *state.Tx) error {
		b, err := find(tx, name)
		if err != nil {
			return err
		}
		if b.linked {
			return unmodifiable(b.name)
		}
		if err := fn(tx, b); err != nil {
			return err
		}
		b.save(tx)
		return nil
	})
}

// named finds the record of a name among candidates, which an index by names in lower case gives. Another spelling of the case finds nothing:
// see findUser. Within a *state.Tx the commit checks that the record has not changed.
func named[T any](r state.Reader, d *state.Definition[T], candidates iter.Seq[*T], is func(*T) bool) (*T, bool) {
	for candidate := range candidates {
		if is(candidate) {
			return state.Get(r, d, d.ID(candidate))
		}
	}
	return nil, false
}

// under gives the records under a path, in the order of their names. of tells where a record is.
func under[T any](records iter.Seq[*T], prefix *string, of func(*T) (path, name string)) []*T {
	var list []*T
	for rec := range records {
		if path, _ := of(rec); strings.HasPrefix(path, shape.Val(prefix)) {
			list = append(list, rec)
		}
	}
	slices.SortFunc(list, func(a, b *T) int {
		_, first := of(a)
		_, second := of(b)
		return cmp.Compare(strings.ToLower(first), strings.ToLower(second))
	})
	return list
}

// claim takes a name for owner, or answers taken.
func claim(tx *state.Tx, name, owner string, taken error) error {
	err := tx.Claim(name, owner)
	if errors.Is(err, state.ErrClaimed) {
		return taken
	}
	return err
}

// parse reads a document that is to be stored; its error is what the client is told.
func parse(kind policy.Kind, text *string) (*policy.Document, error) {
	doc, err := policy.Parse(kind, shape.Val(text))
	var m *policy.MalformedError
	if errors.As(err, &m) {
		return nil, m.AWS().WithStatus(400)
	}
	return doc, err
}

// fits refuses documents that are together over their quota; owner is whose inline policies they are.
func fits(quota policy.Quota, owner string, texts ...string) error {
	if err := quota.Check(owner, texts...); err != nil {
		return err.WithStatus(409)
	}
	return nil
}

// encoded is a document as answers carry it: URL-encoded as of RFC 3986 (IAM API reference, GetPolicyVersion).
func encoded(document string) *string {
	return shape.Ptr(strings.ReplaceAll(url.QueryEscape(document), "+", "%20"))
}
