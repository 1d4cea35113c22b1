package qemu

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"carrel/internal/driver"
	"carrel/internal/driver/jail"
	"carrel/internal/durable"
)

// The files of a machine, in Dir/<WorkSpace id>/.
const (
	recordFile = "machine.json"
	savedFile  = "saved-memory"
)

// record is what is remembered of a machine.
type record struct {
	Spec driver.MachineSpec
	// State is "" between the decision to start a machine and its first instruction; Before is what it was then, "": it is made.
	State  driver.MachineState
	Before driver.MachineState `json:",omitempty"`
	// Run names the run, and its memory at the keeper.
	Run         string
	MemoryBytes int64
	Started     time.Time
	Since       time.Time
	Reboots     int
	UID         int
	Process     jail.Identity
	// Saved is there when the machine's memory is in a file and no guest has gone on from it: each instruction of a resumed guest may change its
	// disks, after which the saved memory would not fit them any more.
	Saved *saved `json:",omitempty"`
	// Lost says why nothing can be said of the memory of the last run.
	Lost string `json:",omitempty"`
	// Report is that of the last scrub of this machine's memory. Earlier are those of runs that ended by themselves: the certificate is about the
	// last memory, these show that no other was left.
	Report  *driver.ScrubReport  `json:",omitempty"`
	Earlier []driver.ScrubReport `json:",omitempty"`
	// MachineID is the guest's (machine-id(5)): given once, so that a later start does not make another computer of it. MAC is its card's.
	MachineID string
	MAC       string
	// Model is the machine type that it runs as, or was saved as: kept across upgrades of QEMU.
	Model string `json:",omitempty"`
	// Hardware is the hardwareVersion of the last run: saved memory goes on with the devices that it knows. 0: 1.
	Hardware int `json:",omitempty"`
	// Agent: the image's guest has Carrel's commands.
	Agent bool
	// Renewed: the guest of this run has been told.
	Renewed bool `json:",omitempty"`
	// Told is the digest of what the guest was told last (guest.Document), while it has gone on without a boot.
	Told string `json:",omitempty"`
}

// saved is memory in a file.
type saved struct {
	KeyID string
	// Wrapped is the key, wrapped by the host's master key.
	Wrapped []byte
	Bytes   int64
}

// held is the memory that the machine holds, or is about to.
func (r *record) held() int64 {
	if r.State == driver.MachineRunning || r.State == "" {
		return r.MemoryBytes
	}
	return 0
}

func readRecord(path string) (*record, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("qemu: %w", err)
	}
	r := new(record)
	if err := json.Unmarshal(b, r); err != nil {
		return nil, fmt.Errorf("qemu: %s cannot be read: %w; restore it from a backup: nothing was changed", path, err)
	}
	if string(r.Spec.WorkspaceID) != filepath.Base(filepath.Dir(path)) {
		return nil, fmt.Errorf("qemu: %s is the record of %q", path, r.Spec.WorkspaceID)
	}
	return r, nil
}

// write puts the record on disk, all of it or none.
func (r *record) write(dir string) error {
	dir = filepath.Join(dir, string(r.Spec.WorkspaceID))
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	b, err := json.MarshalIndent(r, "", "\t")
	if err != nil {
		return err
	}
	return replaceFile(dir, recordFile, b)
}

// replaceFile puts a file's new content on disk, all of it or none.
func replaceFile(dir, name string, b []byte) error {
	return durable.WriteFile(filepath.Join(dir, name), b, 0o600)
}
