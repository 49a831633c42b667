package source

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot/filetree"
)

// mountOf resolves what a directory comes to as a mount at /src, and keeps its list.
func mountOf(t *testing.T, root string, lists *cache.Store[[]byte]) string {
	t.Helper()
	r := &Resolver{Contexts: map[string]filetree.Tree{"": openDir(t, root, nil, "")}, Lists: lists}
	op := &planner.Run{Mounts: []planner.Mount{{Type: planner.Bind, Target: "/src", Source: ".", From: &planner.Input{Read: -1}}}}
	in, err := r.Resolve(t.Context(), op, 0, nil)
	must(t, err)
	return "sha256:" + in.Files[0].Sum
}

func TestChangedFiles(t *testing.T) {
	files := []string{"a/one=1", "a/two=2", "a!=before its directory's files", "b=b", "link->a", "same/x=x", "z=z"}
	for _, test := range []struct {
		change func(root string) error
		want   []string
	}{
		{
			func(root string) error { return os.WriteFile(filepath.Join(root, "a/two"), []byte("three"), 0o644) },
			[]string{"file /src/a/two: sha256:d4735e3a265e (1 bytes) → sha256:8b5b9db0c13d (5 bytes)"},
		},
		{
			func(root string) error { return os.Rename(filepath.Join(root, "b"), filepath.Join(root, "a/b")) },
			[]string{"file /src/a/b is new: sha256:3e23e8160039 (1 bytes)", "file /src/b is gone, it was sha256:3e23e8160039 (1 bytes)"},
		},
		{func(root string) error { return os.Chmod(filepath.Join(root, "same"), 0o700) }, []string{"file /src/same (mode) has changed"}},
		{func(root string) error { return os.RemoveAll(filepath.Join(root, "a")) }, []string{"file /src/a is gone"}},
		{
			func(root string) error { return os.Rename(filepath.Join(root, "a"), filepath.Join(root, "c")) },
			[]string{"file /src/a is gone", "file /src/c is new"},
		},
		{func(root string) error {
			link := filepath.Join(root, "link")
			must(t, os.Remove(link))
			return os.Symlink("b", link)
		}, []string{`file /src/link: "a" → "b"`}},
		{func(root string) error {
			must(t, os.RemoveAll(filepath.Join(root, "a")))
			return os.WriteFile(filepath.Join(root, "a"), nil, 0o644)
		}, []string{"file /src/a: \"\" → sha256:e3b0c44298fc"}},
		{
			func(root string) error { return os.Link(filepath.Join(root, "b"), filepath.Join(root, "y")) },
			[]string{"file /src/y is new: sha256:3e23e8160039 (1 bytes)"},
		},
	} {
		root := makeDir(t, files...)
		lists, err := cache.OpenStore[[]byte](t.TempDir())
		must(t, err)
		c := event.Change{Field: "file", Name: "/src", How: event.Replaced, Old: mountOf(t, root, lists)}
		must(t, test.change(root))
		c.New = mountOf(t, root, lists)
		changes, more, err := ChangedFiles(t.Context(), lists, c, 10)
		must(t, err)
		var got []string
		for _, c := range changes {
			got = append(got, c.String())
		}
		if !slices.Equal(got, test.want) || more != 0 {
			t.Errorf("changed: %q and %d more, want %q", got, more, test.want)
		}
	}
}

func TestChangedFilesBounds(t *testing.T) {
	root := makeDir(t, "kept=1")
	lists, err := cache.OpenStore[[]byte](t.TempDir())
	must(t, err)
	c := event.Change{Field: "file", Name: "/src", Old: mountOf(t, root, lists)}
	for i := range 25 {
		must(t, os.WriteFile(filepath.Join(root, fmt.Sprint(i)), nil, 0o644))
	}
	c.New = mountOf(t, root, lists)
	changes, more, err := ChangedFiles(t.Context(), lists, c, 10)
	if err != nil || len(changes) != 10 || more != 15 {
		t.Errorf("of 25 new files: %d named and %d more, %v; want 10 and 15", len(changes), more, err)
	}
	must(t, lists.Keep(map[cache.Key]bool{}))
	if changes, _, err := ChangedFiles(t.Context(), lists, c, 10); err != nil || len(changes) != 0 {
		t.Errorf("without lists: %v, %v; want nothing", changes, err)
	}
}

func FuzzFileList(f *testing.F) {
	a := listedFile{path: "dir/file", mode: 0o100644, size: 3, content: "content"}
	b := listedFile{path: "dir/other", mode: 0o120777, content: "target", extra: "12345678"}
	f.Add(b.append(a.append(nil, ""), a.path))
	f.Fuzz(func(t *testing.T, list []byte) {
		var files []listedFile
		r := &listReader{rest: list}
		for r.next(); r.file != nil; r.next() {
			files = append(files, *r.file)
		}
		var again []byte
		last := ""
		for i := range files {
			again = files[i].append(again, last)
			last = files[i].path
		}
		r = &listReader{rest: again}
		r.next()
		for i := range files {
			if r.file == nil || *r.file != files[i] {
				t.Fatalf("file %d written and read again is %v, was %v", i, r.file, files[i])
			}
			r.next()
		}
		if r.file != nil || r.err != nil {
			t.Fatalf("more than was written: %v, %v", r.file, r.err)
		}
	})
}
