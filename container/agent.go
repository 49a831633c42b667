package container

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/runtime"
)

// An SSHSource is what RUN --mount=type=ssh may sign with: an agent or keys. Keys never enter the container.
type SSHSource struct {
	ID    string
	Paths []string // private keys, or one agent's socket; none is $SSH_AUTH_SOCK
}

// maxKey is how large a private key may be, in bytes.
const maxKey = 100 << 10

// An Agent shows an SSHSource of the Factory as the socket of an agent, and names the first one in SSH_AUTH_SOCK. One that
// the caller did not give is left out.
type Agent struct {
	ID       string
	Target   string // absolute
	Required bool
	Access   Access // the default mode is 0600
}

func (m *Agent) kind() string   { return "ssh" }
func (m *Agent) target() string { return path.Clean(m.Target) }

func (m *Agent) mount(ctx context.Context, c *Container) error {
	connect, err := c.factory.agent(ctx, m.ID)
	if errors.Is(err, errNotGiven) {
		if m.Required {
			return fmt.Errorf("ssh %s is required and not given; give it with --ssh %s", m.ID, m.ID)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("ssh %s: %w", m.ID, err)
	}
	socket, err := c.listen(connect, m.Access)
	if err != nil {
		return fmt.Errorf("ssh %s: %w", m.ID, err)
	}
	if !c.agent { // the first is the one that ssh asks
		c.agent = true
		c.spec.Env = setEnv(c.spec.Env, "SSH_AUTH_SOCK", m.Target)
	}
	return c.attach(m.target(), runtime.Mount{Source: socket}, nil)
}

// open returns a function that connects to the agent. What cannot work is found now rather than by the command.
func (s SSHSource) open(ctx context.Context) (func() (agent.ExtendedAgent, func() error, error), error) {
	paths := s.Paths
	if len(paths) == 0 {
		socket := os.Getenv("SSH_AUTH_SOCK")
		if socket == "" {
			return nil, errors.New("SSH_AUTH_SOCK is not set and no key is given")
		}
		paths = []string{socket}
	}
	if len(paths) == 1 {
		info, err := os.Stat(paths[0])
		if err != nil {
			return nil, err
		}
		if info.Mode()&os.ModeSocket != 0 {
			return func() (agent.ExtendedAgent, func() error, error) {
				conn, err := net.Dial("unix", paths[0])
				if err != nil {
					return nil, nil, err
				}
				return agent.NewClient(conn), conn.Close, nil
			}, nil
		}
	}
	keys, err := keyring(ctx, paths)
	if err != nil {
		return nil, err
	}
	return func() (agent.ExtendedAgent, func() error, error) { return keys, func() error { return nil }, nil }, nil
}

// keyring reads private keys.
func keyring(ctx context.Context, paths []string) (agent.ExtendedAgent, error) {
	ring := agent.NewKeyring().(agent.ExtendedAgent)
	for _, path := range paths {
		data, err := durable.ReadInput(ctx, path, maxKey)
		if err != nil {
			return nil, err
		}
		key, err := ssh.ParseRawPrivateKey(data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		if err := ring.Add(agent.AddedKey{PrivateKey: key, Comment: filepath.Base(path)}); err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return ring, nil
}

// listen serves an agent on a socket of the step's own, which it opens to be mounted. The socket lies in the staging
// directory: should we die, that is swept.
func (c *Container) listen(connect func() (agent.ExtendedAgent, func() error, error), a Access) (*os.File, error) {
	place, err := c.factory.Staging.Create()
	if err != nil {
		return nil, err
	}
	c.open.Push(place.Close)
	dir, err := os.Open(filepath.Dir(place.Name()))
	if err != nil {
		return nil, err
	}
	c.open.Push(dir.Close)
	// By way of the descriptor, since a socket's path may have no more than 107 bytes.
	name := "/proc/self/fd/" + strconv.Itoa(int(dir.Fd())) + "/" + filepath.Base(place.Name()) + ".ssh"
	l, err := net.Listen("unix", name)
	if err != nil {
		return nil, err
	}
	var served sync.WaitGroup
	conns := &openConns{}
	c.open.Push(func() error {
		err := l.Close() // removes the socket, too
		conns.close()
		served.Wait()
		return err
	})
	if err := errors.Join(ignoreUnmappedID(os.Chown(name, int(a.UID), int(a.GID))), os.Chmod(name, a.mode(0o600).Perm())); err != nil {
		return nil, err
	}
	served.Go(func() { acceptAgents(l, conns, connect, &served) })
	return c.openPath(name)
}

// maxAgents is how many connections of a command are served at a time, each with a descriptor or two and up to a message of memory; others
// wait.
const maxAgents = 64

// acceptAgents serves connections until the listener is closed.
func acceptAgents(l net.Listener, conns *openConns, connect func() (agent.ExtendedAgent, func() error, error), served *sync.WaitGroup) {
	slots := make(chan struct{}, maxAgents)
	for {
		slots <- struct{}{}
		conn, err := l.Accept()
		switch {
		case errors.Is(err, net.ErrClosed):
			return
		case err != nil: // this process may have no descriptor free
			<-slots
			time.Sleep(10 * time.Millisecond)
			continue
		case !conns.add(conn):
			conn.Close()
			return
		}
		served.Go(func() {
			defer func() { <-slots }()
			defer conns.remove(conn)
			if signer, done, err := connect(); err == nil {
				_ = serveAgent(signer, conn) // ends when the command hangs up
				_ = done()
			}
		})
	}
}

// openConns are connections that have to be closed at the end.
type openConns struct {
	mu     sync.Mutex // guards all
	conns  map[net.Conn]bool
	closed bool
}

func (o *openConns) add(c net.Conn) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.closed {
		return false
	}
	if o.conns == nil {
		o.conns = make(map[net.Conn]bool)
	}
	o.conns[c] = true
	return true
}

func (o *openConns) remove(c net.Conn) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.conns, c)
	c.Close()
}

