package grpc

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"sync"

	"github.com/forge-build/forge/internal/proto"
)

// A Handler answers one call. What it returns is the end of the call: nil for OK, an [*Error] as it is, errors of contexts as their codes, and any other as
// Unknown. It may leave the rest of what the client sends unread.
type Handler func(s *Stream) error

// A Server answers calls. It is an http.Handler for requests of HTTP/2. The zero value knows no method. Its fields are not to be changed while it serves.
type Server struct {
	Methods    map[string]Handler // by /package.Service/Method; others are Unimplemented
	MaxMessage int                // bytes that a received message may have; 0 is DefaultMaxMessage
	MaxCalls   int                // on one connection at once; 0 is as many as net/http allows

	codec proto.Codec
}

// Unary makes a Handler of a function that answers one message with one.
func Unary[In, Out any](answer func(s *Stream, in *In) (*Out, error)) Handler {
	return func(s *Stream) error {
		in := new(In)
		if err := s.Recv(in); err == io.EOF {
			return Errorf(Internal, "there is no message in the request")
		} else if err != nil {
			return err
		}
		out, err := answer(s, in)
		if err != nil {
			return err
		}
		return s.Send(out)
	}
}

// ServeHTTP answers one call.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	switch {
	case r.ProtoMajor < 2:
		http.Error(w, "gRPC needs HTTP/2", http.StatusHTTPVersionNotSupported)
		return
	case !isGRPC(r.Header.Get("Content-Type")):
		w.Header().Set("Accept", contentType)
		http.Error(w, "the content type is not "+contentType, http.StatusUnsupportedMediaType)
		return
	case r.Method != http.MethodPost:
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "gRPC calls are POST requests", http.StatusMethodNotAllowed)
		return
	}
	stream := &Stream{server: s, w: w, method: r.URL.Path, authority: r.Host}
	h := w.Header()
	h.Set("Content-Type", contentType)
	h.Set(headerAccept, acceptEncodings)
	err := stream.serve(r)
	stream.mu.Lock()
	defer stream.mu.Unlock()
	stream.ended = true
	prefix := ""
	if stream.begun {
		prefix = http.TrailerPrefix
	}
	if err := addMetadata(h, prefix, stream.trailer); err != nil {
		setStatus(h, prefix, &s.codec, StatusOf(err))
		return
	}
	setStatus(h, prefix, &s.codec, StatusOf(err))
}

// ServeConn answers the calls that the other side makes over one connection, until it closes the connection or ctx is done. Who has read from the connection
// before gives one that reads the rest first. It returns nil when the other side has gone.
func (s *Server) ServeConn(ctx context.Context, conn net.Conn) error {
	ended := make(chan struct{})
	var calls sync.WaitGroup
	defer calls.Wait()
	srv := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			calls.Add(1)
			defer calls.Done()
			s.ServeHTTP(w, r)
		}),
		Protocols:   new(http.Protocols),
		HTTP2:       &http.HTTP2Config{MaxConcurrentStreams: s.MaxCalls},
		BaseContext: func(net.Listener) context.Context { return ctx },
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateClosed || state == http.StateHijacked {
				close(ended)
			}
		},
	}
	srv.Protocols.SetUnencryptedHTTP2(true)
	stop := context.AfterFunc(ctx, func() { conn.Close() }) // srv.Close would wait for the listener, which waits for the connection
	defer stop()
	err := srv.Serve(&oneListener{conn: conn, ended: ended})
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == io.EOF || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// A oneListener is a listener of one connection.
type oneListener struct {
	mu    sync.Mutex
	conn  net.Conn // until it is accepted
	ended <-chan struct{}
}

// Accept returns the connection once, and io.EOF when that has ended.
func (l *oneListener) Accept() (net.Conn, error) {
	l.mu.Lock()
	conn := l.conn
	l.conn = nil
	l.mu.Unlock()
	if conn != nil {
		return conn, nil
	}
	<-l.ended
	return nil, io.EOF
}

// Close closes the connection if it was not accepted.
func (l *oneListener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.conn != nil {
		return l.conn.Close()
	}
	return nil
}

// Addr returns the address of this side of the connection.
func (l *oneListener) Addr() net.Addr { return &net.UnixAddr{Net: "unix"} }
