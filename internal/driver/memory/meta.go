package memory

import (
	"encoding/json"
	"fmt"
	"time"

	"carrel/internal/ident"
)

// Meta is what a block is for: enough for a host role that knows nothing to find the machine that uses the block, and to report its scrub.
type Meta struct {
	WorkspaceID ident.WorkspaceID `json:"workspaceId,omitempty"`
	// Run names the run of the machine, and Host the host, as in driver.Machine.
	Run  string `json:"run,omitempty"`
	Host string `json:"host,omitempty"`
	// Template: the block is a template's; no machine ever maps it.
	Template bool      `json:"template,omitempty"`
	Bytes    int64     `json:"bytes"`
	Created  time.Time `json:"created"`
	// PID and StartTime (field 22 of /proc/PID/stat, clock ticks since boot) name the machine's process; both 0 before it was noted.
	// With the start time a process that got the same number later is never taken for it.
	PID       int    `json:"pid,omitempty"`
	StartTime uint64 `json:"startTime,omitempty"`
	// CoreDumpsOff: when the process was noted it could not be dumped.
	CoreDumpsOff bool `json:"coreDumpsOff,omitempty"`
	// File is the block's own identity, by which it is found again in processes; Boot the host's boot in which it existed. Put sets them,
	// with Bytes.
	File fileID `json:"file"`
	Boot string `json:"boot"`
	// Gap: the block was adopted by a host role that did not make it, so only the keeper's lock counts.
	Gap bool `json:"gap,omitempty"`
}

// maxMeta bounds a meta on its way to the keeper.
const maxMeta = 4 << 10

func (m Meta) encode() (json.RawMessage, error) {
	b, err := json.Marshal(m)
	if err == nil && len(b) > maxMeta {
		err = fmt.Errorf("it has %d bytes, the keeper takes %d", len(b), maxMeta)
	}
	if err != nil {
		return nil, fmt.Errorf("describe memory: %w", err)
	}
	return b, nil
}
