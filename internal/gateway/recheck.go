package gateway

import (
	"cmp"
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"carrel/internal/directory"
	"carrel/internal/ident"
)

const (
	// recheckTimeout is how long a directory may take to say what has become of one person.
	recheckTimeout = 5 * time.Second
	// silences in a row end a round: the directory does not answer, and the rest is asked about in the next one. More than one, because an entry
	// that cannot be read must not stand in front of all others.
	silences = 3
)

// person is somebody who is signed in, in one browser or several.
type person struct {
	directory ident.DirectoryID
	sid       string
}

// standing is what is known of a person.
type standing struct {
	person
	name string
	// confirmed is when the directory last said that the person may be signed in, due when it is asked again.
	confirmed, due time.Time
}

// checks are the people who are signed in and the directories that are being asked.
type checks struct {
	gateway *Gateway
	// finished wakes the loop when a directory's round is over.
	finished chan struct{}
	wait     sync.WaitGroup

	mu     sync.Mutex
	people map[person]*standing
	asking map[ident.DirectoryID]bool
}

// recheck asks directories, from time to time and each on its own, about those who are signed in: nobody tells Carrel when an administrator
// disables or deletes somebody there, or gives them another password. Who is no longer what they signed in as is signed out and loses
// the live screens. A directory that does not answer cuts nobody off at once; when it has been silent about a person for Grace, that
// person is signed out too (R18: fail closed).
func (g *Gateway) recheck(ctx context.Context) {
	if g.People == nil {
		return
	}
	c := &checks{gateway: g, finished: make(chan struct{}, 1), people: map[person]*standing{}, asking: map[ident.DirectoryID]bool{}}
	defer c.wait.Wait()
	for {
		c.update(g.sessions.signedIn())
		fired, stop := g.Clock.After(c.begin(ctx))
		select {
		case <-fired:
		case <-c.finished:
		case <-ctx.Done():
			stop()
			return
		}
		stop()
	}
}

// signedIn gives the people of the sessions there are, with the latest login of each.
func (s *sessions) signedIn() map[person]Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := map[person]Session{}
	for _, one := range s.all {
		key := person{one.Directory, one.User.SID}
		if other, ok := out[key]; !ok || other.Began.Before(one.Began) {
			out[key] = *one
		}
	}
	return out
}

// jittered is an interval from 3/4 to 5/4 of every: people who have come at once are not asked about at once for ever.
func jittered(every time.Duration) time.Duration { return every*3/4 + rand.N(every/2+1) }

// update takes in who has come and who has gone. A login is the directory's word.
func (c *checks) update(in map[person]Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for key := range c.people {
		if _, ok := in[key]; !ok {
			delete(c.people, key)
		}
	}
	for key, s := range in {
		p := c.people[key]
		if p == nil {
			p = &standing{person: key, due: s.Began.Add(jittered(c.gateway.Recheck))}
			c.people[key] = p
		}
		p.name = s.User.Name
		if s.Began.After(p.confirmed) {
			p.confirmed = s.Began
		}
	}
}

// begin starts a round with every directory that has somebody due and is not being asked already, and gives how long nobody else is due. That
// is never longer than the shortest interval, in which whoever comes meanwhile is not due.
func (c *checks) begin(ctx context.Context) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.gateway.Clock.Now()
	next := c.gateway.Recheck * 3 / 4
	due := map[ident.DirectoryID][]standing{}
	for _, p := range c.people {
		switch left := p.due.Sub(now); {
		case c.asking[p.directory]:
		case left > 0:
			next = min(next, left)
		default:
			due[p.directory] = append(due[p.directory], *p)
		}
	}
	for id, round := range due {
		c.asking[id] = true
		// Whoever has waited longest comes first.
		slices.SortFunc(round, func(a, b standing) int { return cmp.Or(a.due.Compare(b.due), cmp.Compare(a.sid, b.sid)) })
		c.wait.Go(func() {
			c.round(ctx, round)
			c.mu.Lock()
			delete(c.asking, id)
			c.mu.Unlock()
			select {
			case c.finished <- struct{}{}:
			default:
			}
		})
	}
	return next
}

