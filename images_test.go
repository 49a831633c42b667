package forge_test

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"testing"

	"github.com/containerd/platforms"

	"github.com/forge-build/forge"
)

// TestRemoveImageBesideTag: rmi takes the name that it was given, and none that the image gets meanwhile.
func TestRemoveImageBesideTag(t *testing.T) {
	t.Parallel()
	h := open(t, t.TempDir())
	buildFile(t, h, "x", nil, "keep:1")
	for i := range 20 {
		first, second := fmt.Sprintf("first:%d", i), fmt.Sprintf("second:%d", i)
		image := buildFile(t, h, fmt.Sprint(i), nil, first)
		var both sync.WaitGroup
		var tagged error
		both.Go(func() {
			tagged = h.Tag(t.Context(), image.Descriptor.Digest.String(), second)
		})
		both.Go(func() {
			if _, err := h.RemoveImage(t.Context(), first, forge.RemoveOptions{}); err != nil {
				t.Errorf("rmi %s: %v", first, err)
			}
		})
		both.Wait()
		switch id := idOf(t, h, second); {
		case tagged == nil && id == "":
			t.Fatalf("%s was given, and is gone", second)
		case tagged != nil && !errors.Is(tagged, fs.ErrNotExist):
			t.Error(tagged)
		}
	}
}

// TestRemovePlatform: of an index goes the image for a platform, and not that for one which its machines can run, too; what is left has its own ID
// under all names.
func TestRemovePlatform(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	h := open(t, root)
	buildFile(t, h, "x", func(o *forge.BuildOptions) { o.Platforms = []string{"linux/s390x", "linux/arm/v7"} }, "app:1", "app:2")
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	h = open(t, root)
	remove := func(platform string) error {
		_, err := h.RemoveImage(t.Context(), "app:1", forge.RemoveOptions{Platforms: []string{platform}})
		return err
	}
	for _, platform := range []string{"linux/arm64", "linux/arm/v6"} {
		if _, ok := errors.AsType[*forge.NoPlatformError](remove(platform)); !ok {
			t.Errorf("%s was removed", platform)
		}
		if _, err := h.Inspect(t.Context(), "app:1", platform); err == nil {
			t.Errorf("%s is shown", platform)
		}
	}
	before, err := h.Inspect(t.Context(), "app:1", "")
	if err != nil {
		t.Fatal(err)
	}
	if err := remove(platforms.Format(before.Image.Config.Platform)); err != nil {
		t.Fatal(err)
	}
	after := idOf(t, h, "app:2")
	if i, err := h.Inspect(t.Context(), after.String(), ""); err != nil || i.Image.ID() != after || after == before.Image.ID() || len(i.Names) != 2 {
		t.Errorf("the ID that is left finds %v, %v", i.Names, err)
	}
	if id := idOf(t, h, before.Image.ID().String()); id != "" {
		t.Errorf("the ID that is gone finds %s", id)
	}
}
