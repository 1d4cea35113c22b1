package gateway

import (
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"carrel/internal/directory"
	"carrel/internal/ident"
)

// cookieName has the prefix that makes browsers take the cookie only from this host, over TLS, for all paths (RFC 6265bis 4.1.3.2).
const cookieName = "__Host-carrel"

// The ends of a session.
const (
	// idleLimit ends a session that nobody uses; an open page asks every few seconds.
	idleLimit = time.Hour
	// ageLimit ends every session: the directory is asked for the password again.
	ageLimit = 12 * time.Hour
	// maxSessions and maxOfUser bound memory; the oldest of a user's sessions makes room.
	maxSessions = 20_000
	maxOfUser   = 20
)

// Session is a person who has logged in, in one browser.
type Session struct {
	// ID is the SHA-256 of the cookie's value: what names the session everywhere behind this package, and opens nothing.
	ID        [sha256.Size]byte
	Directory ident.DirectoryID
	User      directory.User
	Began     time.Time
	used      time.Time
	// end is why it has ended.
	end end
}

// sessions are those of this process; a restart ends them all. What hangs on a session that has ended is the Gateway's to end (drop).
type sessions struct {
	// live says whether a session has a live screen; it may be nil.
	live func([sha256.Size]byte) bool

	mu  sync.Mutex
	all map[[sha256.Size]byte]*Session
}

var errTooMany = errors.New("gateway: too many sessions")

// begin makes a session and gives the cookie's value, and the sessions that made room.
func (s *sessions) begin(random io.Reader, now time.Time, id ident.DirectoryID, user directory.User) (value string, made *Session, evicted []Session, err error) {
	var raw [32]byte
	if _, err := io.ReadFull(random, raw[:]); err != nil {
		return "", nil, nil, fmt.Errorf("gateway: session: %w", err)
	}
	value = base64.RawURLEncoding.EncodeToString(raw[:])
	made = &Session{ID: sha256.Sum256([]byte(value)), Directory: id, User: user, Began: now, used: now}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all == nil {
		s.all = map[[sha256.Size]byte]*Session{}
	}
	var oldest *Session
	own := 0
	for _, other := range s.all {
		if other.User.SID == user.SID && other.Directory == id {
			own++
			if oldest == nil || other.Began.Before(oldest.Began) {
				oldest = other
			}
		}
	}
	if own >= maxOfUser {
		oldest.end = end{CheckSession, "because the same person has signed in too often since"}
		evicted = []Session{*oldest}
		delete(s.all, oldest.ID)
	}
	if len(s.all) >= maxSessions {
		return "", nil, evicted, errTooMany
	}
	s.all[made.ID] = made
	return value, made, evicted, nil
}

// over says whether a session has ended by age, or because nobody has used it.
func (s *sessions) over(one *Session, now time.Time) bool {
	if now.Sub(one.Began) >= ageLimit || now.Before(one.Began) {
		return true
	}
	// Who works on a desktop asks the portal for nothing meanwhile.
	if now.Sub(one.used) >= idleLimit && s.live != nil && s.live(one.ID) {
		one.used = now
	}
	return now.Sub(one.used) >= idleLimit
}

// expire ends the sessions that are over and gives them, and how long nothing else is. A session that begins meanwhile ends no sooner than
// that.
func (s *sessions) expire(now time.Time) (ended []Session, next time.Duration) {
	next = idleLimit
	ended = s.end(func(one *Session) bool {
		if s.over(one, now) {
			one.end = end{CheckSession, "because its time is over"}
			return true
		}
		next = min(next, idleLimit-now.Sub(one.used), ageLimit-now.Sub(one.Began))
		return false
	})
	return ended, next
}

// holds says whether there is a session of this ID.
func (s *sessions) holds(id [sha256.Size]byte, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.all[id]
	return found != nil && !s.over(found, now)
}

// find gives the session of a request's cookie, nil when there is none. The lookup is by a hash that the client cannot choose, so its
// time tells nothing about the sessions there are.
func (s *sessions) find(r *http.Request, now time.Time) *Session {
	cookies := r.CookiesNamed(cookieName)
	// Two cookies of the name are somebody's attempt to plant one beside the real one.
	if len(cookies) != 1 || len(cookies[0].Value) > 64 {
		return nil
	}
	id := sha256.Sum256([]byte(cookies[0].Value))
	s.mu.Lock()
	defer s.mu.Unlock()
	found := s.all[id]
	if found == nil || s.over(found, now) {
		return nil
	}
	found.used = now
	copied := *found
	return &copied
}

// end ends the sessions that match and gives them.
func (s *sessions) end(match func(*Session) bool) []Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ended []Session
	for id, one := range s.all {
		if match(one) {
			ended = append(ended, *one)
			delete(s.all, id)
		}
	}
	return ended
}

func setCookie(w http.ResponseWriter, value string, life time.Duration) {
	http.SetCookie(w, &http.Cookie{Name: cookieName, Value: value, Path: "/", MaxAge: int(life.Seconds()), Secure: true, HttpOnly: true, SameSite: http.SameSiteStrictMode})
}
