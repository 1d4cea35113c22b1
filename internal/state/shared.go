package state

import (
	"bytes"
	"context"
	"fmt"
)

// CheckShared compares every record in memory with what is stored, and names the first one that somebody has changed
// instead of a Clone of it. It reads the whole store: tests call it (statetest does for each of its DBs).
func (db *DB) CheckShared(ctx context.Context) error {
	items, rev, err := db.store.List(ctx)
	if err != nil {
		return err
	}
	if err := db.Wait(ctx, rev); err != nil {
		return err
	}
	s := db.Snapshot()
	for _, it := range items {
		i, ok := s.ordinal[it.Key.Table]
		if !ok {
			continue // Health speaks of it
		}
		v := s.views[i]
		if v.revision(it.Key.ID) != it.Revision {
			continue // written again meanwhile
		}
		got, err := v.encoding(it.Key.ID)
		if err != nil {
			return err
		}
		if !bytes.Equal(got, it.Value) {
			return fmt.Errorf("state: the shared record %s %q was changed in memory:\nis     %s\nstored %s", it.Key.Table, it.Key.ID, got, it.Value)
		}
	}
	return nil
}
