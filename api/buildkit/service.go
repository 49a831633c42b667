// Package buildkit serves the part of BuildKit's API that buildx, docker build, compose and buildctl speak, so that they build with forge: one engine,
// one cache.
//
// A client opens a session, over which the server calls it: for files of contexts, secrets, agents, credentials, and to hand out what was built.
// Then it asks for a build under a name of its own choosing (Control/Solve, Control/Status), says what to build (LLBBridge/Solve), and accepts the result
// (LLBBridge/Return), upon which the first call is answered. What is built is a Dockerfile; graphs of other frontends are refused.
//
// Nothing is kept when the clients have gone but what the builds have left in the store.
package buildkit

import (
	"context"
	"net"
	"net/http"
	"sync"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/internal/grpc"
)

// maxMessage is how many bytes a message may have: as much as BuildKit's.
const maxMessage = 16 << 20

// A Service answers calls. It is an http.Handler for requests of HTTP/2. Safe for concurrent use.
type Service struct {
	open   func(ctx context.Context) (*forge.Home, error)
	forge  string // its version, for people
	server grpc.Server

	mu       sync.Mutex // guards what is below
	changed  chan struct{}
	sessions map[string]*session
	builds   map[string]*build        // by the name that the client chose
	records  map[string][]historyBlob // the blobs of builds that are over, by the build's ID
}

// New returns a service of a version of forge. open opens the store, anew for each build, which closes it.
func New(version string, open func(ctx context.Context) (*forge.Home, error)) *Service {
	s := &Service{
		open: open, forge: version, changed: make(chan struct{}), sessions: map[string]*session{}, builds: map[string]*build{},
		records: map[string][]historyBlob{},
	}
	const control, bridge = "/moby.buildkit.v1.Control/", "/moby.buildkit.v1.frontend.LLBBridge/"
	s.server = grpc.Server{MaxMessage: maxMessage, Methods: map[string]grpc.Handler{
		control + "ListWorkers": grpc.Unary(s.listWorkers),
		control + "Info":        grpc.Unary(s.info),
		control + "Solve":       grpc.Unary(s.solve),
		control + "Status":      s.status,
		control + "Session":     s.tunnel,
		control + "DiskUsage":   grpc.Unary(s.diskUsage),
		control + "Prune":       s.prune,

		control + "ListenBuildHistory": s.listenHistory,
		control + "UpdateBuildHistory": grpc.Unary(s.updateHistory),
		contentService + "Info":        grpc.Unary(s.contentInfo),
		contentService + "Read":        s.contentRead,

		bridge + "Ping":     grpc.Unary(s.ping),
		bridge + "Solve":    grpc.Unary(s.bridgeSolve),
		bridge + "Return":   grpc.Unary(s.bridgeReturn),
		bridge + "Inputs":   grpc.Unary(nothing),
		bridge + "Evaluate": grpc.Unary(nothing), // all that was asked for is built
		bridge + "Warn":     grpc.Unary(s.warn),

		"/grpc.health.v1.Health/Check": grpc.Unary(func(*grpc.Stream, *empty) (*healthResponse, error) { return &healthResponse{Status: 1}, nil }),
	}}
	for _, name := range []string{"NewContainer", "ReadFile", "ReadDir", "StatFile", "ResolveImageConfig", "ResolveSourceMeta"} {
		s.server.Methods[bridge+name] = refuse(name, "forge builds Dockerfiles and has no graph of BuildKit's to look into; to look into a step of a build use forge build --shell")
	}
	return s
}

// nothing answers with nothing.
func nothing(*grpc.Stream, *empty) (*empty, error) { return &empty{}, nil }

// refuse makes a handler for what is done in another way.
func refuse(name, way string) grpc.Handler {
	return func(*grpc.Stream) error { return grpc.Errorf(grpc.Unimplemented, "%s is not done here: %s", name, way) }
}

// ServeHTTP answers one call.
func (s *Service) ServeHTTP(w http.ResponseWriter, r *http.Request) { s.server.ServeHTTP(w, r) }

// ServeConn answers the calls that come over one connection, until the client closes it or ctx is done.
func (s *Service) ServeConn(ctx context.Context, conn net.Conn) error {
	return s.server.ServeConn(ctx, conn)
}

// wait waits until ready, which is called with mu held, says so, or ctx is done.
func (s *Service) wait(ctx context.Context, ready func() bool) error {
	for {
		s.mu.Lock()
		ok, changed := ready(), s.changed
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// change does what changes sessions or builds, and wakes those who wait.
func (s *Service) change(do func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	do()
	close(s.changed)
	s.changed = make(chan struct{})
}
