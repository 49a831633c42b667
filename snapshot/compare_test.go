package snapshot

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge/image"
)

func TestCompare(t *testing.T) {
	s := openStore(t)
	change := func(path string, change func(f *testFile)) func([]testFile) []testFile {
		return func(files []testFile) []testFile {
			for i := range files {
				if files[i].path == path {
					change(&files[i])
				}
			}
			return files
		}
	}
	for _, test := range []struct {
		name   string
		change func([]testFile) []testFile
		want   []string
	}{
		{"nothing", func(f []testFile) []testFile { return f }, nil},
		{"mode", change("dir", func(f *testFile) { f.Mode = modeDir | 0o700 }), []string{"dir: mode"}},
		{"owner and time", change("ids", func(f *testFile) { f.UID = 1; f.ModTime = time.Unix(1, 1) }), []string{"ids: owner, mtime"}},
		{"content", change("xattr", func(f *testFile) { f.content = "With attributes" }), []string{"xattr: content"}},
		{"size", change("dir/empty", func(f *testFile) { f.content = "not" }), []string{"dir/empty: content"}},
		{"xattr", change("xattr", func(f *testFile) { f.Xattrs = map[string]string{"user.b": ""} }), []string{"xattr: xattr"}},
		{"link", change("link", func(f *testFile) { f.Link = "elsewhere" }), []string{"link: link"}},
		{"device", change("char", func(f *testFile) { f.Rdev++ }), []string{"char: device"}},
		{"type", change("fifo", func(f *testFile) { f.Mode = modeRegular | 0o600 }), []string{"fifo: type"}},
		{"no longer one file", change("second", func(f *testFile) { f.hard = ""; f.Entry = mode(modeRegular, 0o640); f.content = "linked" }), []string{"second: links"}},
		{"new name", change("fifo", func(f *testFile) { f.path = "pipe" }), []string{"fifo: removed", "pipe: added"}},
		{"directory", func(f []testFile) []testFile {
			return slices.DeleteFunc(f, func(f testFile) bool { return strings.HasPrefix(f.path, "dir") })
		}, []string{"dir: removed"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			before := viewOf(t, s, writeLayer(t, s, everyKind()))
			after := viewOf(t, s, writeLayer(t, s, test.change(everyKind())))
			list, err := Compare(context.Background(), before, after)
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, d := range list {
				got = append(got, d.String())
			}
			if fmt.Sprint(got) != fmt.Sprint(test.want) {
				t.Errorf("got %q, want %q", got, test.want)
			}
		})
	}
}

func TestFlatten(t *testing.T) {
	s := openStore(t)
	one := writeLayer(t, s, everyKind())
	two := commitOps(t, s, "a/", "a/new=text", "-dir", "-first", "big=small")
	flat, err := s.Flatten(context.Background(), []image.Layer{one, two})
	if err != nil {
		t.Fatal(err)
	}
	v := viewOf(t, s, flat)
	diffLines(t, listTree(t, v), listTree(t, viewOf(t, s, one, two)))
	if e, err := v.Lstat("second"); err != nil || e.Nlink != 1 {
		t.Errorf("second has %d links (%v), and its other name is hidden", e.Nlink, err)
	}
	again, err := s.Flatten(context.Background(), []image.Layer{flat})
	if err != nil || again.DiffID != flat.DiffID {
		t.Errorf("flattened again it is %s, was %s (%v)", again.DiffID, flat.DiffID, err)
	}
}

// Files that are linked crosswise differ, though each has two names in both trees.
func TestCompareLinks(t *testing.T) {
	s := openStore(t)
	tree := func(c, d string) *View {
		return viewOf(t, s, writeLayer(t, s, []testFile{
			{path: "a", Entry: mode(modeRegular, 0o644)}, {path: "b", Entry: mode(modeRegular, 0o644)}, {path: "c", hard: c}, {path: "d", hard: d},
		}))
	}
	list, err := Compare(context.Background(), tree("a", "b"), tree("b", "a"))
	if err != nil || fmt.Sprint(list) != "[c: links d: links]" {
		t.Errorf("got %v, %v", list, err)
	}
	list, err = Compare(context.Background(), tree("a", "b"), tree("a", "b"))
	if err != nil || len(list) > 0 {
		t.Errorf("got %v, %v", list, err)
	}
}
