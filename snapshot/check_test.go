package snapshot

import (
	"archive/tar"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/filetree"
)

// The longest names that a layer can have are read again, with what a tar puts before or behind them.
func TestLongestNames(t *testing.T) {
	s := openStore(t)
	name := strings.Repeat("n", filetree.MaxName)
	path := strings.Repeat("n/", filetree.MaxPath/2-1) + "nn"
	for _, ops := range [][]string{{name + "=1"}, {"-" + name}, {path + "=1"}, {"-" + path}, {path + "/"}} {
		layer := commitOps(t, s, ops...)
		f, err := s.layout.OpenTar(t.Context(), layer)
		if err != nil {
			t.Fatal(err)
		}
		x := newIndexer(nil)
		if err := errors.Join(x.readHeaders(t.Context(), f, layer.Blob.Size), x.finish(), f.Close()); err != nil {
			t.Errorf("%.16s…: %v", ops[0], err)
		}
	}
	for name, want := range map[string]string{
		".wh." + name + "n":         "name of 260 bytes",
		".wh." + name + "/x":        "whiteout of no file",
		path + "n":                  "name of 4097 bytes",
		"a/.wh." + path:             "name of 4102 bytes",
		"./" + path:                 "",
		strings.Repeat("x", 256):    "name of 256 bytes",
		"a/../" + path + "/../n/.":  "",
		strings.Repeat("/", 1<<16):  "",
		strings.Repeat("a/../", 99): "",
	} {
		_, err := viewOfTar(tarOf(t, tar.Header{Name: name}))
		if got := fmt.Sprint(err); err == nil && want != "" || err != nil && (want == "" || !strings.Contains(got, want)) {
			t.Errorf("%.16s…: %s, want %s", name, got, want)
		}
	}
}

// An index that is not its layer's is found. One whose tar is damaged is not: it may be the last that is right.
func TestCheckDeep(t *testing.T) {
	s := openStore(t)
	good, other, damaged := commitOps(t, s, "a=1"), commitOps(t, s, "b=1"), commitOps(t, s, "c=1")
	if err := s.layout.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(indexPath(t, s, good))
	if err == nil {
		err = os.WriteFile(indexPath(t, s, other), index, 0o600)
	}
	if err == nil {
		err = os.WriteFile(s.layout.BlobPath(damaged.DiffID), []byte(strings.Repeat("no tar ", 512)), 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	problems, err := s.Check(t.Context(), image.FsckOptions{Deep: true})
	if err != nil {
		t.Fatal(err)
	}
	if want := indexPath(t, s, other); len(problems) != 1 || problems[0].Path != want {
		t.Errorf("problems %v, want one of %s", problems, want)
	}
}
