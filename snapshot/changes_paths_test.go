package snapshot

import (
	"io"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// ownPaths are contents that are the paths by which they are opened.
type ownPaths struct{}

// OpenPut implements [Paths].
func (ownPaths) OpenPut(path string) (io.ReadCloser, error) {
	return io.NopCloser(strings.NewReader(path)), nil
}

// TestChangesPaths holds that a content which is found by a path is found by the one that it was put at, whatever names the file has.
func TestChangesPaths(t *testing.T) {
	s := openStore(t)
	c := s.NewChanges(nil)
	apply(t, c, "d/")
	for _, path := range []string{"d/m", "d/n", "d/o"} {
		e := mode(unix.S_IFREG, 0o644)
		e.Size = int64(len(path))
		if err := c.Put(path, e, Content{Paths: ownPaths{}}); err != nil {
			t.Fatal(err)
		}
	}
	for _, link := range [][2]string{{"0", "d/m"}, {"1", "0"}, {"z", "d/n"}} { // two come before the file in the layer
		if err := c.Link(link[0], link[1]); err != nil {
			t.Fatal(err)
		}
	}
	apply(t, c, "d/n=new") // the file that was there keeps only its further name
	layer, err := s.Commit(t.Context(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := opsOf(t, viewOf(t, s, layer)), "0=d/m 1=d/m d/ d/m=d/m d/n=new d/o=d/o z=d/n"; got != want {
		t.Errorf("tree is %s, want %s", got, want)
	}
}
