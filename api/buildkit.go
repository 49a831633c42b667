package api

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/api/buildkit"
)

// buildKit makes the service that buildx speaks to. It opens the store for each build, not for the time of a connection.
func (s *Server) buildKit() *buildkit.Service {
	return buildkit.New(s.options.Version, func(ctx context.Context) (*forge.Home, error) {
		store := s.options.Store
		store.Command, store.Started = "api", s.children.add
		return forge.Open(ctx, store)
	})
}

// isGRPC reports whether a request is a call of gRPC, as the remote driver of buildx makes it on the socket itself.
func isGRPC(r *http.Request) bool {
	return r.ProtoMajor >= 2 && strings.HasPrefix(r.Header.Get("Content-Type"), "application/grpc")
}

// upgrade takes over a connection for BuildKit's API, if the path is one of that: /grpc, over which the client makes calls, or /session, over which it
// answers them.
func (c *call) upgrade(path string) (taken bool, err error) {
	if c.r.Method != http.MethodPost || path != "/grpc" && path != "/session" {
		return false, nil
	}
	if !strings.EqualFold(c.r.Header.Get("Upgrade"), "h2c") {
		return true, invalid(errors.New("this needs the header Upgrade: h2c"))
	}
	conn, err := c.hijack("")
	if err != nil {
		return true, err
	}
	if err := conn.welcome(); err != nil {
		return true, errors.Join(err, conn.Close())
	}
	if path == "/session" {
		return true, c.server.build.Attach(c.ctx(), conn, c.r.Header)
	}
	return true, c.server.build.ServeConn(c.ctx(), conn)
}
