package runtime

import "golang.org/x/sys/unix"

const elfMachine = 62 // EM_X86_64

// What seccomp profiles and the kernel call this architecture and the one of 32 bits beside it.
const (
	archName    = "amd64"
	scmpNative  = "SCMP_ARCH_X86_64"
	scmpCompat  = "SCMP_ARCH_X86"
	auditNative = unix.AUDIT_ARCH_X86_64
	auditCompat = unix.AUDIT_ARCH_I386
	// x32Bit marks system calls of a third, which nobody has.
	x32Bit = 0x40000000
	// privateBase is where ARM has more calls.
	privateBase = 0
)
