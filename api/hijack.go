package api

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/forge-build/forge/internal/hangup"
	"github.com/forge-build/forge/internal/websocket"
)

// Content types of connections that are taken over.
const (
	rawStream    = "application/vnd.docker.raw-stream"
	framedStream = "application/vnd.docker.multiplexed-stream"
)

// A hijacked connection is no HTTP any more: what the client sends is read from it, what is written to it the client gets. Its owner
// closes it.
type hijacked struct {
	net.Conn
	in     *bufio.Reader   // with what came with the request
	socket *websocket.Conn // where the client speaks WebSocket, else nil
	over   chan struct{}   // closed when nothing more can be read
	taken  atomic.Int64    // bytes that were read
	gone   <-chan struct{} // closed when the client is gone; see untilGone
	once   sync.Once       // closes over
	head   string          // of the answer
	first  sync.Once       // sends it, or that of a refusal
}

// welcome sends the head of the answer, once: clients take it for all that they wait for.
func (h *hijacked) welcome() error { return h.answer(h.head) }

func (h *hijacked) answer(text string) (err error) {
	h.first.Do(func() { _, err = io.WriteString(h.Conn, text) })
	return err
}

// Read reads what the client sends. After the client has closed its half of the connection it is at the end.
func (h *hijacked) Read(p []byte) (int, error) {
	from := io.Reader(h.in)
	if h.socket != nil {
		from = h.socket
	}
	n, err := from.Read(p)
	h.taken.Add(int64(n))
	if err != nil {
		h.once.Do(func() {
			close(h.over)
			if h.socket != nil { // after its last frame a client waits for the end of the connection
				_ = h.CloseWrite()
			}
		})
	}
	return n, err
}

// Write sends the client something.
func (h *hijacked) Write(p []byte) (int, error) {
	if h.socket != nil {
		return h.socket.Write(p)
	}
	return h.Conn.Write(p)
}

// Close implements io.Closer.
func (h *hijacked) Close() error {
	if h.socket != nil {
		_ = h.socket.Close() // the client may be gone
	}
	return h.Conn.Close()
}

// hijack is takeOver for what is not WebSocket: with an answer of 101 if the client asked for that, else of 200, and of a content type, "" being none.
func (c *call) hijack(contentType string) (*hijacked, error) {
	if contentType != "" {
		contentType = "Content-Type: " + contentType + "\r\n"
	}
	if c.r.Header.Get("Upgrade") == "" {
		return c.takeOver("HTTP/1.1 200 OK\r\n" + contentType)
	}
	protocol := "tcp"
	if strings.EqualFold(c.r.Header.Get("Upgrade"), "h2c") {
		protocol = "h2c"
	}
	return c.takeOver("HTTP/1.1 101 UPGRADED\r\n" + contentType + "Connection: Upgrade\r\nUpgrade: " + protocol + "\r\n")
}

// takeOver takes the connection over. The head of an answer is sent by welcome, with the headers that all answers have. The request's body is to
// be read before.
func (c *call) takeOver(head string) (*hijacked, error) {
	if c.r.ProtoMajor != 1 {
		return nil, invalid(errors.New("this needs a connection of HTTP/1.1, which can be taken over"))
	}
	if c.r.ContentLength > 0 || len(c.r.TransferEncoding) > 0 {
		_, _ = io.CopyN(io.Discard, c.r.Body, maxBody)
	}
	conn, buffered, err := http.NewResponseController(c.w).Hijack()
	if err != nil {
		return nil, err
	}
	c.begun = true
	// A client that closes one half of the connection before it is taken over has ended the context of the request.
	life, ok := c.ctx().Value(lifeKey{}).(context.Context)
	if !ok {
		life = context.WithoutCancel(c.ctx())
	}
	c.r = c.r.WithContext(life)
	return &hijacked{Conn: conn, in: buffered.Reader, over: make(chan struct{}), head: head + c.usualHeaders() + "\r\n"}, nil
}

// usualHeaders are those that all answers have.
func (c *call) usualHeaders() (lines string) {
	for _, name := range []string{"Api-Version", "Docker-Experimental", "Ostype", "Server"} {
		lines += fmt.Sprintf("%s: %s\r\n", name, c.w.Header().Get(name))
	}
	return lines
}

// refuse answers with an error over a connection that is taken over, unless the client has been welcomed.
func (c *call) refuse(conn *hijacked, err error) error {
	code := statusOf(err)
	body, marshalErr := json.Marshal(map[string]string{"message": textOf(err)})
	head := fmt.Sprintf("HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\nConnection: close\r\n", code, http.StatusText(code), len(body))
	return errors.Join(marshalErr, conn.answer(head+c.usualHeaders()+"\r\n"+string(body)))
}

// lifeKey is the key of the context of the server in that of a request.
type lifeKey struct{}

// streamType is what a connection to a container carries: as it is if the container has a terminal, else in frames.
func (c *call) streamType(terminal bool) string {
	if terminal || c.version < 42 {
		return rawStream
	}
	return framedStream
}

// CloseWrite tells the client that nothing more comes, if the connection can.
func (h *hijacked) CloseWrite() error {
	switch conn := h.Conn.(type) {
	case *net.UnixConn:
		return conn.CloseWrite()
	case *net.TCPConn:
		return conn.CloseWrite()
	case *tls.Conn:
		return conn.CloseWrite()
	}
	return nil
}

// untilGone returns a context that ends when the client has closed the whole connection, or is gone. To close one half, as a client does
// whose input is at its end, is no reason. What it has sent before is for reader, nil being nobody, unless he takes nothing for a while.
func (h *hijacked) untilGone(ctx context.Context, reader io.Reader) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	conn := h.Conn
	if secured, ok := conn.(*tls.Conn); ok {
		conn = secured.NetConn()
	}
	gone, stop := hangup.Watch(conn)
	h.gone = gone
	go func() {
		select {
		case <-gone:
		case <-ctx.Done():
			return
		}
		if reader != nil {
			h.drain(ctx)
		}
		cancel()
	}()
	return ctx, func() {
		cancel()
		stop()
	}
}

// drainTime is how long nothing may be taken of what a client has sent that is gone.
const drainTime = time.Second

// drain waits until all is read that the client has sent, or nobody reads it.
func (h *hijacked) drain(ctx context.Context) {
	for read := h.taken.Load(); ; {
		select {
		case <-h.over:
			return
		case <-ctx.Done():
			return
		case <-time.After(drainTime):
		}
		now := h.taken.Load()
		if now == read {
			return
		}
		read = now
	}
}
