package sts

import (
	"context"
	"errors"
	"slices"
	"time"
	"unicode/utf8"

	"carrel/internal/api/shape"
	"carrel/internal/api/sts"
	"carrel/internal/factor"
	"carrel/internal/ident"
	"carrel/internal/identity"
	"carrel/internal/policy"
	"carrel/internal/service"
	"carrel/internal/state"
)

// maxManaged is how many managed policies may limit a session (STS API reference, PolicyArns).
const maxManaged = 10

// tagRoom is how many characters the tags of a session may have, together: they travel in its token. AWS's room is not documented; this one is for
// fifty tags of ordinary length.
const tagRoom = 4096

// limit sets the session policies of a session, which has its tags, and gives PackedPolicySize: how full the fuller of two rooms is in percent, that of
// the policies and that of the tags; nil when there are neither.
func (s *Service) limit(r state.Reader, session *identity.Session, text *string, managed []sts.PolicyDescriptorType) (*int32, error) {
	if text == nil && len(managed) == 0 && len(session.Tags) == 0 {
		return nil, nil
	}
	if text != nil {
		doc, err := policy.Parse(policy.Session, *text)
		if err != nil {
			return nil, malformed(err)
		}
		session.Policy = doc.String()
	}
	if len(managed) > maxManaged {
		return nil, tooMany("policyArns", maxManaged)
	}
	account := s.account()
	for _, p := range managed {
		name := shape.Val(p.Arn)
		if _, ok := account.Managed(r, name); !ok {
			return nil, noSuchPolicy(name)
		}
		if !slices.Contains(session.PolicyARNs, name) {
			session.PolicyARNs = append(session.PolicyARNs, name)
		}
	}
	packed, tooLarge := policy.CheckPacked(append([]string{shape.Val(text)}, session.PolicyARNs...)...)
	if tooLarge != nil {
		return nil, tooLarge
	}
	n := 0
	for key, value := range session.Tags {
		n += utf8.RuneCountInString(key) + utf8.RuneCountInString(value)
	}
	tags := (n*100 + tagRoom - 1) / tagRoom
	if n > tagRoom {
		return nil, tagsTooLarge(tags)
	}
	return shape.Ptr(int32(max(packed, tags))), nil
}

// issue makes the temporary credentials of a session that begins now.
func (s *Service) issue(ctx context.Context, session identity.Session, life time.Duration) (*sts.Credentials, error) {
	session.KeyID, session.Secret = ident.NewSessionKeyOf(s.Rand, s.AccountID), identity.NewSecret(s.Rand)
	session.Issued = s.now()
	session.Expires = session.Issued.Add(life)
	token, err := s.Tokens.Seal(ctx, &session)
	if errors.Is(err, identity.ErrTooLong) {
		return nil, tokenTooLarge()
	} else if err != nil {
		return nil, service.Stored(err)
	}
	return &sts.Credentials{
		AccessKeyId: shape.Ptr(string(session.KeyID)), SecretAccessKey: shape.Ptr(session.Secret.Reveal()), // the one time
		SessionToken: shape.Ptr(token), Expiration: shape.Ptr(session.Expires),
	}, nil
}

// now is the time in whole seconds, which is what answers and condition keys tell of a session's.
func (s *Service) now() time.Time { return s.Clock.Now().UTC().Truncate(time.Second) }

// secondFactor takes the code of the caller's MFA device and gives the time; zero when none was shown. Only people have devices, not sessions of roles.
func (s *Service) secondFactor(ctx context.Context, p identity.Principal, serial, code *string) (time.Time, error) {
	if serial == nil && code == nil {
		return time.Time{}, nil
	}
	if serial == nil || code == nil {
		return time.Time{}, halfFactor()
	}
	var owner string
	switch p.Type() {
	case identity.Root:
		owner = state.RootDevice
	case identity.IAMUser:
		owner = string(p.User())
	default:
		return time.Time{}, noSuchDevice()
	}
	switch err := factor.Take(ctx, s.DB, owner, *serial, *code); {
	case errors.Is(err, factor.ErrDevice):
		return time.Time{}, noSuchDevice()
	case errors.Is(err, factor.ErrCode):
		return time.Time{}, wrongCode()
	case err != nil:
		return time.Time{}, err
	}
	return s.now(), nil
}
