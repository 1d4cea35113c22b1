package doctor

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Requests of the KVM API and the exit reasons that a guest of ours can have: Documentation/virt/kvm/api.rst, linux/kvm.h.
const (
	kvmCreateVM            = 0xae01
	kvmGetVCPUMmapSize     = 0xae04
	kvmGetSupportedCPUID   = 0xc008ae05
	kvmCreateVCPU          = 0xae41
	kvmSetUserMemoryRegion = 0x4020ae46
	kvmSetTSSAddr          = 0xae47
	kvmRun                 = 0xae80
	kvmSetRegs             = 0x4090ae82
	kvmGetSregs            = 0x8138ae83
	kvmSetSregs            = 0x4138ae84
	kvmSetCPUID2           = 0x4008ae90

	exitIO  = 2
	exitHlt = 5
)

// The guest's memory, by guest-physical address.
const (
	guestMemory = 2 << 20
	codeAt      = 0x1000
	gdtAt       = 0x1800
	gdtrAt      = 0x1900 // the operand of lgdt
	pml4At      = 0x2000 // the value for CR3
	pdptAt      = 0x3000
	pdAt        = 0x4000
	guestPort   = 0x510
)

const (
	fewRounds  = 100_000   // under a millisecond on a processor
	manyRounds = 4_000_000 // some milliseconds: enough for the host's timer to interrupt the guest
	// fewTime is far above what a loaded machine needs for fewRounds, and well below what KVM needs where it interprets instructions.
	fewTime = 300 * time.Millisecond
)

// guestCode begins in real mode at codeAt and ends in long mode. It reads a seed and a number of rounds from guestPort, runs a linear congruential generator
// whose state goes through 256 pages of memory in turn, writes the result to the port, low half first, and halts.
var guestCode = []byte{
	0xfa,                         // cli
	0x0f, 0x01, 0x16, 0x00, 0x19, // lgdt [gdtrAt]
	0x0f, 0x20, 0xe0, // mov eax, cr4
	0x66, 0x83, 0xc8, 0x20, // or eax, PAE
	0x0f, 0x22, 0xe0, // mov cr4, eax
	0x66, 0xb8, 0x00, 0x20, 0x00, 0x00, // mov eax, pml4At
	0x0f, 0x22, 0xd8, // mov cr3, eax
	0x66, 0xb9, 0x80, 0x00, 0x00, 0xc0, // mov ecx, EFER
	0x0f, 0x32, // rdmsr
	0x66, 0x0d, 0x00, 0x01, 0x00, 0x00, // or eax, LME
	0x0f, 0x30, // wrmsr
	0x0f, 0x20, 0xc0, // mov eax, cr0
	0x66, 0x0d, 0x01, 0x00, 0x00, 0x80, // or eax, PG|PE
	0x0f, 0x22, 0xc0, // mov cr0, eax
	0xea, 0x3a, 0x10, 0x08, 0x00, // jmp 0x08:long
	// long:
	0x66, 0xb8, 0x10, 0x00, // mov ax, 0x10
	0x8e, 0xd8, // mov ds, ax
	0x8e, 0xd0, // mov ss, ax
	0x66, 0xba, 0x10, 0x05, // mov dx, guestPort
	0xed,             // in eax, dx
	0x48, 0x89, 0xc3, // mov rbx, rax
	0xed,       // in eax, dx
	0x89, 0xc1, // mov ecx, eax
	0x49, 0xb8, 0x2d, 0x7f, 0x95, 0x4c, 0x2d, 0xf4, 0x51, 0x58, // mov r8, 6364136223846793005
	0x49, 0xb9, 0x4f, 0x81, 0x67, 0xf7, 0x7e, 0x7b, 0x05, 0x14, // mov r9, 1442695040888963407
	// next:
	0x49, 0x0f, 0xaf, 0xd8, // imul rbx, r8
	0x4c, 0x01, 0xcb, // add rbx, r9
	0x89, 0xcf, // mov edi, ecx
	0x81, 0xe7, 0xff, 0x00, 0x00, 0x00, // and edi, 0xff
	0xc1, 0xe7, 0x0c, // shl edi, 12
	0x48, 0x89, 0x9f, 0x00, 0x00, 0x10, 0x00, // mov [rdi+0x100000], rbx
	0x48, 0x8b, 0x9f, 0x00, 0x00, 0x10, 0x00, // mov rbx, [rdi+0x100000]
	0xff, 0xc9, // dec ecx
	0x75, 0xdc, // jnz next
	0x89, 0xd8, // mov eax, ebx
	0xef,                   // out dx, eax
	0x48, 0xc1, 0xeb, 0x20, // shr rbx, 32
	0x89, 0xd8, // mov eax, ebx
	0xef, // out dx, eax
	0xf4, // hlt
}

