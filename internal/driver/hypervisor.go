package driver

import (
	"context"
	"fmt"
	"time"

	"carrel/internal/ident"
)

// MachineState is what a machine is.
type MachineState string

// The states of a machine. There is no state for "gone": a released machine is ErrNotFound.
const (
	// MachineRunning: guest memory is held and the guest runs.
	MachineRunning MachineState = "running"
	// MachineStopped: guest memory is saved encrypted under a key of its own, the memory itself is zeroed and given back.
	MachineStopped MachineState = "stopped"
	// MachineFailed: the machine has ended by itself or does not answer; its memory is still held. Start scrubs it and boots anew.
	MachineFailed MachineState = "failed"
	// MachineScrubbed: memory and saved memory are gone; the report is kept until Release.
	MachineScrubbed MachineState = "scrubbed"
)

// MachineSpec is what a machine is made of. Its id is the WorkSpace's: a desktop has at most one machine.
type MachineSpec struct {
	WorkspaceID ident.WorkspaceID
	// Host is the placement's choice (Placement.Host).
	Host         string
	ComputerName string
	// UserName is the person the desktop is for: the account its session is opened as.
	UserName string
	// Compute is the ComputeTypeName ("STANDARD"), which the hypervisor turns into processors and memory.
	Compute   string
	Root      VolumeID
	User      VolumeID
	Interface ident.InterfaceID
	// Reboots is the number of reboots asked for so far; a machine that starts counts them as done.
	Reboots int
}

// Machine is what exists of a desktop's machine.
type Machine struct {
	WorkspaceID ident.WorkspaceID
	State       MachineState
	Host        string
	// MemoryBytes is the guest memory held; 0 unless running or failed.
	MemoryBytes int64
	// Run names this run of the virtual machine on its host; a resume is a new run.
	Run string
	// Reboots is the number given to the last Start or Reboot.
	Reboots int
	// Since is when State was entered.
	Since time.Time
}

// ScrubReport says what a scrub did and what it found. The caller signs it; see ARCHITECTURE, "life of a desktop".
type ScrubReport struct {
	WorkspaceID ident.WorkspaceID
	Host        string
	// Method names the way ("qemu-freeze-zero-seal-readback", "simulated").
	Method string
	// Simulated: no machine existed; the report proves nothing about memory.
	Simulated bool
	// Run names the run whose memory was scrubbed, from RunStarted to RunEnded.
	Run        string
	RunStarted time.Time
	RunEnded   time.Time
	// MemoryBytes is the guest memory that was zeroed; ReadBytes what was read back after sealing. Equal in a clean scrub.
	MemoryBytes int64
	ReadBytes   int64
	// ProcessBytes is what was zeroed in the machine process itself: its heap holds guest data and disk keys.
	ProcessBytes int64
	// ProcessEnded: the process had ended by itself before it could be overwritten (it crashed, or was killed from outside). Its pages went back
	// to the kernel; Facts.InitOnFree tells whether they were zeroed there. ProcessBytes is 0 then.
	ProcessEnded bool
	// ProcessSkipped counts the process's writable bytes that were not overwritten, by reason ("device"), and those of which a copy may be
	// elsewhere ("was in swap").
	ProcessSkipped map[string]int64
	// NonZero counts the bytes that did not read back as zero.
	NonZero int64
	// Digest is of the memory as read back, lower-case hexadecimal: SHA-256 of all of it ("simulated"), or SHA-256 of the SHA-256 of each MiB
	// of it, in order (the last may be shorter): "qemu-freeze-zero-seal-readback".
	Digest string
	// Sealed: the kernel refused further writable mappings before the read-back began.
	Sealed bool
	// Keys are the ids of the saved-memory keys destroyed.
	Keys     []string
	Started  time.Time
	Finished time.Time
	Facts    HostFacts
}

// HostFacts are what the host says of itself at the time of a scrub: the ways by which memory can leave a process.
type HostFacts struct {
	Kernel string
	// InitOnFree, InitOnAlloc: the kernel zeroes pages when it frees or hands them out.
	InitOnFree  bool
	InitOnAlloc bool
	// SwapActive: some swap exists. Unswappable: guest memory was locked or on a noswap file system.
	SwapActive  bool
	Unswappable bool
	// KSMActive: the kernel merges equal pages across processes.
	KSMActive bool
	// CoreDumpsOff: the machine's process could not be dumped.
	CoreDumpsOff bool
}

// Clean is nil when the report proves that all memory is gone, else an ErrUnclean that says what is missing.
func (r ScrubReport) Clean() error {
	switch {
	case r.MemoryBytes <= 0:
		return fmt.Errorf("%w: no memory was zeroed", ErrUnclean)
	case r.NonZero != 0:
		return fmt.Errorf("%w: %d of %d bytes read back are not zero", ErrUnclean, r.NonZero, r.ReadBytes)
	case r.ReadBytes != r.MemoryBytes:
		return fmt.Errorf("%w: %d of %d bytes were read back", ErrUnclean, r.ReadBytes, r.MemoryBytes)
	case !r.Sealed:
		return fmt.Errorf("%w: the memory could not be sealed against writing", ErrUnclean)
	case r.Finished.IsZero():
		return fmt.Errorf("%w: the scrub did not finish", ErrUnclean)
	}
	return nil
}

// Hypervisor runs one machine a desktop. Methods may be called concurrently; two calls on one id at once give ErrBusy to
// the second. Every method may give ErrUnavailable.
type Hypervisor interface {
	// Place chooses a host for a new machine. It reserves nothing; the same spec may be placed elsewhere next time.
	// A PermanentError: no host can ever run the spec.
	Place(ctx context.Context, spec MachineSpec) (host string, err error)
	// Start makes the machine run: made when there is none, resumed when stopped, as it is when running.
	// ErrOrder: it is scrubbed. ErrNotFound: a volume or interface of the spec does not exist. PermanentError: cannot ever start.
	Start(ctx context.Context, spec MachineSpec) (Machine, error)
	// Stop saves the memory encrypted, then zeroes, seals and reads it back as Scrub does, and gives it back. Stopped already: success.
	// ErrNotFound; ErrOrder: it is scrubbed; ErrUnclean: something was read back, the machine stays frozen and counts as running.
	Stop(ctx context.Context, id ident.WorkspaceID) (Machine, error)
	// Reboot restarts the guest unless the machine has already counted `count` reboots (so that asking twice reboots once).
	// ErrNotFound; ErrOrder: it does not run.
	Reboot(ctx context.Context, id ident.WorkspaceID, count int) (Machine, error)
	// Inspect tells what exists. ErrNotFound.
	Inspect(ctx context.Context, id ident.WorkspaceID) (Machine, error)
	// Scrub freezes the machine, zeroes its process and its memory, kills it, seals the memory, reads all of it back and
	// destroys the keys of saved memory. Of a stopped machine the report is that of its stop, completed by the destroyed keys.
	// Scrubbed already: the same report again, until Release.
	// ErrNotFound; ErrUnclean: something was read back, the machine stays.
	Scrub(ctx context.Context, id ident.WorkspaceID) (ScrubReport, error)
	// Release forgets a scrubbed machine; to be called only once its certificate is signed. Gone already: success.
	// ErrOrder: it is not scrubbed.
	Release(ctx context.Context, id ident.WorkspaceID) error
	// List gives all machines, scrubbed ones included, in order of id.
	List(ctx context.Context) ([]Machine, error)
}
