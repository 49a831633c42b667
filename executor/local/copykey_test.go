package local

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/source"
	"github.com/forge-build/forge/source/sourcetest"
)

// keyOf describes a copy from a context or, with --from, from a stage made of the same list.
func keyOf(t *testing.T, w *Worker, on []image.Layer, from, do string) cache.Key {
	t.Helper()
	job := executor.Job{On: on}
	op := testCopy(t, do)
	job.Op = op
	if op.From.Read >= 0 {
		job.Reads = [][]image.Layer{testLayers(t, w, from)}
	} else {
		w.Inputs.Contexts[""] = testContext(t, from)
	}
	h, err := describe(context.Background(), w, &job)
	if err != nil {
		t.Fatalf("%s: %v", do, err)
	}
	return h.Key()
}

func TestCopyKey(t *testing.T) {
	t.Parallel()
	var many, other strings.Builder
	for i := range 200 {
		fmt.Fprintf(&many, "; d/s%d/f%d =%d", i%20, i, i)
		fmt.Fprintf(&other, "; d/s%d/f%d =%d", i%20, i, i%199)
	}
	for _, test := range []struct {
		name     string
		a, b, do string
		same     bool
	}{
		{"same", "d/a =1", "d/a =1", "COPY d /", true},
		{"content", "d/a =1", "d/a =2", "COPY d /", false},
		{"content of a file alone", "a =1", "a =2", "COPY a /", false},
		{"name", "d/a =1", "d/b =1", "COPY d /", false},
		{"mode", "d/a =1", "d/a =1 600", "COPY d /", false},
		{"mode of a sub-directory", "d/s/ 755", "d/s/ 700", "COPY d /", false},
		{"mode of the directory itself is not copied", "d/ 700; d/a =1", "d/a =1", "COPY d /", true},
		{"link", "d/a ->x", "d/a ->y", "COPY d /", false},
		{"type", "d/a =1", "d/a |", "COPY d /", false},
		{"hard links", "d/a =1 #1; d/b =1 #1", "d/a =1; d/b =1", "COPY d /", false},
		{"empty directory", "d/a =1", "d/a =1; d/s/", "COPY d /", false},
		{"what is not copied", "d/a =1; x =1", "d/a =1; x =2; y =3", "COPY d /", true},
		{"wildcard", "a1 =1", "a1 =1; a2 =2", "COPY a* /d/", false},
		{"not matched", "a1 =1", "a1 =1; b2 =2", "COPY a* /d/", true},
		{"excluded", "d/a =1; d/x =1", "d/a =1; d/x =2", "COPY --exclude=x d /", true},
		{"not excluded", "d/a =1; d/x =1", "d/a =2; d/x =1", "COPY --exclude=x d /", false},
		{"parents", "d/a =1; d/x =1", "d/a =1; d/x =2", "COPY --parents d/a /", true},
		{"parents' mode", "d/ 700; d/a =1", "d/a =1", "COPY --parents d/a /", false},
		{"where a link leads", "l ->a; a =1; b =1", "l ->b; a =1; b =1", "COPY l /", true},
		{"directory or file", "a =1", "a/a =1", "COPY a /x/", false},
		{"where things part", "d/a/b =1", "d/a/; d/b =1", "COPY d /", false},
		{"many", many.String(), many.String(), "COPY d /", true},
		{"one of many", many.String(), other.String(), "COPY d /", false},
		{"one of many in a stage", many.String(), other.String(), "COPY --from=x d /", false},
		{"stage", "a =1; b =2", "a =1; b =3", "COPY --from=x a /", true},
		{"owner in a stage", "a =1 5:6", "a =1 5:7", "COPY --from=x a /", false},
		{"xattr in a stage", "a =1 user.x:1", "a =1 user.x:2", "COPY --from=x a /", false},
		{"device in a stage", "a c1,3", "a c1,5", "COPY --from=x a /", false},
	} {
		w := testLocal(t)
		if a, b := keyOf(t, w, nil, test.a, test.do), keyOf(t, w, nil, test.b, test.do); (a == b) != test.same {
			t.Errorf("%s: keys equal: %v, want %v", test.name, a == b, test.same)
		}
	}
}

// TestCopyKeyBelow holds that a key depends on what lies below, but for --link.
func TestCopyKeyBelow(t *testing.T) {
	t.Parallel()
	w := testLocal(t)
	one, two := testLayers(t, w, "x =1"), testLayers(t, w, "x =2")
	for do, same := range map[string]bool{"COPY a /": false, "COPY --link a /": true, "COPY --link --chmod=600 a /": false} {
		if a, b := keyOf(t, w, one, "a =1", do), keyOf(t, w, two, "a =1", do); (a == b) != same {
			t.Errorf("%s: keys equal on another base: %v, want %v", do, a == b, same)
		}
	}
}

