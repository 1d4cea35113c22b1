package jail

import "golang.org/x/sys/unix"

const (
	// auditArch is the only architecture whose system calls pass: a 32-bit call has other numbers.
	auditArch = unix.AUDIT_ARCH_X86_64
	// foreignNumbers is where the numbers of the x32 ABI begin, which reach the same calls around the filter.
	foreignNumbers = 0x40000000
)

// killedHere are forbidden calls that only this architecture has.
var killedHere = []int{unix.SYS_KEXEC_FILE_LOAD, unix.SYS_IOPL, unix.SYS_IOPERM, unix.SYS_MODIFY_LDT, unix.SYS_USELIB, unix.SYS__SYSCTL, unix.SYS_USTAT, unix.SYS_SYSFS,
	unix.SYS_CREATE_MODULE, unix.SYS_GET_KERNEL_SYMS, unix.SYS_QUERY_MODULE, unix.SYS_LOOKUP_DCOOKIE}
