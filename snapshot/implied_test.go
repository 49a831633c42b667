package snapshot

import (
	"archive/tar"
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/forge-build/forge/image"
)

// Directories that several layers imply look in mounts as in the view, the ways to them, too.
func TestImpliedBySeveral(t *testing.T) { eachKind(t, testImpliedBySeveral) }

func testImpliedBySeveral(t *testing.T, s *Store) {
	var base, odd, even []tar.Header
	dir := func(name string) tar.Header { return tar.Header{Name: name, Typeflag: tar.TypeDir, Mode: 0o710} }
	for i := range 40 {
		name := fmt.Sprintf("top/way%d/", i%4)
		in := fmt.Sprintf("%sd%d/", name, i)
		base = append(base, dir("top/"), dir(name), dir(in))
		if i%2 == 0 {
			even = append(even, dir("top/"), dir(name), tar.Header{Name: in + "x"})
		} else {
			odd = append(odd, tar.Header{Name: in + "y"})
		}
	}
	layers := []image.Layer{storeTar(t, s, tarOf(t, base...)), storeTar(t, s, tarOf(t, even...)), storeTar(t, s, tarOf(t, odd...))}
	mount, err := s.Mount(t.Context(), layers)
	if err != nil {
		t.Fatal(err)
	}
	diffs, err := Compare(t.Context(), viewOf(t, s, layers...), OpenLive(mount))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range diffs {
		t.Error(d)
	}
	if err := mount.Close(); err != nil {
		t.Error(err)
	}
}

// Whoever waits for directories to be found that a layer implies can be called off.
func TestImpliedCancelled(t *testing.T) {
	s := openStore(t)
	s.kind = Overlay
	layers := []image.Layer{commitOps(t, s, "d/"), storeTar(t, s, tarOf(t, tar.Header{Name: "d/x"}))}
	v := viewOf(t, s, layers...)
	ctx, cancel := context.WithCancel(t.Context())
	if wrong, err := v.wrongDirs(ctx); err != nil || wrong == nil || wrong.kids["d"] == nil {
		t.Fatalf("wrong directories: %v, %v; want d", wrong, err)
	}
	cancel()
	if _, err := v.wrongDirs(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// Links in a layer cannot make directories that are deeper than a path can tell.
func TestDeepByLinks(t *testing.T) {
	target := strings.Repeat("a/", 2000)[:3999]
	headers := []tar.Header{{Name: "l", Typeflag: tar.TypeSymlink, Linkname: target, Format: tar.FormatGNU}}
	add := func(name string) error {
		headers = append(headers, tar.Header{Name: name})
		v, err := viewOfTar(tarOf(t, headers...))
		if err == nil {
			err = v.Close()
		}
		return err
	}
	if err := add("l/" + strings.Repeat("b/", 48)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"l/" + strings.Repeat("b/", 49), "l/" + strings.Repeat("b", 97), "l/.wh." + strings.Repeat("c", 97)} {
		if err := add(name); err == nil || !strings.HasSuffix(err.Error(), "name of 4097 bytes, by way of links") {
			t.Errorf("%.20s: %v", name, err)
		}
		headers = headers[:2]
	}
	headers = append(headers, tar.Header{Name: "l/k", Typeflag: tar.TypeSymlink, Linkname: target, Format: tar.FormatGNU})
	if err := add("l/k/x"); err == nil || !strings.HasSuffix(err.Error(), "by way of links") {
		t.Errorf("links in each other: %v", err)
	}
}
