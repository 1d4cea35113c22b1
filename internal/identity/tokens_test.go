package identity_test

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"carrel/internal/clock"
	"carrel/internal/identity"
	"carrel/internal/identity/identitytest"
	"carrel/internal/state"
	"carrel/internal/state/memory"
	"carrel/internal/state/statetest"
)

// manual is a clock that stands where the test sets it. What waits on it waits on the machine's.
type manual struct {
	mu  sync.Mutex
	now time.Time
}

func (m *manual) Now() time.Time { m.mu.Lock(); defer m.mu.Unlock(); return m.now }
func (m *manual) After(d time.Duration) (<-chan time.Time, func()) {
	return clock.System{}.After(d)
}
func (m *manual) pass(d time.Duration) { m.mu.Lock(); defer m.mu.Unlock(); m.now = m.now.Add(d) }

func newManual() *manual { return &manual{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)} }

// full is a session that says everything there is to say.
func full(now time.Time) identity.Session {
	return identitytest.Complete(identity.Session{
		Type: identity.AssumedRole, RoleID: "AROADBQP57FF2AEXAMPLE", UserID: "AIDAJQABLZS4A3QDU576Q", Name: "ada", SourceIdentity: "lovelace", MFA: now.UTC().Truncate(time.Second),
		Tags: map[string]string{"Team": "<ops> & \"more\"", "ü": ""}, Transitive: []string{"Team"}, Policy: `{"Statement":[]}`, PolicyARNs: []string{"arn:aws:iam::aws:policy/AdministratorAccess"},
		Provider: "accounts.google.com", Claims: map[string][]string{"saml:sub": {"a", "b"}}, Chained: true,
	}, now)
}

