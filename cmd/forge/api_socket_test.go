package main

import (
	"bufio"
	"encoding/binary"
	"io"
	"net/http"
	"strings"
	"testing"
)

// A socketClient speaks WebSocket, as a client does that has taken a connection over.
type socketClient struct {
	t   *testing.T
	out io.Writer
	in  *bufio.Reader
}

// webSocket takes over a connection.
func (c *apiClient) webSocket(path string) *socketClient {
	c.t.Helper()
	conn, in, res := c.send(http.MethodGet, path, "", "Connection: Upgrade", "Upgrade: websocket", "Origin: http://localhost", "Sec-WebSocket-Version: 13",
		"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==")
	if got := res.Header.Get("Sec-Websocket-Accept"); res.StatusCode != http.StatusSwitchingProtocols || got != "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" {
		c.t.Fatalf("%s: %d, %q", path, res.StatusCode, got)
	}
	return &socketClient{c.t, conn, in}
}

// send sends a frame of less than 126 bytes.
func (c *socketClient) send(kind byte, payload string) {
	c.t.Helper()
	frame := append([]byte{0x80 | kind, 0x80 | byte(len(payload))}, "mask"...)
	for i := range len(payload) {
		frame = append(frame, payload[i]^"mask"[i%4])
	}
	if _, err := c.out.Write(frame); err != nil {
		c.t.Fatal(err)
	}
}

// next reads a frame.
func (c *socketClient) next() (kind byte, payload string) {
	c.t.Helper()
	var head [2]byte
	if _, err := io.ReadFull(c.in, head[:]); err != nil {
		c.t.Fatal(err)
	}
	size := uint64(head[1])
	if n := map[uint64]int{126: 2, 127: 8}[size]; n > 0 {
		var long [8]byte
		if _, err := io.ReadFull(c.in, long[8-n:]); err != nil {
			c.t.Fatal(err)
		}
		size = binary.BigEndian.Uint64(long[:])
	}
	b := make([]byte, size)
	if _, err := io.ReadFull(c.in, b); err != nil {
		c.t.Fatal(err)
	}
	return head[0], string(b)
}

// messages reads messages until there are so many bytes, or the server closes the connection.
func (c *socketClient) messages(size int) (all string, closed bool) {
	c.t.Helper()
	for len(all) < size {
		kind, payload := c.next()
		switch kind {
		case 0x82:
			all += payload
		case 0x88:
			return all, true
		default:
			c.t.Fatalf("a frame of kind %#x comes: %q", kind, payload)
		}
	}
	return all, false
}

// TestAPISocket attaches to containers by WebSocket: before the start, with input and without, with a terminal, and leaves.
func TestAPISocket(t *testing.T) {
	_, c, _ := newAPIClient(t)
	id := c.id("/containers/create", `{"Image":"base","Cmd":["sh","-c","cat; echo errors >&2; sleep 1000"],"OpenStdin":true,"StdinOnce":true,"AttachStdin":true}`)
	first := c.webSocket("/v1.51/containers/" + id + "/attach/ws?stream=1&stdin=1&stdout=1&stderr=1")
	second := c.webSocket("/containers/" + id + "/attach/ws?stream=1&stdout=1")
	c.do(http.StatusNoContent, http.MethodPost, "/containers/"+id+"/start", "")
	typed := strings.Repeat("typed\n", 20)
	for range 100 {
		first.send(0x2, typed)
	}
	all := strings.Repeat(typed, 100)
	for _, s := range []*socketClient{first, second} {
		if got, _ := s.messages(len(all)); got != all {
			t.Errorf("%d bytes come back, want %d", len(got), len(all))
		}
	}
	second.send(0x9, "there?")
	if kind, text := second.next(); kind != 0x8a || text != "there?" {
		t.Errorf("the question is answered with %#x %q", kind, text)
	}
	// Who closes his connection ends the input of a container that is for him alone.
	first.send(0x8, "\x03\xe8")
	if kind, text := first.next(); kind != 0x88 || text != "\x03\xe8" {
		t.Errorf("the end is answered with %#x %q", kind, text)
	}
	if rest, err := io.ReadAll(first.in); len(rest) > 0 || err != nil {
		t.Errorf("after the end come %q, %v", rest, err)
	}
	conn, in, res := c.send(http.MethodGet, "/containers/"+id+"/logs?stderr=1&follow=1", "")
	defer conn.Close()
	if line, err := bufio.NewReader(res.Body).ReadString('\n'); !strings.HasSuffix(line, "errors\n") {
		t.Errorf("the container's input has not ended: %q, %v, %d", line, err, in.Buffered())
	}
	c.do(http.StatusNoContent, http.MethodDelete, "/containers/"+id+"?force=1", "")
	if left, closed := second.messages(1); left != "" || !closed {
		t.Errorf("when the container ends comes %q, and closed is %v", left, closed)
	}

	id = c.id("/containers/create", `{"Image":"base","Cmd":["sh","-c","echo begun; read x; echo got $x"],"Tty":true,"OpenStdin":true}`)
	c.do(http.StatusNoContent, http.MethodPost, "/containers/"+id+"/start", "")
	until(t, "the log has what is printed", func() bool { // what is printed between the log and the stream is in neither
		return strings.Contains(c.do(http.StatusOK, http.MethodGet, "/containers/"+id+"/logs?stdout=1", ""), "begun")
	})
	s := c.webSocket("/containers/" + id + "/attach/ws?logs=1&stream=1&stdin=1&stdout=1")
	s.messages(len("begun\r\n"))
	s.send(0x1, "word\n")
	if text, closed := s.messages(1000); !strings.Contains(text, "got word\r\n") || !closed {
		t.Errorf("the terminal shows %q, and closed is %v", text, closed)
	}
}
