package sts

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"strings"
	"time"

	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/arn"
	"carrel/internal/identity"
	"carrel/internal/permissions"
	"carrel/internal/service"
	"carrel/internal/state"
)

const (
	// hour is how long a role's session lasts that asks for nothing else, and the longest one of a role that was assumed with a role's credentials.
	hour = time.Hour
	// maxTags is how many tags a session has at most (STS API reference, Tags).
	maxTags = 50
)

// AssumeRole makes a role's session for a user or for another role's session. That the role's trust policy and the caller's own policies allow it was
// decided before.
func (s *Service) AssumeRole(ctx context.Context, call service.Call, in *sts.AssumeRoleInput) (*sts.AssumeRoleOutput, error) {
	p := call.Principal
	if p.Type() == identity.Root {
		return nil, rootAssumes()
	}
	snap := s.DB.Snapshot()
	role, ok := s.account().Role(snap, shape.Val(in.RoleArn))
	if !ok || identity.ForbiddenForSession(p, "sts", "AssumeRole") {
		return nil, notAuthorized(p, shape.Val(in.RoleArn))
	}
	chained := p.Type() == identity.AssumedRole
	life, err := roleLife(role, in.DurationSeconds, chained)
	if err != nil {
		return nil, err
	}
	if len(in.ProvidedContexts) > 0 {
		return nil, s.checkContexts(in.ProvidedContexts)
	}
	session := identity.Session{Type: identity.AssumedRole, RoleID: role.ID, Name: shape.Val(in.RoleSessionName), Chained: chained}
	if session.SourceIdentity, err = sourceIdentity(p.Session(), in.SourceIdentity); err != nil {
		return nil, err
	}
	if err := setTags(&session, p.Session(), in); err != nil {
		return nil, err
	}
	packed, err := s.limit(snap, &session, in.Policy, in.PolicyArns)
	if err != nil {
		return nil, err
	}
	// Last, for it spends the code.
	if session.MFA, err = s.secondFactor(ctx, p, in.SerialNumber, in.TokenCode); err != nil {
		return nil, err
	}
	credentials, err := s.issue(ctx, session, life)
	if err != nil {
		return nil, err
	}
	return &sts.AssumeRoleOutput{
		AssumedRoleUser: s.assumed(role, session.Name), Credentials: credentials, PackedPolicySize: packed, SourceIdentity: given(session.SourceIdentity),
	}, nil
}

// account resolves policies and roles.
func (s *Service) account() permissions.Account {
	return permissions.Account{ID: s.AccountID, Partition: s.Partition}
}

// assumed names a session of a role.
func (s *Service) assumed(role *state.Role, name string) *sts.AssumedRoleUser {
	return &sts.AssumedRoleUser{Arn: shape.Ptr(arn.Session(s.Partition, s.AccountID, role.Name, name).String()), AssumedRoleId: shape.Ptr(string(role.ID) + ":" + name)}
}

// roleLife is how long a session of the role lasts: as long as it is asked to, an hour when nothing is asked.
func roleLife(role *state.Role, seconds *int32, chained bool) (time.Duration, error) {
	life := hour
	if seconds != nil {
		life = time.Duration(*seconds) * time.Second
	}
	if chained && life > hour {
		return 0, overChain()
	}
	if life > time.Duration(cmp.Or(role.MaxSession, int(hour/time.Second)))*time.Second {
		return 0, overMaxSession()
	}
	return life, nil
}

// sourceIdentity is the one that the caller's session has, which stays for the whole chain, else the one that is asked for.
func sourceIdentity(caller *identity.Session, asked *string) (string, error) {
	if caller == nil || caller.SourceIdentity == "" {
		return shape.Val(asked), nil
	}
	if asked != nil && *asked != caller.SourceIdentity {
		return "", sourceIdentitySet()
	}
	return caller.SourceIdentity, nil
}

// setTags gives a role's session the tags that are asked for and those that the caller's session hands on, which nobody overrides. Keys compare without
// regard to case.
func setTags(session, caller *identity.Session, in *sts.AssumeRoleInput) error {
	tags, err := tagsOf(in.Tags)
	if err != nil {
		return err
	}
	var transitive []string
	for _, key := range in.TransitiveTagKeys {
		tag, ok := folded(maps.Keys(tags), key)
		if !ok {
			return transitiveMissing()
		}
		transitive = append(transitive, tag)
	}
	if caller != nil {
		for _, key := range caller.Transitive {
			if _, taken := folded(maps.Keys(tags), key); taken {
				return transitiveTaken()
			}
			transitive = append(transitive, key)
		}
		for _, key := range caller.Transitive {
			tags[key] = caller.Tags[key]
		}
	}
	if len(tags) > maxTags {
		return tooMany("tags", maxTags)
	}
	slices.Sort(transitive)
	session.Tags, session.Transitive = some(tags), slices.Compact(transitive)
	return nil
}

// tagsOf reads tags, each key once.
func tagsOf(list []sts.Tag) (map[string]string, error) {
	tags := map[string]string{}
	for _, tag := range list {
		key := shape.Val(tag.Key)
		if len(key) >= 4 && strings.EqualFold(key[:4], "aws:") {
			return nil, reservedTag()
		}
		if _, twice := folded(maps.Keys(tags), key); twice {
			return nil, duplicateTag()
		}
		tags[key] = shape.Val(tag.Value)
	}
	return tags, nil
}

// folded finds key among keys without regard to case, as it is spelt there.
func folded(keys func(func(string) bool), key string) (string, bool) {
	for k := range keys {
		if strings.EqualFold(k, key) {
			return k, true
		}
	}
	return "", false
}

// some is m, or nil when there is nothing in it.
func some(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	return m
}

// given is s, or nil when it is empty.
func given(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
