package jail

import "golang.org/x/sys/unix"

const (
	// auditArch is the only architecture whose system calls pass: a 32-bit call has other numbers.
	auditArch = unix.AUDIT_ARCH_AARCH64
	// foreignNumbers: there is no second ABI under this architecture's mark.
	foreignNumbers = 0
)

// killedHere are forbidden calls that only this architecture has.
var killedHere = []int{unix.SYS_KEXEC_FILE_LOAD, unix.SYS_LOOKUP_DCOOKIE}