// guestResult computes on this processor what the guest must come to.
func guestResult(seed, rounds uint32) uint64 {
	x := uint64(seed)
	for range rounds {
		x = x*6364136223846793005 + 1442695040888963407
	}
	return x
}

// guestImage is the guest's memory at its start: code, descriptors, and page tables that map the first 2 MiB onto themselves.
func guestImage(memory []byte) {
	put := binary.LittleEndian.PutUint64
	copy(memory[codeAt:], guestCode)
	put(memory[gdtAt+8:], 0x00209a0000000000)  // 64-bit code
	put(memory[gdtAt+16:], 0x0000920000000000) // data
	binary.LittleEndian.PutUint16(memory[gdtrAt:], 3*8-1)
	binary.LittleEndian.PutUint32(memory[gdtrAt+2:], gdtAt)
	put(memory[pml4At:], pdptAt|3)
	put(memory[pdptAt:], pdAt|3)
	put(memory[pdAt:], 0x83) // one large page
}

type (
	memoryRegion struct {
		slot, flags           uint32
		guest, size, userland uint64
	}
	registers struct{ rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8, r9, r10, r11, r12, r13, r14, r15, rip, rflags uint64 }
	segment   struct {
		base     uint64
		limit    uint32
		selector uint16
		flags    [10]byte
	}
	specialRegisters struct {
		segments [8]segment // cs first
		rest     [120]byte
	}
	cpuid struct {
		n, _    uint32
		entries [256][40]byte
	}
)

func ioctl(fd int, request uintptr, arg uintptr) (int, error) {
	for {
		n, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, arg)
		switch errno {
		case 0:
			return int(n), nil
		case unix.EINTR: // the runtime's own signals interrupt a running guest
		default:
			return 0, errno
		}
	}
}

func ioctlPointer(fd int, request uintptr, arg unsafe.Pointer) error {
	for {
		_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), request, uintptr(arg))
		switch errno {
		case 0:
			return nil
		case unix.EINTR:
		default:
			return errno
		}
	}
}

// runGuest runs the probe guest, shortly and then for longer. It may hang, also in the kernel: it belongs in a process of its own, whose
// end closes and unmaps everything. KVM without processor support may interpret a guest's instructions one by one: the guest computes
// rightly then, some thousand times too slowly, and ordinary kernels seem to hang.
func runGuest() error {
	took, err := computeInGuest(fewRounds)
	if err != nil {
		return err
	}
	if took > fewTime {
		return fmt.Errorf("it computes rightly, but %d rounds took it %s, where a processor needs under 1ms: instructions are interpreted, and ordinary kernels seem to hang",
			fewRounds, took.Round(time.Millisecond))
	}
	_, err = computeInGuest(manyRounds)
	return err
}

