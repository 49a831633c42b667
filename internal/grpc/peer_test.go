package grpc_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"reflect"
	"strings"
	"testing"
	"time"

	peer "google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	_ "google.golang.org/grpc/encoding/gzip"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/forge-build/forge/internal/grpc"
)

// These tests hold both roles to grpc-go, the implementation that the clients and servers of builds use.

// peerServer is grpc-go with the methods of the tests.
func peerServer() *peer.Server {
	s := peer.NewServer()
	stream := func(name string, h func(s peer.ServerStream) error) peer.StreamDesc {
		return peer.StreamDesc{StreamName: name, Handler: func(_ any, s peer.ServerStream) error { return h(s) }, ServerStreams: true, ClientStreams: true}
	}
	s.RegisterService(&peer.ServiceDesc{ServiceName: "test.Echo", HandlerType: (*any)(nil), Streams: []peer.StreamDesc{
		stream("Unary", func(s peer.ServerStream) error {
			var in wrapperspb.StringValue
			if err := s.RecvMsg(&in); err != nil {
				return err
			}
			md, _ := metadata.FromIncomingContext(s.Context())
			s.SetHeader(metadata.MD{"seen": md["who"], "seen-bin": md["who-bin"]})
			s.SetTrailer(metadata.MD{"last-bin": {"\x00\xff"}})
			return s.SendMsg(wrapperspb.String("echo " + in.Value))
		}),
		stream("Client", func(s peer.ServerStream) error {
			var all []string
			for {
				var in wrapperspb.StringValue
				if err := s.RecvMsg(&in); err == io.EOF {
					return s.SendMsg(wrapperspb.String(strings.Join(all, " ")))
				} else if err != nil {
					return err
				}
				all = append(all, in.Value)
			}
		}),
		stream("Server", func(s peer.ServerStream) error {
			var in wrapperspb.StringValue
			if err := s.RecvMsg(&in); err != nil {
				return err
			}
			for _, n := range []string{"0", "1", "2"} {
				s.SendMsg(wrapperspb.String(in.Value + n))
			}
			return nil
		}),
		stream("Both", func(s peer.ServerStream) error {
			for {
				var in wrapperspb.StringValue
				if err := s.RecvMsg(&in); err == io.EOF {
					return nil
				} else if err != nil {
					return err
				}
				s.SendMsg(&in)
			}
		}),
		stream("Fail", func(s peer.ServerStream) error {
			var in wrapperspb.StringValue
			s.RecvMsg(&in)
			st := status.New(codes.FailedPrecondition, in.Value).Proto()
			st.Details = []*anypb.Any{{TypeUrl: "t/x", Value: []byte{8, 1}}}
			return status.ErrorProto(st)
		}),
		stream("FailLate", func(s peer.ServerStream) error {
			s.SendMsg(wrapperspb.String("first"))
			return status.Error(codes.Unknown, "plain")
		}),
		stream("Wait", func(s peer.ServerStream) error {
			s.SendHeader(nil)
			<-s.Context().Done()
			return s.Context().Err()
		}),
		stream("Early", func(peer.ServerStream) error { return status.Error(codes.ResourceExhausted, "enough") }),
	}}, nil)
	return s
}

func TestClientOfPeer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := peerServer()
	go s.Serve(l)
	defer s.Stop()
	c, err := grpc.Dial("grpc://"+l.Addr().String(), grpc.Options{Metadata: grpc.Metadata{"who": {"client"}}})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	shapes(t, c)
	statuses(t, c)
	call := c.Start(t.Context(), "/test.Echo/Unary", grpc.Metadata{"who-bin": {"\x01,\xfe"}})
	call.Send(&text{})
	call.CloseSend()
	h, err := call.Header()
	if err != nil || h.Get("seen") != "client" || h.Get("seen-bin") != "\x01,\xfe" {
		t.Errorf("header %q, %v", h, err)
	}
	receive(call)
	if tr, err := call.Trailer(); err != nil || tr.Get("last-bin") != "\x00\xff" {
		t.Errorf("trailer %q, %v", tr, err)
	}
}

// peerClient is grpc-go as client of one of our servers.
func peerClient(t *testing.T, dial func(ctx context.Context, _ string) (net.Conn, error)) *peer.ClientConn {
	t.Helper()
	cc, err := peer.NewClient("passthrough:///x", peer.WithTransportCredentials(insecure.NewCredentials()), peer.WithContextDialer(dial))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cc.Close() })
	return cc
}

