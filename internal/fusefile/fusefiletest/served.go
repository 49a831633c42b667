// Package fusefiletest looks at what package fusefile leaves.
package fusefiletest

import (
	"os"
	"testing"
	"time"
)

// AwaitServed is Served, after a few seconds at most in which it may become want: the server of a file that is closed ends a moment later.
func AwaitServed(t testing.TB, want int) (n int) {
	t.Helper()
	for range 1000 {
		if n = Served(t); n == want {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	return n
}

// Served counts the files that this process serves.
func Served(t testing.TB) (n int) {
	t.Helper()
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		if to, err := os.Readlink("/proc/self/fd/" + f.Name()); err == nil && to == "/dev/fuse" {
			n++
		}
	}
	return n
}
