package container

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"slices"

	"golang.org/x/crypto/ssh/agent"
)

// A Client is somebody on another machine whose secrets and agents a container may use. Its functions are called when a step needs what they
// give, from several goroutines; a nil one gives nothing. Errors that are fs.ErrNotExist say that the client has not given what is asked for.
type Client struct {
	Secret func(ctx context.Context, id string) ([]byte, error)
	SSH    func(ctx context.Context, id string) error                       // whether there is an agent
	Agent  func(ctx context.Context, id string) (io.ReadWriteCloser, error) // a connection to it
}

// errNotGiven says that neither the options nor the client have what a step may use.
var errNotGiven = errors.New("is not given")

// secret reads what a step may read under an ID.
func (f *Factory) secret(ctx context.Context, id string) ([]byte, error) {
	if i := slices.IndexFunc(f.Secrets, func(s Secret) bool { return s.ID == id }); i >= 0 {
		return f.Secrets[i].read(ctx)
	}
	if f.Client == nil || f.Client.Secret == nil {
		return nil, errNotGiven
	}
	value, err := f.Client.Secret(ctx, id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errNotGiven
	case len(value) > maxSecret:
		return nil, errors.New("is too large: secrets have at most 500 kB")
	}
	return value, err
}

// agent finds the agent that a step may use under an ID, and returns what connects to it.
func (f *Factory) agent(ctx context.Context, id string) (func() (agent.ExtendedAgent, func() error, error), error) {
	if i := slices.IndexFunc(f.SSH, func(s SSHSource) bool { return s.ID == id }); i >= 0 {
		return f.SSH[i].open(ctx)
	}
	if f.Client == nil || f.Client.SSH == nil {
		return nil, errNotGiven
	}
	switch err := f.Client.SSH(ctx, id); {
	case errors.Is(err, fs.ErrNotExist):
		return nil, errNotGiven
	case err != nil:
		return nil, err
	}
	return func() (agent.ExtendedAgent, func() error, error) {
		conn, err := f.Client.Agent(ctx, id)
		if err != nil {
			return nil, nil, err
		}
		return agent.NewClient(conn), conn.Close, nil
	}, nil
}
