package local

import (
	"context"
	"errors"
	"io"
	"path"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/snapshot/snapshottest"
	"github.com/forge-build/forge/source"
	"github.com/forge-build/forge/source/sourcetest"
)

// testLocal is a worker with a store of its own and nothing in it.
func testLocal(t testing.TB) *Worker {
	t.Helper()
	k := snapshottest.Open(t, t.TempDir(), "")
	layers := &source.Layers{Snapshots: k.Store}
	w := &Worker{Layout: k.Layout, Inputs: &source.Resolver{
		Contexts: map[string]filetree.Tree{}, Layers: layers,
		Downloads: source.Downloads{Layout: k.Layout, Known: must1(cache.OpenStore[source.Download](filepath.Join(k.Root, "downloads")))(t)},
		Digests:   must1(cache.OpenStore[string](filepath.Join(k.Root, "trees")))(t),
	}}
	t.Cleanup(func() {
		if err := errors.Join(w.Close(), layers.Close()); err != nil {
			t.Error(err)
		}
	})
	return w
}

// testLayers makes a layer of a list of files; an empty list makes none.
func testLayers(t *testing.T, w *Worker, spec string) []image.Layer {
	t.Helper()
	if spec == "" {
		return nil
	}
	files := sourcetest.ParseTree(t, spec)
	c := w.Inputs.Layers.Snapshots.NewChanges(nil)
	for _, name := range sourcetest.Names(files) {
		f := files[name]
		for dir := path.Dir(name); dir != "."; dir = path.Dir(dir) {
			if _, ok := files[dir]; !ok {
				files[dir] = sourcetest.Node{Entry: snapshot.Entry{Mode: syscall.S_IFDIR | 0o755, ModTime: sourcetest.Time}}
			}
		}
		_ = f
	}
	for _, name := range sourcetest.Names(files) {
		f := files[name]
		content := snapshot.Content{Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(f.Content)), nil }}
		if f.Inode != 0 {
			content.Group = "x"
		}
		if err := c.Put(name, f.Entry, content); err != nil {
			t.Fatal(err)
		}
	}
	layer, err := w.Inputs.Layers.Snapshots.Commit(context.Background(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return []image.Layer{layer}
}

// testContext makes a directory of a list of files and opens it.
func testContext(t *testing.T, spec string, ignore ...string) *source.Dir {
	t.Helper()
	root := sourcetest.Write(t, spec)
	d, err := source.OpenDir(root, ignore, "")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// testCopy reads "[--flag=value]… source… dest" as the planner would. Sources that begin with "<<" are heredocs.
func testCopy(t *testing.T, line string) *planner.Copy {
	t.Helper()
	op := &planner.Copy{From: planner.Input{Read: -1}}
	var checksum string
	var keep *bool
	fields := strings.Fields(line)
	if fields[0] == "ADD" {
		op.Add = &planner.Add{}
	}
	fields = fields[1:]
	for strings.HasPrefix(fields[0], "--") {
		name, value, _ := strings.Cut(fields[0], "=")
		on := true
		no := value != "false"
		switch name {
		case "--chown":
			op.Chown = value
		case "--chmod":
			op.Chmod = value
		case "--link":
			op.Link = true
		case "--parents":
			op.Parents = true
		case "--exclude":
			op.Exclude = append(op.Exclude, value)
		case "--from":
			op.From.Read = 0
		case "--checksum":
			checksum = value
		case "--keep-git-dir":
			keep = &on
		case "--unpack":
			op.Add.Unpack = &no
		default:
			t.Fatalf("%s: no such flag", name)
		}
		fields = fields[1:]
	}
	for _, s := range fields[:len(fields)-1] {
		var src planner.Source
		switch {
		case strings.HasPrefix(s, "<<"):
			src.File = &planner.File{Name: s[2:], Content: "here\n"}
		case strings.Contains(s, "://") && strings.Contains(s, ".git"):
			var err error
			src.Git, _, err = planner.ParseGit(s, checksum, keep)
			check(t, err)
		case strings.Contains(s, "://"):
			src.URL, op.Add.Checksum = s, checksum
		default:
			src.Path = s
		}
		op.Sources = append(op.Sources, src)
	}
	op.Dest = fields[len(fields)-1]
	return op
}

// describe resolves what a job reads and returns its key.
func describe(ctx context.Context, w *Worker, job *executor.Job) (*cache.Hash, error) {
	reads := func(in *planner.Input) []image.Layer {
		if in != nil && in.Read >= 0 {
			return job.Reads[in.Read]
		}
		return nil
	}
	job.Inputs = nil
	switch op := job.Op.(type) {
	case *planner.Copy:
		for n := range op.Sources {
			in, err := w.Inputs.Resolve(ctx, op, n, reads(&op.From))
			if err != nil {
				return nil, err
			}
			job.Inputs = append(job.Inputs, in)
		}
	case *planner.Run:
		for n, m := range op.Mounts {
			in, err := w.Inputs.Resolve(ctx, op, n, reads(m.From))
			if err != nil {
				return nil, err
			}
			job.Inputs = append(job.Inputs, in)
		}
	}
	return job.Key()
}

// runCopy describes and does a copy, and returns what comes out of base and its layer.
func runCopy(t *testing.T, w *Worker, job executor.Job, op *planner.Copy) (got string, layer image.Layer, key cache.Key) {
	t.Helper()
	ctx := context.Background()
	job.Op = op
	h, err := describe(ctx, w, &job)
	if err != nil {
		return "error: " + err.Error(), layer, key
	}
	result, err := w.Do(ctx, job, io.Discard)
	layer = result.Layer
	if err != nil {
		return "error: " + err.Error(), layer, h.Key()
	}
	view, err := w.Inputs.Layers.Snapshots.View(ctx, append(job.On[:len(job.On):len(job.On)], layer))
	check(t, err)
	defer view.Close() //nolint:errcheck
	return sourcetest.Print(t, view), layer, h.Key()
}

// A copyTest copies from a context (or, with --from, a stage made of the same list) onto a base.
type copyTest struct {
	name, base, from, do, want string
}

func (test copyTest) run(t *testing.T) {
	t.Helper()
	t.Parallel()
	w := testLocal(t)
	job := executor.Job{On: testLayers(t, w, test.base)}
	if strings.Contains(test.do, "--from") {
		job.Reads = [][]image.Layer{testLayers(t, w, test.from)}
	} else {
		w.Inputs.Contexts[""] = testContext(t, test.from)
	}
	got, _, _ := runCopy(t, w, job, testCopy(t, test.do))
	if strings.HasPrefix(test.want, "error: ") {
		if !strings.Contains(got, strings.TrimPrefix(test.want, "error: ")) {
			t.Errorf("%s\n got %s\nwant %s", test.do, got, test.want)
		}
		return
	}
	if got != test.want {
		t.Errorf("%s\n got %s\nwant %s", test.do, got, test.want)
	}
}

// copyAll is the instruction COPY . /.
func copyAll() *planner.Copy {
	return &planner.Copy{From: planner.Input{Read: -1}, Sources: []planner.Source{{Path: "."}}, Dest: "/"}
}
