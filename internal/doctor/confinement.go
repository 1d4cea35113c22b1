package doctor

import (
	"errors"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// memfd tries the seals that scrubbing rests on: memory that nobody can make executable, that nobody else can write from now on, and
// that in the end nobody can write at all.
func memfd() error {
	fd, err := unix.MemfdCreate("carrel-doctor", unix.MFD_CLOEXEC|unix.MFD_NOEXEC_SEAL|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return fmt.Errorf("memfd_create with MFD_NOEXEC_SEAL: %w", err)
	}
	f := os.NewFile(uintptr(fd), "memfd")
	defer f.Close()
	size := os.Getpagesize()
	if err := f.Truncate(int64(size)); err != nil {
		return err
	}
	if err := f.Chmod(0o700); !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("MFD_NOEXEC_SEAL does not hold: making it executable gave %v", err)
	}
	writer, err := unix.Mmap(fd, 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err != nil {
		return fmt.Errorf("map a memfd: %w", err)
	}
	err = futureSeal(f, writer)
	if err == nil {
		// While a writable mapping exists the last seal must be refused: that refusal is the proof that there is none afterwards.
		if _, busy := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); !errors.Is(busy, unix.EBUSY) {
			err = fmt.Errorf("F_SEAL_WRITE beside a writable mapping gave %v, not EBUSY", busy)
		}
	}
	if unmapped := unix.Munmap(writer); err == nil {
		err = unmapped
	}
	if err != nil {
		return err
	}
	return writeSeal(f)
}

// futureSeal applies F_SEAL_FUTURE_WRITE: the mapping there is writes on, all other ways are closed.
func futureSeal(f *os.File, writer []byte) error {
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_FUTURE_WRITE); err != nil {
		return fmt.Errorf("F_SEAL_FUTURE_WRITE: %w", err)
	}
	if err := refused(f, "F_SEAL_FUTURE_WRITE"); err != nil {
		return err
	}
	writer[0] = 'c'
	var got [1]byte
	if _, err := f.ReadAt(got[:], 0); err != nil || got[0] != 'c' {
		return fmt.Errorf("after F_SEAL_FUTURE_WRITE a write of the older mapping is lost: %q, %v", got[0], err)
	}
	return nil
}

// writeSeal applies F_SEAL_WRITE, to memory that has no writable mapping any more.
func writeSeal(f *os.File) error {
	if _, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, unix.F_SEAL_WRITE); err != nil {
		return fmt.Errorf("F_SEAL_WRITE: %w", err)
	}
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if want := unix.F_SEAL_WRITE | unix.F_SEAL_FUTURE_WRITE; err != nil || seals&want != want {
		return fmt.Errorf("F_GET_SEALS gives %#x, %v", seals, err)
	}
	return refused(f, "F_SEAL_WRITE")
}

// refused makes sure that sealed memory takes neither a write nor a new writable mapping.
func refused(f *os.File, seal string) error {
	if _, err := f.WriteAt([]byte{'x'}, 0); !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%s does not hold: a write gave %v", seal, err)
	}
	m, err := unix.Mmap(int(f.Fd()), 0, os.Getpagesize(), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
	if err == nil {
		_ = unix.Munmap(m)
	}
	if !errors.Is(err, unix.EPERM) {
		return fmt.Errorf("%s does not hold: a writable mapping gave %v", seal, err)
	}
	return nil
}

// landlockABI asks for the version, landlock_create_ruleset(2).
func landlockABI() (int, error) {
	abi, _, errno := unix.Syscall(unix.SYS_LANDLOCK_CREATE_RULESET, 0, 0, unix.LANDLOCK_CREATE_RULESET_VERSION)
	switch errno {
	case 0:
		return int(abi), nil
	case unix.ENOSYS:
		return 0, errors.New("not built into this kernel")
	case unix.EOPNOTSUPP:
		return 0, errors.New("built in, but switched off at boot")
	}
	return 0, fmt.Errorf("landlock_create_ruleset: %w", errno)
}

// seccomp asks whether filters may kill a process, seccomp(2). It filters nothing.
func seccomp() error {
	action := uint32(unix.SECCOMP_RET_KILL_PROCESS)
	if _, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&action))); errno != 0 {
		return fmt.Errorf("seccomp: %w", errno)
	}
	return nil
}
