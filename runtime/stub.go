// Package runtime runs one process in a root directory and namespaces of its own.
package runtime

import (
	"context"
	"io"
	"os"
)

// STUBS: seams other rooms compile against.

// A Spec is what to run and in what surroundings. Zero values are the safe defaults of docs/security.md.
type Spec struct {
	Root     *os.File // root directory: a detached mount or a directory descriptor; not closed
	Args     []string // Args[0] is looked up in Env's PATH inside the root
	Env      []string
	Dir      string  // working directory inside; made by nobody
	User     User    // numeric, see LookupUser
	Terminal bool    // a pty is made; Stdio.In/Out are wired to it
	Mounts   []Mount // after the defaults, in order; mount points exist
	Hostname string
	Limits   Limits
	Security Security
	Network  Network
	Init     bool // not yet
}

// A Mount is put at Target, which exists in the root.
type Mount struct {
	Target   string   // absolute, links resolved within the root
	Source   *os.File // a directory, file or detached mount to bind; nil is a tmpfs
	ReadOnly bool
	NoExec   bool
	Size     int64  // tmpfs: bytes, 0 is no limit
	Mode     uint32 // tmpfs: of its root
	Devices  bool   // allow device nodes
}

// A User is who runs the process.
type User struct {
	UID, GID uint32
	Groups   []uint32
	Home     string // "/" if unknown
}

// LookupUser resolves USER as docker does against passwd and group files of the image (either may be nil).
func LookupUser(user string, passwd, group io.Reader) (User, error) { panic("stub") }

type Limits struct {
	Memory, NanoCPUs, Pids, ShmSize int64
	Ulimits                         []string
}

type Security struct {
	Privileged      bool
	CapAdd, CapDrop []string
	Seccomp         string // "" default, "unconfined" or a file's path
	NoNewPrivileges bool
	ReadOnlyRoot    bool
}

// A Network is "none" (own namespace, loopback only), "host", or "default".
type Network struct{ Mode string }

// Stdio of the process. Nil is /dev/null. With *os.File no copying goes on.
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

// Start runs the process. Cancelling ctx kills everything in the container.
func Start(ctx context.Context, s Spec, io Stdio) (*Process, error) { panic("stub") }

// A Process is running.
type Process struct{}

// Exit is how a process ended.
type Exit struct {
	Code   int // 128+Signal if it was killed
	Signal int
	OOM    bool
}

func (p *Process) Pid() int                       { panic("stub") }
func (p *Process) Wait() (Exit, error)            { panic("stub") } // everything in the container is gone when it returns
func (p *Process) Signal(sig os.Signal) error     { panic("stub") }
func (p *Process) Resize(rows, cols uint16) error { panic("stub") }

// Main handles re-execution: if this process was started by Start (or to enter a user namespace), it does that work and never returns.
// cmd/forge calls it first.
func Main() { panic("stub") }

// EnterUserNamespace re-executes the program as root of a new user and mount namespace if it is not root, so that layers can be
// mounted; it returns only if there is nothing to do or it could not be done (the reason is the error).
func EnterUserNamespace() error { panic("stub") }
