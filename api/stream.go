package api

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"sync"
)

// messages answers with a stream of JSON objects, each sent at once. do sends them; its error is an answer of its own if it comes before
// the first, and else the last object, as docker's progress streams have it.
func (c *call) messages(do func(send func(v any) error) error) error {
	var mu sync.Mutex
	send := func(v any) error {
		raw, err := json.Marshal(v)
		if err != nil {
			return err
		}
		mu.Lock()
		defer mu.Unlock()
		c.begin(http.StatusOK, "application/json")
		if _, err := c.w.Write(append(raw, '\r', '\n')); err != nil {
			return err
		}
		return c.flush()
	}
	err := do(send)
	if err != nil && c.begun {
		text := textOf(err)
		detail := map[string]any{"message": text}
		if e, ok := errors.AsType[*commandError](err); ok && e.code != 0 {
			detail["code"] = e.code
		}
		return send(map[string]any{"errorDetail": detail, "error": text})
	}
	return err
}

// begin sends the head of an answer whose body follows piece by piece, once.
func (c *call) begin(code int, contentType string) {
	if c.begun {
		return
	}
	c.begun = true
	c.w.Header().Set("Content-Type", contentType)
	c.w.WriteHeader(code)
}

// flush sends what is written.
func (c *call) flush() error { return http.NewResponseController(c.w).Flush() }

// A flushWriter sends the body of an answer as it is written.
type flushWriter struct{ c *call }

func (f flushWriter) Write(p []byte) (int, error) {
	n, err := f.c.w.Write(p)
	if err == nil {
		err = f.c.flush()
	}
	return n, err
}

// The streams of docker's frames.
const (
	stdoutStream byte = 1
	stderrStream byte = 2
)

// frames splits a connection into docker's multiplexed streams. Safe for concurrent use.
type frames struct {
	w  io.Writer
	mu sync.Mutex // guards w
}

// stream is a writer of one of the streams.
func (f *frames) stream(n byte) io.Writer { return frameWriter{f, n} }

type frameWriter struct {
	frames *frames
	stream byte
}

// frameHeader is how many bytes are before what a frame holds: the stream, three zeros, and the length, most significant byte first.
const frameHeader = 8

// Write sends one frame.
func (w frameWriter) Write(p []byte) (int, error) {
	b := make([]byte, frameHeader, frameHeader+len(p))
	b[0] = w.stream
	binary.BigEndian.PutUint32(b[4:], uint32(len(p)))
	w.frames.mu.Lock()
	defer w.frames.mu.Unlock()
	if _, err := w.frames.w.Write(append(b, p...)); err != nil {
		return 0, err
	}
	return len(p), nil
}
