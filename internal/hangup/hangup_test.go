package hangup_test

import (
	"io"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/forge-build/forge/internal/hangup"
)

// pair is a connection, and its other end.
func pair(t *testing.T) (here, there *net.UnixConn) {
	t.Helper()
	l, err := net.ListenUnix("unix", &net.UnixAddr{Net: "unix", Name: filepath.Join(t.TempDir(), "s")})
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if there, err = net.DialUnix("unix", nil, &net.UnixAddr{Net: "unix", Name: l.Addr().String()}); err != nil {
		t.Fatal(err)
	}
	if here, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		here.Close()
		there.Close()
	})
	return here, there
}

// TestWatch: the end of the other side is seen whether somebody waits for what it sends, or has left it unread; that of one half is not the end.
func TestWatch(t *testing.T) {
	for name, reads := range map[string]bool{"read": true, "unread": false} {
		t.Run(name, func(t *testing.T) {
			here, there := pair(t)
			gone, stop := hangup.Watch(here)
			defer stop()
			heard := make(chan error, 1)
			if reads {
				go func() {
					_, err := io.Copy(io.Discard, here)
					heard <- err
				}()
			}
			if _, err := io.WriteString(there, "typed"); err != nil {
				t.Fatal(err)
			}
			if err := there.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if reads {
				if err := <-heard; err != nil {
					t.Fatal(err)
				}
			}
			select {
			case <-gone:
				t.Fatal("one half is closed, and taken for both")
			case <-time.After(10 * time.Millisecond):
			}
			there.Close()
			<-gone
		})
	}
}

// TestStop: who has stopped to watch does not keep a connection open.
func TestStop(t *testing.T) {
	here, there := pair(t)
	gone, stop := hangup.Watch(here)
	stop()
	here.Close()
	if _, err := io.Copy(io.Discard, there); err != nil {
		t.Fatal(err)
	}
	select {
	case <-gone:
		t.Error("nobody is gone")
	default:
	}
}
