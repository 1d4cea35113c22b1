package state_test

import (
	"fmt"
	"reflect"
	"testing"

	"carrel/internal/clock"
	"carrel/internal/state"
	"carrel/internal/state/memory"
	"carrel/internal/state/statetest"
)

func TestARoomTakesThePagesOfItsTableAndIsEmptyAfterReset(t *testing.T) {
	db := statetest.OpenDB(t, memory.New(), clock.System{})
	_, err := db.Update(t.Context(), func(tx *state.Tx) error {
		for i := range 63 {
			w := desktop(i)
			if i%2 == 0 {
				w.Tags, w.Spec.Protocols, w.Status.ErrorMessage = map[string]string{"a": "b"}, []string{"DCV", "WSP"}, "it has failed"
			}
			state.Put(tx, state.Workspaces, w)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	snap, room := db.Snapshot(), state.NewRoom[state.Workspace](4)
	roomy := state.In(room, snap)
	var first []*state.Workspace
	for after, page := "", 0; ; page++ {
		want, next := state.Page(snap, state.Workspaces, after, 7)
		got, gotNext := state.Page(roomy, state.Workspaces, after, 7)
		if gotNext != next || !reflect.DeepEqual(got, want) {
			t.Fatalf("page %d in a room: %v, next %q; want %v, next %q", page, got, gotNext, want, next)
		}
		if first == nil {
			first = got
		} else if got[0] != first[0] || got[4] == first[4] {
			t.Fatalf("page %d: the first record is at %p, before at %p; the fifth, for which there is no room, at %p, before at %p", page, got[0], first[0], got[4], first[4])
		}
		room.Reset()
		if !reflect.DeepEqual(*got[0], state.Workspace{}) {
			t.Fatalf("Reset leaves %+v", *got[0])
		}
		if after = next; after == "" {
			break
		}
	}
	directory := fmt.Sprintf("d-90670%05d", 3)
	want, _ := state.PageBy(snap, state.Workspaces, state.WorkspacesByDirectory, directory, "ws-000000003", 2)
	got, _ := state.PageBy(roomy, state.Workspaces, state.WorkspacesByDirectory, directory, "ws-000000003", 2)
	if len(want) != 2 || want[0].ID != "ws-000000023" || !reflect.DeepEqual(got, want) || got[0] != first[0] {
		t.Errorf("by directory: %v, want %v", got, want)
	}
	// Another table's pages do not know the room.
	if recs, _ := state.Page(roomy, state.Directories, "", 5); len(recs) != 0 {
		t.Errorf("directories: %v", recs)
	}
	// A single record is nobody's memory but its own.
	if w, ok := state.Get(roomy, state.Workspaces, "ws-000000007"); !ok || w == first[0] {
		t.Errorf("Get has taken from the room: %v", w)
	}
}
