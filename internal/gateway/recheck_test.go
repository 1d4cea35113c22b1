package gateway

import (
	"context"
	"crypto/sha256"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"carrel/internal/directory"
	"carrel/internal/ident"
	"carrel/internal/ticket"
)

// register is a directory.Lister whose people can be changed.
type register struct {
	mu     sync.Mutex
	err    map[string]error
	users  map[string]directory.User
	asked  map[string]int
	asking chan struct{} // non-nil: a question hangs until its time is over
}

func (r *register) Lookup(ctx context.Context, id ident.DirectoryID, name string) (directory.User, error) {
	r.mu.Lock()
	r.asked[name]++
	u, ok := r.users[name]
	err, hang := r.err[name], r.asking != nil
	r.mu.Unlock()
	switch {
	case hang:
		<-ctx.Done()
		return directory.User{}, ctx.Err()
	case err != nil:
		return directory.User{}, err
	case id != corp || !ok:
		return directory.User{}, directory.ErrNoUser
	}
	return u, nil
}

func (r *register) set(change func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	change()
}

func (r *register) times(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.asked[name]
}

const (
	every = 30 * time.Second
	grace = 5 * time.Minute
)

// looked runs fn with a gateway that asks about its people; all of it in a bubble.
func looked(t *testing.T, fn func(t *testing.T, p *portal, r *register)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		p := newPortal(t)
		r := &register{err: map[string]error{}, asked: map[string]int{}, users: map[string]directory.User{}}
		for _, name := range []string{"ada", "grace"} {
			r.users[name] = directory.User{Name: name, SID: "S-1-5-21-" + name, Enabled: true, PasswordSet: passwordSet}
		}
		p.People, p.Recheck, p.Grace = r, every, grace
		ctx, stop := context.WithCancel(t.Context())
		var wait sync.WaitGroup
		wait.Go(func() {
			if err := p.Run(ctx); err != nil {
				t.Error(err)
			}
		})
		defer wait.Wait()
		defer stop()
		fn(t, p, r)
	})
}

func (p *portal) alive(cookie string) bool { return p.Holds(sha256.Sum256([]byte(cookie))) }

func (p *portal) isCut(cookie string) bool {
	p.people.mu.Lock()
	defer p.people.mu.Unlock()
	for _, id := range p.people.cut {
		if id == sha256.Sum256([]byte(cookie)) {
			return true
		}
	}
	return false
}

func TestWhomTheDirectoryNoLongerKnowsAsTheySignedInIsCutWithinTheInterval(t *testing.T) {
	change := func(fn func(*directory.User)) func(*register) {
		return func(r *register) {
			u := r.users["ada"]
			fn(&u)
			r.users["ada"] = u
		}
	}
	for name, c := range map[string]struct {
		change func(*register)
		stays  bool
	}{
		"disabled":                        {change(func(u *directory.User) { u.Enabled = false }), false},
		"deleted":                         {func(r *register) { delete(r.users, "ada") }, false},
		"deleted and made again":          {change(func(u *directory.User) { u.SID = "S-1-5-21-another" }), false},
		"the password is another one":     {change(func(u *directory.User) { u.PasswordSet = passwordSet.Add(time.Minute) }), false},
		"the password is to be changed":   {change(func(u *directory.User) { u.PasswordSet, u.MustChange = time.Time{}, true }), false},
		"the account has expired":         {change(func(u *directory.User) { u.Expires = time.Now() }), false},
		"the directory is gone":           {func(r *register) { r.err["ada"] = directory.ErrNoDirectory }, false},
		"the account expires another day": {change(func(u *directory.User) { u.Expires = time.Now().Add(24 * time.Hour) }), true},
		"another controller is behind":    {change(func(u *directory.User) { u.PasswordSet = passwordSet.Add(-time.Minute) }), true},
		"nothing has changed":             {func(*register) {}, true},
	} {
		t.Run(name, func(t *testing.T) {
			looked(t, func(t *testing.T, p *portal, r *register) {
				ada, grace := p.login(t, "ada"), p.login(t, "grace")
				_, out, _ := p.call("POST", "/api/desktops/ws-000000001/connect", "{}", ada)
				r.set(func() { c.change(r) })
				time.Sleep(every*5/4 + time.Second)
				if p.alive(ada) != c.stays || p.isCut(ada) == c.stays {
					t.Errorf("the session goes on: %t, its screens are cut: %t", p.alive(ada), p.isCut(ada))
				}
				if _, err := p.Tickets.Spend(out["ticket"].(string), ticket.Binding{}); err == nil && !c.stays {
					t.Error("SES-3: the ticket outlives the session")
				}
				if !p.alive(grace) || p.isCut(grace) {
					t.Error("somebody else is cut")
				}
			})
		})
	}
}

func TestEachPersonIsAskedAboutOnceAnInterval(t *testing.T) {
	looked(t, func(t *testing.T, p *portal, r *register) {
		for range 3 {
			p.login(t, "ada")
		}
		time.Sleep(20 * every)
		if n := r.times("ada"); n < 15 || n > 27 {
			t.Errorf("asked %d times in 20 intervals", n)
		}
		if r.times("grace") != 0 {
			t.Error("asked about somebody who is not signed in")
		}
		p.EndSessions(corp, "")
		n := r.times("ada")
		time.Sleep(10 * every)
		if r.times("ada") != n {
			t.Error("asked about somebody who is signed out")
		}
	})
}

