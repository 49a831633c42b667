package api

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/forge-build/forge/internal/websocket"
)

// attachSocket is attachContainer for clients that speak WebSocket: what the container prints comes in binary messages, all streams as one, and
// what the client sends is the container's input.
func attachSocket(c *call) error {
	if _, err := websocket.Answer(c.r); err != nil {
		return invalid(err)
	}
	c.socket = true
	return attachContainer(c)
}

// hijackSocket takes the connection over for messages of WebSocket.
func (c *call) hijackSocket() (*hijacked, error) {
	head, err := websocket.Answer(c.r)
	if err != nil {
		return nil, invalid(err)
	}
	conn, err := c.takeOver(head)
	if err != nil {
		return nil, err
	}
	conn.socket = websocket.New(conn.in, conn.Conn)
	return conn, nil
}

// ownOrigin reports whether a request for a WebSocket comes from where it goes to. Libraries name an origin that no page has: the address that they
// call, or this machine's name where the address is a socket in a directory, which no browser reaches.
func ownOrigin(r *http.Request) bool {
	u, err := url.Parse(r.Header.Get("Origin"))
	if err != nil || u.Host == "" || !websocket.Asked(r) || r.Header.Get("Sec-Fetch-Site") != "" {
		return false
	}
	if strings.EqualFold(u.Host, r.Host) {
		return true
	}
	at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	return ok && at.Network() == "unix" && u.Hostname() == "localhost"
}

// untilClosed reads on where nobody else reads what the client sends, so that its questions are answered and its end is seen. What it sends is
// dropped.
func (h *hijacked) untilClosed(gone func()) {
	if _, err := io.Copy(io.Discard, h); !errors.Is(err, net.ErrClosed) {
		gone()
	}
}