// round asks one directory about people, one after the other.
func (c *checks) round(ctx context.Context, people []standing) {
	g, silent := c.gateway, 0
	var why error
	for _, p := range people {
		if silent < silences {
			user, err := c.ask(ctx, p)
			if ctx.Err() != nil {
				return
			}
			if known, reason := answered(err); known {
				silent = 0
				c.told(p, user, reason)
				continue
			}
			silent, why = silent+1, err
		}
		// Not asked, or not answered.
		c.unanswered(p)
	}
	if why != nil {
		g.Log.Warn("directory does not say who may be signed in", "directory", people[0].directory, "error", why, "grace", g.Grace)
	}
}

func (c *checks) ask(ctx context.Context, p standing) (directory.User, error) {
	ctx, cancel := context.WithTimeout(ctx, recheckTimeout)
	defer cancel()
	return c.gateway.People.Lookup(ctx, p.directory, p.name)
}

// answered says whether the directory has said something, and the reason that ends every session of the person ("": none). Every other error is
// silence, whichever part on the way it comes from.
func answered(err error) (known bool, reason string) {
	switch {
	case err == nil:
		return true, ""
	case errors.Is(err, directory.ErrNoUser):
		return true, "the directory has no such user"
	case errors.Is(err, directory.ErrNoDirectory):
		return true, "there is no such directory"
	}
	return false, ""
}

// told does what follows from the directory's answer.
func (c *checks) told(p standing, user directory.User, reason string) {
	g := c.gateway
	now := g.Clock.Now()
	c.later(p, now)
	why := ""
	ended := g.end(func(s *Session) *end {
		if s.Directory != p.directory || s.User.SID != p.sid {
			return nil
		}
		because := reason
		if because == "" {
			because = outdated(s.User, user, now)
		}
		if because == "" {
			return nil
		}
		why = because
		return &end{CheckDirectory, "because " + because}
	})
	if ended > 0 {
		g.Log.Info("signed out by the directory", "reason", why, "directory", p.directory, "user", p.name, "sid", p.sid, "sessions", ended)
	}
}

// outdated says why a session of somebody who signed in as then cannot go on now that the directory knows them so ("": it can). A lockout is no
// reason: whoever guesses at a password from outside must not be able to cut its owner's screen.
func outdated(then, now directory.User, at time.Time) string {
	switch {
	case now.SID != then.SID:
		return "another user has the name"
	case !now.Enabled:
		return "the account is disabled"
	case !now.Expires.IsZero() && !at.Before(now.Expires):
		return "the account has expired"
	case now.MustChange && !then.MustChange:
		return "the password has to be changed"
	case now.PasswordSet.After(then.PasswordSet) && !then.PasswordSet.IsZero():
		return "the password is another one"
	}
	return ""
}

// later puts the next question about a person off; confirmed is zero when nothing was learned.
func (c *checks) later(p standing, confirmed time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	known := c.people[p.person]
	if known == nil {
		return
	}
	known.due = c.gateway.Clock.Now().Add(jittered(c.gateway.Recheck))
	if confirmed.After(known.confirmed) {
		known.confirmed = confirmed
	}
}

// unanswered signs a person out about whom the directory has been silent for too long.
func (c *checks) unanswered(p standing) {
	c.later(p, time.Time{})
	g := c.gateway
	now := g.Clock.Now()
	if now.Sub(p.confirmed) < g.Grace {
		return
	}
	ended := g.end(func(s *Session) *end {
		if s.Directory != p.directory || s.User.SID != p.sid || now.Sub(s.Began) < g.Grace {
			return nil
		}
		return &end{CheckDirectory, "because the directory does not answer"}
	})
	if ended > 0 {
		g.Log.Warn("signed out because the directory does not answer", "directory", p.directory, "user", p.name, "sid", p.sid, "sessions", ended, "confirmed", p.confirmed)
	}
}
