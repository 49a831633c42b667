package grpc_test

import (
	"context"
	"net"
	"testing"

	peer "google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/forge-build/forge/internal/grpc"
)

// BenchmarkUnary is one small call after the other against one server of grpc-go, by our client and by grpc-go's.
func BenchmarkUnary(b *testing.B) {
	l, err := net.Listen("unix", b.TempDir()+"/s")
	if err != nil {
		b.Fatal(err)
	}
	s := peerServer()
	go s.Serve(l)
	defer s.Stop()
	b.Run("forge", func(b *testing.B) {
		c, err := grpc.Dial("unix://"+l.Addr().String(), grpc.Options{})
		if err != nil {
			b.Fatal(err)
		}
		defer c.Close()
		for b.Loop() {
			if err := c.Invoke(b.Context(), "/test.Echo/Unary", nil, &text{Value: "x"}, &text{}); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("grpc-go", func(b *testing.B) {
		cc, err := peer.NewClient("passthrough:///x", peer.WithTransportCredentials(insecure.NewCredentials()), peer.WithContextDialer(func(context.Context, string) (net.Conn, error) {
			return net.Dial("unix", l.Addr().String())
		}))
		if err != nil {
			b.Fatal(err)
		}
		defer cc.Close()
		for b.Loop() {
			var out wrapperspb.StringValue
			if err := cc.Invoke(b.Context(), "/test.Echo/Unary", wrapperspb.String("x"), &out); err != nil {
				b.Fatal(err)
			}
		}
	})
}
