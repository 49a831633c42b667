package monitor

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"testing"

	"github.com/forge-build/forge/runtime"
)

// TestAttached: who is told that he is attached misses nothing that is written from then on.
func TestAttached(t *testing.T) {
	t.Parallel()
	const times = 300
	write := make(chan string)
	k := start(t, Config{}, func(io2 runtime.Stdio, signals <-chan os.Signal) int {
		for {
			select {
			case <-signals:
				return 0
			case line := <-write:
				_, _ = io.WriteString(io2.Out, line)
			}
		}
	})
	var all sync.WaitGroup
	outs := make([]bytes.Buffer, times)
	for i := range times {
		attached := make(chan struct{})
		all.Go(func() {
			_, err := k.Attach(t.Context(), Streams{Out: &outs[i], Attached: func() error {
				close(attached)
				return nil
			}})
			if err != nil {
				t.Error(err)
			}
		})
		<-attached
		write <- fmt.Sprintf("<%d>", i)
	}
	if err := k.Signal(t.Context(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	k.ended()
	for i := range outs {
		if !bytes.Contains(outs[i].Bytes(), fmt.Appendf(nil, "<%d>", i)) {
			t.Errorf("attached %d: what was written then is not shown", i)
		}
	}
}