func seal(t testing.TB, tokens *identity.Tokens, s identity.Session) string {
	t.Helper()
	token, err := tokens.Seal(t.Context(), &s)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func keys(db *state.DB) (all []*state.TokenKey) {
	for key := range state.All(db.Snapshot(), state.TokenKeys) {
		all = append(all, key)
	}
	return all
}

func TestATokenSaysWhatItsSessionSays(t *testing.T) {
	db, clk := statetest.NewDB(t), newManual()
	tokens := identitytest.Tokens(db, clk)
	want := full(clk.Now())
	token := seal(t, tokens, want)
	for _, from := range []string{"opened", "opened again, from memory"} {
		t.Run(from, func(t *testing.T) {
			got, err := tokens.Open(token)
			if err != nil || !reflect.DeepEqual(*got, want) {
				t.Errorf("%+v, %v\nwant %+v", got, err, want)
			}
		})
	}
	t.Run("every field is there to be compared", func(t *testing.T) {
		v := reflect.ValueOf(want)
		for i := range v.NumField() {
			if v.Field(i).IsZero() {
				t.Errorf("full leaves %s out", v.Type().Field(i).Name)
			}
		}
	})
	t.Run("another node that has the records opens it", func(t *testing.T) {
		if got, err := identitytest.Tokens(db, clk).Open(token); err != nil || got.Name != "ada" {
			t.Error(got, err)
		}
	})
	t.Run("SIG-13 nothing of it can be read", func(t *testing.T) {
		raw, _ := base64.StdEncoding.DecodeString(token)
		for _, secret := range []string{want.Secret.Reveal(), string(want.KeyID), "ada", "lovelace"} {
			if strings.Contains(token+string(raw), secret) {
				t.Errorf("%q can be read", secret)
			}
		}
	})
	t.Run("two tokens of one session differ", func(t *testing.T) {
		if seal(t, tokens, want) == token {
			t.Error("the nonce was used twice")
		}
	})
	t.Run("an ordinary one is short", func(t *testing.T) {
		s := identitytest.Complete(identity.Session{RoleID: "AROADBQP57FF2AEXAMPLE", Name: "ada"}, clk.Now())
		if n := len(seal(t, tokens, s)); n > 600 {
			t.Errorf("%d characters", n)
		}
	})
	t.Run("one that clients could not send is not made", func(t *testing.T) {
		s := want
		s.Tags = map[string]string{"long": strings.Repeat("x", 16<<10)}
		if _, err := tokens.Seal(t.Context(), &s); !errors.Is(err, identity.ErrTooLong) {
			t.Error(err)
		}
	})
	t.Run("nor one that would outlive its key", func(t *testing.T) {
		s := want
		s.Expires = s.Issued.Add(36*time.Hour + time.Second)
		if _, err := tokens.Seal(t.Context(), &s); err == nil {
			t.Error("it was made")
		}
	})
}

func TestWhatIsNotATokenIsNotOpened(t *testing.T) {
	db, clk := statetest.NewDB(t), newManual()
	tokens := identitytest.Tokens(db, clk)
	token := seal(t, tokens, full(clk.Now()))
	raw, _ := base64.StdEncoding.DecodeString(token)
	message, err := tokens.SealMessage(t.Context(), `{"allowed":false}`)
	if err != nil {
		t.Fatal(err)
	}
	sealedMessage, _ := base64.RawURLEncoding.DecodeString(message)
	elsewhere := newManual()
	foreign := seal(t, identitytest.Tokens(statetest.NewDB(t), elsewhere), full(elsewhere.Now()))
	for name, bad := range map[string]string{
		"nothing": "", "a word": "token", "the beginning": token[:20], "cut": token[:len(token)-4], "longer": token + "AAAA", "another installation's": foreign,
		"a line break in it": token[:8] + "\n" + token[8:], "too long": strings.Repeat("A", 16<<10+4), "more padding": token + "=",
		"a message": base64.StdEncoding.EncodeToString(sealedMessage), "another version": base64.StdEncoding.EncodeToString(append([]byte{2}, raw[1:]...)),
	} {
		t.Run(name, func(t *testing.T) {
			if s, err := tokens.Open(bad); !errors.Is(err, identity.ErrToken) {
				t.Errorf("%v, %v", s, err)
			}
		})
	}
	t.Run("SIG-8 each bit flipped", func(t *testing.T) {
		for i := range len(raw) * 8 {
			flipped := append([]byte(nil), raw...)
			flipped[i/8] ^= 1 << (i % 8)
			if _, err := tokens.Open(base64.StdEncoding.EncodeToString(flipped)); !errors.Is(err, identity.ErrToken) {
				t.Fatalf("bit %d: %v", i, err)
			}
		}
	})
	t.Run("SIG-8 each character changed", func(t *testing.T) {
		for i := range len(token) {
			flipped := []byte(token)
			flipped[i] ^= 1
			if _, err := tokens.Open(string(flipped)); !errors.Is(err, identity.ErrToken) {
				t.Fatalf("character %d: %v", i, err)
			}
		}
	})
	t.Run("a session that lacks a secret, a key or an end", func(t *testing.T) {
		for _, change := range []func(*identity.Session){
			func(s *identity.Session) { s.Secret = "" },
			func(s *identity.Session) { s.KeyID = "AKIAIOSFODNN7EXAMPLE" },
			func(s *identity.Session) { s.Expires = time.Time{} },
		} {
			s := full(clk.Now())
			change(&s)
			if _, err := tokens.Open(seal(t, tokens, s)); !errors.Is(err, identity.ErrToken) {
				t.Error(err)
			}
		}
	})
	t.Run("the key is no more, though the token was in use", func(t *testing.T) {
		if _, err := tokens.Open(token); err != nil {
			t.Fatal(err)
		}
		update(t, db, func(tx *state.Tx) { state.Delete(tx, state.TokenKeys, keys(db)[0].ID) })
		if _, err := tokens.Open(token); !errors.Is(err, identity.ErrToken) {
			t.Error(err)
		}
	})
	t.Run("another key of the same id", func(t *testing.T) {
		token := seal(t, tokens, full(clk.Now()))
		if _, err := tokens.Open(token); err != nil {
			t.Fatal(err)
		}
		for _, secret := range []string{base64.StdEncoding.EncodeToString(make([]byte, 32)), "short"} {
			key := state.Clone(keys(db)[0])
			key.Secret = state.Secret(secret)
			update(t, db, func(tx *state.Tx) { state.Put(tx, state.TokenKeys, key) })
			if _, err := tokens.Open(token); !errors.Is(err, identity.ErrToken) {
				t.Error(err)
			}
		}
	})
}

func TestKeysOfTokens(t *testing.T) {
	db, clk := statetest.NewDB(t), newManual()
	tokens := identitytest.Tokens(db, clk)
	first := seal(t, tokens, full(clk.Now()))
	opens := func(t *testing.T, token string, want bool) {
		t.Helper()
		if _, err := identitytest.Tokens(db, clk).Open(token); (err == nil) != want {
			t.Errorf("%v, want %t", err, want)
		}
	}
	sealer := func(token string) string {
		raw, _ := base64.StdEncoding.DecodeString(token)
		return fmt.Sprintf("%x", raw[1:7])
	}
	t.Run("one key is made and used again", func(t *testing.T) {
		if again := seal(t, tokens, full(clk.Now())); sealer(again) != sealer(first) || len(keys(db)) != 1 || keys(db)[0].ID != sealer(first) {
			t.Errorf("%d keys", len(keys(db)))
		}
	})
	t.Run("a key without a successor seals for another day, and then no more", func(t *testing.T) {
		clk.pass(48*time.Hour - time.Second)
		if late := seal(t, tokens, full(clk.Now())); sealer(late) != sealer(first) {
			t.Error("another key")
		}
		clk.pass(time.Second)
		if next := seal(t, tokens, full(clk.Now())); sealer(next) == sealer(first) {
			t.Error("the same key")
		}
		opens(t, first, true)
	})
	t.Run("it is there until the last session it has sealed has ended", func(t *testing.T) {
		clk.pass(36 * time.Hour)
		run(t, db, clk)
		opens(t, first, true)
		clk.pass(time.Hour)
		run(t, db, clk)
		opens(t, first, false)
	})
	t.Run("a new key lets the old one seal until every node has seen it", func(t *testing.T) {
		db, clk := statetest.NewDB(t), newManual()
		tokens := identitytest.Tokens(db, clk)
		first := seal(t, tokens, full(clk.Now()))
		clk.pass(24 * time.Hour)
		run(t, db, clk)
		if n := len(keys(db)); n != 2 {
			t.Fatalf("%d keys", n)
		}
		if sealer(seal(t, tokens, full(clk.Now()))) != sealer(first) {
			t.Error("it seals at once")
		}
		clk.pass(time.Minute)
		if sealer(seal(t, tokens, full(clk.Now()))) == sealer(first) {
			t.Error("it does not seal")
		}
	})
}

// looking is a clock that tells when somebody begins to wait, and wakes them when the test says so.
type looking struct {
	*manual
	waits chan struct{}
	wake  chan time.Time
}

func (l *looking) After(time.Duration) (<-chan time.Time, func()) {
	l.waits <- struct{}{}
	return l.wake, func() {}
}

// running is Run while it runs.
type running struct {
	*looking
	end func()
}

// start starts Run and waits until it has done what is due.
func start(t *testing.T, db *state.DB, clk *manual, log *slog.Logger) running {
	t.Helper()
	r := running{looking: &looking{clk, make(chan struct{}), make(chan time.Time)}}
	tokens := identity.NewTokens(identity.TokensConfig{DB: db, Clock: r, Rand: rand.Reader, Log: log})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- tokens.Run(ctx) }()
	r.end = func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	<-r.waits
	return r
}

