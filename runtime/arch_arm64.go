package runtime

import "golang.org/x/sys/unix"

const elfMachine = 183 // EM_AARCH64

// What seccomp profiles and the kernel call this architecture and the one of 32 bits beside it.
const (
	archName    = "arm64"
	scmpNative  = "SCMP_ARCH_AARCH64"
	scmpCompat  = "SCMP_ARCH_ARM"
	auditNative = unix.AUDIT_ARCH_AARCH64
	auditCompat = unix.AUDIT_ARCH_ARM
	x32Bit      = 0 // there is no third
	// privateBase is where the 32 bit architecture has more calls: its programs cannot start without set_tls.
	privateBase = 0x0f0000
)
