package buildkit

import (
	"context"
	"fmt"
	"net"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/internal/grpc"
)

// A longTree is a directory with more files than a connection takes unread.
type longTree struct{ forge.FileTree }

func (longTree) List(_ string, fn func(*forge.FileEntry, *[32]byte) error) error {
	for i := range 1_000_000 {
		if err := fn(&forge.FileEntry{Name: fmt.Sprint(i), Mode: syscall.S_IFLNK | 0o777, Link: "nowhere"}, nil); err != nil {
			return err
		}
	}
	return nil
}

// TestTreeRefused holds that a client that says that it failed, and reads no more, does not hold the build.
func TestTreeRefused(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ours, theirs := net.Pipe()
	answers := &grpc.Server{Methods: map[string]grpc.Handler{fileSend: func(s *grpc.Stream) error {
		if err := s.Send(&packet{Type: packetErr, Data: []byte("disk full")}); err != nil {
			return err
		}
		<-s.Context().Done()
		return nil
	}}}
	served := make(chan struct{})
	go func() { defer close(served); _ = answers.ServeConn(ctx, theirs) }()
	c, err := grpc.Over(ctx, ours, grpc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	sent := make(chan error, 1)
	go func() { sent <- sendTree(ctx, c.Start(ctx, fileSend, nil), "", longTree{}) }()
	select {
	case err := <-sent:
		if err == nil || !strings.Contains(err.Error(), "disk full") {
			t.Errorf("the build ends with %v", err)
		}
	case <-time.After(20 * time.Second):
		t.Error("the build waits for a client that has failed")
	}
	cancel()
	c.Close()
	<-served
}
