package grpc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge/internal/grpc"
)

// text is google.protobuf.StringValue.
type text struct {
	Value string `pb:"1"`
}

// methods are those that the tests call, for every shape of a call.
func methods() map[string]grpc.Handler {
	return map[string]grpc.Handler{
		"/test.Echo/Unary": grpc.Unary(func(s *grpc.Stream, in *text) (*text, error) {
			if err := s.SetHeader(grpc.Metadata{"seen": s.Metadata()["who"], "seen-bin": s.Metadata()["who-bin"]}); err != nil {
				return nil, err
			}
			s.SetTrailer(grpc.Metadata{"last-bin": {"\x00\xff"}})
			return &text{Value: "echo " + in.Value}, nil
		}),
		"/test.Echo/Client": func(s *grpc.Stream) error {
			var all []string
			for {
				var in text
				if err := s.Recv(&in); err == io.EOF {
					return s.Send(&text{Value: strings.Join(all, " ")})
				} else if err != nil {
					return err
				}
				all = append(all, in.Value)
			}
		},
		"/test.Echo/Server": func(s *grpc.Stream) error {
			var in text
			if err := s.Recv(&in); err != nil {
				return err
			}
			for i := range 3 {
				if err := s.Send(&text{Value: fmt.Sprint(in.Value, i)}); err != nil {
					return err
				}
			}
			return nil
		},
		"/test.Echo/Both": func(s *grpc.Stream) error {
			for {
				var in text
				if err := s.Recv(&in); err == io.EOF {
					return nil
				} else if err != nil {
					return err
				}
				if err := s.Send(&in); err != nil {
					return err
				}
			}
		},
		"/test.Echo/Fail": grpc.Unary(func(_ *grpc.Stream, in *text) (*text, error) {
			return nil, fmt.Errorf("wrapped: %w", &grpc.Error{Code: grpc.FailedPrecondition, Message: in.Value, Details: []grpc.Detail{{Type: "t/x", Value: []byte{8, 1}}}})
		}),
		"/test.Echo/FailLate": func(s *grpc.Stream) error {
			if err := s.Send(&text{Value: "first"}); err != nil {
				return err
			}
			return errors.New("plain")
		},
		"/test.Echo/Wait": func(s *grpc.Stream) error {
			if err := s.SendHeader(); err != nil {
				return err
			}
			<-s.Context().Done()
			return s.Context().Err()
		},
		"/test.Echo/WaitForMore": func(s *grpc.Stream) error {
			for {
				var in text
				if err := s.Recv(&in); err != nil {
					return err
				}
			}
		},
		"/test.Echo/Early": func(*grpc.Stream) error { return grpc.Errorf(grpc.ResourceExhausted, "enough") },
	}
}

// link is a client and a server on the two ends of one connection. serverEnds has what ServeConn returned.
func link(t *testing.T, s *grpc.Server, o grpc.Options) (client *grpc.Client, serverEnds <-chan error) {
	t.Helper()
	ours, theirs := net.Pipe()
	ends := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ends <- s.ServeConn(ctx, theirs) }()
	client, err := grpc.Over(t.Context(), ours, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		client.Close()
	})
	return client, ends
}

// receive reads all messages of a call.
func receive(call *grpc.Call) (all []string, err error) {
	for {
		var out text
		if err := call.Recv(&out); err != nil {
			if err == io.EOF {
				err = nil
			}
			return all, err
		}
		all = append(all, out.Value)
	}
}

