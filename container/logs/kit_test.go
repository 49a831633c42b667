package logs_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/forge-build/forge/container/logs"
)

// at is a time of the tests: n seconds after another one.
func at(n int) time.Time { return time.Date(2026, 1, 2, 3, 4, n, 0, time.UTC) }

func open(t testing.TB, path string, c logs.Config) *logs.Writer {
	t.Helper()
	w, err := logs.Open(path, c)
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// contents is what a file holds, unpacked if it is compressed; "-" if there is none.
func contents(t testing.TB, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		return "-"
	}
	if err != nil {
		t.Fatal(err)
	}
	if strings.HasSuffix(path, ".gz") {
		z, err := gzip.NewReader(bytes.NewReader(data))
		if err != nil {
			t.Fatal(err)
		}
		if data, err = io.ReadAll(z); err != nil {
			t.Fatal(err)
		}
	}
	return string(data)
}

// read is what a reader shows: lines of the first stream, and those of the second in brackets.
func read(t testing.TB, path string, o logs.Options) string {
	t.Helper()
	var b strings.Builder
	if err := logs.Read(t.Context(), path, o, &b, brackets{&b}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

type brackets struct{ w io.Writer }

func (b brackets) Write(p []byte) (int, error) {
	_, err := io.WriteString(b.w, "["+strings.TrimSuffix(string(p), "\n")+"]\n")
	return len(p), err
}

// A follower is a Read that follows, in the background.
type follower struct {
	t     testing.TB
	calls atomic.Int64 // of Write, begun
	mu    sync.Mutex
	text  strings.Builder
	stop  chan struct{}
	ended chan error
	told  []string
}

func (f *follower) Write(p []byte) (int, error) {
	f.calls.Add(1)
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.Write(p)
}

func (f *follower) String() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.text.String()
}

func follow(t testing.TB, path string, o logs.Options) *follower {
	f := &follower{t: t, stop: make(chan struct{}), ended: make(chan error, 1)}
	o.Follow, o.Ended = true, f.stop
	o.Notice = func(s string) { f.told = append(f.told, s) }
	go func() { f.ended <- logs.Read(context.WithoutCancel(t.Context()), path, o, f, f) }()
	return f
}

// sees waits until the follower has shown a text.
func (f *follower) sees(want string) {
	f.t.Helper()
	until(f.t, fmt.Sprintf("%q is shown", want), func() bool { return strings.Contains(f.String(), want) })
}

// until waits for something.
func until(t testing.TB, what string, done func() bool) {
	t.Helper()
	for begin := time.Now(); !done(); time.Sleep(time.Millisecond) {
		if time.Since(begin) > 30*time.Second {
			t.Fatalf("never: %s", what)
		}
	}
}

// end tells the follower that nothing more will come, and returns what it has shown.
func (f *follower) end() string {
	f.t.Helper()
	close(f.stop)
	select {
	case err := <-f.ended:
		if err != nil {
			f.t.Fatal(err)
		}
	case <-time.After(20 * time.Second):
		f.t.Fatal("the follower does not end")
	}
	return f.String()
}
