package identity

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"sync"

	"carrel/internal/arn"
	"carrel/internal/awserr"
	"carrel/internal/clock"
	"carrel/internal/ident"
	"carrel/internal/sigv4"
	"carrel/internal/state"
)

// Config is what an Authenticator needs. All fields but RegionsOf must be set.
type Config struct {
	DB    *state.DB
	Clock clock.Clock
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
	known map[ident.AccessKeyID]known
}

// known is a principal with the revisions of the records that it was made from.
type known struct {
	key, user state.Revision
	p         *principal
}

// maxKnown bounds the remembered principals; when there are more keys than this, they are forgotten all at once and made again.
const maxKnown = 4096

// New makes an Authenticator.
func New(c Config) *Authenticator {
	if c.RegionsOf == nil {
		c.RegionsOf = globalToo(c.Region, c.Partition)
	}
	a := &Authenticator{config: c, known: map[ident.AccessKeyID]known{}}
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
// and UnknownKey for a key that does not exist, is not active, or whose user is gone.
//
// Every call reads the key from the newest snapshot: nothing remembered is believed before that (SIG-9).
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
	key, user := a.lookup(&sig)
	if key == nil {
		return signed, a.verifier.Unknown(req, &sig)
	}
	if err := a.verifier.Match(req, &sig, sigv4.Secret(key.Secret.Reveal())); err != nil {
		return signed, err
	}
	signed.Principal = a.principal(key, user)
	return signed, nil
}

// lookup finds an active key and its user, nil for the root's keys. A nil key is one that must not sign, whatever the reason: the
// caller does not learn which, for an outsider must not either.
func (a *Authenticator) lookup(sig *sigv4.Signature) (*state.AccessKey, *state.User) {
	snapshot := a.config.DB.Snapshot()
	// Only long-term keys exist: ASIA ids are in no table, and a session token belongs to none of these keys.
	id, err := ident.ParseAccessKeyID(sig.AccessKeyID)
	if err != nil || sig.SessionToken != "" {
		return nil, nil
	}
	key, ok := state.Get(snapshot, state.AccessKeys, string(id))
	// A key without secret would verify whoever signs with the empty one.
	if !ok || !key.Active || key.Secret == "" {
		return nil, nil
	}
	if key.UserID == "" {
		return key, nil
	}
	user, ok := state.Get(snapshot, state.Users, string(key.UserID))
	if !ok {
		return nil, nil
	}
	return key, user
}

// principal gives the principal of a key whose signature is verified.
func (a *Authenticator) principal(key *state.AccessKey, user *state.User) Principal {
	want := known{key: key.Revision}
	if user != nil {
		want.user = user.Revision
	}
	a.mu.RLock()
	have := a.known[key.ID]
	a.mu.RUnlock()
	if have.p != nil && have.key == want.key && have.user == want.user {
		return Principal{have.p}
	}
	want.p = a.describe(key, user)
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.known) >= maxKnown {
		clear(a.known)
	}
	a.known[key.ID] = want
	return Principal{want.p}
}

func (a *Authenticator) describe(key *state.AccessKey, user *state.User) *principal {
	c := &a.config
	if user == nil {
		return &principal{kind: Root, account: c.Account, arn: arn.Root(c.Partition, c.Account).String(), userID: c.Account, keyID: string(key.ID)}
	}
	return &principal{kind: IAMUser, account: c.Account, arn: arn.User(c.Partition, c.Account, user.Path, user.Name).String(),
		userID: string(user.ID), name: user.Name, keyID: string(key.ID), user: user.ID}
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
