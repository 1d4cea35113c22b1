package identity

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"carrel/internal/clock"
	"carrel/internal/state"
)

// UsesConfig is what Uses needs. All fields must be set.
type UsesConfig struct {
	DB    *state.DB
	Clock clock.Clock
	Log   *slog.Logger
}

// Uses knows when each key, and each role by one of its sessions, signed last. Requests are noted in memory, and once in a while Run writes down what is new: a
// request never waits for it, and what other nodes have seen is known a moment later. A process that is killed forgets its last minute.
type Uses struct {
	config UsesConfig

	mu sync.Mutex
	// noted is what is not written yet, writing what is being written, by the ids of keys and roles.
	noted, writing map[string]use
}

// use is what is noted of a request.
type use struct {
	at              time.Time
	service, region string
}

const (
	// writeEvery is how often Run writes, writeMost how many records at once, farewell how long the last time may take.
	writeEvery = time.Minute
	writeMost  = 100
	farewell   = 5 * time.Second
)

// NewUses makes a Uses that knows what is written.
func NewUses(c UsesConfig) *Uses { return &Uses{config: c, noted: map[string]use{}} }

// note remembers a request whose signature was right, whatever became of it then. Sessions of GetSessionToken and GetFederationToken are no key of
// anybody's. service and region are of the credential scope, that is of the caller's bytes.
func (u *Uses) note(p Principal, service, region string, at time.Time) {
	id := p.AccessKeyID()
	if p.Session() != nil {
		id = string(p.Role())
	}
	if id == "" {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	have := u.noted[id]
	if at.Before(have.at) {
		return
	}
	if have.service != service {
		have.service = strings.Clone(service)
	}
	if have.region != region {
		have.region = strings.Clone(region)
	}
	have.at = at
	u.noted[id] = have
}

// Last gives the last use of a key or role by its id, false when none is known.
func (u *Uses) Last(id string) (state.Use, bool) {
	last := state.Use{ID: id}
	if rec, ok := state.Get(u.config.DB.Snapshot(), state.Uses, id); ok {
		last = *rec
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, known := range []map[string]use{u.writing, u.noted} {
		if x, ok := known[id]; ok && x.at.After(last.At) {
			last.At, last.Service, last.Region = x.at, x.service, x.region
		}
	}
	return last, !last.At.IsZero()
}

// Run writes until ctx ends, and then a last time; it gives nil.
func (u *Uses) Run(ctx context.Context) error {
	for ended := false; !ended; {
		fired, stop := u.config.Clock.After(writeEvery)
		select {
		case <-fired:
			u.write(ctx)
		case <-ctx.Done():
			stop()
			ended = true
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	u.write(last)
	return nil
}

// write writes down what was noted. What cannot be written is noted still.
func (u *Uses) write(ctx context.Context) {
	u.mu.Lock()
	u.noted, u.writing = map[string]use{}, u.noted
	var ids []string
	for id := range u.writing {
		ids = append(ids, id)
	}
	u.mu.Unlock()
	var err error
	for len(ids) > 0 && err == nil {
		n := min(len(ids), writeMost)
		if err = u.record(ctx, ids[:n]); err == nil {
			ids = ids[n:]
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, id := range ids {
		if _, newer := u.noted[id]; !newer {
			u.noted[id] = u.writing[id]
		}
	}
	u.writing = nil
	if err != nil && ctx.Err() == nil {
		u.config.Log.WarnContext(ctx, "when keys were used last was not written; trying again", "error", err, "pause", writeEvery)
	}
}

// record writes some of what is being written. Nothing is written of keys and roles that are no more, and nothing in place of what is newer.
func (u *Uses) record(ctx context.Context, ids []string) error {
	_, err := u.config.DB.Update(ctx, func(tx *state.Tx) error {
		for _, id := range ids {
			_, key := state.Get(tx, state.AccessKeys, id)
			_, role := state.Get(tx, state.Roles, id)
			x := u.writing[id] // Only write changes the field, and it is what has called.
			old, ok := state.Get(tx, state.Uses, id)
			switch {
			case !key && !role, ok && !x.at.After(old.At):
				continue
			case ok:
				old = state.Clone(old)
			default:
				old = &state.Use{Meta: state.Meta{Created: tx.Now()}, ID: id}
			}
			old.At, old.Service, old.Region = x.at, x.service, x.region
			state.Put(tx, state.Uses, old)
		}
		return nil
	})
	return err
}
