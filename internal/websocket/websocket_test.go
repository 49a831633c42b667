package websocket_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/forge-build/forge/internal/websocket"
)

// request is one for a connection, with headers changed: NAME, VALUE, ….
func request(change ...string) *http.Request {
	r := httptest.NewRequest(http.MethodGet, "/", http.NoBody)
	for name, value := range map[string]string{
		"Connection": "keep-alive, Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13", "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
	} {
		r.Header.Set(name, value)
	}
	for pair := range slices.Chunk(change, 2) {
		r.Header.Set(pair[0], pair[1])
	}
	return r
}

// TestAnswer has the example of RFC 6455, section 1.3, and requests that are none.
func TestAnswer(t *testing.T) {
	head, err := websocket.Answer(request())
	if err != nil || !strings.Contains(head, "\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n") {
		t.Errorf("%q, %v", head, err)
	}
	for _, change := range [][]string{{"Connection", "close"}, {"Upgrade", "tcp"}, {"Sec-WebSocket-Version", "8"}, {"Sec-WebSocket-Key", "short"}, {"Sec-WebSocket-Key", "AAAA"}} {
		if head, err := websocket.Answer(request(change...)); err == nil {
			t.Errorf("%q is answered with %q", change, head)
		}
	}
}

// frame is a frame as clients send it. first is its first byte.
func frame(first byte, payload string) string {
	mask := []byte{1, 2, 3, 4}
	b := []byte{first, 0x80}
	switch n := len(payload); {
	case n < 126:
		b[1] |= byte(n)
	case n < 1<<16:
		b[1] |= 126
		b = binary.BigEndian.AppendUint16(b, uint16(n))
	default:
		b[1] |= 127
		b = binary.BigEndian.AppendUint64(b, uint64(n))
	}
	b = append(b, mask...)
	for i := range len(payload) {
		b = append(b, payload[i]^mask[i%4])
	}
	return string(b)
}

// TestRead reads messages in one piece and in several, with questions between them, and what is none.
func TestRead(t *testing.T) {
	long, longer := strings.Repeat("long ", 1000), strings.Repeat("longer ", 10_000)
	for name, test := range map[string]struct{ sent, want, answered, err string }{
		"messages":     {frame(0x82, "one ") + frame(0x81, "two ") + frame(0x82, "") + frame(0x82, long) + frame(0x82, longer) + frame(0x88, ""), "one two " + long + longer, "\x88\x02\x03\xe8", ""},
		"in pieces":    {frame(0x02, "on") + frame(0x89, "?") + frame(0x00, "e") + frame(0x8a, "") + frame(0x80, "!") + frame(0x88, "\x03\xe8bye"), "one!", "\x8a\x01?\x88\x02\x03\xe8", ""},
		"nothing":      {"", "", "", ""},
		"cut off":      {frame(0x82, "cut off")[:9], "cut", "", "unexpected EOF"},
		"half a head":  {"\x82\xfe\x01", "", "", "unexpected EOF"},
		"no mask":      {"\x82\x01a", "", "\x88\x02\x03\xea", "no mask"},
		"extension":    {frame(0xc2, "a"), "", "\x88\x02\x03\xea", "extension"},
		"kind":         {frame(0x83, "a"), "", "\x88\x02\x03\xea", "kind 0x3"},
		"goes on":      {frame(0x80, "a"), "", "\x88\x02\x03\xea", "has not begun"},
		"within":       {frame(0x02, "a") + frame(0x82, "b"), "a", "\x88\x02\x03\xea", "within another"},
		"long ping":    {frame(0x89, strings.Repeat("p", 126)), "", "\x88\x02\x03\xea", "125 bytes"},
		"ping's part":  {frame(0x09, "p"), "", "\x88\x02\x03\xea", "in pieces"},
		"endless":      {"\x82\xff\xff\xff\xff\xff\xff\xff\xff\xff1234", "", "\x88\x02\x03\xea", "too long"},
		"after an end": {frame(0x88, "") + frame(0x82, "more"), "", "\x88\x02\x03\xe8", ""},
	} {
		t.Run(name, func(t *testing.T) {
			for _, slow := range []bool{false, true} {
				var in io.Reader = strings.NewReader(test.sent)
				if slow {
					in = iotest.OneByteReader(in)
				}
				var out bytes.Buffer
				got, err := io.ReadAll(websocket.New(in, &out))
				text := ""
				if err != nil {
					text = err.Error()
				}
				if string(got) != test.want || out.String() != test.answered || (text == "") != (test.err == "") || !strings.Contains(text, test.err) {
					t.Errorf("read %.40q, answered %q, %v; want %.40q, %q, %q", got, out.String(), err, test.want, test.answered, test.err)
				}
			}
		})
	}
}

// TestWrite writes messages of all forms of length, and none after the end.
func TestWrite(t *testing.T) {
	var out bytes.Buffer
	c := websocket.New(strings.NewReader(""), &out)
	want := ""
	for _, size := range []int{0, 1, 125, 126, 1<<16 - 1, 1 << 16} {
		text := strings.Repeat("x", size)
		if n, err := io.WriteString(c, text); n != size || err != nil {
			t.Errorf("%d bytes: %d, %v", size, n, err)
		}
		want += "\x82" + head(size) + text
	}
	if err := errors.Join(c.Close(), c.Close()); err != nil {
		t.Error(err)
	}
	if _, err := io.WriteString(c, "late"); err == nil {
		t.Error("a message is sent after the end")
	}
	if out.String() != want+"\x88\x02\x03\xe8" {
		t.Errorf("%d bytes, want %d", out.Len(), len(want)+4)
	}
}

// head is the length of a frame of the server.
func head(n int) string {
	switch {
	case n < 126:
		return string([]byte{byte(n)})
	case n < 1<<16:
		return "\x7e" + string(binary.BigEndian.AppendUint16(nil, uint16(n)))
	}
	return "\x7f" + string(binary.BigEndian.AppendUint64(nil, uint64(n)))
}

// FuzzRead reads whatever a client may send. No more is read than came, and what is answered is whole frames.
func FuzzRead(f *testing.F) {
	f.Add([]byte(frame(0x02, "on") + frame(0x89, "?") + frame(0x80, "e") + frame(0x88, "")))
	f.Add([]byte("\x82\xff\x7f\xff\xff\xff\xff\xff\xff\xff1234"))
	f.Add([]byte("\x82\xfe\x01"))
	f.Fuzz(func(t *testing.T, sent []byte) {
		var out bytes.Buffer
		got, _ := io.ReadAll(websocket.New(bytes.NewReader(sent), &out))
		if len(got) > len(sent) {
			t.Errorf("of %d bytes %d are read", len(sent), len(got))
		}
		for answer := out.Bytes(); len(answer) > 0; {
			if len(answer) < 2 || answer[0] != 0x88 && answer[0] != 0x8a || answer[1] > 125 || len(answer) < 2+int(answer[1]) {
				t.Fatalf("%q is answered with %q", sent, out.Bytes())
			}
			answer = answer[2+answer[1]:]
		}
	})
}
