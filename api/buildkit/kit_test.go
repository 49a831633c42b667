package buildkit

import (
	"context"
	"crypto/ed25519"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/crypto/ssh/agent"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/internal/grpc"
)

const (
	control = "/moby.buildkit.v1.Control/"
	bridge  = "/moby.buildkit.v1.frontend.LLBBridge/"
)

// A client plays buildx: it calls a service over one connection, and answers it over another.
type client struct {
	*grpc.Client
	t       *testing.T
	service *Service
	attrs   map[string]string // of the build

	mu       sync.Mutex // guards what is below
	dirs     map[string]map[string]string
	sent     []string // contents that were asked for
	asked    []grpc.Metadata
	received map[string]string // files that came, by name; "-" is a stream
	content  blobs             // of its directories
}

// newClient starts a service with a store of its own, and a client of it with a session.
func newClient(t *testing.T) *client {
	t.Helper()
	t.Setenv("HOME", t.TempDir())
	dir := t.TempDir()
	s := New("1.2.3", func(ctx context.Context) (*forge.Home, error) {
		return forge.Open(ctx, forge.Options{Dir: dir})
	})
	c := &client{t: t, service: s, attrs: map[string]string{}, dirs: map[string]map[string]string{}, received: map[string]string{}}
	ours, theirs := net.Pipe()
	go s.ServeConn(t.Context(), theirs)
	var err error
	if c.Client, err = grpc.Over(t.Context(), ours, grpc.Options{MaxMessage: maxMessage}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	c.attach("s1", "key1")
	return c
}

// attach opens a session.
func (c *client) attach(id, key string) {
	ours, theirs := net.Pipe()
	c.content = blobs{}
	content := c.content
	answers := &grpc.Server{MaxMessage: maxMessage, Methods: map[string]grpc.Handler{
		contentService + "Info": grpc.Unary(content.info), contentService + "Read": content.read, contentService + "Write": content.write,
		forwardAgent: c.forward, fileSync: c.lend, fileSend: c.receive, getSecret: grpc.Unary(c.secret), credentials: grpc.Unary(c.credentials), checkAgent: grpc.Unary(c.agent), upload: c.upload,
	}}
	go answers.ServeConn(c.t.Context(), ours)
	h := http.Header{}
	h.Set(sessionID, id)
	h.Set(sessionKey, key)
	go c.service.Attach(c.t.Context(), theirs, h)
	c.t.Cleanup(func() { ours.Close() })
}

func (c *client) secret(_ *grpc.Stream, in *idMessage) (*bytesMessage, error) {
	if in.ID != "known" {
		return nil, grpc.Errorf(grpc.NotFound, "secret %s: not found", in.ID)
	}
	return &bytesMessage{Data: []byte("hush")}, nil
}

func (c *client) credentials(_ *grpc.Stream, in *idMessage) (*credentialsResponse, error) {
	switch in.ID {
	case "registry-1.docker.io":
		return &credentialsResponse{Username: "u", Secret: "p"}, nil
	case "token.example":
		return &credentialsResponse{Secret: "t"}, nil
	}
	return &credentialsResponse{}, nil
}

func (c *client) agent(_ *grpc.Stream, in *idMessage) (*empty, error) {
	if in.ID != "default" {
		return nil, fmt.Errorf("unset ssh forward key %s", in.ID)
	}
	return &empty{}, nil
}

// forward answers as an agent with one key.
func (c *client) forward(s *grpc.Stream) error {
	if id := s.Metadata().Get("buildkit.ssh.id"); id != "default" {
		return fmt.Errorf("unset ssh forward key %s", id)
	}
	ring := agent.NewKeyring()
	_, key, err := ed25519.GenerateKey(nil)
	if err == nil {
		err = ring.Add(agent.AddedKey{PrivateKey: key, Comment: "the key"})
	}
	if err != nil {
		return err
	}
	return agent.ServeAgent(ring, newStreamConn(s))
}

func (c *client) upload(s *grpc.Stream) error {
	return s.Send(&bytesMessage{Data: []byte("FROM scratch\n")})
}

// lend sends a directory as fsutil does. A file whose content ends in "!" is sent with one byte less than is said.
func (c *client) lend(s *grpc.Stream) error {
	c.mu.Lock()
	md := s.Metadata()
	c.asked = append(c.asked, md)
	files := maps.Clone(c.dirs[md.Get("dir-name")])
	c.mu.Unlock()
	only := md["followpaths"]
	var ids []string
	names := slices.SortedFunc(maps.Keys(files), func(a, b string) int { // a directory before what is in it
		return slices.Compare(strings.Split(a, "/"), strings.Split(b, "/"))
	})
	for _, name := range names {
		if len(only) > 0 && !slices.Contains(only, name) {
			continue
		}
		st := &stat{Path: name, Mode: 0o644, Size: int64(len(files[name])), ModTime: 1e18}
		if strings.HasSuffix(name, "/") {
			st.Path, st.Mode, st.Size = strings.TrimSuffix(name, "/"), uint32(fs.ModeDir|0o755), 0
		}
		if to, ok := strings.CutPrefix(files[name], "-> "); ok {
			st.Mode, st.Linkname, st.Size = uint32(fs.ModeSymlink|0o777), to, 0
		}
		ids = append(ids, name)
		if err := s.Send(&packet{Type: packetStat, Stat: st}); err != nil {
			return err
		}
	}
	if err := s.Send(&packet{Type: packetStat}); err != nil {
		return err
	}
	for {
		var p packet
		if err := s.Recv(&p); err != nil {
			return err
		}
		switch p.Type {
		case packetFin:
			return s.Send(&packet{Type: packetFin})
		case packetReq:
			name := ids[p.ID]
			c.mu.Lock()
			c.sent = append(c.sent, name)
			c.mu.Unlock()
			for text := strings.TrimSuffix(files[name], "!"); text != ""; {
				n := min(len(text), 1000)
				if err := s.Send(&packet{Type: packetData, ID: p.ID, Data: []byte(text[:n])}); err != nil {
					return err
				}
				text = text[n:]
			}
			if err := s.Send(&packet{Type: packetData, ID: p.ID}); err != nil {
				return err
			}
		}
	}
}

// receive takes a stream, or a tree as fsutil sends it.
func (c *client) receive(s *grpc.Stream) error {
	if len(c.attrs["tree"]) > 0 {
		return c.receiveTree(s)
	}
	for {
		var m bytesMessage
		if err := s.Recv(&m); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		c.mu.Lock()
		c.received["-"] += string(m.Data)
		c.mu.Unlock()
	}
}

func (c *client) receiveTree(s *grpc.Stream) error {
	names := map[uint32]string{}
	open, listed := 0, false
	for id := uint32(0); ; {
		if listed && open == 0 {
			open = -1
			if err := s.Send(&packet{Type: packetFin}); err != nil {
				return err
			}
		}
		var p packet
		if err := s.Recv(&p); err != nil {
			return err
		}
		switch {
		case p.Type == packetStat && p.Stat == nil:
			listed = true
		case p.Type == packetStat:
			mode := fs.FileMode(p.Stat.Mode)
			c.received[p.Stat.Path] = mode.String() + " "
			if mode.IsRegular() && p.Stat.Linkname == "" {
				names[id] = p.Stat.Path
				open++
				if err := s.Send(&packet{Type: packetReq, ID: id}); err != nil {
					return err
				}
			}
			id++
		case p.Type == packetData && len(p.Data) == 0:
			open--
		case p.Type == packetData:
			c.received[names[p.ID]] += string(p.Data)
		case p.Type == packetFin:
			return nil
		case p.Type == packetErr:
			return fmt.Errorf("%s", p.Data)
		}
	}
}
