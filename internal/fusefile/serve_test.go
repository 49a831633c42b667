package fusefile

import (
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A gate keeps reads behind an offset waiting until it is opened.
type gate struct {
	behind int64
	came   chan struct{} // one for each of them
	opened chan struct{}
}

func (g *gate) ReadAt(p []byte, off int64) (int, error) {
	if off >= g.behind {
		g.came <- struct{}{}
		<-g.opened
	}
	return len(p), nil
}

// TestReadsThatWait holds that who waits for what does not come keeps nobody from opening the file and reading what is here.
func TestReadsThatWait(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	const waiting = 60
	g := &gate{behind: 1 << 20, came: make(chan struct{}, 1000), opened: make(chan struct{})}
	f, err := Open(g, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	for i := range int64(waiting) {
		all.Go(func() {
			if _, err := unix.Pread(int(f.Fd()), make([]byte, 4096), (i+1)<<20); err != nil {
				t.Error(err)
			}
		})
	}
	late := time.After(5 * time.Second)
	for came, more := 0, true; more && came < waiting; came++ {
		select {
		case <-g.came:
		case <-late:
			t.Errorf("%d of %d reads are asked for", came, waiting)
			more = false
		}
	}
	served := make(chan error, 1)
	go func() {
		fd, err := openUnpolled(fmt.Sprintf("/proc/self/fd/%d", f.Fd()))
		if err == nil {
			_, err = unix.Pread(fd, make([]byte, 4096), 0)
			_ = unix.Close(fd)
		}
		served <- err
	}()
	select {
	case err := <-served:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(5 * time.Second):
		t.Errorf("what is here cannot be read while %d reads wait", waiting)
	}
	close(g.opened)
	all.Wait()
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
