package identity

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"sync"

	"carrel/internal/awserr"
	"carrel/internal/clock"
	"carrel/internal/sigv4"
	"carrel/internal/state"
)

// Config is what an Authenticator needs. All fields but RegionsOf, Tokens and Uses must be set.
type Config struct {
	DB    *state.DB
	Clock clock.Clock
	// Tokens opens session tokens; nil: the Authenticator makes its own.
	Tokens *Tokens
	// Uses remembers when keys and roles signed last; nil: nobody does.
	Uses *Uses
	// Account, Region and Partition are the installation's.
	Account, Region, Partition string
	// RegionsOf says which Regions a service's credential scope may name; none: the service is not served. nil: the installation's
	// Region for all, and for iam and sts also the Region that signs for AWS's global endpoints.
	RegionsOf func(service string) []string
}

// Authenticator turns signed requests into principals. All methods may be called concurrently.
type Authenticator struct {
	config   Config
	verifier sigv4.Verifier

	mu    sync.RWMutex
	known map[string]known
}

// known is a principal with the revisions of the records that it was made from, and the session.
type known struct {
	key, user, role state.Revision
	session         *Session
	p               *principal
}

// maxKnown bounds the remembered principals; when there are more keys than this, they are forgotten all at once and made again.
const maxKnown = 4096

// New makes an Authenticator.
func New(c Config) *Authenticator {
	if c.RegionsOf == nil {
		c.RegionsOf = globalToo(c.Region, c.Partition)
	}
	if c.Tokens == nil {
		c.Tokens = NewTokens(TokensConfig{DB: c.DB, Clock: c.Clock})
	}
	a := &Authenticator{config: c, known: map[string]known{}}
	a.verifier.AllowQuery = true
	return a
}

// globalToo is the default of Config.RegionsOf.
func globalToo(region, partition string) func(string) []string {
	local, both := []string{region}, []string{region, GlobalRegion(partition)}
	return func(service string) []string {
		if service == "iam" || service == "sts" {
			return both
		}
		return local
	}
}

// GlobalRegion is the Region that signs for a partition's global services.
func GlobalRegion(partition string) string {
	switch partition {
	case "aws-cn":
		return "cn-north-1"
	case "aws-us-gov":
		return "us-gov-west-1"
	}
	return "us-east-1"
}

// Signed is what Authenticate learns from a request.
type Signed struct {
	// Principal is who signed; zero whenever there is an error.
	Principal Principal
	// Service is the service of the credential scope. It is set as soon as the signature could be read, even if it then turns out
	// wrong: only the form of the answer may depend on it.
	Service string
}

// Authenticate verifies a request's signature and says who made it. services are those that the request may be signed for; none
// given: any that RegionsOf has a Region for. Errors are *awserr.Error: MissingAuthentication, IncompleteSignature, BadSignature,
// UnknownKey for a key that does not exist, is not active, does not belong to its token, or whose user or role is gone, and
// ExpiredToken, which only who holds the secret gets to see.
//
// Every call reads the key, the user and the role from the newest snapshot: nothing remembered is believed before that (SIG-9).
func (a *Authenticator) Authenticate(ctx context.Context, req *sigv4.Request, services ...string) (Signed, error) {
	if err := ctx.Err(); err != nil {
		return Signed{}, awserr.New(awserr.Unavailable, "The request has ended.").Because(err)
	}
	sig, err := a.verifier.Parse(req)
	if err != nil {
		return Signed{}, err
	}
	signed := Signed{Service: sig.Service}
	expect := sigv4.Expect{Now: a.config.Clock.Now(), Services: services, Regions: a.config.RegionsOf(sig.Service)}
	var own [1]string
	if len(services) == 0 && len(expect.Regions) > 0 {
		own[0] = sig.Service
		expect.Services = own[:]
	}
	if err := sig.Check(&expect); err != nil {
		return signed, err
	}
	who, ok := a.lookup(&sig)
	if !ok {
		return signed, a.verifier.Unknown(req, &sig)
	}
	if err := a.verifier.Match(req, &sig, sigv4.Secret(who.secret.Reveal())); err != nil {
		return signed, err
	}
	if who.session != nil && !expect.Now.Before(who.session.Expires) {
		return signed, awserr.New(awserr.ExpiredToken, "The security token included in the request is expired")
	}
	signed.Principal = a.principal(&who)
	if a.config.Uses != nil {
		a.config.Uses.note(signed.Principal, sig.Service, sig.Region, expect.Now)
	}
	return signed, nil
}

// principal gives the principal of who has signed.
func (a *Authenticator) principal(w *signer) Principal {
	id, want := w.keyID(), w.made()
	a.mu.RLock()
	have := a.known[id]
	a.mu.RUnlock()
	if want.p = have.p; have.p != nil && have == want {
		return Principal{have.p}
	}
	want.p = a.describe(w)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= maxKnown {
		clear(a.known)
	}
	a.known[id] = want
	return Principal{want.p}
}

// NewSecret makes a secret access key from r: 40 characters of base64, 240 bits. It panics when r fails, as ident's ids do: a secret
// that is not random is a security fault, and crypto/rand never fails.
func NewSecret(r io.Reader) state.Secret {
	var b [30]byte
	if _, err := io.ReadFull(r, b[:]); err != nil {
		panic(fmt.Sprintf("identity: no randomness: %v", err))
	}
	return state.Secret(base64.StdEncoding.EncodeToString(b[:]))
}
