package forge_test

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/internal/flock"
)

// slowLease is a lease in a store that is read slowly: until release is called. reading returns as soon as somebody reads it.
func slowLease(t *testing.T, root string) (reading, release func()) {
	t.Helper()
	path := filepath.Join(root, "leases", "0") // the first
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o700), syscall.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	holder, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err == nil {
		err = flock.Try(holder, flock.Exclusive)
	}
	if err != nil {
		t.Fatal(err)
	}
	writer, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	reading = func() {
		t.Helper()
		for range 1000 {
			open := 0
			fds, err := filepath.Glob("/proc/self/fd/*")
			if err != nil {
				t.Fatal(err)
			}
			for _, fd := range fds {
				if at, err := os.Readlink(fd); err == nil && at == path {
					open++
				}
			}
			if open > 2 {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Error("nobody reads the leases")
	}
	return reading, func() {
		os.Remove(path)
		writer.WriteString(`{"pid":1,"since":"2026-01-01T00:00:00Z"}` + "\n")
		writer.Close()
		holder.Close()
	}
}

// container makes a container of an image that h holds already. It returns when the container has its record.
func container(t *testing.T, h *forge.Home, image, platform string) (made chan error) {
	t.Helper()
	o := forge.RunOptions{Image: image, Platform: platform, ProcessOptions: forge.ProcessOptions{Args: []string{"x"}}}
	made = make(chan error, 1)
	go func() {
		_, err := h.CreateContainer(t.Context(), forge.ContainerOptions{RunOptions: o}, nil)
		made <- errors.Join(err, h.Close())
	}()
	for range 1000 {
		if records, err := filepath.Glob(filepath.Join(h.Dir, "containers", "*", "config.json")); err == nil && len(records) > 0 {
			return made
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Error("there is no record")
	return made
}

// twoHomes are two of one directory with an image without a name, which nobody holds.
func twoHomes(t *testing.T) (root string, h, other *forge.Home, id string) {
	root = t.TempDir()
	first := open(t, root)
	id = buildFile(t, first, "x", nil).Descriptor.Digest.String()
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	return root, open(t, root), open(t, root), id
}

// TestPruneBesideCreate: an image without a name of which a process makes a container, and ends, while a prune finds out what processes hold,
// stays.
func TestPruneBesideCreate(t *testing.T) {
	t.Parallel()
	root, h, other, id := twoHomes(t)
	if _, err := other.Layout.Take(t.Context(), id); err != nil {
		t.Fatal(err)
	}
	reading, release := slowLease(t, root)
	pruned := make(chan error, 1)
	go func() {
		_, err := h.Prune(t.Context(), forge.PruneOptions{})
		pruned <- err
	}()
	reading()
	made := container(t, other, id, "")
	release()
	if err := errors.Join(<-pruned, <-made); err != nil {
		t.Fatal(err)
	}
	if idOf(t, h, id) == "" {
		t.Error("the container has no image any more")
	}
}

// TestPruneBesideTag: an image without a name that a process names, and ends, while a prune finds out what processes hold, stays, or else the name
// is not given.
func TestPruneBesideTag(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]forge.PruneOptions{"all": {}, "chosen": {Only: forge.PruneImages, Filters: []string{"label!=x"}}} {
		t.Run(name, func(t *testing.T) {
			root, h, other, id := twoHomes(t)
			if name == "all" { // who holds it already waits for nobody
				if _, err := other.Layout.Take(t.Context(), id); err != nil {
					t.Fatal(err)
				}
			}
			reading, release := slowLease(t, root)
			pruned, tagged := make(chan error, 1), make(chan error, 1)
			go func() {
				_, err := h.Prune(t.Context(), o)
				pruned <- err
			}()
			reading()
			go func() { tagged <- errors.Join(other.Tag(t.Context(), id, "app"), other.Close()) }()
			var err error
			select {
			case err = <-tagged:
				release()
			case <-time.After(300 * time.Millisecond): // it waits for the prune
				release()
				err = <-tagged
			}
			if err := <-pruned; err != nil {
				t.Fatal(err)
			}
			switch {
			case err == nil && idOf(t, h, "app") == "":
				t.Error("the name was given, and is gone")
			case err != nil && (name == "all" || !errors.Is(err, fs.ErrNotExist)):
				t.Error(err)
			}
		})
	}
}

// TestRemovePlatformBesideCreate: the image for a platform stays if a process makes a container of it, and ends, while rmi finds out who holds it.
func TestRemovePlatformBesideCreate(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	h := open(t, root)
	buildFile(t, h, "x", func(o *forge.BuildOptions) { o.Platforms = []string{"linux/s390x", "linux/riscv64"} }, "app")
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h, other := open(t, root), open(t, root)
	if _, err := other.Layout.Take(t.Context(), "app"); err != nil {
		t.Fatal(err)
	}
	reading, release := slowLease(t, root)
	removed := make(chan error, 1)
	go func() {
		_, err := h.RemoveImage(t.Context(), "app", forge.RemoveOptions{Platforms: []string{"linux/riscv64"}})
		removed <- err
	}()
	reading()
	made := container(t, other, "app", "linux/riscv64")
	release()
	if err := <-made; err != nil {
		t.Error(err)
	}
	if err := <-removed; err == nil {
		t.Error("the image of a container was removed")
	}
	if _, err := h.Inspect(t.Context(), "app", "linux/riscv64"); err != nil {
		t.Error(err)
	}
}
