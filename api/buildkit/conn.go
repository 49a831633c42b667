package buildkit

import (
	"net"
	"time"

	"github.com/forge-build/forge/internal/grpc"
)

// maxChunk is how many bytes of a stream one message carries.
const maxChunk = 32 << 10

// A streamConn is a stream of messages of bytes as a connection. It has no deadlines.
type streamConn struct {
	send  func(*bytesMessage) error
	recv  func(*bytesMessage) error
	close func() error
	rest  []byte // of a message, still to be read
}

// newStreamConn makes one of a call that is answered here.
func newStreamConn(s *grpc.Stream) *streamConn {
	return &streamConn{
		send: func(m *bytesMessage) error { return s.Send(m) },
		recv: func(m *bytesMessage) error { return s.Recv(m) }, close: func() error { return nil },
	}
}

// newCallConn makes one of a call that the client answers.
func newCallConn(c *grpc.Call) *streamConn {
	return &streamConn{
		send: func(m *bytesMessage) error { return c.Send(m) },
		recv: func(m *bytesMessage) error { return c.Recv(m) },
		close: func() error {
			c.Close()
			return nil
		},
	}
}

// Read implements io.Reader.
func (c *streamConn) Read(p []byte) (int, error) {
	for len(c.rest) == 0 {
		var m bytesMessage
		if err := c.recv(&m); err != nil {
			return 0, err
		}
		c.rest = m.Data
	}
	n := copy(p, c.rest)
	c.rest = c.rest[n:]
	return n, nil
}

// Write implements io.Writer.
func (c *streamConn) Write(p []byte) (written int, err error) {
	for len(p) > 0 {
		n := min(len(p), maxChunk)
		if err := c.send(&bytesMessage{Data: p[:n]}); err != nil {
			return written, err
		}
		written, p = written+n, p[n:]
	}
	return written, nil
}

// Close implements io.Closer.
func (c *streamConn) Close() error { return c.close() }

// LocalAddr and the others implement net.Conn, as far as HTTP/2 asks.
func (c *streamConn) LocalAddr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// RemoteAddr implements net.Conn.
func (c *streamConn) RemoteAddr() net.Addr { return &net.UnixAddr{Net: "unix"} }

// SetDeadline implements net.Conn.
func (c *streamConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline implements net.Conn.
func (c *streamConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline implements net.Conn.
func (c *streamConn) SetWriteDeadline(time.Time) error { return nil }

var _ net.Conn = (*streamConn)(nil)