func TestR18ASilentDirectoryCutsNobodyBeforeTheGraceAndEverybodyAfterIt(t *testing.T) {
	for name, silence := range map[string]func(*register){
		"it does not answer":            func(r *register) { r.err["ada"], r.err["grace"] = directory.ErrUnavailable, directory.ErrUnavailable },
		"the way to it does not answer": func(r *register) { r.err["ada"], r.err["grace"] = errors.New("no host"), errors.New("no host") },
		"it hangs":                      func(r *register) { r.asking = make(chan struct{}) },
	} {
		t.Run(name, func(t *testing.T) {
			looked(t, func(t *testing.T, p *portal, r *register) {
				ada := p.login(t, "ada")
				time.Sleep(10 * every)
				r.set(func() { silence(r) })
				time.Sleep(grace - 2*every)
				late := p.login(t, "grace")
				if !p.alive(ada) || p.isCut(ada) {
					t.Fatal("cut before the grace is over")
				}
				time.Sleep(4*every + 2*recheckTimeout)
				if p.alive(ada) || !p.isCut(ada) {
					t.Error("a directory that says nothing keeps somebody signed in")
				}
				if !p.alive(late) {
					t.Error("a login is the directory's word, and this one is younger than the grace")
				}
				time.Sleep(grace)
				if p.alive(late) {
					t.Error("the later one stays for ever")
				}
			})
		})
	}
	t.Run("it comes back in time", func(t *testing.T) {
		looked(t, func(t *testing.T, p *portal, r *register) {
			ada := p.login(t, "ada")
			for range 5 {
				r.set(func() { r.err["ada"] = directory.ErrUnavailable })
				time.Sleep(grace - 2*every)
				r.set(func() { r.err["ada"] = nil })
				time.Sleep(2 * every)
			}
			if !p.alive(ada) || p.isCut(ada) {
				t.Error("cut")
			}
		})
	})
}

func TestAnEntryThatCannotBeReadStandsBeforeNobody(t *testing.T) {
	looked(t, func(t *testing.T, p *portal, r *register) {
		r.set(func() { r.err["ada"] = errors.New("the entry makes no sense") })
		ada, other := p.login(t, "ada"), p.login(t, "grace")
		time.Sleep(grace + 3*every)
		if p.alive(ada) || !p.alive(other) {
			t.Errorf("ada %t, grace %t", p.alive(ada), p.alive(other))
		}
	})
}

func TestAScreenIsCutAtTheMomentItsSessionEndsByAge(t *testing.T) {
	looked(t, func(t *testing.T, p *portal, _ *register) {
		live := true
		p.sessions.live = func([sha256.Size]byte) bool { return live }
		ada := p.login(t, "ada")
		began := time.Now()
		// With a live screen and no request at all: that is use.
		time.Sleep(ageLimit - time.Second)
		if !p.alive(ada) || p.isCut(ada) {
			t.Fatal("cut before its time")
		}
		for !p.isCut(ada) && time.Since(began) < ageLimit+time.Minute {
			time.Sleep(time.Second)
		}
		if d := time.Since(began); d < ageLimit-time.Second || d > ageLimit+2*time.Second {
			t.Errorf("cut after %s", d)
		}
		if status, _, _ := p.call("GET", "/api/session", "", ada); status != http.StatusUnauthorized {
			t.Errorf("the session answers %d", status)
		}
		live = false
		idle := p.login(t, "ada")
		time.Sleep(idleLimit + time.Second)
		if p.alive(idle) || !p.isCut(idle) {
			t.Error("a session that nobody uses, and without a screen, goes on")
		}
	})
}

func TestASessionThatMakesRoomLosesItsScreen(t *testing.T) {
	p := newPortal(t)
	first := p.login(t, "ada")
	for range maxOfUser {
		p.login(t, "ada")
	}
	if p.alive(first) || !p.isCut(first) {
		t.Error("the screen of a session that made room goes on")
	}
}

func TestASessionEndedByNameTakesItsScreens(t *testing.T) {
	p := newPortal(t)
	ada, other := p.login(t, "ada"), p.login(t, "grace")
	if n := p.EndSessionsOf(corp, "ADA"); n != 1 || p.alive(ada) || !p.isCut(ada) || !p.alive(other) {
		t.Errorf("%d ended", n)
	}
	if n := p.EndSessionsOf("d-0000000000", "grace"); n != 0 {
		t.Error("a user of another directory was signed out")
	}
}

func TestTheLogSaysWhySomebodyIsSignedOut(t *testing.T) {
	looked(t, func(t *testing.T, p *portal, r *register) {
		p.login(t, "ada")
		r.set(func() { delete(r.users, "ada") })
		time.Sleep(2 * every)
		synctest.Wait()
		if !strings.Contains(p.log.String(), "no such user") {
			t.Error(p.log.String())
		}
	})
}