// look wakes it and waits until it has looked again.
func (r running) look() {
	r.wake <- time.Time{}
	<-r.waits
}

func run(t *testing.T, db *state.DB, clk *manual) {
	t.Helper()
	start(t, db, clk, slog.New(slog.DiscardHandler)).end()
}

// failing is a store that is away when the test says so.
type failing struct {
	state.Store
	away atomic.Bool
}

func (f *failing) Transact(ctx context.Context, txn state.Txn) (state.Revision, error) {
	if f.away.Load() {
		return 0, fmt.Errorf("%w: away", state.ErrUnavailable)
	}
	return f.Store.Transact(ctx, txn)
}

func TestRunMakesAKeyEachDay(t *testing.T) {
	store, clk := &failing{Store: memory.New()}, newManual()
	db := statetest.OpenDB(t, store, clock.System{})
	var log strings.Builder
	r := start(t, db, clk, slog.New(slog.NewTextHandler(&log, nil)))
	defer r.end()
	if n := len(keys(db)); n != 1 {
		t.Errorf("%d keys at the beginning", n)
	}
	r.look()
	if n := len(keys(db)); n != 1 {
		t.Errorf("%d keys though none was due", n)
	}
	clk.pass(24 * time.Hour)
	store.away.Store(true)
	r.look()
	if n := len(keys(db)); n != 1 || !strings.Contains(log.String(), "trying again") {
		t.Errorf("%d keys while the store is away, log %q", n, log.String())
	}
	t.Run("while the store is away the key of yesterday seals", func(t *testing.T) { seal(t, identitytest.Tokens(db, clk), full(clk.Now())) })
	t.Run("after two days nothing does", func(t *testing.T) {
		other := newManual()
		other.now = clk.Now().Add(24 * time.Hour)
		s := full(other.Now())
		if _, err := identitytest.Tokens(db, other).Seal(t.Context(), &s); !errors.Is(err, state.ErrUnavailable) {
			t.Error(err)
		}
	})
	store.away.Store(false)
	r.look()
	if n := len(keys(db)); n != 2 {
		t.Errorf("%d keys after a day", n)
	}
	for range 10 {
		clk.pass(24 * time.Hour)
		r.look()
	}
	if n := len(keys(db)); n > 5 {
		t.Errorf("%d keys after eleven days", n)
	}
}

