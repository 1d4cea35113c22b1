package iam

import (
	"strings"

	"carrel/internal/arn"
	"carrel/internal/policy"
	"carrel/internal/state"
)

// A trust policy is stored with the unique ids of the users and roles that it names, and shown with their ARNs. Whoever is made again under
// an old name has another id and is not trusted, and the policy shows whom it trusted by the id that nobody has any more (attack IAM-5).

// trust reads a trust policy as it came and gives it as it is stored. In a *state.Tx the commit checks that those it names are still there.
func (s *Service) trust(r state.Reader, text *string) (string, error) {
	doc, err := parse(policy.Trust, text)
	if err != nil {
		return "", err
	}
	if err := fits(policy.TrustQuota, "", *text); err != nil {
		return "", err
	}
	ids := map[string]string{}
	for i := range doc.Statements {
		for _, p := range doc.Statements[i].Principals {
			if p.Type != "AWS" {
				continue
			}
			id, ok := s.principalID(r, p.Value)
			if !ok {
				return "", doc.Statements[i].InvalidPrincipal(p, "there is no such user or role").AWS().WithStatus(400)
			}
			ids[p.Value] = id
		}
	}
	return doc.MapPrincipals(func(name string) string { return ids[name] }).String(), nil
}

// principalID is what an AWS principal is stored as: the unique id of a user or role. Accounts, sessions and federated users have none and stay
// as they are. False: there is no such user or role, or not in this account, which is the only one there is.
func (s *Service) principalID(r state.Reader, written string) (string, bool) {
	a, err := arn.Parse(written)
	switch {
	case err == nil && (a.Service != "iam" || a.Resource == "root"):
		return written, true
	case err != nil && !strings.HasPrefix(written, "A"): // "*" or an account
		return written, true
	case err != nil: // a unique id
		_, exists := s.principalARN(r, written)
		return written, exists
	}
	kind, rest, _ := strings.Cut(a.Resource, "/")
	name := rest[strings.LastIndexByte(rest, '/')+1:]
	var id string
	if kind == "user" {
		if u, err := findUser(r, name); err == nil {
			id = string(u.ID)
		}
	} else if role, err := findRole(r, name); err == nil {
		id = string(role.ID)
	}
	// The name alone is not enough: the account, the partition and the path are part of who is meant.
	if have, ok := s.principalARN(r, id); !ok || have != written {
		return "", false
	}
	return id, true
}

// principalARN is the ARN of the user or role of a unique id.
func (s *Service) principalARN(r state.Reader, id string) (string, bool) {
	if u, ok := state.Get(r, state.Users, id); ok {
		return arn.User(s.Partition, s.AccountID, u.Path, u.Name).String(), true
	}
	if role, ok := state.Get(r, state.Roles, id); ok {
		return s.roleARN(role), true
	}
	return "", false
}

// shownTrust is a role's trust policy as it is shown. What cannot be read any more is shown as it is stored.
func (s *Service) shownTrust(r state.Reader, role *state.Role) string {
	doc, err := policy.Parse(policy.Trust, role.Trust)
	if err != nil {
		return role.Trust
	}
	return doc.MapPrincipals(func(name string) string {
		if written, ok := s.principalARN(r, name); ok {
			return written
		}
		return name
	}).String()
}
