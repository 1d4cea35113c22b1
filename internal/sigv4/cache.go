package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"strings"
	"sync"
)

// scope names a signing key. The secret is part of the name: a key whose secret changes misses the cache, and one that is deleted
// or disabled is never asked for, since the caller looks the key up first. So nothing here can outlive a change.
type scope struct {
	keyID                 string
	secret                Secret
	date, region, service string
}

// generation is how many keys are kept at least; twice as many at most.
const generation = 1024

// keyCache keeps derived keys in two generations: when the young one is full it becomes the old one and the old one is forgotten.
// So it is bounded without bookkeeping on a hit.
type keyCache struct {
	mu         sync.RWMutex
	young, old map[scope]*signingKey
}

func (c *keyCache) get(s scope) *signingKey {
	c.mu.RLock()
	k := c.young[s]
	c.mu.RUnlock()
	if k != nil {
		return k
	}
	return c.add(s)
}

func (c *keyCache) add(s scope) *signingKey {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := c.young[s]
	if k != nil {
		return k
	}
	if k = c.old[s]; k == nil {
		k = derive(s)
	}
	if c.young == nil || len(c.young) >= generation {
		c.old, c.young = c.young, map[scope]*signingKey{}
	}
	// The parts are slices of a request's headers, which must not live on with the key.
	s.keyID, s.date, s.region, s.service = strings.Clone(s.keyID), strings.Clone(s.date), strings.Clone(s.region), strings.Clone(s.service)
	c.young[s] = k
	return k
}

// signingKey is a derived key and the MACs set up with it, which start again at a fraction of the cost of setting one up.
type signingKey struct {
	key  []byte
	macs sync.Pool
}

func derive(s scope) *signingKey {
	key := []byte("AWS4" + string(s.secret))
	for _, part := range [...]string{s.date, s.region, s.service, terminator} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	return &signingKey{key: key}
}

func (k *signingKey) sum(message []byte, out *[32]byte) {
	mac, _ := k.macs.Get().(hash.Hash)
	if mac == nil {
		mac = hmac.New(sha256.New, k.key)
	}
	mac.Reset()
	mac.Write(message)
	mac.Sum(out[:0])
	k.macs.Put(mac)
}
