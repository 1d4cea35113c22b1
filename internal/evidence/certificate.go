package evidence

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
	"time"
)

// ScrubCertificate is the payload of a scrub-certificate record: what was done to a desktop's memory and disk keys before its
// host memory was given back, and what the host was like while it ran. Ids are strings because this package knows no other.
type ScrubCertificate struct {
	// CertificateID is "sc-" and 17 lower-case hex digits (`sc-0123456789abcdef0`).
	CertificateID string `json:"certificateId"`
	WorkspaceID   string `json:"workspaceId"`
	// Simulated certificates come from a simulated hypervisor: no memory existed, nothing is proven.
	Simulated bool `json:"simulated"`
	// Host names the machine that ran the desktop.
	Host string `json:"host"`
	// Machine names one run of the desktop's virtual machine on that host.
	Machine string `json:"machine"`
	// MachineStart and MachineEnd bound the run of the virtual machine.
	MachineStart time.Time `json:"machineStart"`
	MachineEnd   time.Time `json:"machineEnd"`
	// ScrubStart and ScrubEnd bound the zeroing and the reading back.
	ScrubStart time.Time `json:"scrubStart"`
	ScrubEnd   time.Time `json:"scrubEnd"`
	// Method says how, in a fixed word of the hypervisor driver ("freeze-zero-kill-zero-seal-readback").
	Method string `json:"method"`
	// BytesZeroed and BytesVerified count guest memory: written with zeros, and read back as zeros. They are equal in a good scrub.
	BytesZeroed   int64 `json:"bytesZeroed"`
	BytesVerified int64 `json:"bytesVerified"`
	// ProcessBytesZeroed counts the machine process's own writable pages, which hold copies of guest data and disk keys.
	ProcessBytesZeroed int64 `json:"processBytesZeroed"`
	// ProcessEnded: the process had ended by itself before its own pages could be overwritten; whether they were zeroed then is the
	// kernel's doing (HostFacts.InitOnFree).
	ProcessEnded bool `json:"processEnded,omitempty"`
	// ProcessBytesSkipped counts, by reason, the process's writable bytes that were not overwritten ("device"), and those of which a copy may be elsewhere ("was
	// in swap"). Absent: none, or a certificate of a version that did not say.
	ProcessBytesSkipped map[string]int64 `json:"processBytesSkipped,omitempty"`
	// ReadBackDigest is a digest, in hex, of all bytes read back after the memory was sealed against writing: for the method
	// "qemu-freeze-zero-seal-readback" the SHA-256 of the SHA-256 of each MiB.
	ReadBackDigest string    `json:"readBackDigest"`
	HostFacts      HostFacts `json:"hostFacts"`
	// VolumeKeysDestroyed lists the disk keys that no longer exist; empty when the volumes live on (a stop).
	VolumeKeysDestroyed []VolumeKey `json:"volumeKeysDestroyed"`
}

// HostFacts are what the host said of itself at the time of the scrub: the ways by which memory can leave a process.
type HostFacts struct {
	Kernel string `json:"kernel"`
	// InitOnFree and InitOnAlloc: the kernel zeroes pages when it frees or hands them out.
	InitOnFree  bool `json:"initOnFree"`
	InitOnAlloc bool `json:"initOnAlloc"`
	// SwapActive: pages may have been written to disk, unless the memory was locked or on a noswap file system.
	SwapActive bool `json:"swapActive"`
	// MemoryUnswappable: the guest's memory was locked or on a noswap file system.
	MemoryUnswappable bool `json:"memoryUnswappable"`
	// KSMActive: the kernel merges equal pages across processes.
	KSMActive bool `json:"ksmActive"`
	// CoreDumpsOff: the machine's process could not be dumped.
	CoreDumpsOff bool `json:"coreDumpsOff"`
	// Sealed: the kernel refused further writable mappings before the read-back.
	Sealed bool `json:"sealed"`
}

// VolumeKey names a destroyed disk key, never the key.
type VolumeKey struct {
	// Volume is "root" or "user", or a volume id.
	Volume string `json:"volume"`
	// KeyID is the id or salted fingerprint by which the key was known.
	KeyID       string    `json:"keyId"`
	DestroyedAt time.Time `json:"destroyedAt"`
}

// Validate reports all that is missing or contradictory. A certificate that claims more than was read back is refused.
func (c *ScrubCertificate) Validate() error {
	var problems []error
	bad := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }
	if ok, _ := regexp.MatchString(`^sc-[0-9a-f]{17}$`, c.CertificateID); !ok {
		bad("certificateId %q: want sc- and 17 hex digits", c.CertificateID)
	}
	for _, f := range [...]struct{ name, value string }{{"workspaceId", c.WorkspaceID}, {"host", c.Host}, {"machine", c.Machine}, {"method", c.Method}} {
		if f.value == "" {
			bad("%s is missing", f.name)
		}
	}
	if digest, err := hex.DecodeString(c.ReadBackDigest); err != nil || len(digest) != 32 {
		bad("readBackDigest: want 64 hex digits")
	}
	if c.MachineStart.IsZero() || c.MachineEnd.Before(c.MachineStart) {
		bad("machine ran from %s to %s", c.MachineStart, c.MachineEnd)
	}
	if c.ScrubStart.IsZero() || c.ScrubEnd.Before(c.ScrubStart) {
		bad("scrub ran from %s to %s", c.ScrubStart, c.ScrubEnd)
	}
	if c.BytesZeroed <= 0 || c.BytesVerified != c.BytesZeroed || c.ProcessBytesZeroed < 0 {
		bad("%d bytes zeroed, %d verified: want the same number, more than 0", c.BytesZeroed, c.BytesVerified)
	}
	for reason, n := range c.ProcessBytesSkipped {
		if reason == "" || n <= 0 {
			bad("%d bytes of the process skipped for %q: want a reason and a number more than 0", n, reason)
		}
	}
	for _, k := range c.VolumeKeysDestroyed {
		if k.Volume == "" || k.KeyID == "" || k.DestroyedAt.IsZero() {
			bad("volume key %q of %q: incomplete", k.KeyID, k.Volume)
		}
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("scrub certificate: %w", err)
	}
	return nil
}

