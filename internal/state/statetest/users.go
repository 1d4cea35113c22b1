package statetest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"carrel/internal/ident"
	"carrel/internal/state"
)

// oneWorkspaceAUser has creators race for the same users. Nothing but the guard keeps them apart: their ids differ.
func oneWorkspaceAUser(t *testing.T, s state.Store) {
	const creators, users = 8, 5
	const directory = ident.DirectoryID("d-90670ca44e")
	dbs := []*state.DB{follow(t, s), follow(t, s)}
	var made, refused atomic.Int64
	var wg sync.WaitGroup
	for c := range creators {
		wg.Go(func() {
			for u := range users {
				name := fmt.Sprintf("User%d", u)
				if c%2 == 0 {
					name = strings.ToLower(name)
				}
				_, err := dbs[c%2].Update(t.Context(), func(tx *state.Tx) error {
					id, err := state.NewUserWorkspaceID(tx, rand.Reader, directory, name)
					if err != nil {
						return err
					}
					state.Put(tx, state.Workspaces, &state.Workspace{ID: id, Spec: state.WorkspaceSpec{DirectoryID: directory, UserName: name}})
					return nil
				})
				switch {
				case err == nil:
					made.Add(1)
				case errors.Is(err, state.ErrClaimed):
					refused.Add(1)
				default:
					t.Errorf("%s: %v", name, err)
				}
			}
		})
	}
	wg.Wait()
	if made.Load() != users || refused.Load() != (creators-1)*users {
		t.Errorf("%d made and %d refused for %d users", made.Load(), refused.Load(), users)
	}
	_, rev := list(t, s)
	if err := dbs[0].Wait(t.Context(), rev); err != nil {
		t.Fatal(err)
	}
	for u := range users {
		key := state.UserKey(directory, fmt.Sprintf("user%d", u))
		if n := state.CountBy(dbs[0].Snapshot(), state.Workspaces, state.WorkspacesByUser, key); n != 1 {
			t.Errorf("%s has %d WorkSpaces", key, n)
		}
	}
}
