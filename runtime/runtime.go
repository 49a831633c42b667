// Package runtime runs one process in a root directory and namespaces of its own.
//
// Nothing is set up by path: the root, its mounts and their targets are descriptors. The set-up is planned as a list of
// system calls (program.go) and carried out by an interpreter of a few hundred bytes (interpreter_*.s), an executable of its own, so
// that no code and no binary of the caller is ever inside a container. docs/runtime.md gives the order and the reasons.
package runtime

import (
	"io"
	"os"
)

// A Spec is what to run and in what surroundings. Zero values are the safe defaults of docs/security.md.
type Spec struct {
	Root       *os.File // root directory: a detached mount or a directory descriptor; not closed
	Args       []string // Args[0] is looked up in Env's PATH inside the root
	Env        []string
	Dir        string  // working directory inside, "" is "/"; made by nobody
	User       User    // numeric, see LookupUser
	Terminal   bool    // a pty is made; Stdio.In/Out are wired to it
	Rows, Cols uint16  // of the terminal when the process begins; 0 is what the kernel has: none
	Mounts     []Mount // after the defaults, in order; mount points exist, but those below /dev are made
	Hostname   string  // "" is the host's
	Domainname string  // NIS domain name; "" is the host's
	Limits     Limits
	Security   Security
	Network    Network
	Shared     Namespaces        // those that are not its own
	Isolation  Isolation         // "" is ByNamespaces; see ByChroot for what the other cannot do
	Sysctls    map[string]string // by name, "net.core.somaxconn": those of its own namespaces
	Init       bool              // process 1 is one that reaps, hands on signals, and ends as the command does

	Host *Host // what is known of this machine; nil is nothing

	// Warn is told, before the process runs, what is not as the caller asked for. It may be nil.
	Warn func(text string)
}

// A Mount is put at Target, which exists in the root unless it is below /dev.
type Mount struct {
	Target   string   // absolute, links resolved within the root
	Source   *os.File // a directory, file or detached mount to bind, with what is mounted below it; nil is a tmpfs
	ReadOnly bool
	NoExec   bool
	Setuid   bool // tmpfs: honour setuid and setgid bits; what is bound honours them as it does elsewhere
	Devices  bool // honour device nodes; what is bound does also where a devices cgroup guards, or with Privileged
	Tmpfs    Tmpfs

	Propagation uint64     // of what is bound: unix.MS_SHARED, MS_SLAVE or MS_PRIVATE; 0 is private
	Attributes  Attributes // of what is bound, beside those above
}

// Attributes are those of mount_setattr(2).
type Attributes struct{ Set, Clear uint64 }

// A Tmpfs is a file system in memory.
type Tmpfs struct {
	Size     int64  // bytes, 0 is the kernel's default: half of the memory
	Mode     uint32 // of its root, 0 is 01777
	UID, GID uint32 // of its root
}

// Limits on what the container may use; zero is no limit, but for Pids (4096) and ShmSize (64 MiB).
type Limits struct {
	Memory            int64 // bytes
	MemorySwap        int64 // bytes of memory and swap together, -1 is no limit; 0 is twice the memory
	MemoryReservation int64 // bytes it is left with where memory is short
	CPULimits
	BlockIO        BlockIO
	Pids           int64 // processes and threads; -1 is no limit
	ShmSize        int64 // bytes of /dev/shm
	OOMKillDisable bool  // where memory is short, wait: cgroups of version 1 only
	OOMScoreAdj    int   // -1000 to 1000: how willing the kernel is to kill it
	Ulimits        []Ulimit

	// Account has the container counted by every cgroup controller, limits or not: for [Target.Stats] and
	// [Target.Update], which take it with cgroups of version 1.
	Account bool
	Ahead   *CgroupAhead // has the cgroup of one container; nil, or one that was taken, has it made
}

// CPULimits say how much of the processors it gets, and of which.
type CPULimits struct {
	NanoCPUs  int64  // processors, times 1e9
	CPUPeriod int64  // over what CPUQuota is counted, in microseconds; 0 is the kernel's default
	CPUQuota  int64  // time of processors in a period, in microseconds; instead of NanoCPUs
	CPUShares int64  // weight against others, 1024 is usual
	CPUs      string // those it may use, such as "0-2,5"
	Mems      string // nodes whose memory it may use
}

// Security loosens or tightens the defaults.
type Security struct {
	Privileged      bool     // all capabilities, no seccomp, no masks, the host's devices
	CapAdd, CapDrop []string // with or without CAP_, any case; ALL
	Seccomp         string   // "" default, "unconfined" or a profile (Docker's JSON)
	NoNewPrivileges bool
	ReadOnlyRoot    bool
}

// A Network is the network namespace the process gets.
type Network struct {
	// Mode is "none" or "" (own namespace, loopback only), "host", or "default": the namespace that was prepared
	// (package network), loopback only if there is none.
	Mode      string
	Namespace *os.File // of mode "default"; not closed
}

// Stdio of the process. Nil is /dev/null. A pipe of the process's user is given to it as it is. Anything else is
// copied, through a pipe that belongs to that user.
type Stdio struct {
	In       io.Reader
	Out, Err io.Writer
}

// A SetupError means that the container could not be made. It says nothing about the command, which has not run.
type SetupError struct {
	Step string // such as "mount /proc"
	Err  error
}

func (e *SetupError) Error() string { return e.Step + ": " + e.Err.Error() }
func (e *SetupError) Unwrap() error { return e.Err }

// An ExecError means that the command could not be executed: not found (127) or not executable (126).
type ExecError struct {
	Path string
	Err  error
}

func (e *ExecError) Error() string { return e.Path + ": " + e.Err.Error() }
func (e *ExecError) Unwrap() error { return e.Err }
