// Package ticket holds one-time session tickets: what a person who has logged in is given to open the screen of one desktop, once, within
// a minute, from the same address, device and portal session (SES-3).
//
// It refuses to keep a ticket in a form that could be used, to take one twice, and to say to a stranger what was wrong with one.
package ticket

import (
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"sync"
	"time"

	"carrel/internal/ident"
)

// Longest is how long a ticket can be good for.
const Longest = time.Minute

// tokenBytes is the length of a token before it is written down: 256 bits cannot be guessed in any number of minutes.
const tokenBytes = 32

// Binding is where a ticket must be spent from: the same place it was issued to.
type Binding struct {
	// Session is the SHA-256 of the portal session's cookie; the cookie itself is never handed around.
	Session [sha256.Size]byte
	// Address is the person's address as the gateway's listener saw it.
	Address netip.Addr
	// Device names the device certificate the connection was made with, "" without one.
	Device string
}

// Claims are what a ticket stands for.
type Claims struct {
	// UserSID never changes and is never given twice; UserName is for people to read.
	UserSID     string
	UserName    string
	Directory   ident.DirectoryID
	WorkspaceID ident.WorkspaceID
	Binding     Binding
}

// The reasons for which a ticket is refused. A person is told none of them: to a thief every answer would be a hint.
var (
	// ErrUnknown: never issued, revoked, or forgotten since.
	ErrUnknown = errors.New("ticket: unknown")
	// ErrExpired: its time is over.
	ErrExpired = errors.New("ticket: expired")
	// ErrSpent: somebody has presented it already. Worth an alarm: either a mistake of ours or somebody has read it.
	ErrSpent = errors.New("ticket: spent already")
	// ErrBinding: presented from another address, device or session. The ticket is gone: it was in the wrong hands.
	ErrBinding = errors.New("ticket: presented from somewhere else")
	// ErrTooMany: the user, or everybody together, has too many that nobody has spent.
	ErrTooMany = errors.New("ticket: too many outstanding")
)

// Config is what an Office is made of.
type Config struct {
	// Now tells the time. Needed.
	Now func() time.Time
	// Random gives tokens; crypto/rand.Reader outside tests. Needed.
	Random io.Reader
	// Lifetime is how long a ticket is good for: Longest when 0, never more.
	Lifetime time.Duration
	// PerUser bounds a user's open tickets, InAll all that are remembered (spent ones too, for two lifetimes): 16 and 100,000 when 0.
	PerUser, InAll int
}

// Office issues and takes tickets. It keeps them in memory only: a restart makes everybody ask for a new one. All methods may be called
// concurrently.
type Office struct {
	cfg Config

	mu sync.Mutex
	// tickets are found by the hash of their token: what is in memory (or in a core dump) opens nothing, and the time a lookup takes
	// says nothing about the tokens there are.
	tickets map[[sha256.Size]byte]*entry
	// queue is in order of issue, which is that of expiry.
	queue []*entry
	// ended is how many at the queue's front have expired.
	ended int
	// users counts the open tickets of each.
	users map[string]int
}

// An entry is open, then one of the others for ever.
const (
	open = iota
	spent
	expired
	revoked
)

type entry struct {
	hash    [sha256.Size]byte
	claims  Claims
	expires time.Time
	state   int
}

// NewOffice checks cfg.
func NewOffice(cfg Config) (*Office, error) {
	if cfg.Now == nil || cfg.Random == nil {
		return nil, errors.New("ticket: Now and Random are needed")
	}
	if cfg.Lifetime <= 0 || cfg.Lifetime > Longest {
		cfg.Lifetime = Longest
	}
	if cfg.PerUser <= 0 {
		cfg.PerUser = 16
	}
	if cfg.InAll <= 0 {
		cfg.InAll = 100_000
	}
	return &Office{cfg: cfg, tickets: map[[sha256.Size]byte]*entry{}, users: map[string]int{}}, nil
}