// shapes makes a call of each shape and looks at what comes back.
func shapes(t *testing.T, c *grpc.Client) {
	t.Helper()
	ctx := t.Context()
	var out text
	if err := c.Invoke(ctx, "/test.Echo/Unary", nil, &text{Value: strings.Repeat("ab", 100_000)}, &out); err != nil || len(out.Value) != 200_005 {
		t.Errorf("unary: %d bytes, %v", len(out.Value), err)
	}
	for method, want := range map[string][]string{"Client": {"a b c"}, "Both": {"a", "b", "c"}, "Server": {"a0", "a1", "a2"}} {
		call := c.Start(ctx, "/test.Echo/"+method, nil)
		for _, s := range []string{"a", "b", "c"} {
			if err := call.Send(&text{Value: s}); err != nil && method != "Server" {
				t.Errorf("%s: send: %v", method, err)
			}
		}
		if err := call.CloseSend(); err != nil {
			t.Error(err)
		}
		if got, err := receive(call); err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %q, %v, want %q", method, got, err, want)
		}
	}
	call := c.Start(ctx, "/test.Echo/Both", nil) // turn by turn
	for _, s := range []string{"x", "", "z"} {
		if err := call.Send(&text{Value: s}); err != nil {
			t.Fatal(err)
		}
		if err := call.Recv(&out); err != nil || out.Value != s {
			t.Errorf("turn: %q, %v, want %q", out.Value, err, s)
		}
	}
	call.Close()
}

