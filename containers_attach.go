package forge

import (
	"context"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/forge-build/forge/container/monitor"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/internal/durable"
)

// ParseSignal reads the name or number of a signal, as docker does.
func ParseSignal(text string) (syscall.Signal, error) { return monitor.ParseSignal(text) }

// DetachReader reads what somebody types for a container, and fails with ErrDetached when the keys come that end the
// attachment. Keys are in docker's words; "" is ctrl-p,ctrl-q.
func DetachReader(r io.Reader, keys string) (io.Reader, error) { return monitor.DetachReader(r, keys) }

// CheckCIDFile refuses a file for a container's ID that is there already, as docker does.
func CheckCIDFile(path string) error {
	if _, err := os.Lstat(path); err == nil {
		return fmt.Errorf("container ID file found, make sure the other container isn't running or delete %s", path)
	}
	return durable.CheckOutput(path)
}

// WriteCIDFile writes a container's ID to a file.
func WriteCIDFile(ctx context.Context, path, id string) error {
	return durable.WriteOutput(ctx, path, []byte(id))
}

type (
	// Streams are what is attached to a container; nil is not attached.
	Streams = monitor.Streams
	// A TerminalSize is that of a terminal, in characters.
	TerminalSize = monitor.Size
	// A NoContainerError says that no container has a name or an ID.
	NoContainerError = state.NotFoundError
	// A NameTakenError says that a name belongs to another container.
	NameTakenError = state.NameTakenError
	// A RefusedError is docker's refusal of what cannot be done in the state that things are in.
	RefusedError = words.RefusedError
	// An InvalidError is docker's refusal of what can never be done, in no state.
	InvalidError = words.InvalidError
	// A ForbiddenError is docker's refusal of what is not to be done to a thing that is needed as it is.
	ForbiddenError = words.ForbiddenError
)
