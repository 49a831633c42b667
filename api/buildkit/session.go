package buildkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"time"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/internal/grpc"
)

// A session is a connection over which the server calls the client.
type session struct {
	*grpc.Client

	key    string          // names the client's directory among those of others; may be ""
	ctx    context.Context // is done when the client has gone
	offers map[string]bool // methods that the client answers; nil if it has not said
}

// Headers of a request for a session.
const (
	sessionID     = "X-Docker-Expose-Session-Uuid"
	sessionKey    = "X-Docker-Expose-Session-Sharedkey"
	sessionMethod = "X-Docker-Expose-Session-Grpc-Method"
)

// sessionWait is how long a build waits for the session that it names.
const sessionWait = 10 * time.Second

// Attach makes a session of a connection, on which the client answers calls. It returns when the client has closed it, or ctx is done.
// Who has read from the connection before gives one that reads the rest first.
func (s *Service) Attach(ctx context.Context, conn net.Conn, h http.Header) error {
	id := h.Get(sessionID)
	if id == "" {
		return errors.Join(fmt.Errorf("the header %s is missing", sessionID), conn.Close())
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	watched := &watchedConn{Conn: conn, gone: cancel}
	client, err := grpc.Over(ctx, watched, grpc.Options{MaxMessage: maxMessage})
	if err != nil {
		return err
	}
	defer client.Close() //nolint:errcheck // the connection is over
	own := &session{Client: client, key: h.Get(sessionKey), ctx: ctx, offers: map[string]bool{}}
	for _, m := range h.Values(sessionMethod) {
		own.offers[m] = true
	}
	taken := false
	s.change(func() {
		if taken = s.sessions[id] != nil; !taken {
			s.sessions[id] = own
		}
	})
	if taken {
		return fmt.Errorf("there is a session %s already", id)
	}
	defer s.change(func() { delete(s.sessions, id) })
	<-ctx.Done()
	return nil
}

// A watchedConn tells when it is over.
type watchedConn struct {
	net.Conn
	gone func()
}

// Read implements net.Conn.
func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if err != nil {
		c.gone()
	}
	return n, err
}

// session waits for a session.
func (s *Service) session(ctx context.Context, id string) (found *session, err error) {
	ctx, cancel := context.WithTimeout(ctx, sessionWait)
	defer cancel()
	err = s.wait(ctx, func() bool {
		found = s.sessions[id]
		return found != nil
	})
	if err != nil {
		return nil, grpc.Errorf(grpc.Unavailable, "no active session for %s: %v", id, err)
	}
	return found, nil
}

// tunnel is a session over a stream of a connection that carries other calls, as the remote driver of buildx and buildctl make one.
func (s *Service) tunnel(st *grpc.Stream) error {
	h := http.Header{}
	for name, values := range st.Metadata() {
		for _, v := range values {
			h.Add(name, v)
		}
	}
	if err := st.SendHeader(); err != nil {
		return err
	}
	return s.Attach(st.Context(), newStreamConn(st), h)
}

// has reports whether the client answers a method. Old clients do not say.
func (s *session) has(method string) bool { return len(s.offers) == 0 || s.offers[method] }

const (
	getSecret    = "/moby.buildkit.secrets.v1.Secrets/GetSecret"
	checkAgent   = "/moby.sshforward.v1.SSH/CheckAgent"
	forwardAgent = "/moby.sshforward.v1.SSH/ForwardAgent"
	credentials  = "/moby.filesync.v1.Auth/Credentials"
)

// secret reads a secret of the client.
func (s *session) secret(ctx context.Context, id string) ([]byte, error) {
	if !s.has(getSecret) {
		return nil, fs.ErrNotExist
	}
	var out bytesMessage
	if err := s.Invoke(ctx, getSecret, nil, &idMessage{ID: id}, &out); err != nil {
		return nil, notGiven(err)
	}
	return out.Data, nil
}

// notGiven is fs.ErrNotExist for a client that has not what it is asked for.
func notGiven(err error) error {
	if code := grpc.CodeOf(err); code == grpc.NotFound || code == grpc.Unimplemented {
		return fs.ErrNotExist
	}
	return err
}

// hasAgent asks for an agent of the client.
func (s *session) hasAgent(ctx context.Context, id string) error {
	if !s.has(checkAgent) {
		return fs.ErrNotExist
	}
	err := s.Invoke(ctx, checkAgent, nil, &idMessage{ID: id}, &empty{})
	if grpc.CodeOf(err) == grpc.Unknown { // buildx says "unset ssh forward key ID"
		return fs.ErrNotExist
	}
	return notGiven(err)
}

// agent connects to an agent of the client.
func (s *session) agent(ctx context.Context, id string) (io.ReadWriteCloser, error) {
	return newCallConn(s.Start(ctx, forwardAgent, grpc.Metadata{"buildkit.ssh.id": {id}})), nil
}

// credential asks for the credential of a registry.
func (s *session) credential(ctx context.Context, registry string) (forge.Credential, error) {
	if !s.has(credentials) {
		return forge.Credential{}, nil
	}
	host := registry
	if host == "docker.io" {
		host = "registry-1.docker.io"
	}
	var out credentialsResponse
	if err := s.Invoke(ctx, credentials, nil, &idMessage{ID: host}, &out); err != nil {
		return forge.Credential{}, fmt.Errorf("credential of %s from the client: %w", registry, err)
	}
	if out.Username == "" { // the secret is what docker login has got from the registry
		return forge.Credential{IdentityToken: out.Secret}, nil
	}
	return forge.Credential{Username: out.Username, Password: out.Secret}, nil
}
