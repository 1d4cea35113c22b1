package identity

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"time"

	"carrel/internal/ident"
	"carrel/internal/state"
)

// The life of a key. It begins to seal a moment after it was made, so that by then every node has seen it; a day later the next one takes over, or, when
// none can be made, another day later nothing is sealed any more. It is deleted when the last session that it can have sealed has ended, with an hour
// for clocks that are apart.
const (
	settle      = time.Minute
	rotateAfter = 24 * time.Hour
	sealsFor    = 48 * time.Hour
	longest     = 36 * time.Hour
	keptFor     = sealsFor + longest + time.Hour
	// lookEvery is how often Run looks whether a key is due.
	lookEvery = 10 * time.Minute
)

// Run makes the next key each day and deletes those whose time is over, until ctx ends; it gives nil then. While the store does not take them it logs
// and tries again.
func (t *Tokens) Run(ctx context.Context) error {
	for {
		if t.due(t.config.DB.Snapshot()) {
			if err := t.rotate(ctx); err != nil && ctx.Err() == nil {
				t.config.Log.WarnContext(ctx, "the keys of session tokens were not renewed; trying again", "error", err, "pause", lookEvery)
			}
		}
		fired, stop := t.config.Clock.After(lookEvery)
		select {
		case <-fired:
		case <-ctx.Done():
			stop()
			return nil
		}
	}
}

// sealing gives the key that seals now, and makes one when there is none.
func (t *Tokens) sealing(ctx context.Context) (*state.TokenKey, error) {
	for range 2 {
		if key := newest(t.config.DB.Snapshot(), t.config.Clock.Now()); key != nil {
			return key, nil
		}
		if err := t.rotate(ctx); err != nil {
			return nil, fmt.Errorf("identity: making a key for session tokens: %w", err)
		}
	}
	return nil, errors.New("identity: no key seals session tokens") // one was made and is of another time: a clock is days off
}

// newest gives the newest key that may seal: one that has settled, if there is one.
func newest(r state.Reader, now time.Time) *state.TokenKey {
	var settled, fresh *state.TokenKey
	for key := range state.All(r, state.TokenKeys) {
		switch age := now.Sub(key.Created); {
		case age >= sealsFor:
		case age >= settle:
			settled = later(settled, key)
		default:
			fresh = later(fresh, key)
		}
	}
	if settled != nil {
		return settled
	}
	return fresh
}

// later is the one that was made later; of two at one time the nodes take the same.
func later(a, b *state.TokenKey) *state.TokenKey {
	if a == nil || b.Created.After(a.Created) || b.Created.Equal(a.Created) && b.ID > a.ID {
		return b
	}
	return a
}

// plan tells whether a key is to be made, and which are to be deleted.
func (t *Tokens) plan(r state.Reader) (wanted bool, over []string) {
	now := t.config.Clock.Now()
	wanted = true
	for key := range state.All(r, state.TokenKeys) {
		age := now.Sub(key.Created)
		if age < rotateAfter {
			wanted = false
		}
		if age >= keptFor {
			over = append(over, key.ID)
		}
	}
	return wanted, over
}

func (t *Tokens) due(r state.Reader) bool {
	wanted, over := t.plan(r)
	return wanted || len(over) > 0
}

// rotate does what plan says. Of two nodes that do so at once one conflicts, looks again, and finds the other's key.
func (t *Tokens) rotate(ctx context.Context) error {
	var secret [keyBytes]byte
	if _, err := io.ReadFull(t.config.Rand, secret[:]); err != nil {
		return fmt.Errorf("no randomness: %w", err)
	}
	defer clear(secret[:])
	id, text := ident.Hex(t.config.Rand, 2*idBytes), state.Secret(base64.StdEncoding.EncodeToString(secret[:]))
	_, err := t.config.DB.Update(ctx, func(tx *state.Tx) error {
		tx.Guard(state.TokenKeyTable, "")
		wanted, over := t.plan(tx)
		if wanted {
			// Not tx.Now: in a simulation records live by another clock than sessions.
			state.Put(tx, state.TokenKeys, &state.TokenKey{Meta: state.Meta{Created: t.config.Clock.Now().UTC()}, ID: id, Secret: text})
		}
		for _, id := range over {
			state.Delete(tx, state.TokenKeys, id)
		}
		return nil
	})
	return err
}
