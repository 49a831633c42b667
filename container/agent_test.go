package container

import (
	"crypto/ed25519"
	"crypto/rand"
	"encoding/pem"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	"golang.org/x/sync/errgroup"
)

func testKey(t *testing.T) (ed25519.PrivateKey, string) {
	t.Helper()
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	block := must1(ssh.MarshalPrivateKey(key, ""))(t)
	path := filepath.Join(t.TempDir(), "id_test")
	if err := os.WriteFile(path, pem.EncodeToMemory(block), 0o600); err != nil {
		t.Fatal(err)
	}
	return key, path
}

// callersAgent serves an agent as the caller's would be.
func callersAgent(t *testing.T, a agent.Agent) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "agent")
	l := must1(net.Listen("unix", path))(t)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go agent.ServeAgent(a, conn)
		}
	}()
	return path
}

func TestSSHAgentSignsAndIsNotChanged(t *testing.T) {
	t.Parallel()
	key, path := testKey(t)
	ring := agent.NewKeyring()
	if err := ring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		t.Fatal(err)
	}
	h := newHome(t)
	for _, test := range []struct {
		name   string
		source SSHSource
	}{
		{"key", SSHSource{Paths: []string{path}}},
		{"agent", SSHSource{Paths: []string{callersAgent(t, ring)}}},
	} {
		connect := must1(test.source.open(t.Context()))(t)
		mode := uint32(0o666)
		c := &Container{factory: h.factory}
		socket := must1(c.listen(connect, Access{Mode: &mode}))(t)
		conn := must1(net.Dial("unix", "/proc/self/fd/"+strconv.Itoa(int(socket.Fd()))))(t)
		client := agent.NewClient(conn)
		keys, err := client.List()
		if err != nil || len(keys) != 1 {
			t.Fatalf("%s: keys = %v, %v, want one", test.name, keys, err)
		}
		data := []byte("sign me")
		sig, err := client.Sign(keys[0], data)
		if err != nil {
			t.Fatalf("%s: %v", test.name, err)
		}
		if err := keys[0].Verify(data, sig); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if client.Add(agent.AddedKey{PrivateKey: key}) == nil || client.RemoveAll() == nil || client.Lock([]byte("x")) == nil {
			t.Errorf("%s: the build could change the agent", test.name)
		}
		if err := c.Close(); err != nil { // with a connection open
			t.Errorf("%s: %v", test.name, err)
		}
		conn.Close()
	}
	left, err := filepath.Glob(filepath.Join(h.kit.Root, "ingest", "*", "*"))
	if err != nil || len(left) > 0 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

// However many connections a command makes, few are served at a time, and all in the end.
func TestSSHAgentIsNotFlooded(t *testing.T) {
	t.Parallel()
	var begun, now, most atomic.Int32
	full, gate := make(chan struct{}), make(chan struct{})
	ring := agent.NewKeyring().(agent.ExtendedAgent)
	connect := func() (agent.ExtendedAgent, func() error, error) {
		n := now.Add(1)
		for m := most.Load(); n > m && !most.CompareAndSwap(m, n); m = most.Load() {
		}
		if begun.Add(1) == maxAgents {
			close(full)
		}
		<-gate
		return ring, func() error { now.Add(-1); return nil }, nil
	}
	c := &Container{factory: newHome(t).factory}
	socket := must1(c.listen(connect, Access{}))(t)
	var clients errgroup.Group
	for range 2 * maxAgents {
		conn := must1(net.Dial("unix", "/proc/self/fd/"+strconv.Itoa(int(socket.Fd()))))(t)
		clients.Go(func() error {
			_, err := agent.NewClient(conn).List()
			return errors.Join(err, conn.Close())
		})
	}
	<-full
	close(gate)
	if err := clients.Wait(); err != nil {
		t.Error(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if most.Load() > maxAgents {
		t.Errorf("%d connections were served at a time, want at most %d", most.Load(), maxAgents)
	}
}

func FuzzAnswerAgent(f *testing.F) {
	ring := agent.NewKeyring().(agent.ExtendedAgent)
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	if err := ring.Add(agent.AddedKey{PrivateKey: key}); err != nil {
		f.Fatal(err)
	}
	f.Add([]byte{agentListKeys})
	f.Add([]byte{agentSign, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{17, 0, 0, 0, 1, 'x'})
	f.Fuzz(func(t *testing.T, request []byte) {
		if len(request) == 0 {
			return
		}
		answer := answerAgent(ring, request)
		if len(answer) == 0 || answer[0] == agentKeys && request[0] != agentListKeys {
			t.Errorf("answer to %v is %v", request, answer)
		}
		if keys, err := ring.List(); err != nil || len(keys) != 1 {
			t.Errorf("after %v there are keys %v, %v", request, keys, err)
		}
	})
}

func TestSSHSourceErrors(t *testing.T) {
	t.Setenv("SSH_AUTH_SOCK", "")
	notKey := filepath.Join(t.TempDir(), "x")
	if err := os.WriteFile(notKey, []byte("no key"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		paths []string
		want  string
	}{
		{nil, "SSH_AUTH_SOCK is not set"},
		{[]string{"/nonesuch"}, "no such file"},
		{[]string{notKey}, notKey + ": ssh: no key found"},
	} {
		if _, err := (SSHSource{Paths: test.paths}).open(t.Context()); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("open(%v) = %v, want %q", test.paths, err, test.want)
		}
	}
}