// TestCopyKeyTime holds that times are not in a key and that an early mtime stays in the layer.
func TestCopyKeyTime(t *testing.T) {
	t.Parallel()
	w := testLocal(t)
	root := sourcetest.Write(t, "d/a =1")
	var keys []cache.Key
	for range 2 {
		d, err := source.OpenDir(root, nil, "")
		check(t, err)
		w.Inputs.Contexts[""] = d
		_, layer, key := runCopy(t, w, executor.Job{}, testCopy(t, "COPY d /x/"))
		keys = append(keys, key)
		view, err := w.Inputs.Layers.Snapshots.View(context.Background(), []image.Layer{layer})
		check(t, err)
		for name, want := range map[string]string{"x/a": "d/a", "x": "d"} {
			got, err := view.Lstat(name)
			check(t, err)
			info, err := os.Stat(filepath.Join(root, want))
			check(t, err)
			if !got.ModTime.Equal(info.ModTime()) {
				t.Errorf("%s is of %v, want %v", name, got.ModTime, info.ModTime())
			}
		}
		check(t, view.Close())
		check(t, d.Close())
		now := time.Now()
		check(t, os.Chtimes(filepath.Join(root, "d/a"), now, now))
	}
	if keys[0] != keys[1] {
		t.Error("touching a file changes the key")
	}
}

// TestCopyKeyRemembered holds that what a stage holds is asked once, and that no file is read for it again.
func TestCopyKeyRemembered(t *testing.T) {
	t.Parallel()
	w := testLocal(t)
	stage := testLayers(t, w, "d/a =1; d/b =2")
	job := executor.Job{Reads: [][]image.Layer{stage}, Op: testCopy(t, "COPY --from=x d /")}
	first, err := describe(t.Context(), w, &job)
	check(t, err)
	w2 := &Worker{Inputs: &source.Resolver{Digests: w.Inputs.Digests}} // which can read no layer at all
	second, err := describe(t.Context(), w2, &job)
	check(t, err)
	if first.Key() != second.Key() {
		t.Error("what is remembered differs from what was found")
	}
	job.Op = testCopy(t, "COPY --from=x d/a /")
	defer func() {
		if recover() == nil {
			t.Error("another question was answered from memory")
		}
	}()
	_, _ = describe(t.Context(), w2, &job)
}

// TestCopyExplain holds that fields name the files of a small source, and directories of a large one.
func TestCopyExplain(t *testing.T) {
	t.Parallel()
	long(t)
	fieldsOf := func(spec string) (names []string) {
		w := testLocal(t)
		w.Inputs.Contexts[""] = testContext(t, spec)
		h, err := describe(t.Context(), w, &executor.Job{Op: testCopy(t, "COPY d /")})
		check(t, err)
		for _, f := range h.Fields() {
			if strings.HasPrefix(f.Name, "file ") {
				names = append(names, f.Name)
			}
		}
		return names
	}
	if got, want := strings.Join(fieldsOf("d/a =1; d/s/b =2"), ", "), "file /d, file /d/a, file /d/s, file /d/s/b"; got != want {
		t.Errorf("fields %s, want %s", got, want)
	}
	var many strings.Builder
	for i := range 500 {
		fmt.Fprintf(&many, "; d/s%d/f%d =%d", i%20, i, i)
	}
	if got := fieldsOf(many.String()); len(got) != 21 || got[1] != "file /d/s0" {
		t.Errorf("%d fields %.200q, want 21, one for each directory", len(got), got)
	}
	many.Reset()
	for i := range 500 {
		fmt.Fprintf(&many, "; d/f%d =%d", i, i)
	}
	if got := fieldsOf(many.String()); len(got) != 1 {
		t.Errorf("%d fields for 500 files of one directory, want 1", len(got))
	}
}

// TestCopyHidden holds that a missing source which the ignore file hides is told to be so.
func TestCopyHidden(t *testing.T) {
	t.Parallel()
	w := testLocal(t)
	w.Inputs.Contexts[""] = testContext(t, "a =1; b =2", "a")
	for name, want := range map[string]string{
		"a": `"/a": not found (it is there, but the ignore file of the build context excludes it)`,
		"x": `"/x": not found`,
	} {
		_, err := describe(t.Context(), w, &executor.Job{Op: testCopy(t, "COPY "+name+" /")})
		if err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// BenchmarkCopyUnchanged is what COPY . costs a build in which nothing has changed, with a context of 50,000 files.
func BenchmarkCopyUnchanged(b *testing.B) {
	root, index := os.Getenv("FORGE_BENCH_CONTEXT"), filepath.Join(b.TempDir(), "index")
	if root == "" {
		b.Skip("FORGE_BENCH_CONTEXT names no directory")
	}
	for b.Loop() {
		d, err := source.OpenDir(root, nil, index)
		check(b, err)
		w := &Worker{Inputs: &source.Resolver{Contexts: map[string]filetree.Tree{"": d}}}
		_, err = describe(b.Context(), w, &executor.Job{Op: copyAll()})
		check(b, err)
		check(b, d.Close())
	}
}

// BenchmarkCopyChanged is the layer of the same context, its digests known.
func BenchmarkCopyChanged(b *testing.B) {
	root := os.Getenv("FORGE_BENCH_CONTEXT")
	if root == "" {
		b.Skip("FORGE_BENCH_CONTEXT names no directory")
	}
	w := testLocal(b)
	for b.Loop() {
		d, err := source.OpenDir(root, nil, "")
		check(b, err)
		w.Inputs.Contexts[""] = d
		_, err = w.Do(b.Context(), executor.Job{Op: copyAll()}, nil)
		check(b, err)
		check(b, d.Close())
	}
}
