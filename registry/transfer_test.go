package registry_test

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/registrytest"
)

func transfer(t *testing.T, dst, src string) (ocispec.Descriptor, error) {
	t.Helper()
	return registry.NewClient(registry.Options{}).Transfer(t.Context(), dst, src, amd64, registry.CopyOptions{})
}

func TestTransfer(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	ref := r.Ref(t, "app:1")
	src, d := put(t, ref, 1, 300_000, 1000)
	dir := t.TempDir()
	reg, again := ref.String(), r.Ref(t, "again:1").String()
	oci, ociTar, dockerTar := "oci:"+dir+"/layout:v1", "oci-archive:"+dir+"/oci.tar:v1", "docker-archive:"+dir+"/docker.tar:team/app:1"
	for _, step := range []struct{ dst, src string }{
		{oci, reg},
		{ociTar, oci},
		{dockerTar, ociTar},
		{"oci:" + dir + "/second", dockerTar},
		{again, "oci:" + dir + "/second"},
		{"docker-archive:" + dir + "/anonymous.tar", reg},
		{"oci:" + dir + "/third", "docker-archive:" + dir + "/anonymous.tar"},
	} {
		got, err := transfer(t, step.dst, step.src)
		if err != nil {
			t.Fatalf("%s to %s: %v", step.src, step.dst, err)
		}
		if strings.HasPrefix(step.src, "docker-archive:") {
			continue // a new manifest
		}
		if got.Digest != d.Digest && step.dst != again {
			t.Errorf("%s to %s: %s, want %s", step.src, step.dst, got.Digest, d.Digest)
		}
	}
	dst, err := image.OpenDir(dir + "/second")
	if err != nil {
		t.Fatal(err)
	}
	m, err := image.Read(t.Context(), src, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range m.Manifest.Layers {
		if ok, _ := dst.Exists(t.Context(), l); !ok {
			t.Errorf("layer %s was lost on the way", l.Digest)
		}
	}
	for _, pair := range [][2]string{{oci, "oci:" + dir + "/layout:v1"}, {ociTar, ociTar}, {dockerTar, "docker-archive:" + dir + "/docker.tar"}} {
		if out := registrytest.Tool(t, "skopeo", "inspect", "--raw", pair[1]); !strings.Contains(out, "layers") {
			t.Errorf("skopeo reads %s as %s", pair[1], out)
		}
	}
	registrytest.Tool(t, "skopeo", "copy", "--insecure-policy", "docker-archive:"+dir+"/docker.tar:team/app:1", "oci:"+dir+"/skopeo:1")
	left, err := filepath.Glob(dir + "/.forge-*")
	if err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

// TestTransferSameArchive makes an archive twice.
func TestTransferSameArchive(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	ref := r.Ref(t, "app:1")
	put(t, ref, 1, 3000, 1000)
	dir := t.TempDir()
	var sums []digest.Digest
	for _, name := range []string{"a", "b"} {
		if _, err := transfer(t, "oci-archive:"+filepath.Join(dir, name)+":1", ref.String()); err != nil {
			t.Fatal(err)
		}
		raw, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		sums = append(sums, digest.FromBytes(raw))
	}
	if sums[0] != sums[1] {
		t.Error("the same image gave two different archives")
	}
}

// TestTransferOfSkopeosArchive reads an archive of the old kind: bare layers, found by a list.
func TestTransferOfSkopeosArchive(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	dir := t.TempDir()
	ref := r.Ref(t, "app:1")
	src, d := put(t, ref, 1, 300_000, 1000)
	want, err := image.Read(t.Context(), src, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := transfer(t, "oci:"+dir+"/layout:1", ref.String()); err != nil {
		t.Fatal(err)
	}
	registrytest.Tool(t, "skopeo", "copy", "--insecure-policy", "oci:"+dir+"/layout:1", "docker-archive:"+dir+"/old.tar:team/app:1")
	raw, err := os.ReadFile(dir + "/old.tar")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dir+"/old.tar.gz", registrytest.Gzip(t, raw), 0o600); err != nil {
		t.Fatal(err)
	}
	for i, name := range []string{"old.tar", "old.tar:team/app:1", "old.tar.gz"} {
		to := r.Ref(t, "back"+string(rune('a'+i))+":1")
		if _, err := transfer(t, to.String(), "docker-archive:"+dir+"/"+name); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		repo := connect(t, to, registry.Options{})
		root, err := repo.Resolve(t.Context(), to)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := image.Read(t.Context(), repo, root, nil); err != nil || got.ID() != want.ID() {
			t.Errorf("%s: arrived as %+v, %v", name, got, err)
		}
	}
}

func TestTransferErrors(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "text"), "no archive, but long enough to be looked at as if it were one "+strings.Repeat("x", 1000))
	write(t, filepath.Join(dir, "empty.tar"), string(tarOf(t, nil)))
	write(t, filepath.Join(dir, "two.tar"), string(tarOf(t, map[string]string{
		"manifest.json": `[{"Config":"a","RepoTags":["x:1"]},{"Config":"b","RepoTags":["y:1"]}]`,
	})))
	write(t, filepath.Join(dir, "out.tar"), string(tarOf(t, map[string]string{
		"manifest.json": `[{"Config":"../../../../etc/passwd","RepoTags":["x:1"]}]`,
	})))
	for src, want := range map[string]string{
		"oci:" + dir + "/none":                   "no such file",
		"oci-archive:" + dir + "/none":           "no such file",
		"oci-archive:" + dir + "/text":           "not a whole tar",
		"oci-archive:" + dir + "/empty.tar":      "archive is empty",
		"docker-archive:" + dir + "/two.tar":     "say which: x:1, y:1",
		"docker-archive:" + dir + "/two.tar:z":   `no image "z:latest", only x:1, y:1`,
		"docker-archive:" + dir + "/out.tar":     "has no ../../../../etc/passwd",
		"docker-archive:" + dir + "/two.tar:x:1": "has no a",
	} {
		out := filepath.Join(dir, "result.tar")
		if _, err := transfer(t, "oci-archive:"+out, src); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: error %v, want one with %q", src, err, want)
		}
		if _, err := os.Stat(out); err == nil {
			t.Errorf("%s: an archive was written in spite of the error", src)
		}
	}
	for s, want := range map[string]string{"oci:": "want oci:PATH", "oci::x": "no path", "Upper/Case": "lower case"} {
		if _, err := transfer(t, "oci:"+dir+"/x", s); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("copy from %q: %v, want %q", s, err, want)
		}
	}
}

