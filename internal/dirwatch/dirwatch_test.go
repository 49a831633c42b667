package dirwatch_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/forge-build/forge/internal/dirwatch"
)

// TestWait: a file that is made or written wakes, once; the context, the stop channel and the time end a wait.
func TestWait(t *testing.T) {
	dir := t.TempDir()
	w := dirwatch.Open(dir)
	defer w.Close()
	took := func(stop chan struct{}, longest time.Duration) time.Duration {
		begin := time.Now()
		if err := w.Wait(t.Context(), stop, longest); err != nil {
			t.Fatal(err)
		}
		return time.Since(begin)
	}
	if err := os.WriteFile(filepath.Join(dir, "a"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if d := took(nil, time.Minute); d > 10*time.Second {
		t.Errorf("a new file woke after %v", d)
	}
	stop := make(chan struct{})
	close(stop)
	if d := took(stop, time.Minute); d > 10*time.Second {
		t.Errorf("the end woke after %v", d)
	}
	for range 3 { // the events of the file may have come in two parts
		took(nil, 20*time.Millisecond)
	}
	if d := took(nil, 50*time.Millisecond); d < 50*time.Millisecond {
		t.Errorf("woken after %v by nothing", d)
	}
}

// TestNoDirectory: who watches what is not there polls.
func TestNoDirectory(t *testing.T) {
	w := dirwatch.Open(filepath.Join(t.TempDir(), "absent"))
	begin := time.Now()
	defer w.Close()
	if err := w.Wait(t.Context(), nil, time.Minute); err != nil || time.Since(begin) > 10*time.Second {
		t.Errorf("waited %v, %v", time.Since(begin), err)
	}
}
