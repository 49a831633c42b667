package forge_test

import (
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/registry/registrytest"
)

// open opens a store of the test.
func open(t *testing.T, dir string) *forge.Home {
	t.Helper()
	h, err := forge.Open(t.Context(), forge.Options{Dir: dir, Snapshotter: "copy"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// buildFile builds an image of one file under some names.
func buildFile(t *testing.T, h *forge.Home, content string, change func(*forge.BuildOptions), names ...string) *forge.BuildResult {
	t.Helper()
	dir := t.TempDir()
	write(t, dir+"/Dockerfile", "FROM scratch\nCOPY a /a\n")
	write(t, dir+"/a", content)
	o := forge.BuildOptions{SourceOptions: forge.SourceOptions{Context: dir}}
	o.Tags = names
	o.Cache = "none"
	if change != nil {
		change(&o)
	}
	r, err := h.Build(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// damageLayers makes the layers of the images that names stand for too short.
func damageLayers(t *testing.T, h *forge.Home, platform string, names ...string) {
	t.Helper()
	for _, name := range names {
		i, err := h.Inspect(t.Context(), name, platform)
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range i.Image.Layers() {
			for _, d := range []digest.Digest{l.Blob.Digest, l.DiffID} {
				path := h.Layout.BlobPath(d)
				if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
					t.Fatal(err)
				}
				write(t, path, "x")
			}
		}
	}
}

func idOf(t *testing.T, h *forge.Home, name string) digest.Digest {
	t.Helper()
	i, err := h.Inspect(t.Context(), name, "")
	if err != nil {
		return ""
	}
	return i.Image.ID()
}

func repair(t *testing.T, h *forge.Home) forge.FsckReport {
	t.Helper()
	report, err := h.Fsck(t.Context(), forge.FsckOptions{Deep: true, Repair: true})
	if err != nil {
		t.Fatal(err)
	}
	if len(report.Problems) == 0 {
		t.Fatal("there was nothing to repair")
	}
	again, err := h.Fsck(t.Context(), forge.FsckOptions{Deep: true})
	if err != nil || len(again.Problems) > 0 {
		t.Errorf("after the repair: %q, %v", again.Problems, err)
	}
	return report
}

// TestRepair: a repair gives a name back what it stood for, by the digest that its registry has that under, and never what a registry
// has under the name by now.
func TestRepair(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	push := func(o *forge.BuildOptions) {
		o.Outputs = []forge.Output{{Type: "image", Attrs: map[string]string{"push": "true"}}}
	}
	mine := r.Host() + "/mine:1"
	pulled := r.Host() + "/pulled:1"
	pushed := r.Host() + "/pushed:1"

	there := open(t, t.TempDir())
	buildFile(t, there, "of somebody else", push, mine)
	buildFile(t, there, "pulled", push, pulled)

	here := open(t, t.TempDir())
	buildFile(t, here, "mine", nil, mine)
	buildFile(t, here, "pushed", push, pushed)
	if _, err := here.Pull(t.Context(), pulled, forge.PullOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := here.Tag(t.Context(), pulled, "local:1"); err != nil {
		t.Fatal(err)
	}
	ids := map[string]digest.Digest{}
	for _, name := range []string{pulled, "local:1", pushed} {
		ids[name] = idOf(t, here, name)
	}
	buildFile(t, there, "has moved", push, pulled) // what the name stands for in the registry

	damageLayers(t, here, "", mine, pulled, pushed)
	report := repair(t, here)
	if want := []string{mine}; !slices.Equal(report.Dropped, want) {
		t.Errorf("dropped %q, want %q", report.Dropped, want)
	}
	if id := idOf(t, here, mine); id != "" {
		t.Errorf("%s, which was never pushed, is %s now", mine, id)
	}
	for name, want := range ids {
		if got := idOf(t, here, name); got != want {
			t.Errorf("%s was %s, and is %q", name, want, got)
		}
	}
}

// TestRepairAway: an image whose layers are in its registry alone is not damaged by that.
func TestRepairAway(t *testing.T) {
	t.Parallel()
	s := newSharing(t)
	s.build(pushing(s))
	dir := t.TempDir()
	h := open(t, dir)
	o := forge.BuildOptions{SourceOptions: forge.SourceOptions{Context: s.dir}}
	o.Cache = s.r.Host() + "/app:main"
	pushing(s)(&o)
	if _, err := h.Build(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	named, err := h.Layout.List(t.Context())
	if err != nil || len(named) != 1 || !named[0].Away {
		t.Fatalf("%+v, %v: want one image that is away", named, err)
	}
	write(t, filepath.Join(dir, "images/blobs/sha256/strange"), "x")
	s.r.Reset()
	s.r.Fault(registrytest.Fault{Do: registrytest.Status(404)})
	if report := repair(t, h); len(report.Dropped) > 0 {
		t.Errorf("dropped %q", report.Dropped)
	}
	if id := idOf(t, h, s.r.Host()+"/app:1"); id == "" {
		t.Error("the image is gone")
	}
}

// TestRepairPlatform: what is fetched again are the images of an index that were here.
func TestRepairPlatform(t *testing.T) {
	t.Parallel()
	other := "arm64"
	if runtime.GOARCH == other {
		other = "amd64"
	}
	r := registrytest.New(t)
	m := registrytest.NewMemory()
	one := m.AddImage(t, 1, ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}, false, 1000)
	two := m.AddImage(t, 2, ocispec.Platform{OS: "linux", Architecture: other}, false, 1000)
	registrytest.Push(t, r.Ref(t, "app:1"), m, m.AddIndex(t, one, two))
	h := open(t, t.TempDir())
	name := r.Host() + "/app:1"
	for _, arch := range []string{other, runtime.GOARCH} {
		if _, err := h.Pull(t.Context(), name, forge.PullOptions{Platform: "linux/" + arch}); err != nil {
			t.Fatal(err)
		}
	}
	both := func(damaged string) {
		t.Helper()
		if report := repair(t, h); len(report.Dropped) > 0 {
			t.Errorf("damaged %s: dropped %q", damaged, report.Dropped)
		}
		for _, arch := range []string{other, runtime.GOARCH} {
			i, err := h.Inspect(t.Context(), name, "linux/"+arch)
			if err != nil || i.Image.Config.Architecture != arch {
				t.Errorf("damaged %s: the image for %s: %v", damaged, arch, err)
			}
		}
	}
	damageLayers(t, h, "linux/"+other, name)
	damageLayers(t, h, "linux/"+runtime.GOARCH, name)
	both("layers")
	damageManifest := func(arch string) digest.Digest {
		t.Helper()
		i, err := h.Inspect(t.Context(), name, "linux/"+arch)
		if err != nil {
			t.Fatal(err)
		}
		d := i.Image.Descriptor.Digest
		if err := os.Remove(h.Layout.BlobPath(d)); err != nil {
			t.Fatal(err)
		}
		write(t, h.Layout.BlobPath(d), "x")
		return d
	}
	damageManifest(other)
	both("manifest of " + other)
	damageManifest(runtime.GOARCH)
	both("manifest of " + runtime.GOARCH)

	r.Fault(registrytest.Fault{Do: registrytest.Status(404)})
	lost := damageManifest(other)
	if report := repair(t, h); !slices.Equal(report.Dropped, []string{lost.String()}) {
		t.Errorf("its registry has it no more: dropped %q, want %q", report.Dropped, lost)
	}
	if id := idOf(t, h, name); id == "" {
		t.Error("the other platform is gone, too")
	}
}
