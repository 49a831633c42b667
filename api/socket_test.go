package api

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
)

// socketHead is a request for a WebSocket.
func socketHead(path, host string, header ...string) string {
	head := "GET " + path + " HTTP/1.1\r\nHost: " + host + "\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
	for _, h := range header {
		head += h + "\r\n"
	}
	return head + "\r\n"
}

// TestSocketOrigin: a WebSocket is for programs. They may name the address that they call as their origin, and pages have another.
func TestSocketOrigin(t *testing.T) {
	_, s := newServer(t)
	overTCP := httptest.NewServer(s)
	t.Cleanup(overTCP.Close)
	tcp := overTCP.Listener.Addr().String()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	overUnix := &http.Server{Handler: s} //nolint:gosec // of a test
	go overUnix.Serve(l)
	t.Cleanup(func() { overUnix.Close() })

	for _, test := range []struct {
		network, host, header string
		code                  int // 404: the container is not there, and the origin is taken
	}{
		{"unix", "docker", "X-None: y", 404},
		{"unix", "docker", "Origin: http://localhost", 404},
		{"unix", "docker", "Origin: http://localhost:1234/", 404},
		{"unix", "docker", "Origin: http://docker", 404},
		{"unix", "docker", "Origin: http://page.example", 403},
		{"unix", "docker", "Origin: null", 403},
		{"unix", "docker", "Origin: http://localhost.page.example", 403},
		{"unix", "docker", "Sec-Fetch-Site: same-origin\r\nOrigin: http://docker", 403},
		{"tcp", tcp, "Origin: http://" + tcp, 404},
		{"tcp", tcp, "Origin: http://localhost", 403},
		{"tcp", tcp, "Origin: http://127.0.0.1:1", 403},
		{"tcp", "page.example", "Origin: http://page.example", 403},
	} {
		address := map[string]string{"tcp": tcp, "unix": l.Addr().String()}[test.network]
		conn, err := (&net.Dialer{}).DialContext(t.Context(), test.network, address)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprint(conn, socketHead("/v1.51/containers/absent/attach/ws", test.host, test.header))
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil {
			t.Fatal(err)
		}
		body, _ := io.ReadAll(res.Body)
		conn.Close()
		if res.StatusCode != test.code {
			t.Errorf("%s, Host %s, %s: %d %s, want %d", test.network, test.host, test.header, res.StatusCode, body, test.code)
		}
	}
	// An origin is taken for nothing else.
	if res, body := ask(t, http.MethodGet, overTCP.URL+"/_ping", "Origin", overTCP.URL); res.StatusCode != http.StatusForbidden {
		t.Errorf("a request with the server's own origin: %d %s", res.StatusCode, body)
	}
	if res, body := ask(t, http.MethodGet, overTCP.URL+"/containers/absent/attach/ws"); res.StatusCode != http.StatusBadRequest || !strings.Contains(body, "Upgrade: websocket") {
		t.Errorf("without the headers of a WebSocket: %d %s", res.StatusCode, body)
	}
}
