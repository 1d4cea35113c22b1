package memory

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"carrel/internal/driver"
	"carrel/internal/durable"
)

// journal is what has happened to a block, one file each in the run directory, replaced as a whole. It is only what cannot be seen any more
// by looking: what is left to do is always found out from the process and the memory themselves.
type journal struct {
	Meta Meta `json:"meta"`
	// Started: a scrub has begun; zero before. Facts are the host's at that time.
	Started time.Time        `json:"started,omitzero"`
	Facts   driver.HostFacts `json:"facts,omitzero"`
	// ProcessZeroed: the process was stopped and ProcessBytes of it overwritten; ProcessEnded: it had ended before that could be done.
	ProcessZeroed bool             `json:"processZeroed,omitempty"`
	ProcessEnded  bool             `json:"processEnded,omitempty"`
	ProcessBytes  int64            `json:"processBytes,omitempty"`
	Skipped       map[string]int64 `json:"skipped,omitempty"`
	// RunEnded: no process of the machine exists any more.
	RunEnded time.Time `json:"runEnded,omitzero"`
	// MemoryBytes of the block were overwritten, by everything that happened so far.
	MemoryBytes int64 `json:"memoryBytes,omitempty"`
	// Report is there once all of it was read back as zero.
	Report *driver.ScrubReport `json:"report,omitempty"`
}

const journalSuffix = ".scrub.json"

func (k *Keeper) journalPath(id string) string { return filepath.Join(k.path, id+journalSuffix) }

// loadJournal reads a block's journal. driver.ErrNotFound: there is none.
func (k *Keeper) loadJournal(id string) (*journal, error) {
	b, err := os.ReadFile(k.journalPath(id))
	if errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("%w: memory %s", driver.ErrNotFound, id)
	}
	if err != nil {
		return nil, fmt.Errorf("journal of memory %s: %w", id, err)
	}
	j := new(journal)
	if err := json.Unmarshal(b, j); err != nil {
		return nil, fmt.Errorf("journal of memory %s: %s: %w", id, k.journalPath(id), err)
	}
	return j, nil
}

// saveJournal replaces a block's journal durably: after a crash the old or the new one is there, never a part.
func (k *Keeper) saveJournal(id string, j *journal) error {
	b, err := json.Marshal(j)
	if err == nil {
		err = durable.WriteFile(k.journalPath(id), b, 0o600)
	}
	if err != nil {
		return fmt.Errorf("journal of memory %s: %w", id, err)
	}
	return nil
}

// removeJournal forgets a block. No journal: success.
func (k *Keeper) removeJournal(id string) error {
	if err := os.Remove(k.journalPath(id)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("journal of memory %s: %w", id, err)
	}
	return k.dir.Sync()
}

// journals gives the ids that have one.
func (k *Keeper) journals() ([]string, error) {
	names, err := os.ReadDir(k.path)
	if err != nil {
		return nil, err
	}
	var ids []string
	for _, n := range names {
		if id, ok := strings.CutSuffix(n.Name(), journalSuffix); ok && checkID(id) == nil {
			ids = append(ids, id)
		}
	}
	return ids, nil
}
