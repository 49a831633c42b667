package snapshot

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
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
		{"mode", change("dir", func(f *testFile) { f.Mode = unix.S_IFDIR | 0o700 }), []string{"dir: mode"}},
		{"owner and time", change("ids", func(f *testFile) { f.UID = 1; f.ModTime = time.Unix(1, 1) }), []string{"ids: owner, mtime"}},
		{"content", change("xattr", func(f *testFile) { f.content = "With attributes" }), []string{"xattr: content"}},
		{"size", change("dir/empty", func(f *testFile) { f.content = "not" }), []string{"dir/empty: content"}},
		{"xattr", change("xattr", func(f *testFile) { f.Xattrs = map[string]string{"user.b": ""} }), []string{"xattr: xattr"}},
		{"link", change("link", func(f *testFile) { f.Link = "elsewhere" }), []string{"link: link"}},
		{"device", change("char", func(f *testFile) { f.Rdev++ }), []string{"char: device"}},
		{"type", change("fifo", func(f *testFile) { f.Mode = unix.S_IFREG | 0o600 }), []string{"fifo: type"}},
		{"no longer one file", change("second", func(f *testFile) { f.hard = ""; f.Entry = mode(unix.S_IFREG, 0o640); f.content = "linked" }), []string{"second: links"}},
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

// Files that are linked crosswise differ, though each has two names in both trees.
func TestCompareLinks(t *testing.T) {
	s := openStore(t)
	tree := func(c, d string) *View {
		return viewOf(t, s, writeLayer(t, s, []testFile{
			{path: "a", Entry: mode(unix.S_IFREG, 0o644)}, {path: "b", Entry: mode(unix.S_IFREG, 0o644)}, {path: "c", hard: c}, {path: "d", hard: d},
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
