package iam

import (
	"sync"

	"carrel/internal/identity"
	"carrel/internal/identity/identitytest"
	"carrel/internal/service"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

// callers makes verified principals in a DB of their own, so that the service's DB has no keys but those a test makes.
type callers struct {
	mu   sync.Mutex
	db   *state.DB
	made map[state.Key]identity.Principal
}

// by is a call of the root (u nil) or of a user, who need not exist any more.
func (w *world) by(u *state.User) service.Call {
	w.t.Helper()
	c := &w.callers
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.db == nil {
		c.db, c.made = statetest.NewDB(w.t), map[state.Key]identity.Principal{}
	}
	who := state.Key{Table: state.UserTable}
	if u != nil {
		who.ID = string(u.ID)
	}
	if _, ok := c.made[who]; !ok {
		if u == nil {
			c.made[who] = identitytest.Root(w.t, c.db)
		} else {
			if _, err := c.db.Update(w.ctx, func(tx *state.Tx) error { state.Put(tx, state.Users, state.Clone(u)); return nil }); err != nil {
				w.t.Fatal(err)
			}
			c.made[who] = identitytest.Principal(w.t, c.db, identitytest.AddKey(w.t, c.db, u.ID))
		}
	}
	return service.Call{Principal: c.made[who]}
}
