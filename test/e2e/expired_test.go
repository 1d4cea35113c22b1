package e2e

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"carrel/internal/clock"
	"carrel/internal/identity"
	"carrel/internal/state"
	"carrel/internal/state/memory"
)

// cmdExpire is "expire CREDENTIALS BACKUP": temporary credentials become what they will be when their time is over, three hours from when they were made: the same
// session, sealed under the installation's own key out of a backup of it. Nothing else about them changes, so nothing else can be why they are refused.
func cmdExpire(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 2 {
		ts.Fatalf("usage: expire CREDENTIALS BACKUP")
	}
	fields := strings.Fields(ts.ReadFile(args[0]))
	if len(fields) != 3 {
		ts.Fatalf("%s holds %d words, not an access key, a secret and a token", args[0], len(fields))
	}
	token, err := expired(fields[2], ts.MkAbs(args[1]))
	ts.Check(err)
	ts.Check(os.WriteFile(ts.MkAbs(args[0]), fmt.Appendf(nil, "%s\t%s\t%s\n", fields[0], fields[1], token), 0o600))
}

// expired gives the token of the same session as it would be had it begun three hours earlier and lasted two.
func expired(token, backup string) (string, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	f, err := os.Open(backup)
	if err != nil {
		return "", err
	}
	defer f.Close()
	store := memory.New()
	defer store.Close()
	if _, err := state.Restore(ctx, store, f); err != nil {
		return "", err
	}
	db, err := state.Open(ctx, store, clock.System{})
	if err != nil {
		return "", err
	}
	tokens := identity.NewTokens(identity.TokensConfig{DB: db, Clock: clock.System{}, Rand: rand.Reader, Log: slog.New(slog.DiscardHandler)})
	shared, err := tokens.Open(token)
	if err != nil {
		return "", err
	}
	s := *shared
	s.Issued = s.Issued.Add(-3 * time.Hour)
	s.Expires = s.Issued.Add(2 * time.Hour)
	return tokens.Seal(ctx, &s)
}
