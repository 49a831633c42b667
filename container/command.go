package container

import (
	"errors"
	"fmt"
	"os"
	goruntime "runtime"
	"strings"
	"syscall"

	"github.com/forge-build/forge/runtime"
)

// A CommandError means that the command of a container cannot be executed. Its text and its code are those of docker and
// of a shell: 127 if the command was not found, 126 if it cannot be executed.
type CommandError struct {
	Code int
	Text string
	err  error
}

func (e *CommandError) Error() string { return e.Text }
func (e *CommandError) Unwrap() error { return e.err }

// ExitCode is the exit status of a container whose command this is.
func (e *CommandError) ExitCode() int { return e.Code }

// notFound is a shell's exit status for a command that is not there.
const notFound = 127

// Explain makes a *CommandError of a *runtime.ExecError and leaves any other error as it is. Given are the arguments and variables of the
// command.
func Explain(err error, platform string, given []string) error {
	e, ok := errors.AsType[*runtime.ExecError](err)
	if !ok {
		return err
	}
	failure := &CommandError{Code: 126, err: e, Text: fmt.Sprintf("exec: %q: %v", e.Path, e.Err)}
	missing := errors.Is(e.Err, os.ErrNotExist)
	if missing || errors.Is(e.Err, syscall.ENOTDIR) {
		failure.Code = notFound
	}
	if errors.Is(e.Err, syscall.E2BIG) {
		failure.Text += ": " + tooLong(given)
	}
	host := goruntime.GOOS + "/" + goruntime.GOARCH
	switch {
	case missing && !strings.Contains(e.Path, "/"):
		failure.Text = fmt.Sprintf("exec: %q: executable file not found in $PATH", e.Path)
	case errors.Is(e.Err, syscall.ENOEXEC) && platform != "" && !strings.HasPrefix(platform+"/", host+"/"):
		failure.Text += fmt.Sprintf(": this is %s, and no emulator for %s is registered with the kernel (binfmt_misc)", host, platform)
	}
	return failure
}

// maxString is how many bytes the kernel takes of one argument or variable: MAX_ARG_STRLEN of execve(2), without the zero at the end.
const maxString = 32*4096 - 1

// tooLong says which of the arguments and variables of a command the kernel does not take.
func tooLong(given []string) string {
	total := 0
	for _, s := range given {
		total += len(s) + 1
		if len(s) > maxString {
			name, _, _ := strings.Cut(s, "=")
			return fmt.Sprintf("%.64s has %d bytes, and the kernel takes %d of one variable or argument: mount a file that holds it", name, len(s), maxString)
		}
	}
	return fmt.Sprintf("arguments and variables have %d bytes together, and the kernel takes a quarter of the limit of the stack, and 6 MB at most", total)
}
