package state_test

import (
	"crypto/rand"
	"errors"
	"testing"

	"carrel/internal/ident"
	"carrel/internal/state"
	"carrel/internal/state/statetest"
)

// makeFor makes a WorkSpace for a user in tx.
func makeFor(t *testing.T, tx *state.Tx, user string) (ident.WorkspaceID, error) {
	t.Helper()
	id, err := state.NewUserWorkspaceID(tx, rand.Reader, "d-90670ca44e", user)
	if err != nil {
		return "", err
	}
	if _, err := ident.ParseWorkspaceID(string(id)); err != nil || len(id) != len("ws-f9abcdefg") {
		t.Errorf("id %q: %v", id, err)
	}
	state.Put(tx, state.Workspaces, &state.Workspace{ID: id, Spec: state.WorkspaceSpec{DirectoryID: "d-90670ca44e", UserName: user}})
	return id, nil
}

func TestAUserHasOneWorkspace(t *testing.T) {
	db := statetest.NewDB(t)
	var first, second ident.WorkspaceID
	t.Run("within one transaction", func(t *testing.T) {
		_, err := db.Update(t.Context(), func(tx *state.Tx) (err error) {
			if first, err = makeFor(t, tx, "ada"); err != nil {
				return err
			}
			if _, err := makeFor(t, tx, "grace"); err != nil {
				return err
			}
			var held *state.ClaimedError
			if _, err := makeFor(t, tx, "ADA"); !errors.As(err, &held) || held.Owner != string(first) {
				t.Errorf("ada's second one: %v", err)
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	})
	t.Run("in a later transaction", func(t *testing.T) {
		_, err := db.Update(t.Context(), func(tx *state.Tx) error { _, err := makeFor(t, tx, "Ada"); return err })
		if !errors.Is(err, state.ErrClaimed) {
			t.Errorf("%v", err)
		}
	})
	t.Run("and another one once it is deleted, in the same transaction too, with an id of its own", func(t *testing.T) {
		_, err := db.Update(t.Context(), func(tx *state.Tx) (err error) {
			state.Delete(tx, state.Workspaces, string(first))
			second, err = makeFor(t, tx, "ada")
			return err
		})
		if err != nil || second == first || second[:7] != first[:7] {
			t.Errorf("%s after %s, %v", second, first, err)
		}
	})
}

func TestAddressesOfASubnetAreFoundByTheirIDs(t *testing.T) {
	db := statetest.NewDB(t)
	update(t, db, func(tx *state.Tx) {
		for _, at := range []struct {
			subnet  ident.SubnetID
			address string
		}{{"subnet-1", "10.0.0.9"}, {"subnet-1", "10.0.0.10"}, {"subnet-10", "10.0.0.9"}, {"subnet-0", "10.0.0.9"}} {
			state.Put(tx, state.Interfaces, &state.Interface{ID: "eni-1", SubnetID: at.subnet, Address: at.address})
		}
	})
	snap := db.Snapshot()
	var found []string
	for i := range state.AllBy(snap, state.Interfaces, state.InterfacesBySubnet, "subnet-1") {
		found = append(found, i.Address)
	}
	if len(found) != 2 || found[0] != "10.0.0.10" || found[1] != "10.0.0.9" {
		t.Errorf("%v", found)
	}
	if n := state.CountBy(snap, state.Interfaces, state.InterfacesBySubnet, "subnet-1"); n != 2 {
		t.Errorf("%d", n)
	}
	page, next := state.PageBy(snap, state.Interfaces, state.InterfacesBySubnet, "subnet-1", "", 1)
	last, end := state.PageBy(snap, state.Interfaces, state.InterfacesBySubnet, "subnet-1", next, 1)
	if len(page) != 1 || page[0].Address != "10.0.0.10" || len(last) != 1 || last[0].Address != "10.0.0.9" || end != "" {
		t.Errorf("%+v, then from %q %+v, then %q", page, next, last, end)
	}
}