func TestServerOfPeer(t *testing.T) {
	dials := map[string]func(ctx context.Context, _ string) (net.Conn, error){}
	l, err := net.Listen("unix", t.TempDir()+"/s")
	if err != nil {
		t.Fatal(err)
	}
	server := &grpc.Server{Methods: methods()}
	srv := &http.Server{Handler: server, Protocols: new(http.Protocols)}
	srv.Protocols.SetUnencryptedHTTP2(true)
	go srv.Serve(l)
	defer srv.Close()
	dials["listener"] = func(context.Context, string) (net.Conn, error) { return net.Dial("unix", l.Addr().String()) }
	dials["one connection"] = func(context.Context, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go server.ServeConn(t.Context(), theirs)
		return ours, nil
	}
	for name, dial := range dials {
		t.Run(name, func(t *testing.T) { peerCalls(t, peerClient(t, dial)) })
	}
}

// peerCalls makes calls of each shape and looks at what comes back.
func peerCalls(t *testing.T, cc *peer.ClientConn) {
	t.Helper()
	ctx := metadata.AppendToOutgoingContext(t.Context(), "who", "me", "who-bin", "\x01,\xfe")
	var out wrapperspb.StringValue
	var header, trailer metadata.MD
	for _, o := range [][]peer.CallOption{nil, {peer.UseCompressor("gzip")}} {
		o = append(o, peer.Header(&header), peer.Trailer(&trailer))
		big := strings.Repeat("ab", 100_000)
		if err := cc.Invoke(ctx, "/test.Echo/Unary", wrapperspb.String(big), &out, o...); err != nil || out.Value != "echo "+big {
			t.Errorf("unary: %d bytes, %v", len(out.Value), err)
		}
		want := metadata.MD{"seen": {"me"}, "seen-bin": {"\x01,\xfe"}}
		for k, v := range want {
			if !reflect.DeepEqual(header[k], v) {
				t.Errorf("header %s: %q, want %q", k, header[k], v)
			}
		}
		if !reflect.DeepEqual(trailer["last-bin"], []string{"\x00\xff"}) {
			t.Errorf("trailer %q", trailer)
		}
	}
	desc := &peer.StreamDesc{ClientStreams: true, ServerStreams: true}
	for method, want := range map[string][]string{"Client": {"a b"}, "Both": {"a", "b"}, "Server": {"a0", "a1", "a2"}} {
		s, err := cc.NewStream(ctx, desc, "/test.Echo/"+method)
		if err != nil {
			t.Fatal(err)
		}
		s.SendMsg(wrapperspb.String("a"))
		s.SendMsg(wrapperspb.String("b"))
		s.CloseSend()
		var got []string
		for err = s.RecvMsg(&out); err == nil; err = s.RecvMsg(&out) {
			got = append(got, out.Value)
		}
		if err != io.EOF || !reflect.DeepEqual(got, want) {
			t.Errorf("%s: %q, %v, want %q", method, got, err, want)
		}
	}
	err := cc.Invoke(ctx, "/test.Echo/Fail", wrapperspb.String("größer % \n"), &out)
	if st := status.Convert(err).Proto(); st.Code != int32(codes.FailedPrecondition) || st.Message != "größer % \n" || len(st.Details) != 1 || st.Details[0].TypeUrl != "t/x" {
		t.Errorf("status %v", st)
	}
	if err := cc.Invoke(ctx, "/test.Echo/None", wrapperspb.String(""), &out); status.Code(err) != codes.Unimplemented {
		t.Errorf("a method that is not there: %v", err)
	}
	short, cancel := context.WithTimeout(ctx, 20*time.Millisecond)
	defer cancel()
	if err := cc.Invoke(short, "/test.Echo/Wait", wrapperspb.String(""), &out); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("deadline: %v", err)
	}
	s, err := cc.NewStream(ctx, desc, "/test.Echo/FailLate")
	if err != nil {
		t.Fatal(err)
	}
	if err := s.RecvMsg(&out); err != nil || out.Value != "first" {
		t.Errorf("before the failure: %q, %v", out.Value, err)
	}
	if err := s.RecvMsg(&out); status.Code(err) != codes.Unknown {
		t.Errorf("late failure: %v", err)
	}
}