// Issue makes a ticket and gives its token (43 characters, safe in JSON; it must not be put into a URL) and when it ends. ErrTooMany.
func (o *Office) Issue(c Claims) (token string, expires time.Time, err error) {
	if c.UserSID == "" || c.WorkspaceID == "" || !c.Binding.Address.IsValid() || c.Binding.Session == [sha256.Size]byte{} {
		return "", time.Time{}, errors.New("ticket: user, desktop, address and session are needed")
	}
	var raw [tokenBytes]byte
	if _, err := io.ReadFull(o.cfg.Random, raw[:]); err != nil {
		return "", time.Time{}, fmt.Errorf("ticket: no randomness: %w", err)
	}
	token = base64.RawURLEncoding.EncodeToString(raw[:])
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.cfg.Now()
	o.sweep(now)
	if o.users[c.UserSID] >= o.cfg.PerUser || len(o.queue) >= o.cfg.InAll {
		return "", time.Time{}, ErrTooMany
	}
	e := &entry{hash: sha256.Sum256([]byte(token)), claims: c, expires: now.Add(o.cfg.Lifetime)}
	if o.tickets[e.hash] != nil {
		return "", time.Time{}, errors.New("ticket: the same token twice: the randomness is broken")
	}
	o.tickets[e.hash] = e
	o.queue = append(o.queue, e)
	o.users[c.UserSID]++
	return token, e.expires, nil
}

// Spend takes a ticket that is presented from the place b, and gives what it stands for. Of any number of calls with one token, one
// succeeds at most; the first decides: also one from the wrong place ends the ticket.
// ErrUnknown, ErrExpired, ErrSpent, ErrBinding; for ErrSpent and ErrBinding with the claims, for the record that is written about it.
func (o *Office) Spend(token string, b Binding) (Claims, error) {
	// Hashed before anything else: what comes from outside, however long, is looked up by 32 bytes that nobody can choose.
	hash := sha256.Sum256([]byte(token))
	o.mu.Lock()
	defer o.mu.Unlock()
	now := o.cfg.Now()
	o.sweep(now)
	e := o.tickets[hash]
	switch {
	case e == nil || subtle.ConstantTimeCompare(e.hash[:], hash[:]) != 1:
		return Claims{}, ErrUnknown
	case e.state == spent:
		return e.claims, ErrSpent
	case e.state == expired:
		return Claims{}, ErrExpired
	}
	o.close(e, spent)
	if !e.claims.Binding.same(b) {
		return e.claims, ErrBinding
	}
	return e.claims, nil
}

// same compares in constant time what could be guessed bit by bit.
func (b Binding) same(other Binding) bool {
	device, otherDevice := sha256.Sum256([]byte(b.Device)), sha256.Sum256([]byte(other.Device))
	return subtle.ConstantTimeCompare(b.Session[:], other.Session[:])&subtle.ConstantTimeCompare(device[:], otherDevice[:]) == 1 &&
		b.Address.Unmap() == other.Address.Unmap()
}

// Match says which tickets a Revoke is about: all that fit every field that is set.
type Match struct {
	Session     [sha256.Size]byte
	UserSID     string
	Directory   ident.DirectoryID
	WorkspaceID ident.WorkspaceID
}

func (m Match) fits(c *Claims) bool {
	return (m.Session == [sha256.Size]byte{} || m.Session == c.Binding.Session) && (m.UserSID == "" || m.UserSID == c.UserSID) &&
		(m.Directory == "" || m.Directory == c.Directory) && (m.WorkspaceID == "" || m.WorkspaceID == c.WorkspaceID)
}

// Revoke ends all tickets that match and gives how many were still good. An empty Match is all of them.
func (o *Office) Revoke(m Match) int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sweep(o.cfg.Now())
	n := 0
	for _, e := range o.queue[o.ended:] {
		if e.state == open && m.fits(&e.claims) {
			o.close(e, revoked)
			delete(o.tickets, e.hash)
			n++
		}
	}
	return n
}

// Outstanding is the number of tickets that could still be spent.
func (o *Office) Outstanding() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.sweep(o.cfg.Now())
	n := 0
	for _, count := range o.users {
		n += count
	}
	return n
}

// sweep ends what has expired, and forgets it a lifetime later: until then who presents it is told that it expired.
func (o *Office) sweep(now time.Time) {
	for ; o.ended < len(o.queue) && !now.Before(o.queue[o.ended].expires); o.ended++ {
		if e := o.queue[o.ended]; e.state == open {
			o.close(e, expired)
		}
	}
	forgotten := 0
	for ; forgotten < o.ended && !now.Before(o.queue[forgotten].expires.Add(o.cfg.Lifetime)); forgotten++ {
		delete(o.tickets, o.queue[forgotten].hash)
	}
	clear(o.queue[:forgotten])
	o.queue, o.ended = o.queue[forgotten:], o.ended-forgotten
}

// close ends an open ticket.
func (o *Office) close(e *entry, state int) {
	e.state = state
	if o.users[e.claims.UserSID]--; o.users[e.claims.UserSID] <= 0 {
		delete(o.users, e.claims.UserSID)
	}
}
