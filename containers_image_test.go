package forge

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/forge-build/forge/image"
)

// TestCreateBesidePrune: a container whose image is removed, and pruned, before its record is written is not made, and leaves nothing.
func TestCreateBesidePrune(t *testing.T) {
	t.Parallel()
	root, dir := t.TempDir(), t.TempDir()
	begin := func() *Home {
		h, err := Open(t.Context(), Options{Dir: root, Snapshotter: "copy"})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { h.Close() })
		return h
	}
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY Dockerfile /\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := begin()
	o := BuildOptions{SourceOptions: SourceOptions{Context: dir}}
	o.Tags, o.Cache = []string{"app"}, "none"
	if _, err := h.Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h, other := begin(), begin()
	remove := func(*image.Image) {
		_, err := other.RemoveImage(t.Context(), "app", RemoveOptions{})
		if err == nil {
			_, err = other.Prune(t.Context(), PruneOptions{All: true})
		}
		if err != nil {
			t.Error(err)
		}
	}
	run := RunOptions{Image: "app", ProcessOptions: ProcessOptions{Args: []string{"x"}}}
	_, _, err := h.create(t.Context(), ContainerOptions{RunOptions: run}, nil, remove)
	if _, missing := errors.AsType[*NotFoundError](err); !missing {
		t.Errorf("the container was made: %v", err)
	}
	left, err := h.containers().IDs()
	volumes, volumesErr := os.ReadDir(filepath.Join(root, "volumes"))
	if err = errors.Join(err, volumesErr); err != nil && !errors.Is(err, os.ErrNotExist) || len(left) > 0 || len(volumes) > 0 {
		t.Errorf("left: containers %q, volumes %v, %v", left, volumes, err)
	}
}

// TestCreateOfDamaged: a container of an image of which a layer is missing is not made, and the error says what to do.
func TestCreateOfDamaged(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\nCOPY Dockerfile /\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	h, err := Open(t.Context(), Options{Dir: t.TempDir(), Snapshotter: "copy"})
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	o := BuildOptions{SourceOptions: SourceOptions{Context: dir}}
	o.Tags, o.Cache = []string{"app"}, "none"
	built, err := h.Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	layer := built.Images[0].Manifest.Layers[0].Digest
	if err := os.Remove(h.Layout.BlobPath(layer)); err != nil {
		t.Fatal(err)
	}
	run := RunOptions{Image: "app", ProcessOptions: ProcessOptions{Args: []string{"x"}}}
	_, err = h.CreateContainer(t.Context(), ContainerOptions{RunOptions: run}, nil)
	if want := fmt.Sprintf("image app is damaged: %s is not in the store; see forge system fsck --repair", layer); fmt.Sprint(err) != want {
		t.Errorf("create: %v, want %s", err, want)
	}
	if left, err := h.containers().IDs(); err != nil || len(left) > 0 {
		t.Errorf("left: %q, %v", left, err)
	}
}
