package ticket_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"carrel/internal/ident"
	"carrel/internal/ticket"
)

// watch is a clock that a test turns.
type watch struct{ now time.Time }

func (w *watch) Now() time.Time { return w.now }

func office(t *testing.T, cfg ticket.Config) (*ticket.Office, *watch) {
	t.Helper()
	w := &watch{time.Date(2026, 11, 25, 9, 0, 0, 0, time.UTC)}
	cfg.Now, cfg.Random = w.Now, rand.Reader
	o, err := ticket.NewOffice(cfg)
	if err != nil {
		t.Fatal(err)
	}
	return o, w
}

func ada() ticket.Claims {
	return ticket.Claims{UserSID: "S-1-5-21-1-2-3-1103", UserName: "ada", Directory: "d-90670a1b2c", WorkspaceID: "ws-000000001",
		Binding: ticket.Binding{Session: sha256.Sum256([]byte("cookie")), Address: netip.MustParseAddr("192.0.2.7"), Device: "laptop-7"}}
}

func issue(t *testing.T, o *ticket.Office, c ticket.Claims) string {
	t.Helper()
	token, _, err := o.Issue(c)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestATicketOpensItsDesktopOnce(t *testing.T) {
	o, w := office(t, ticket.Config{})
	token, expires, err := o.Issue(ada())
	if err != nil || len(token) != 43 || strings.Trim(token, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
		t.Fatalf("%q, %v", token, err)
	}
	if expires != w.now.Add(time.Minute) {
		t.Errorf("expires %v", expires)
	}
	if o.Outstanding() != 1 {
		t.Error("not counted")
	}
	got, err := o.Spend(token, ada().Binding)
	if err != nil || got != ada() {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := o.Spend(token, ada().Binding); !errors.Is(err, ticket.ErrSpent) || got != ada() {
		t.Errorf("SES-3: spent twice: %+v, %v", got, err)
	}
	if o.Outstanding() != 0 {
		t.Error("still counted")
	}
}

func TestSES3ATicketIsRefused(t *testing.T) {
	type step struct {
		name string
		cfg  ticket.Config
		do   func(o *ticket.Office, w *watch, b *ticket.Binding, token *string)
		want error
	}
	for _, s := range []step{
		{"that was never issued", ticket.Config{}, func(_ *ticket.Office, _ *watch, _ *ticket.Binding, token *string) { *token = strings.Repeat("A", 43) }, ticket.ErrUnknown},
		{"that is empty", ticket.Config{}, func(_ *ticket.Office, _ *watch, _ *ticket.Binding, token *string) { *token = "" }, ticket.ErrUnknown},
		{"that is enormous", ticket.Config{}, func(_ *ticket.Office, _ *watch, _ *ticket.Binding, token *string) {
			*token += strings.Repeat("x", 1<<20)
		}, ticket.ErrUnknown},
		{"at the end of its minute", ticket.Config{}, func(_ *ticket.Office, w *watch, _ *ticket.Binding, _ *string) { w.now = w.now.Add(time.Minute) }, ticket.ErrExpired},
		{"when an hour was asked for and a minute is over", ticket.Config{Lifetime: time.Hour}, func(_ *ticket.Office, w *watch, _ *ticket.Binding, _ *string) { w.now = w.now.Add(time.Minute) }, ticket.ErrExpired},
		{"long after its minute", ticket.Config{}, func(_ *ticket.Office, w *watch, _ *ticket.Binding, _ *string) { w.now = w.now.Add(time.Hour) }, ticket.ErrUnknown},
		{"from another address", ticket.Config{}, func(_ *ticket.Office, _ *watch, b *ticket.Binding, _ *string) {
			b.Address = netip.MustParseAddr("192.0.2.8")
		}, ticket.ErrBinding},
		{"from another device", ticket.Config{}, func(_ *ticket.Office, _ *watch, b *ticket.Binding, _ *string) { b.Device = "laptop-8" }, ticket.ErrBinding},
		{"without the device", ticket.Config{}, func(_ *ticket.Office, _ *watch, b *ticket.Binding, _ *string) { b.Device = "" }, ticket.ErrBinding},
		{"from another session", ticket.Config{}, func(_ *ticket.Office, _ *watch, b *ticket.Binding, _ *string) {
			b.Session = sha256.Sum256([]byte("another"))
		}, ticket.ErrBinding},
		{"after its session signed out", ticket.Config{}, func(o *ticket.Office, _ *watch, b *ticket.Binding, _ *string) {
			o.Revoke(ticket.Match{Session: b.Session})
		}, ticket.ErrUnknown},
		{"after its user was disabled", ticket.Config{}, func(o *ticket.Office, _ *watch, _ *ticket.Binding, _ *string) {
			o.Revoke(ticket.Match{UserSID: ada().UserSID})
		}, ticket.ErrUnknown},
		{"after its desktop was terminated", ticket.Config{}, func(o *ticket.Office, _ *watch, _ *ticket.Binding, _ *string) {
			o.Revoke(ticket.Match{WorkspaceID: ada().WorkspaceID})
		}, ticket.ErrUnknown},
		{"after its directory's rules changed", ticket.Config{}, func(o *ticket.Office, _ *watch, _ *ticket.Binding, _ *string) {
			o.Revoke(ticket.Match{Directory: ada().Directory})
		}, ticket.ErrUnknown},
	} {
		t.Run(s.name, func(t *testing.T) {
			o, w := office(t, s.cfg)
			token, b := issue(t, o, ada()), ada().Binding
			s.do(o, w, &b, &token)
			if _, err := o.Spend(token, b); !errors.Is(err, s.want) {
				t.Errorf("%v, want %v", err, s.want)
			}
		})
	}
	t.Run("by its owner once it was in the wrong hands", func(t *testing.T) {
		o, _ := office(t, ticket.Config{})
		token, b := issue(t, o, ada()), ada().Binding
		b.Address = netip.MustParseAddr("203.0.113.66")
		if got, err := o.Spend(token, b); !errors.Is(err, ticket.ErrBinding) || got.UserName != "ada" {
			t.Errorf("%+v, %v", got, err)
		}
		if _, err := o.Spend(token, ada().Binding); !errors.Is(err, ticket.ErrSpent) {
			t.Error(err)
		}
	})
}

func TestAnAddressMayBeWrittenAsItsMappedForm(t *testing.T) {
	o, _ := office(t, ticket.Config{})
	b := ada().Binding
	b.Address = netip.MustParseAddr("::ffff:192.0.2.7")
	if _, err := o.Spend(issue(t, o, ada()), b); err != nil {
		t.Error(err)
	}
}

func TestRevokeLeavesOthersAlone(t *testing.T) {
	o, _ := office(t, ticket.Config{})
	grace := ada()
	grace.UserSID, grace.UserName, grace.WorkspaceID = "S-1-5-21-1-2-3-1104", "grace", "ws-000000002"
	grace.Binding.Session = sha256.Sum256([]byte("hers"))
	hers := issue(t, o, grace)
	issue(t, o, ada())
	if n := o.Revoke(ticket.Match{UserSID: ada().UserSID, WorkspaceID: "ws-000000002"}); n != 0 {
		t.Errorf("%d match two fields of different people", n)
	}
	if n := o.Revoke(ticket.Match{UserSID: ada().UserSID}); n != 1 {
		t.Errorf("%d revoked", n)
	}
	if _, err := o.Spend(hers, grace.Binding); err != nil {
		t.Error(err)
	}
}

func TestTicketsAreBoundedPerUserAndInAll(t *testing.T) {
	o, w := office(t, ticket.Config{PerUser: 3, InAll: 5})
	var first string
	for i := range 3 {
		if token := issue(t, o, ada()); i == 0 {
			first = token
		}
	}
	if _, _, err := o.Issue(ada()); !errors.Is(err, ticket.ErrTooMany) {
		t.Errorf("the fourth of a user: %v", err)
	}
	if _, err := o.Spend(first, ada().Binding); err != nil {
		t.Fatal(err)
	}
	issue(t, o, ada()) // A spent one makes room for the user.
	grace := ada()
	grace.UserSID = "S-1-5-21-1-2-3-1104"
	issue(t, o, grace)
	if _, _, err := o.Issue(grace); !errors.Is(err, ticket.ErrTooMany) {
		t.Errorf("the sixth in all: %v", err)
	}
	w.now = w.now.Add(time.Minute)
	if n := o.Outstanding(); n != 0 {
		t.Errorf("%d outstanding after a minute", n)
	}
	w.now = w.now.Add(time.Minute)
	issue(t, o, grace)
}

func TestOfManyWhoSpendOneTicketOneWins(t *testing.T) {
	o, _ := office(t, ticket.Config{PerUser: 1000})
	for range 50 {
		token := issue(t, o, ada())
		var won atomic.Int32
		var all sync.WaitGroup
		for range 16 {
			all.Go(func() {
				if _, err := o.Spend(token, ada().Binding); err == nil {
					won.Add(1)
				} else if !errors.Is(err, ticket.ErrSpent) {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if won.Load() != 1 {
			t.Fatalf("%d won", won.Load())
		}
	}
}

func TestSES2ManyAtOnceEachGetTheirOwnDesktop(t *testing.T) {
	o, _ := office(t, ticket.Config{})
	var all sync.WaitGroup
	for i := range 64 {
		all.Go(func() {
			c := ada()
			c.UserSID = fmt.Sprintf("S-1-5-21-1-2-3-%d", 2000+i)
			c.WorkspaceID = ident.WorkspaceID(fmt.Sprintf("ws-%09d", i))
			for range 100 {
				token, _, err := o.Issue(c)
				if err != nil {
					t.Error(err)
					return
				}
				if got, err := o.Spend(token, c.Binding); err != nil || got != c {
					t.Errorf("%+v, %v", got, err)
				}
			}
		})
	}
	all.Wait()
}

func TestIncompleteClaimsAndBrokenRandomnessAreRefused(t *testing.T) {
	o, _ := office(t, ticket.Config{})
	for name, change := range map[string]func(*ticket.Claims){
		"user":    func(c *ticket.Claims) { c.UserSID = "" },
		"desktop": func(c *ticket.Claims) { c.WorkspaceID = "" },
		"address": func(c *ticket.Claims) { c.Binding.Address = netip.Addr{} },
		"session": func(c *ticket.Claims) { c.Binding.Session = [32]byte{} },
	} {
		c := ada()
		change(&c)
		if _, _, err := o.Issue(c); err == nil {
			t.Errorf("issued without %s", name)
		}
	}
	broken, err := ticket.NewOffice(ticket.Config{Now: time.Now, Random: bytes.NewReader(make([]byte, 80))})
	if err != nil {
		t.Fatal(err)
	}
	issue(t, broken, ada())
	if _, _, err := broken.Issue(ada()); err == nil {
		t.Error("the same token twice")
	}
	if _, _, err := broken.Issue(ada()); err == nil {
		t.Error("a token of less than 32 bytes")
	}
	if _, err := ticket.NewOffice(ticket.Config{}); err == nil {
		t.Error("an office without a clock")
	}
}