func (o *openConns) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.closed = true
	for c := range o.conns {
		c.Close()
	}
}

// Messages of an agent (draft-miller-ssh-agent), those two that a build may send and their answers.
const (
	agentFailure    = 5
	agentListKeys   = 11
	agentKeys       = 12
	agentSign       = 13
	maxAgentMessage = 256 << 10 // bytes, as OpenSSH
)

// serveAgent answers on conn until the command hangs up. It lists keys and signs, and does nothing else: whose keys are
// in an agent is not a build's to say.
func serveAgent(a agent.ExtendedAgent, conn io.ReadWriter) error {
	for {
		var size [4]byte
		if _, err := io.ReadFull(conn, size[:]); err != nil {
			return err
		}
		n := binary.BigEndian.Uint32(size[:])
		if n == 0 || n > maxAgentMessage {
			return fmt.Errorf("a message of %d bytes", n)
		}
		request := make([]byte, n)
		if _, err := io.ReadFull(conn, request); err != nil {
			return err
		}
		answer := answerAgent(a, request)
		if _, err := conn.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(answer))), answer...)); err != nil {
			return err
		}
	}
}

func answerAgent(a agent.ExtendedAgent, request []byte) []byte {
	failure := []byte{agentFailure}
	switch request[0] {
	case agentListKeys:
		keys, err := a.List()
		if err != nil {
			return failure
		}
		answer := binary.BigEndian.AppendUint32([]byte{agentKeys}, uint32(len(keys)))
		for _, k := range keys {
			answer = append(answer, ssh.Marshal(struct{ Blob, Comment string }{string(k.Blob), k.Comment})...)
		}
		return answer
	case agentSign:
		var ask struct {
			Key   []byte `sshtype:"13"`
			Data  []byte
			Flags uint32
		}
		if ssh.Unmarshal(request, &ask) != nil {
			return failure
		}
		signature, err := a.SignWithFlags(&agent.Key{Blob: ask.Key}, ask.Data, agent.SignatureFlags(ask.Flags))
		if err != nil {
			return failure
		}
		return ssh.Marshal(struct {
			Signature []byte `sshtype:"14"`
		}{ssh.Marshal(signature)})
	}
	return failure
}
