package container

import (
	"bytes"
	"os"
	"path"
	"testing"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/snapshottest"
)

// A home is a state directory with a factory, and layers of busybox.
type home struct {
	t       testing.TB
	kit     *snapshottest.Kit
	factory *Factory
	layers  []image.Layer
}

func newHome(t testing.TB) *home {
	t.Helper()
	k := snapshottest.Open(t, t.TempDir(), snapshot.Kind(os.Getenv("FORGE_SNAPSHOTTER")))
	f := &Factory{Snapshots: k.Store, Staging: k.Stage, CacheDir: path.Join(k.Root, "mounts")}
	t.Cleanup(func() {
		if err := f.Close(); err != nil {
			t.Error(err)
		}
	})
	return &home{t: t, kit: k, factory: f}
}

// newRunHome is a home in which commands can run.
func newRunHome(t testing.TB) *home {
	t.Helper()
	h := newHome(t)
	h.layers = []image.Layer{snapshottest.Busybox(t, h.kit)}
	return h
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
