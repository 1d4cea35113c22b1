package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"carrel/internal/awserr"
)

// skew is how far a provider's clock may be away from ours.
const skew = time.Minute

// Identity is what a provider has said of somebody, and signed.
type Identity struct {
	// Issuer is the provider's URL with "https://", Subject the person there.
	Issuer, Subject string
	// Audiences are those of the provider's client ids that the token is for; only the authorised party where it names one.
	Audiences []string
	// Methods are how the person was authenticated (amr).
	Methods        []string
	SourceIdentity string
	// Tags are the session tags, Transitive the keys of those that go on to the next role.
	Tags       map[string]string
	Transitive []string
	Expires    time.Time
}

// Issuer gives the issuer that a token names, without believing it: to find whom to ask.
func Issuer(text string) (string, *awserr.Error) {
	t, err := readToken(text)
	if err != nil {
		return "", notJWT(err)
	}
	issuer, ok := t.claims.text("iss")
	if !ok {
		return "", missing("iss")
	}
	return issuer, nil
}

func missing(claim string) *awserr.Error { return invalid("Missing a required claim: %s", claim) }

// Verify checks a token of the provider and gives who it speaks of. Errors are those of AssumeRoleWithWebIdentity: InvalidIdentityToken,
// ExpiredTokenException and IDPCommunicationError.
func (v *Verifier) Verify(ctx context.Context, p *Provider, text string) (*Identity, *awserr.Error) {
	t, err := readToken(text)
	if err != nil {
		return nil, notJWT(err)
	}
	// Before anything is fetched or computed: another provider's token is none of this one's.
	if issuer, ok := t.claims.text("iss"); !ok {
		return nil, missing("iss")
	} else if issuer != "https://"+p.URL {
		return nil, invalid("The token was not issued by the specified provider").Because(fmt.Errorf("issuer %.200q", issuer))
	}
	if refused := v.verifySignature(ctx, p, t); refused != nil {
		return nil, refused
	}
	id := &Identity{Issuer: "https://" + p.URL}
	if refused := id.readTimes(t.claims, v.Clock.Now()); refused != nil {
		return nil, refused
	}
	if refused := id.readAudience(t.claims, p.ClientIDs); refused != nil {
		return nil, refused
	}
	var ok bool
	if id.Subject, ok = t.claims.text("sub"); !ok || len(id.Subject) > 255 {
		return nil, missing("sub")
	}
	if id.Methods, ok = t.claims.texts("amr"); !ok {
		return nil, notJWT(errors.New("amr is not a list"))
	}
	if refused := id.readTags(t.claims); refused != nil {
		return nil, refused
	}
	return id, nil
}

// readTimes wants exp and iat, and obeys nbf.
func (id *Identity) readTimes(claims object, now time.Time) *awserr.Error {
	for _, name := range []string{"exp", "iat", "nbf"} {
		written, given := claims[name]
		if !given && name == "nbf" {
			continue
		}
		if !given {
			return missing(name)
		}
		at, ok := numericDate(written)
		if !ok {
			return notJWT(fmt.Errorf("%s is not a time", name))
		}
		switch {
		case name == "exp" && !now.Before(at.Add(skew)):
			return expired("Token expired: current date/time %d must be before the expiration date/time %d", now.Unix(), at.Unix())
		case name == "exp":
			id.Expires = at
		case now.Add(skew).Before(at):
			return invalid("Token is not yet valid: current date/time %d must not be before %d", now.Unix(), at.Unix())
		}
	}
	return nil
}

// numericDate is seconds since 1970, perhaps with a fraction (RFC 7519 section 2).
func numericDate(v any) (time.Time, bool) {
	n, ok := v.(json.Number)
	if !ok {
		return time.Time{}, false
	}
	f, err := n.Float64()
	if err != nil || math.IsNaN(f) || f < 0 || f > 253402300799 { // the year 9999
		return time.Time{}, false
	}
	return time.Unix(int64(f), 0), true
}

// readAudience wants one of the provider's client ids among the audiences. Where the token names its authorised party, that must be one as
// well; where it does not and is for several, each must: it may otherwise be meant for somebody else, who passes it on.
func (id *Identity) readAudience(claims object, clients []string) *awserr.Error {
	audiences, ok := claims.texts("aud")
	if !ok || len(audiences) == 0 {
		return missing("aud")
	}
	wrong := invalid("Incorrect token audience")
	for _, a := range audiences {
		if slices.Contains(clients, a) {
			id.Audiences = append(id.Audiences, a)
		}
	}
	if len(id.Audiences) == 0 {
		return wrong
	}
	if written, given := claims["azp"]; given {
		party, ok := written.(string)
		if !ok || !slices.Contains(clients, party) {
			return wrong
		}
		id.Audiences = []string{party}
		return nil
	}
	if len(id.Audiences) != len(audiences) {
		return wrong
	}
	return nil
}

// Claims are the condition keys that the token makes: the provider's URL, a colon and the claim (IAM User Guide, "Available keys for AWS OIDC
// federation").
func (id *Identity) Claims() map[string][]string {
	name := strings.TrimPrefix(id.Issuer, "https://")
	claims := map[string][]string{name + ":aud": id.Audiences, name + ":sub": {id.Subject}}
	if len(id.Methods) > 0 {
		claims[name+":amr"] = id.Methods
	}
	return claims
}
