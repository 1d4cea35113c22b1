package doctor

import (
	"context"
	"encoding/binary"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
	"unsafe"
)

// TestShortGuest runs as a child of TestGuestOnThisMachine: a guest may hang.
func TestShortGuest(t *testing.T) {
	if os.Getenv("CARREL_TEST_SHORT_GUEST") == "" {
		return // TestGuestOnThisMachine runs it
	}
	if _, err := computeInGuest(1000); err != nil {
		t.Fatal(err)
	}
}

func TestGuestOnThisMachine(t *testing.T) {
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestShortGuest$")
	cmd.Env = append(os.Environ(), "CARREL_TEST_SHORT_GUEST=1")
	out, err := child{deadline: 20 * time.Second, grace: time.Second}.run(context.Background(), cmd)
	if version, opened := kvmVersion(); opened != nil || version != kvmAPIVersion {
		if err == nil {
			t.Errorf("a guest ran, but /dev/kvm: %d, %v", version, opened)
		}
		return
	}
	// Where KVM is there, a short guest comes to the right result, interpreted or not. Or it hangs, which is no fault of the guest's.
	if err != nil && !errors.Is(err, errDeadline) && !errors.Is(err, errStuck) {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestStructuresOfTheKVMInterface(t *testing.T) {
	for name, got := range map[string][2]uintptr{
		"kvm_userspace_memory_region": {unsafe.Sizeof(memoryRegion{}), 32},
		"kvm_regs":                    {unsafe.Sizeof(registers{}), 0x90},
		"kvm_segment":                 {unsafe.Sizeof(segment{}), 24},
		"kvm_sregs":                   {unsafe.Sizeof(specialRegisters{}), 0x138},
		"kvm_cpuid2":                  {unsafe.Sizeof(cpuid{}), 8 + 256*40},
	} {
		if got[0] != got[1] {
			t.Errorf("%s has %d bytes, not %d", name, got[0], got[1])
		}
	}
}

// exits is a processor on paper that exits in a given order.
type exits struct {
	shared []byte
	list   []func(shared []byte)
}

func (e *exits) run() error {
	if len(e.list) == 0 {
		return errors.New("it ran on after its last exit")
	}
	next := e.list[0]
	e.list = e.list[1:]
	next(e.shared)
	return nil
}

func port(out bool, number uint16, word uint32) func([]byte) {
	return func(shared []byte) {
		binary.LittleEndian.PutUint32(shared[8:], exitIO)
		shared[32], shared[33] = 0, 4
		binary.LittleEndian.PutUint16(shared[34:], number)
		binary.LittleEndian.PutUint64(shared[40:], 64)
		if out {
			shared[32] = 1
			binary.LittleEndian.PutUint32(shared[64:], word)
		}
	}
}

func reason(n uint32) func([]byte) {
	return func(shared []byte) { binary.LittleEndian.PutUint32(shared[8:], n) }
}

func TestWhatAGuestMustDo(t *testing.T) {
	const seed, rounds = 7, 3
	x := guestResult(seed, rounds)
	in, low, high, halt := port(false, guestPort, 0), port(true, guestPort, uint32(x)), port(true, guestPort, uint32(x>>32)), reason(exitHlt)
	beyond := func(shared []byte) { in(shared); binary.LittleEndian.PutUint64(shared[40:], 125) }
	for _, tc := range []struct {
		name string
		list []func([]byte)
		want string
	}{
		{"the right result and a halt pass", []func([]byte){in, in, low, high, halt}, ""},
		{"a wrong result fails", []func([]byte){in, in, high, low, halt}, "it computed"},
		{"a halt without a result fails", []func([]byte){in, in, halt}, "it halted after 0 of 2"},
		{"a shutdown (triple fault) fails", []func([]byte){in, reason(8)}, "exit reason 8"},
		{"an internal error of KVM fails", []func([]byte){reason(17)}, "exit reason 17"},
		{"another port fails", []func([]byte){port(true, 0x80, 1)}, "port 0x80"},
		{"data beyond the shared page fails", []func([]byte){beyond}, "it accessed port"},
		{"reading on and on fails", []func([]byte){in, in, in}, "read more"},
		{"writing on and on fails", []func([]byte){low, low, low, low, low, low, low, low, low, low, low, low, low, low, low, low, low}, "did not halt"},
		{"an error of the kernel fails", nil, "ran on after its last exit"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			e := &exits{shared: make([]byte, 128), list: tc.list}
			err := drive{run: e.run, shared: e.shared, give: []uint32{seed, rounds}}.untilHalt()
			if (tc.want == "") != (err == nil) || err != nil && !strings.Contains(err.Error(), tc.want) {
				t.Errorf("got %v", err)
			}
		})
	}
}
