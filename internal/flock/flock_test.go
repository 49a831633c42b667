package flock_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/forge-build/forge/internal/flock"
)

func must[T any](t *testing.T, v T, err error) T {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestModes(t *testing.T) {
	for _, test := range []struct {
		held, wanted flock.Mode
		free         bool
	}{
		{flock.Shared, flock.Shared, true},
		{flock.Shared, flock.Exclusive, false},
		{flock.Exclusive, flock.Shared, false},
		{flock.Exclusive, flock.Exclusive, false},
	} {
		path := filepath.Join(t.TempDir(), "lock")
		held, err := flock.TryLock(path, test.held)
		defer must(t, held, err).Close()
		got, err := flock.TryLock(path, test.wanted)
		if err == nil {
			got.Close()
		}
		if test.free && err != nil || !test.free && !errors.Is(err, flock.ErrHeld) {
			t.Errorf("held %v, wanted %v: %v", test.held, test.wanted, err)
		}
		if got, want := flock.Held(path), test.held == flock.Exclusive; got != want {
			t.Errorf("Held(%v) = %v, want %v", test.held, got, want)
		}
	}
}

// TestWait: who waits gets the lock when it is given up, and not before.
func TestWait(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	held, err := flock.TryLock(path, flock.Exclusive)
	must(t, held, err)
	got := make(chan error)
	go func() {
		f, err := flock.Lock(context.Background(), path, flock.Exclusive)
		if err == nil {
			err = f.Close()
		}
		got <- err
	}()
	select {
	case err := <-got:
		t.Fatalf("got a lock that another one holds: %v", err)
	default:
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	if err := <-got; err != nil {
		t.Fatal(err)
	}
}

// TestWaitEnds: a wait ends with its context, and does not take the lock later.
func TestWaitEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	held, err := flock.TryLock(path, flock.Exclusive)
	must(t, held, err)
	cause := errors.New("told to stop")
	ctx, cancel := context.WithCancelCause(context.Background())
	got := make(chan error)
	go func() {
		_, err := flock.Lock(ctx, path, flock.Exclusive)
		got <- err
	}()
	cancel(cause)
	if err := <-got; !errors.Is(err, cause) {
		t.Errorf("got %v, want %v", err, cause)
	}
	if err := held.Close(); err != nil {
		t.Fatal(err)
	}
	// The call that was given up may have the lock for the moment that it takes to see that its file was closed.
	f, err := flock.Lock(context.Background(), path, flock.Exclusive)
	must(t, f, err).Close()
}

// TestRemovedMeanwhile: a lock of a file that its owner removed counts for nothing.
func TestRemovedMeanwhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	held, err := flock.TryLock(path, flock.Exclusive)
	must(t, held, err)
	got := make(chan *os.File)
	go func() {
		f, err := flock.Lock(context.Background(), path, flock.Exclusive)
		if err != nil {
			t.Error(err)
		}
		got <- f
	}()
	if err := errors.Join(os.Remove(path), held.Close()); err != nil {
		t.Fatal(err)
	}
	f := <-got
	defer f.Close()
	if !flock.Same(f) || !flock.Held(path) {
		t.Error("the lock is of a file that has no name")
	}
}

func TestOneAtATime(t *testing.T) {
	path := filepath.Join(t.TempDir(), "lock")
	var n atomic.Int32 // two loads at once would lose a store; the race detector knows nothing of locks of files
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				f, err := flock.Lock(context.Background(), path, flock.Exclusive)
				if err != nil {
					t.Error(err)
					return
				}
				n.Store(n.Load() + 1)
				f.Close()
			}
		})
	}
	wg.Wait()
	if n.Load() != 400 {
		t.Errorf("counted to %d, want 400", n.Load())
	}
}

func TestLockDirMissing(t *testing.T) {
	_, err := flock.TryLockDir(filepath.Join(t.TempDir(), "none"), flock.Shared)
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}

// TestSweep: what nobody holds goes, and nothing else: no directory of a living owner, no file, nothing that a link leads to.
func TestSweep(t *testing.T) {
	parent, outside := t.TempDir(), t.TempDir()
	alive, err := flock.NewDir(parent, "x-")
	must(t, alive, err)
	dead, err := flock.NewDir(parent, "x-")
	must(t, dead, err)
	for _, f := range []string{filepath.Join(dead.Name(), "file"), filepath.Join(outside, "file"), filepath.Join(parent, "x-file")} {
		if err := os.WriteFile(f, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(dead.Close(), os.Symlink(outside, filepath.Join(parent, "x-link")),
		os.Mkdir(filepath.Join(parent, "other"), 0o700)); err != nil {
		t.Fatal(err)
	}
	if err := flock.Sweep(parent, "x-", os.RemoveAll); err != nil {
		t.Fatal(err)
	}
	for _, f := range []string{alive.Name(), filepath.Join(outside, "file"), filepath.Join(parent, "x-file"), filepath.Join(parent, "x-link"), filepath.Join(parent, "other")} {
		if _, err := os.Lstat(f); err != nil {
			t.Errorf("the sweep took too much: %v", err)
		}
	}
	if _, err := os.Lstat(dead.Name()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s is still there: %v", dead.Name(), err)
	}
}

// TestSweepCrowd: owners and sweeps side by side. An owner's directory is there as long as it is held.
func TestSweepCrowd(t *testing.T) {
	parent := t.TempDir()
	var owners, sweeps sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		sweeps.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				if err := flock.Sweep(parent, "", os.RemoveAll); err != nil {
					t.Error(err)
				}
			}
		})
		owners.Go(func() {
			for range 100 {
				f, err := flock.NewDir(parent, "")
				if err != nil {
					t.Error(err)
					return
				}
				if err := os.WriteFile(filepath.Join(f.Name(), "mine"), nil, 0o600); err != nil {
					t.Error(err)
				}
				f.Close()
			}
		})
	}
	owners.Wait()
	close(done)
	sweeps.Wait()
	if err := flock.Sweep(parent, "", os.RemoveAll); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(parent); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}
