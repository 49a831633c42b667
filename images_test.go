package forge_test

import (
	"errors"
	"fmt"
	"io/fs"
	"sync"
	"testing"

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
