package state_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"carrel/internal/clock"
	"carrel/internal/state"
	"carrel/internal/state/memory"
	"carrel/internal/state/statetest"
)

// backup is a backup of a store with 250 WorkSpaces and a claim, and what is in it.
func backup(t *testing.T) ([]byte, []state.Item) {
	t.Helper()
	store := memory.New()
	db := statetest.OpenDB(t, store, clock.System{})
	update(t, db, func(tx *state.Tx) {
		for n := range 250 {
			state.Put(tx, state.Workspaces, workspace(n, "d-1", "wsb-1"))
		}
		if err := tx.Claim("a/b", "c"); err != nil {
			t.Error(err)
		}
	})
	var out bytes.Buffer
	if _, err := state.Backup(t.Context(), store, &out); err != nil {
		t.Fatal(err)
	}
	items, _, err := store.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), items
}

func TestRestoreGivesBackWhatWasBackedUp(t *testing.T) {
	raw, want := backup(t)
	store := memory.New()
	if n, err := state.Restore(t.Context(), store, bytes.NewReader(raw)); err != nil || n != len(want) {
		t.Fatalf("Restore: %d, %v", n, err)
	}
	got, _, err := store.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range got {
		got[i].Revision, want[i].Revision = 0, 0
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	if _, err := state.Open(t.Context(), store, clock.System{}); err != nil {
		t.Errorf("Open: %v", err)
	}
}

func TestRestoreRefusesAndWritesNothing(t *testing.T) {
	good, _ := backup(t)
	lines := bytes.SplitAfter(good, []byte("\n"))
	flip := func(at int) []byte {
		b := bytes.Clone(good)
		b[at] ^= 1
		return b
	}
	cases := map[string][]byte{
		"an empty file":                   nil,
		"something else":                  []byte("chapter 1\n"),
		"one cut off before its tail":     bytes.Join(lines[:100], nil),
		"one cut off in a line":           good[:len(good)/2],
		"one without a line":              append(bytes.Clone(bytes.Join(lines[:5], nil)), bytes.Join(lines[6:], nil)...),
		"one with a line twice":           append(bytes.Clone(bytes.Join(lines[:5], nil)), bytes.Join(lines[4:], nil)...),
		"one with lines exchanged":        bytes.Join([][]byte{lines[0], lines[2], lines[1], bytes.Join(lines[3:], nil)}, nil),
		"one that goes on after its tail": append(bytes.Clone(good), lines[1]...),
		"a newer format":                  bytes.Replace(good, []byte(`"carrel-backup":1`), []byte(`"carrel-backup":2`), 1),
	}
	for at := 0; at < len(good)-1; at += len(good) / 40 {
		cases[fmt.Sprintf("one with a bit flipped at %d", at)] = flip(at)
	}
	for name, raw := range cases {
		t.Run(name, func(t *testing.T) {
			store := memory.New()
			if _, err := state.Restore(t.Context(), store, bytes.NewReader(raw)); !errors.Is(err, state.ErrBackup) {
				t.Errorf("Restore: %v, want ErrBackup", err)
			}
			if items, rev, _ := store.List(t.Context()); len(items) != 0 || rev != 0 {
				t.Errorf("%d items were written", len(items))
			}
		})
	}
	t.Run("into a store that is not empty", func(t *testing.T) {
		store := memory.New()
		rev := commit(t, store, value(state.VPCTable, "vpc-1", goodVPC))
		if _, err := state.Restore(t.Context(), store, bytes.NewReader(good)); err == nil || !strings.Contains(err.Error(), "empty store only") {
			t.Errorf("Restore: %v", err)
		}
		if _, now, _ := store.List(t.Context()); now != rev {
			t.Error("it was written to")
		}
	})
}

// dying is a store that is gone after some transactions.
type dying struct {
	*memory.Store
	left int
}

func (d *dying) Transact(ctx context.Context, txn state.Txn) (state.Revision, error) {
	if d.left--; d.left < 0 {
		return 0, state.ErrUnavailable
	}
	return d.Store.Transact(ctx, txn)
}

func TestInterruptedRestoreIsNeverTakenForAWholeOne(t *testing.T) {
	raw, _ := backup(t)
	for left := 1; ; left++ {
		store := &dying{memory.New(), left}
		_, err := state.Restore(t.Context(), store, bytes.NewReader(raw))
		if err == nil {
			if left < 3 {
				t.Fatalf("restored in %d transactions: the test proves nothing", left)
			}
			return
		}
		if _, err := state.Open(t.Context(), store, clock.System{}); err == nil || !strings.Contains(err.Error(), "was not finished") {
			t.Errorf("Open after %d transactions: %v", left, err)
		}
		if _, err := state.Restore(t.Context(), store.Store, bytes.NewReader(raw)); err == nil {
			t.Errorf("restored over a half-restored store, after %d transactions", left)
		}
	}
}

func FuzzRestore(f *testing.F) {
	f.Add([]byte("{\"carrel-backup\":1,\"revision\":1}\n{\"t\":\"vpc\",\"i\":\"vpc-1\",\"v\":\"e30=\"}\n{\"items\":1,\"sha256\":\"\"}\n"))
	f.Add([]byte("{\"carrel-backup\":1,\"revision\":0}\n{\"items\":0,\"sha256\":\"x\"}\n"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		store := memory.New()
		if _, err := state.Restore(t.Context(), store, bytes.NewReader(raw)); err != nil {
			if items, _, _ := store.List(t.Context()); len(items) != 0 {
				t.Errorf("%d items written in spite of %v", len(items), err)
			}
			return
		}
		if _, err := state.Open(t.Context(), store, clock.System{}); err != nil {
			t.Errorf("restored, and Open says %v", err)
		}
	})
}
