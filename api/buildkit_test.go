package api

import (
	"bufio"
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/forge-build/forge/internal/grpc"
)

// A restConn reads first what was read ahead.
type restConn struct {
	net.Conn
	r *bufio.Reader
}

func (c restConn) Read(p []byte) (int, error) { return c.r.Read(p) }

// upgraded asks for a connection that carries gRPC.
func upgraded(t *testing.T, address, path string, header ...string) (net.Conn, *http.Response) {
	t.Helper()
	conn, err := net.Dial("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	fmt.Fprintf(conn, "POST %s HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n%s\r\n\r\n", path, strings.Join(header, "\r\n"))
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		t.Fatal(err)
	}
	return restConn{conn, r}, res
}

// workers asks a service of BuildKit's what it can build for.
func workers(t *testing.T, c *grpc.Client) {
	t.Helper()
	var out struct {
		Record []struct {
			ID string `pb:"1"`
		} `pb:"1"`
	}
	if err := c.Invoke(t.Context(), "/moby.buildkit.v1.Control/ListWorkers", nil, &struct{}{}, &out); err != nil || len(out.Record) != 1 || out.Record[0].ID != "forge" {
		t.Errorf("workers %+v, %v", out, err)
	}
}

// TestBuildKit reaches BuildKit's API over the ways that buildx takes: a connection that is taken over, of a path with a version, and HTTP/2 on the socket.
func TestBuildKit(t *testing.T) {
	h, s := newServer(t)
	h.Close()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go s.Serve(t.Context(), 0, l)
	address := l.Addr().String()
	for _, path := range []string{"/grpc", "/v1.51/grpc"} {
		conn, res := upgraded(t, address, path, "Upgrade: h2c")
		if res.StatusCode != http.StatusSwitchingProtocols || res.Header.Get("Upgrade") != "h2c" {
			t.Fatalf("%s: %s, %v", path, res.Status, res.Header)
		}
		c, err := grpc.Over(t.Context(), conn, grpc.Options{})
		if err != nil {
			t.Fatal(err)
		}
		workers(t, c)
		c.Close()
	}
	c, err := grpc.Dial("grpc://"+address, grpc.Options{Authority: "localhost"})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	workers(t, c)
	page, err := grpc.Dial("grpc://"+address, grpc.Options{Authority: "localhost", Metadata: grpc.Metadata{"origin": {"http://page.example"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer page.Close()
	if err := page.Invoke(t.Context(), "/moby.buildkit.v1.Control/ListWorkers", nil, &struct{}{}, &struct{}{}); grpc.CodeOf(err) != grpc.PermissionDenied {
		t.Errorf("a web page: %v", err)
	}

	// The session of a build comes over a connection on which the server makes the calls.
	conn, res := upgraded(t, address, "/session", "Upgrade: h2c", "X-Docker-Expose-Session-Uuid: s1")
	if res.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("session: %s", res.Status)
	}
	asked := make(chan string, 1)
	client := &grpc.Server{Methods: map[string]grpc.Handler{"/moby.filesync.v1.FileSync/DiffCopy": func(s *grpc.Stream) error {
		asked <- s.Metadata().Get("dir-name")
		return grpc.Errorf(grpc.NotFound, "no such directory")
	}}}
	go client.ServeConn(t.Context(), conn)
	in := struct {
		Ref      string `pb:"1"`
		Session  string `pb:"5"`
		Frontend string `pb:"6"`
	}{"r1", "s1", "dockerfile.v0"}
	if err := c.Invoke(t.Context(), "/moby.buildkit.v1.Control/Solve", nil, &in, &struct{}{}); err == nil || !strings.Contains(err.Error(), "no such directory") {
		t.Errorf("a build without its directories: %v", err)
	}
	if dir := <-asked; dir != "dockerfile" {
		t.Errorf("the client was asked for %q", dir)
	}
	for _, header := range []string{"Upgrade: tcp", "X: y"} {
		if _, res := upgraded(t, address, "/grpc", header); res.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: %s", header, res.Status)
		}
	}
}
