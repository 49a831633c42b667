package container

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot"
)

// A home is a state directory with a factory, and layers of busybox.
type home struct {
	t       testing.TB
	dir     string
	factory *Factory
	layers  []image.Layer
}

func newHome(t testing.TB) *home {
	t.Helper()
	h := &home{t: t, dir: t.TempDir()}
	staging := must1(image.OpenStaging(h.dir))(t)
	layout := must1(image.OpenLayout(h.dir, staging))(t)
	snapshots := must1(snapshot.Open(h.dir, layout, snapshot.Options{Kind: snapshot.Kind(os.Getenv("FORGE_SNAPSHOTTER"))}))(t)
	h.factory = &Factory{Snapshots: snapshots, Staging: staging, CacheDir: path.Join(h.dir, "mounts")}
	t.Cleanup(func() {
		if err := errors.Join(h.factory.Close(), snapshots.Close(), staging.Close()); err != nil {
			t.Error(err)
		}
	})
	return h
}

// newRunHome is a home in which commands can run.
func newRunHome(t testing.TB) *home {
	t.Helper()
	if os.Geteuid() != 0 {
		need(t, "root", "running commands needs root")
	}
	box, err := os.ReadFile("/bin/busybox")
	if err != nil {
		need(t, "busybox", "there is no /bin/busybox to run: "+err.Error())
	}
	h := newHome(t)
	c := snapshot.NewChanges(nil)
	put := func(name string, mode uint32, content string) {
		e := snapshot.Entry{Name: path.Base(name), Mode: mode, Size: int64(len(content))}
		var open snapshot.Content
		switch mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			open.Open = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(content)), nil }
		case syscall.S_IFLNK:
			e.Link, e.Size = content, 0
		}
		if err := c.Put(name, e, open); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{"bin", "dev", "etc", "proc", "sys", "tmp"} {
		put(dir, syscall.S_IFDIR|0o755, "")
	}
	put("bin/busybox", syscall.S_IFREG|0o755, string(box))
	for _, name := range strings.Fields("sh cat ls id env stat head wc test touch grep mknod echo mkdir readlink nc sleep") {
		put("bin/"+name, syscall.S_IFLNK|0o777, "busybox")
	}
	put("etc/passwd", syscall.S_IFREG|0o644, "root:x:0:0:root:/root:/bin/sh\nme:x:1000:1001::/home/me:/bin/sh\n")
	put("link", syscall.S_IFLNK|0o777, "/vol")
	h.layers = []image.Layer{must1(snapshotCommit(h, c))(t)}
	return h
}

func snapshotCommit(h *home, c *snapshot.Changes) (image.Layer, error) {
	return h.factory.Snapshots.Commit(h.t.Context(), c, nil)
}

// must1 makes an error the end of the test.
func must1[T any](v T, err error) func(t testing.TB) T {
	return func(t testing.TB) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// need skips a test that cannot run here, unless it must.
func need(t testing.TB, what, why string) {
	t.Helper()
	if slices.Contains(strings.Split(os.Getenv("FORGE_TEST_MUST"), ","), what) {
		t.Fatal(why)
	}
	t.Skip(why)
}

// open fills in a root file system of busybox.
func (h *home) open(o *Options) {
	h.t.Helper()
	draft := must1(h.factory.Snapshots.Draft(h.t.Context(), h.layers, snapshot.DraftOptions{}))(h.t)
	h.t.Cleanup(func() { draft.Close() })
	view := must1(h.factory.Snapshots.View(h.t.Context(), h.layers))(h.t)
	h.t.Cleanup(func() { view.Close() })
	o.Root, o.Files = draft, view
}

// prepare prepares what has to be prepared.
func (h *home) prepare(o Options) *Container {
	h.t.Helper()
	h.open(&o)
	c := must1(h.factory.Prepare(h.t.Context(), o))(h.t)
	h.t.Cleanup(func() { c.Close() })
	return c
}

// output runs a container and returns what it printed, errors included.
func (h *home) output(c *Container) string {
	h.t.Helper()
	var out bytes.Buffer
	p := must1(c.Start(h.t.Context(), runtime.Stdio{Out: &out, Err: &out}))(h.t)
	if _, err := p.Wait(); err != nil {
		h.t.Error(err)
	}
	return out.String()
}

// sh runs a shell command in a container and returns what it printed.
func (h *home) sh(script string, o Options) string {
	h.t.Helper()
	o.Process.Args = []string{"/bin/sh", "-c", script}
	return h.output(h.prepare(o))
}
