package oidc

import (
	"context"
	"errors"
	"math"
	"strings"
	"sync"
	"time"

	"carrel/internal/awserr"
	"carrel/internal/clock"
)

// How long keys are kept: what the provider says, within bounds. Nobody who sends tokens can make us ask a provider more often than once in
// pause, whatever keys the tokens name, nor wait for one that has just not answered.
const (
	keepLeast = time.Minute
	keepUsual = 10 * time.Minute
	keepMost  = time.Hour
	pause     = 30 * time.Second
	sulk      = 10 * time.Second
	maxKept   = 1000
	forever   = time.Duration(math.MaxInt64)
)

// Verifier verifies tokens and keeps the keys that it has fetched. Clock must be set. All methods may be called concurrently.
type Verifier struct {
	Fetcher
	Clock clock.Clock

	mu   sync.Mutex
	kept map[string]*kept
}

// kept are the keys of one provider. Its mutex is held while they are fetched: those who wait for the same keys wait for one fetch.
type kept struct {
	mu               sync.Mutex
	keys             []key
	fetched, expires time.Time
	// failed is when the last fetch failed, with err.
	failed time.Time
	err    error
}

// of finds what is kept of a provider. Other thumbprints are another trust: what was fetched under the old ones does not count.
func (v *Verifier) of(p *Provider) *kept {
	id := p.URL + " " + strings.Join(p.Thumbprints, " ")
	v.mu.Lock()
	defer v.mu.Unlock()
	k := v.kept[id]
	if k == nil {
		if v.kept == nil || len(v.kept) >= maxKept {
			v.kept = map[string]*kept{}
		}
		k = new(kept)
		v.kept[id] = k
	}
	return k
}

// verifySignature checks t with the keys of p, fetched when there are none yet, when they are too old, and when the one that has signed is not
// among them.
func (v *Verifier) verifySignature(ctx context.Context, p *Provider, t *token) *awserr.Error {
	k := v.of(p)
	keys, age, err := k.newerThan(ctx, v, p, forever)
	if err != nil {
		return refusal(err)
	}
	signed, found := t.signedBy(keys)
	// Without an id any key may be meant, also one that is not there yet.
	if (!found || !signed && t.keyID == "") && age >= pause {
		if keys, _, err = k.newerThan(ctx, v, p, pause); err != nil {
			return refusal(err)
		}
		signed, found = t.signedBy(keys)
	}
	if !found {
		return noKey(errors.New("the provider has no such key"))
	}
	if !signed {
		return invalid("The web identity token that was passed could not be validated. Get a new identity token from the identity provider and then retry the request.")
	}
	return nil
}

// newerThan gives the keys and their age: those that are kept when they have not expired and are younger than limit, else new ones.
func (k *kept) newerThan(ctx context.Context, v *Verifier, p *Provider, limit time.Duration) ([]key, time.Duration, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	now := v.Clock.Now()
	if age := now.Sub(k.fetched); now.Before(k.expires) && age < limit {
		return k.keys, age, nil
	}
	if k.err != nil && now.Sub(k.failed) < sulk {
		return nil, 0, k.err
	}
	// Others wait for the same keys: they come also when whoever asked first goes away.
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*fetchTime)
	defer cancel()
	keys, keep, err := v.fetchKeys(ctx, p)
	if err != nil {
		k.failed, k.err = now, err
		return nil, 0, err
	}
	if keep == 0 {
		keep = keepUsual
	}
	k.keys, k.err, k.fetched, k.expires = keys, nil, now, now.Add(min(max(keep, keepLeast), keepMost))
	return keys, 0, nil
}

// refusal says a failed fetch in AWS's words.
func refusal(err error) *awserr.Error {
	var wrong malformedError
	switch {
	case errors.Is(err, errThumbprint):
		return invalid("OpenIDConnect provider's HTTPS certificate doesn't match configured thumbprint").Because(err)
	case errors.As(err, &wrong):
		return noKey(err)
	}
	return unreachable(err)
}