func tarOf(t *testing.T, files map[string]string) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for name, text := range files {
		if err := w.WriteHeader(&tar.Header{Name: name, Size: int64(len(text)), Mode: 0o644}); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// TestOCIDirNames finds images by all that a name may be.
func TestOCIDirNames(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "layout")
	src := registrytest.NewMemory()
	var index ocispec.Index
	digests := map[string]digest.Digest{}
	for i, notes := range []map[string]string{
		{ocispec.AnnotationRefName: "v1"},
		{ocispec.AnnotationRefName: "docker.io/library/x:v2"},
		{"io.containerd.image.name": "docker.io/library/x:v3"},
		{ocispec.AnnotationRefName: "a:v4"},
		{ocispec.AnnotationRefName: "b:v4"},
		nil,
	} {
		d := src.AddImage(t, uint64(i), ocispec.Platform{OS: "linux", Architecture: "amd64"}, false, 10)
		one := "oci:" + dir + ":" + string(rune('a'+i))
		r := registrytest.New(t)
		ref := r.Ref(t, "x:1")
		registrytest.Push(t, ref, src, d)
		if _, err := transfer(t, one, ref.String()); err != nil {
			t.Fatal(err)
		}
		d.Annotations = notes
		index.Manifests = append(index.Manifests, d)
		digests[string(rune('a'+i))] = d.Digest
	}
	index.SchemaVersion = 2
	raw, err := json.Marshal(index)
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "index.json"), string(raw))
	for tag, want := range map[string]string{
		"v1": "a", "docker.io/library/x:v2": "b", "v2": "b", "v3": "c", "docker.io/library/x:v3": "c", "v4": "", "a:v4": "d",
		digests["f"].String(): "f", "": "", "none": "",
	} {
		got, err := transfer(t, "oci:"+t.TempDir()+"/out", strings.TrimSuffix("oci:"+dir+":"+tag, ":"))
		if want == "" {
			if err == nil {
				t.Errorf("%q names %s, want an error", tag, got.Digest)
			}
			continue
		}
		if err != nil || got.Digest != digests[want] {
			t.Errorf("%q names %s, %v; want image %s", tag, got.Digest, err, want)
		}
	}
}

// TestOCIDirKeepsOthers adds a second image to a layout, and replaces the first.
func TestOCIDirKeepsOthers(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	one, two := r.Ref(t, "app:1"), r.Ref(t, "app:2")
	put(t, one, 1, 1000)
	_, second := put(t, two, 2, 1000)
	dir := t.TempDir()
	for _, step := range [][2]string{{"a", one.String()}, {"b", two.String()}, {"a", two.String()}} {
		if _, err := transfer(t, "oci:"+dir+":"+step[0], step[1]); err != nil {
			t.Fatal(err)
		}
	}
	raw, err := os.ReadFile(filepath.Join(dir, "index.json"))
	if err != nil {
		t.Fatal(err)
	}
	var x ocispec.Index
	if err := json.Unmarshal(raw, &x); err != nil {
		t.Fatal(err)
	}
	names := map[string]digest.Digest{}
	for _, d := range x.Manifests {
		names[d.Annotations[ocispec.AnnotationRefName]] = d.Digest
	}
	if len(x.Manifests) != 2 || names["a"] != second.Digest || names["b"] != second.Digest {
		t.Errorf("index is %s", raw)
	}
}