// shared is a store that somebody else closes.
type shared struct{ state.Store }

func (shared) Close() error { return nil }

func TestTwoNodesAtOnceAgreeOnOneKey(t *testing.T) {
	store, clk := memory.New(), newManual()
	nodes := []*state.DB{statetest.OpenDB(t, store, clock.System{}), statetest.OpenDB(t, shared{store}, clock.System{})}
	var all sync.WaitGroup
	for i := range 16 {
		tokens := identitytest.Tokens(nodes[i%2], clk)
		all.Go(func() {
			s := full(clk.Now())
			if _, err := tokens.Seal(t.Context(), &s); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	for i, db := range nodes {
		if n := len(keys(db)); n != 1 {
			t.Errorf("node %d has %d keys", i, n)
		}
	}
}

func TestMessages(t *testing.T) {
	db, clk := statetest.NewDB(t), newManual()
	tokens := identitytest.Tokens(db, clk)
	message := `{"allowed":false,"explicitDeny":false,"context":{"principal":{"id":"AIDAJQABLZS4A3QDU576Q"}}}`
	text, err := tokens.SealMessage(t.Context(), message)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := identitytest.Tokens(db, clk).OpenMessage(text); err != nil || got != message {
		t.Errorf("%q, %v", got, err)
	}
	token := seal(t, tokens, full(clk.Now()))
	raw, _ := base64.StdEncoding.DecodeString(token)
	for name, bad := range map[string]string{
		"nothing": "", "a word": "message", "cut": text[:len(text)-3], "a line break in it": text[:9] + "\r" + text[9:], "too long": strings.Repeat("A", 10241),
		"a session token": base64.RawURLEncoding.EncodeToString(raw), "as a token is written": token,
	} {
		t.Run("not opened: "+name, func(t *testing.T) {
			if got, err := tokens.OpenMessage(bad); !errors.Is(err, identity.ErrToken) {
				t.Errorf("%q, %v", got, err)
			}
		})
	}
	t.Run("each character changed", func(t *testing.T) {
		for i := range len(text) {
			changed := []byte(text)
			changed[i] ^= 1
			if _, err := tokens.OpenMessage(string(changed)); !errors.Is(err, identity.ErrToken) {
				t.Fatalf("character %d: %v", i, err)
			}
		}
	})
	t.Run("a long one of ordinary text has room, one that has not is refused", func(t *testing.T) {
		long := strings.Repeat(message, 200)
		if text, err := tokens.SealMessage(t.Context(), long); err != nil || len(text) > 10240 {
			t.Errorf("%d characters, %v", len(text), err)
		}
		noise := make([]byte, 8000)
		rand.Read(noise)
		for _, big := range []string{string(noise), strings.Repeat("x", 1<<20+1)} {
			if _, err := tokens.SealMessage(t.Context(), big); !errors.Is(err, identity.ErrTooLong) {
				t.Error(err)
			}
		}
	})
}

// FuzzOpenToken: no bytes are a token but those that were sealed, and none end the process.
func FuzzOpenToken(f *testing.F) {
	db, clk := statetest.NewDB(f), newManual()
	tokens := identitytest.Tokens(db, clk)
	token := seal(f, tokens, full(clk.Now()))
	message, err := tokens.SealMessage(f.Context(), "{}")
	if err != nil {
		f.Fatal(err)
	}
	for _, s := range []string{token, message, "", "AQ==", token[:40], strings.ToLower(token)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if _, err := tokens.Open(s); (err == nil) != (s == token) {
			t.Errorf("token: %v", err)
		}
		if _, err := tokens.OpenMessage(s); (err == nil) != (s == message) {
			t.Errorf("message: %v", err)
		}
	})
}

func update(t testing.TB, db *state.DB, fn func(*state.Tx)) {
	t.Helper()
	if _, err := db.Update(t.Context(), func(tx *state.Tx) error { fn(tx); return nil }); err != nil {
		t.Fatal(err)
	}
}