// String is the certificate for people. A simulated one begins by saying so.
func (c *ScrubCertificate) String() string {
	var b strings.Builder
	if c.Simulated {
		b.WriteString("*** SIMULATED: no memory existed, this certificate proves nothing ***\n")
	}
	fmt.Fprintf(&b, "certificate     %s\n", c.CertificateID)
	fmt.Fprintf(&b, "workspace       %s\n", c.WorkspaceID)
	fmt.Fprintf(&b, "host            %s (kernel %s)\n", c.Host, c.HostFacts.Kernel)
	fmt.Fprintf(&b, "machine         %s, %s to %s\n", c.Machine, stamp(c.MachineStart), stamp(c.MachineEnd))
	fmt.Fprintf(&b, "scrub           %s, %s to %s\n", c.Method, stamp(c.ScrubStart), stamp(c.ScrubEnd))
	fmt.Fprintf(&b, "memory          %d bytes zeroed, %d read back as zeros, %d of the process itself\n",
		c.BytesZeroed, c.BytesVerified, c.ProcessBytesZeroed)
	for _, reason := range slices.Sorted(maps.Keys(c.ProcessBytesSkipped)) {
		fmt.Fprintf(&b, "process         %d bytes not overwritten, or elsewhere too: %s\n", c.ProcessBytesSkipped[reason], reason)
	}
	fmt.Fprintf(&b, "read-back       sha256:%s\n", c.ReadBackDigest)
	f := c.HostFacts
	fmt.Fprintf(&b, "host facts      init_on_free=%t init_on_alloc=%t swap=%t unswappable=%t ksm=%t core_dumps_off=%t sealed=%t\n",
		f.InitOnFree, f.InitOnAlloc, f.SwapActive, f.MemoryUnswappable, f.KSMActive, f.CoreDumpsOff, f.Sealed)
	for _, k := range c.VolumeKeysDestroyed {
		fmt.Fprintf(&b, "key destroyed   %s %s at %s\n", k.Volume, k.KeyID, stamp(k.DestroyedAt))
	}
	return b.String()
}

// The methods whose read-back digest this version can compute.
const (
	methodQEMU      = "qemu-freeze-zero-seal-readback"
	methodSimulated = "simulated"
)

// ErrDigest: what a certificate says was read back is not that many zeros.
var ErrDigest = errors.New("evidence: the read-back digest is not that of zeros")

// CheckDigest compares the read-back digest with that of as many zeros: it needs nobody's word. compared is false when this version does not know how the
// certificate's method makes its digest.
func (c *ScrubCertificate) CheckDigest() (compared bool, err error) {
	var want string
	switch c.Method {
	case methodQEMU:
		want = zeroDigest(c.BytesVerified)
	case methodSimulated:
		want = digestOfZeros(c.BytesVerified)
	default:
		return false, nil
	}
	if want != c.ReadBackDigest {
		return true, fmt.Errorf("%w: %s has %s, %d zeros give %s", ErrDigest, c.CertificateID, c.ReadBackDigest, c.BytesVerified, want)
	}
	return true, nil
}

var zeros [1 << 20]byte

// zeroDigest is SHA-256 of the SHA-256 of each MiB of zeros, in order; the last may be shorter.
func zeroDigest(size int64) string {
	h, whole := sha256.New(), sha256.Sum256(zeros[:])
	for ; size >= int64(len(zeros)); size -= int64(len(zeros)) {
		_, _ = h.Write(whole[:])
	}
	if size > 0 {
		rest := sha256.Sum256(zeros[:size])
		_, _ = h.Write(rest[:])
	}
	return hex.EncodeToString(h.Sum(nil))
}

// digestOfZeros is SHA-256 of zeros.
func digestOfZeros(size int64) string {
	h := sha256.New()
	for ; size > 0; size -= int64(len(zeros)) {
		_, _ = h.Write(zeros[:min(size, int64(len(zeros)))])
	}
	return hex.EncodeToString(h.Sum(nil))
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }

// Scrub reads the certificate of a scrub-certificate record. It does not verify the record.
func Scrub(rec Record) (*ScrubCertificate, error) {
	if rec.Kind != KindScrub {
		return nil, fmt.Errorf("evidence record %d is a %s, not a %s", rec.Sequence, rec.Kind, KindScrub)
	}
	c := new(ScrubCertificate)
	if err := json.Unmarshal(rec.Payload, c); err != nil {
		return nil, fmt.Errorf("evidence record %d: %w", rec.Sequence, err)
	}
	return c, nil
}

// AppendScrub validates a certificate and appends it, with the WorkSpace as subject.
func (l *Log) AppendScrub(c *ScrubCertificate) (Record, error) {
	if err := c.Validate(); err != nil {
		return Record{}, err
	}
	return l.Append(KindScrub, c.WorkspaceID, c)
}