// computeInGuest makes a guest, runs it for a number of rounds from a seed of this moment, and checks its result. It gives the time
// that running it took.
func computeInGuest(rounds uint32) (time.Duration, error) {
	kvm, err := openKVM()
	if err != nil {
		return 0, err
	}
	memory, err := unix.Mmap(-1, 0, guestMemory, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED|unix.MAP_ANONYMOUS)
	if err != nil {
		return 0, err
	}
	guestImage(memory)
	vm, err := ioctl(kvm, kvmCreateVM, 0)
	if err != nil {
		return 0, fmt.Errorf("create a virtual machine: %w", err)
	}
	// Older Intel processors need three pages for real mode, out of the way of memory.
	if _, err := ioctl(vm, kvmSetTSSAddr, 0xfffbd000); err != nil {
		return 0, fmt.Errorf("place the TSS: %w", err)
	}
	region := memoryRegion{size: guestMemory, userland: uint64(uintptr(unsafe.Pointer(&memory[0])))}
	if err := ioctlPointer(vm, kvmSetUserMemoryRegion, unsafe.Pointer(&region)); err != nil {
		return 0, fmt.Errorf("give it memory: %w", err)
	}
	vcpu, err := newVCPU(kvm, vm)
	if err != nil {
		return 0, err
	}
	size, err := ioctl(kvm, kvmGetVCPUMmapSize, 0)
	if err != nil {
		return 0, err
	}
	shared, err := unix.Mmap(vcpu, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return 0, fmt.Errorf("map its processor: %w", err)
	}
	var seed [4]byte
	rand.Read(seed[:])
	begin := time.Now()
	d := drive{run: func() error { _, err := ioctl(vcpu, kvmRun, 0); return err }, shared: shared, give: []uint32{binary.LittleEndian.Uint32(seed[:]), rounds}}
	err = d.untilHalt()
	return time.Since(begin), err
}

// newVCPU makes a processor that begins in real mode at codeAt.
func newVCPU(kvm, vm int) (int, error) {
	vcpu, err := ioctl(vm, kvmCreateVCPU, 0)
	if err != nil {
		return 0, fmt.Errorf("create its processor: %w", err)
	}
	features := cpuid{n: 256} // KVM allows long mode only to a processor that was said to have it
	if err := ioctlPointer(kvm, kvmGetSupportedCPUID, unsafe.Pointer(&features)); err != nil {
		return 0, fmt.Errorf("ask for processor features: %w", err)
	}
	if err := ioctlPointer(vcpu, kvmSetCPUID2, unsafe.Pointer(&features)); err != nil {
		return 0, fmt.Errorf("set processor features: %w", err)
	}
	var special specialRegisters
	if err := ioctlPointer(vcpu, kvmGetSregs, unsafe.Pointer(&special)); err != nil {
		return 0, fmt.Errorf("read its segments: %w", err)
	}
	special.segments[0].base, special.segments[0].selector = 0, 0
	if err := ioctlPointer(vcpu, kvmSetSregs, unsafe.Pointer(&special)); err != nil {
		return 0, fmt.Errorf("set its segments: %w", err)
	}
	if err := ioctlPointer(vcpu, kvmSetRegs, unsafe.Pointer(&registers{rip: codeAt, rflags: 2})); err != nil {
		return 0, fmt.Errorf("set its registers: %w", err)
	}
	return vcpu, nil
}

// drive runs a guest from exit to exit. Its struct kvm_run is in shared; give is what the guest reads from its port, the seed and the
// number of rounds.
type drive struct {
	run    func() error
	shared []byte
	give   []uint32
}

// untilHalt runs the guest until it halts, and checks what it did.
func (d drive) untilHalt() error {
	var said []uint32
	read := 0
	for range 16 { // a guest that is well exits five times
		if err := d.run(); err != nil {
			return fmt.Errorf("run it: %w", err)
		}
		switch reason := binary.LittleEndian.Uint32(d.shared[8:]); reason {
		case exitIO:
			out, width, port := d.shared[32] == 1, d.shared[33], binary.LittleEndian.Uint16(d.shared[34:])
			at := binary.LittleEndian.Uint64(d.shared[40:])
			switch {
			case width != 4 || port != guestPort || at > uint64(len(d.shared)-4):
				return fmt.Errorf("it accessed port %#x with %d bytes", port, width)
			case out:
				said = append(said, binary.LittleEndian.Uint32(d.shared[at:]))
			case read == len(d.give):
				return errors.New("it read more than there is")
			default:
				binary.LittleEndian.PutUint32(d.shared[at:], d.give[read])
				read++
			}
		case exitHlt:
			if len(said) != 2 {
				return fmt.Errorf("it halted after %d of 2 words", len(said))
			}
			if got, want := uint64(said[1])<<32|uint64(said[0]), guestResult(d.give[0], d.give[1]); got != want {
				return fmt.Errorf("it computed %#x instead of %#x", got, want)
			}
			return nil
		default:
			return fmt.Errorf("it stopped with exit reason %d", reason)
		}
	}
	return errors.New("it did not halt")
}
