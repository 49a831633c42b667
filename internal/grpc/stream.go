package grpc

import (
	"context"
	"errors"
	"io"
	"net/http"
	"sync"
)

// A Stream is a call that a server answers. One goroutine may send while another receives; neither may after the handler has returned.
type Stream struct {
	server    *Server
	ctx       context.Context
	method    string
	authority string
	metadata  Metadata
	in        frameReader
	w         http.ResponseWriter

	mu      sync.Mutex // guards what follows, and the headers of w
	begun   bool       // the head of the answer is sent
	ended   bool       // the handler has returned
	trailer Metadata
}

// Context returns the context of the call: it is done when the client has gone, or its time is over.
func (s *Stream) Context() context.Context { return s.ctx }

// Method returns the method that was called, as /package.Service/Method.
func (s *Stream) Method() string { return s.method }

// Authority returns the name by which the client knows the server.
func (s *Stream) Authority() string { return s.authority }

// Metadata returns what came with the call.
func (s *Stream) Metadata() Metadata { return s.metadata }

// serve runs the handler of the method.
func (s *Stream) serve(r *http.Request) error {
	s.ctx = r.Context()
	if timeout := r.Header.Get(headerTimeout); timeout != "" {
		d, err := timeoutOf(timeout)
		if err != nil {
			return err
		}
		var cancel context.CancelFunc
		s.ctx, cancel = context.WithTimeout(s.ctx, d)
		defer cancel()
	}
	// A body that waits for the client does not end with the time of the call: it is closed then.
	stop := context.AfterFunc(s.ctx, func() { r.Body.Close() })
	defer stop()
	var err error
	if s.metadata, err = metadataOf(r.Header); err != nil {
		return err
	}
	encoding := r.Header.Get(headerEncoding)
	if encoding != "" && encoding != "identity" && encoding != "gzip" {
		return Errorf(Unimplemented, "messages compressed as %q cannot be read; gzip can", encoding)
	}
	s.in = frameReader{codec: &s.server.codec, body: r.Body, max: s.server.MaxMessage, encoding: encoding}
	if s.in.max <= 0 {
		s.in.max = DefaultMaxMessage
	}
	handler := s.server.Methods[s.method]
	if handler == nil {
		return Errorf(Unimplemented, "there is no method %s here", s.method)
	}
	if err := handler(s); err != nil {
		return err
	}
	return s.ctx.Err()
}

// Recv reads the next message. It returns io.EOF when the client sends no more, and else an [*Error].
func (s *Stream) Recv(message any) error {
	err := s.in.read(message)
	if err == nil || err == io.EOF {
		return err
	}
	return s.status(err)
}

// SetHeader says what metadata the answer begins with. It has to come before the first message.
func (s *Stream) SetHeader(m Metadata) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.begun {
		return Errorf(Internal, "the answer has begun")
	}
	return addMetadata(s.w.Header(), "", m)
}

// SetTrailer says what metadata the answer ends with.
func (s *Stream) SetTrailer(m Metadata) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.trailer = m
}

// SendHeader begins the answer at once, where the client waits for its metadata.
func (s *Stream) SendHeader() error { return s.write(nil) }

// Send sends a message.
func (s *Stream) Send(message any) error {
	frame, err := appendFrame(nil, &s.server.codec, message)
	if err != nil {
		return err
	}
	return s.write(frame)
}

// write sends bytes of the body, after the head.
func (s *Stream) write(b []byte) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended {
		return Errorf(Internal, "the handler has returned")
	}
	s.begun = true
	_, err := s.w.Write(b)
	if err == nil {
		err = http.NewResponseController(s.w).Flush()
	}
	if err != nil {
		return s.status(err)
	}
	return nil
}

// status turns an error of the connection into one of the call.
func (s *Stream) status(err error) error {
	var status *Error
	if errors.As(err, &status) {
		return status
	}
	if ended := s.ctx.Err(); ended != nil {
		return StatusOf(ended)
	}
	return &Error{Code: Canceled, Message: "the client has gone: " + err.Error()}
}