// statuses makes calls that fail.
func statuses(t *testing.T, c *grpc.Client) {
	t.Helper()
	ctx := t.Context()
	var out text
	err := c.Invoke(ctx, "/test.Echo/Fail", nil, &text{Value: "größer % \n"}, &out)
	want := &grpc.Error{Code: grpc.FailedPrecondition, Message: "größer % \n", Details: []grpc.Detail{{Type: "t/x", Value: []byte{8, 1}}}}
	if got := grpc.StatusOf(err); !reflect.DeepEqual(got, want) {
		t.Errorf("status %+v, want %+v", got, want)
	}
	if err := c.Invoke(ctx, "/test.Echo/None", nil, &text{}, &out); grpc.CodeOf(err) != grpc.Unimplemented {
		t.Errorf("a method that is not there: %v", err)
	}
	call := c.Start(ctx, "/test.Echo/FailLate", nil)
	got, err := receive(call)
	if grpc.CodeOf(err) != grpc.Unknown || !slices.Equal(got, []string{"first"}) || !strings.Contains(err.Error(), "plain") {
		t.Errorf("late failure: %q, %v", got, err)
	}
	call = c.Start(ctx, "/test.Echo/Early", nil)
	for err = nil; err == nil; err = call.Send(&text{Value: strings.Repeat("x", 10_000)}) { // the server reads none of it
	}
	if err != io.EOF {
		t.Errorf("send to a call that has ended: %v", err)
	}
	if err := call.Recv(&out); grpc.CodeOf(err) != grpc.ResourceExhausted {
		t.Errorf("early end: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := c.Invoke(short, "/test.Echo/Wait", nil, &text{}, &out); grpc.CodeOf(err) != grpc.DeadlineExceeded {
		t.Errorf("deadline: %v", err)
	}
	canceled, stop := context.WithCancel(ctx)
	call = c.Start(canceled, "/test.Echo/Wait", nil)
	if _, err := call.Header(); err != nil {
		t.Error(err)
	}
	stop()
	if err := call.Recv(&out); grpc.CodeOf(err) != grpc.Canceled {
		t.Errorf("canceled: %v", err)
	}
}

func TestConn(t *testing.T) {
	c, ends := link(t, &grpc.Server{Methods: methods()}, grpc.Options{})
	shapes(t, c)
	statuses(t, c)
	c.Close()
	if err := <-ends; err != nil {
		t.Errorf("the server ends with %v", err)
	}
	if err := c.Invoke(t.Context(), "/test.Echo/Unary", nil, &text{}, &text{}); err == nil {
		t.Error("a call over a closed connection went well")
	}
}

// TestConnCanceled ends a server while it answers.
func TestConnCanceled(t *testing.T) {
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithCancel(t.Context())
	ends := make(chan error, 1)
	go func() { ends <- (&grpc.Server{Methods: methods()}).ServeConn(ctx, theirs) }()
	c, err := grpc.Over(t.Context(), ours, grpc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	call := c.Start(t.Context(), "/test.Echo/Wait", nil)
	if _, err := call.Header(); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-ends; !errors.Is(err, context.Canceled) {
		t.Errorf("the server ends with %v", err)
	}
	if err := call.Recv(&text{}); err == nil || err == io.EOF {
		t.Errorf("the call ends with %v", err)
	}
}

// TestMany makes more calls at once than a connection carries.
func TestMany(t *testing.T) {
	c, _ := link(t, &grpc.Server{Methods: methods()}, grpc.Options{})
	errs := make(chan error)
	for i := range 600 {
		go func() {
			var out text
			err := c.Invoke(t.Context(), "/test.Echo/Unary", nil, &text{Value: fmt.Sprint(i)}, &out)
			if want := fmt.Sprint("echo ", i); err == nil && out.Value != want {
				err = fmt.Errorf("%q, want %q", out.Value, want)
			}
			errs <- err
		}()
	}
	for range 600 {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
}

func TestDial(t *testing.T) {
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	socket, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: &grpc.Server{Methods: methods()}, Protocols: protocols}
	go srv.Serve(socket)
	go srv.Serve(tcp)
	defer srv.Close()
	secure := httptest.NewUnstartedServer(srv.Handler)
	secure.EnableHTTP2 = true
	secure.StartTLS()
	defer secure.Close()
	for address, o := range map[string]grpc.Options{
		"unix://" + socket.Addr().String():                     {},
		"grpc://" + tcp.Addr().String():                        {Authority: "other.example"},
		strings.Replace(secure.URL, "https://", "grpcs://", 1): {TLS: secure.Client().Transport.(*http.Transport).TLSClientConfig},
	} {
		c, err := grpc.Dial(address, o)
		if err != nil {
			t.Errorf("%s: %v", address, err)
			continue
		}
		shapes(t, c)
		c.Close()
	}
	for _, address := range []string{"", "http://x", "grpc://", "unix://x/y", "unix:rel", "://"} {
		if _, err := grpc.Dial(address, grpc.Options{}); err == nil {
			t.Errorf("address %q was taken", address)
		}
	}
	c, err := grpc.Dial("unix:///nowhere/at/all", grpc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Invoke(t.Context(), "/a/B", nil, &text{}, &text{}); grpc.CodeOf(err) != grpc.Unavailable {
		t.Errorf("nobody listens: %v", err)
	}
}

func TestMetadata(t *testing.T) {
	c, _ := link(t, &grpc.Server{Methods: methods()}, grpc.Options{Metadata: grpc.Metadata{"who": {"client"}}})
	call := c.Start(t.Context(), "/test.Echo/Unary", grpc.Metadata{"who": {"call"}, "who-bin": {"\x01,\xfe", ""}})
	call.Send(&text{})
	call.CloseSend()
	h, err := call.Header()
	if err != nil || !slices.Equal(h["seen"], []string{"client", "call"}) || !slices.Equal(h["seen-bin"], []string{"\x01,\xfe", ""}) {
		t.Errorf("header %q, %v", h, err)
	}
	receive(call)
	if tr, err := call.Trailer(); err != nil || tr.Get("last-bin") != "\x00\xff" || len(tr) != 1 {
		t.Errorf("trailer %q, %v", tr, err)
	}
	for _, md := range []grpc.Metadata{{"Upper": {"x"}}, {"grpc-x": {"x"}}, {"te": {"x"}}, {"a": {"ä"}}, {"a": {"\n"}}} {
		if err := c.Invoke(t.Context(), "/test.Echo/Unary", md, &text{}, &text{}); grpc.CodeOf(err) != grpc.Internal {
			t.Errorf("metadata %q: %v", md, err)
		}
	}
}

func TestMessageSizes(t *testing.T) {
	c, _ := link(t, &grpc.Server{Methods: methods(), MaxMessage: 1000}, grpc.Options{MaxMessage: 500})
	for size, want := range map[int]grpc.Code{400: grpc.OK, 700: grpc.ResourceExhausted, 2000: grpc.ResourceExhausted} {
		if err := c.Invoke(t.Context(), "/test.Echo/Unary", nil, &text{Value: strings.Repeat("x", size)}, &text{}); grpc.CodeOf(err) != want {
			t.Errorf("%d bytes: %v, want %v", size, err, want)
		}
	}
}
