package monitor

import (
	"bytes"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

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

// TestGoneTyping: who is gone while the container does not read what he has typed is not waited for, and what he has typed is not another's. That he
// has said that he leaves is heard nevertheless.
func TestGoneTyping(t *testing.T) {
	t.Parallel()
	left, read := make(chan bool, 2), make(chan struct{})
	var got []byte
	k := start(t, Config{Stdin: true, StdinOnce: true, Left: func(said bool) { left <- said }}, func(io2 runtime.Stdio, _ <-chan os.Signal) int {
		<-read
		got, _ = io.ReadAll(io2.In)
		return 0
	})
	for _, says := range []bool{false, true} {
		c, err := k.dial()
		if err != nil {
			t.Fatal(err)
		}
		if err := request(c, verbAttach, 1, 1, 1, 0, 0); err != nil {
			t.Fatal(err)
		}
		if err := writeFrame(c, frame{streamIn, make([]byte, 100<<10)}); err != nil {
			t.Fatal(err)
		}
		if says {
			if err := writeFrame(c, frame{stream: streamLeft}); err != nil {
				t.Fatal(err)
			}
		}
		c.Close()
		if said := <-left; said != says {
			t.Errorf("that he leaves was heard: %v, want %v", said, says)
		}
	}
	close(read)
	if _, err := k.Attach(t.Context(), Streams{In: bytes.NewReader([]byte("typed"))}); err != nil {
		t.Fatal(err)
	}
	k.ended()
	if string(got) != "typed" {
		t.Errorf("the container has read %d bytes, want those of who is there", len(got))
	}
}

// TestGoneSlowly: who is gone is waited for while the container reads what he has typed.
func TestGoneSlowly(t *testing.T) {
	t.Parallel()
	const pieces = 15
	left := make(chan bool)
	k := start(t, Config{Stdin: true, Left: func(said bool) { left <- said }}, func(io2 runtime.Stdio, _ <-chan os.Signal) int {
		for range pieces {
			time.Sleep(patience / 10)
			_, _ = io.ReadFull(io2.In, make([]byte, 32<<10))
		}
		return 0
	})
	c, err := k.dial()
	if err != nil {
		t.Fatal(err)
	}
	if err := request(c, verbAttach, 1, 0, 0, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := writeFrame(c, frame{streamIn, make([]byte, pieces*32<<10)}); err != nil {
		t.Fatal(err)
	}
	c.Close()
	<-left
	k.ended()
}

// TestGoneWaiting: a monitor keeps nothing of who waited for the end and is gone.
func TestGoneWaiting(t *testing.T) {
	t.Parallel()
	k := start(t, Config{}, untilTerm)
	c, err := k.dial()
	if err != nil {
		t.Fatal(err)
	}
	if err := request(c, verbWait); err != nil {
		t.Fatal(err)
	}
	for k.monitor.door.now.Load() != 1 {
		time.Sleep(time.Millisecond)
	}
	c.Close()
	for k.monitor.door.now.Load() != 0 {
		time.Sleep(time.Millisecond)
	}
	if err := k.Signal(t.Context(), syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	k.ended()
}
