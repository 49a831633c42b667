package snapshot

import (
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestLayersClosed: who closes what layers are mounted at waits for a mount that is being made, and leaves nothing of it open.
func TestLayersClosed(t *testing.T) {
	fd, err := unix.Open(t.TempDir(), unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var l layerMounts
	begun, finish, closed := make(chan struct{}), make(chan struct{}), make(chan error, 1)
	go func() {
		_, _ = l.get("sha256:a", func() (int, error) {
			close(begun)
			<-finish
			return fd, nil
		})
	}()
	<-begun
	go func() { closed <- l.close() }()
	select {
	case <-closed:
		t.Error("all is closed, and a mount is still being made")
		close(finish)
	case <-time.After(20 * time.Millisecond):
		close(finish)
		if err := <-closed; err != nil {
			t.Error(err)
		}
	}
	if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err != unix.EBADF { //nolint:errorlint // the number itself
		t.Errorf("what was made is open: %v", err)
	}
}
