// Package websocket is the server's side of WebSocket (RFC 6455), without extensions: a stream of bytes in each direction, over a connection
// that HTTP has given up.
//
// What the client sends is read as it comes, whatever the messages are that it is in: none is kept. What is written is one binary message each
// time.
package websocket

import (
	"bufio"
	"crypto/sha1" //nolint:gosec // the protocol's choice; it protects nothing
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
)

// keySuffix is what the protocol adds to the client's key before it takes the sum of it.
const keySuffix = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

// Answer is the head of the answer to a request for a WebSocket, without the empty line at its end.
func Answer(r *http.Request) (string, error) {
	switch {
	case r.Method != http.MethodGet || !Asked(r) || !has(r.Header, "Connection", "upgrade"):
		return "", errors.New("this needs a GET with the headers Connection: Upgrade and Upgrade: websocket")
	case r.Header.Get("Sec-Websocket-Version") != "13":
		return "", errors.New("the version of WebSocket is 13: the header Sec-WebSocket-Version has to say so")
	}
	key := r.Header.Get("Sec-Websocket-Key")
	if raw, err := base64.StdEncoding.DecodeString(key); err != nil || len(raw) != 16 {
		return "", errors.New("the header Sec-WebSocket-Key has to be 16 bytes in base64")
	}
	sum := sha1.Sum([]byte(key + keySuffix)) //nolint:gosec // the protocol's choice; it protects nothing
	return "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " +
		base64.StdEncoding.EncodeToString(sum[:]) + "\r\n", nil
}

// Asked reports whether a request is one for a WebSocket.
func Asked(r *http.Request) bool { return has(r.Header, "Upgrade", "websocket") }

// has reports whether a header that is a list has a word in it.
func has(h http.Header, name, word string) bool {
	for _, line := range h.Values(name) {
		for one := range strings.SplitSeq(line, ",") {
			if strings.EqualFold(strings.TrimSpace(one), word) {
				return true
			}
		}
	}
	return false
}

// Kinds of frames.
const (
	more   = 0x0 // of the message before it
	text   = 0x1
	bytes  = 0x2
	closes = 0x8
	ping   = 0x9
	pong   = 0xa
)

// Bits of a frame's head.
const (
	final    = 0x80 // the last of its message
	reserved = 0x70 // for extensions, of which there are none
	masked   = 0x80
)

// maxControl is how many bytes a frame may carry that is no part of a message.
const maxControl = 125

// Statuses with which a connection is closed.
const (
	statusNormal   = 1000
	statusProtocol = 1002
)

// A Conn is a connection that has been taken over. One goroutine may read and others may write at the same time.
type Conn struct {
	in   *bufio.Reader
	left uint64  // bytes of the frame that is being read
	mask [4]byte // of it
	at   int     // where in the mask its next byte is
	open bool    // the message goes on in another frame
	err  error   // why nothing more can be read

	mu     sync.Mutex // guards what is below, and is held while a frame is written
	out    io.Writer
	closed bool
}

// New makes a connection of one whose head has been answered with that of [Answer]. What the client has sent is read from in.
func New(in io.Reader, out io.Writer) *Conn { return &Conn{in: bufio.NewReader(in), out: out} }

// Read reads what the client sends. It is at its end when the client closes the connection. It answers what asks for an answer.
func (c *Conn) Read(p []byte) (int, error) {
	for c.left == 0 && c.err == nil && len(p) > 0 {
		c.err = c.next()
	}
	if c.err != nil || len(p) == 0 {
		return 0, c.err
	}
	n, err := c.in.Read(p[:min(uint64(len(p)), c.left)])
	c.unmask(p[:n])
	c.left -= uint64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	c.err = err
	return n, err
}

// unmask takes the mask from bytes of the frame that is being read.
func (c *Conn) unmask(p []byte) {
	for i := range p {
		p[i] ^= c.mask[c.at%len(c.mask)]
		c.at++
	}
}

// next reads frames until one is a part of a message.
func (c *Conn) next() error {
	kind, last, err := c.head()
	if err != nil {
		return err
	}
	switch kind {
	case more, text, bytes:
		if (kind == more) != c.open {
			return c.broken("a message has begun within another, or goes on that has not begun")
		}
		c.open = !last
		return nil
	case closes, ping, pong:
		if !last || c.left > maxControl {
			return c.broken("a frame of control is in pieces, or has more than 125 bytes")
		}
		return c.control(kind)
	}
	return c.broken(fmt.Sprintf("frames of kind %#x are not known", kind))
}

// head reads the head of a frame, and notes its length and mask.
func (c *Conn) head() (kind byte, last bool, err error) {
	var b [8]byte
	if _, err := io.ReadFull(c.in, b[:2]); err != nil {
		return 0, false, err
	}
	if b[0]&reserved != 0 {
		return 0, false, c.broken("a frame is of an extension")
	}
	if b[1]&masked == 0 {
		return 0, false, c.broken("a frame of the client has no mask")
	}
	kind, last, c.left = b[0]&0xf, b[0]&final != 0, uint64(b[1]&^masked)
	size := map[uint64]int{126: 2, 127: 8}[c.left]
	if size > 0 {
		b = [8]byte{}
		if _, err := io.ReadFull(c.in, b[8-size:]); err != nil {
			return 0, false, unexpected(err)
		}
		c.left = binary.BigEndian.Uint64(b[:])
	}
	if c.left>>63 != 0 {
		return 0, false, c.broken("a frame is too long")
	}
	c.at = 0
	_, err = io.ReadFull(c.in, c.mask[:])
	return kind, last, unexpected(err)
}

// unexpected is an error in the middle of a frame, where an end is none.
func unexpected(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// control reads the rest of a frame that is no part of a message, and answers it.
func (c *Conn) control(kind byte) error {
	p := make([]byte, c.left)
	if _, err := io.ReadFull(c.in, p); err != nil {
		return unexpected(err)
	}
	c.unmask(p)
	c.left = 0
	switch kind {
	case ping:
		return c.send(pong, p)
	case closes:
		if err := c.shut(statusNormal); err != nil {
			return err
		}
		return io.EOF
	}
	return nil
}

// broken closes the connection because of what the client sends.
func (c *Conn) broken(why string) error {
	return errors.Join(fmt.Errorf("websocket: %s", why), c.shut(statusProtocol))
}

// Write sends one binary message.
func (c *Conn) Write(p []byte) (int, error) {
	if err := c.send(bytes, p); err != nil {
		return 0, err
	}
	return len(p), nil
}

// Close tells the client that nothing more comes. The connection below stays as it is.
func (c *Conn) Close() error { return c.shut(statusNormal) }

// shut sends the last frame, once.
func (c *Conn) shut(status uint16) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return nil
	}
	c.closed = true
	return c.frame(closes, binary.BigEndian.AppendUint16(nil, status))
}

func (c *Conn) send(kind byte, p []byte) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return io.ErrClosedPipe
	}
	return c.frame(kind, p)
}

// frame writes a frame. The caller holds mu.
func (c *Conn) frame(kind byte, p []byte) error {
	b := make([]byte, 0, 10+len(p))
	b = append(b, final|kind)
	switch n := len(p); {
	case n <= maxControl:
		b = append(b, byte(n))
	case n <= 0xffff:
		b = binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
	}
	_, err := c.out.Write(append(b, p...))
	return err
}
