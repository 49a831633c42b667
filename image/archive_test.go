package image

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func save(t testing.TB, l *Layout, o SaveOptions, names ...string) []byte {
	t.Helper()
	var images []Named
	for _, name := range names {
		n, err := l.Find(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, n)
	}
	var b bytes.Buffer
	if err := l.Save(t.Context(), &b, images, o); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pulledImage is an image as it comes from a registry: Docker's media types, a compressed layer.
func pulledImage(t testing.TB, l *Layout, content string) *Image {
	t.Helper()
	layer := tarOf("file", content)
	config, err := json.Marshal(Config{Image: ocispec.Image{
		Platform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
		RootFS:   ocispec.RootFS{Type: "layers", DiffIDs: []digest.Digest{digest.FromBytes(layer)}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	m := newManifest(1, nil)
	m.MediaType = mediaTypeDockerManifest
	m.Config = push(t, l, mediaTypeDockerConfig, config)
	m.Layers[0] = push(t, l, mediaTypeDockerLayer+".gzip", gzipped(layer))
	raw, err := json.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	img, err := l.Image(t.Context(), push(t, l, m.MediaType, raw), nil)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func TestSaveAndLoad(t *testing.T) {
	t.Parallel()
	long(t)
	l := openLayout(t, t.TempDir())
	built, pulled := writeImage(t, l, "built"), pulledImage(t, l, "pulled")
	tag(t, l, "built", built)
	tag(t, l, "user/alias:v1", built)
	tag(t, l, "localhost:5000/pulled", pulled)
	names := []string{"built", "user/alias:v1", "localhost:5000/pulled"}
	want := listing(t, l)
	for _, test := range []struct {
		name string
		o    SaveOptions
		same bool // manifests come back as they were
	}{
		{"oci", SaveOptions{}, true},
		{"oci, compressed", SaveOptions{Compression: &Compression{Algorithm: Zstd}}, false},
		{"docker", SaveOptions{Format: DockerArchive}, false},
	} {
		data := save(t, l, test.o, names...)
		if again := save(t, l, test.o, names[2], names[0], names[1]); !bytes.Equal(data, again) {
			t.Errorf("%s: saving again gives other bytes", test.name)
		}
		for _, outer := range [][]byte{data, gzipped(data), zstded(data)} {
			l2 := openLayout(t, t.TempDir())
			images, err := l2.Load(t.Context(), bytes.NewReader(outer), LoadOptions{})
			if err != nil {
				t.Fatalf("%s: Load: %v", test.name, err)
			}
			if len(images) != 3 {
				t.Errorf("%s: Load names %v", test.name, images)
			}
			if got := listing(t, l2); got != want {
				t.Errorf("%s: loaded %s, want %s", test.name, got, want)
			}
			d, err := l2.Resolve(t.Context(), mustParse(t, "localhost:5000/pulled"))
			if err != nil || (d.Digest == pulled.Descriptor.Digest) != test.same {
				t.Errorf("%s: manifest %s, was %s", test.name, d.Digest, pulled.Descriptor.Digest)
			}
			img, err := l2.Image(t.Context(), d, nil)
			if err != nil {
				t.Fatal(err)
			}
			f, err := l2.OpenTar(t.Context(), img.Layers()[0])
			if err != nil {
				t.Fatal(err)
			}
			if b, _ := io.ReadAll(f); !bytes.Equal(b, tarOf("file", "pulled")) {
				t.Errorf("%s: layer came back as %d bytes", test.name, len(b))
			}
			f.Close()
		}
	}
}

func TestSaveIndex(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	images := map[string]*Image{}
	for _, p := range []string{"linux/amd64", "linux/arm64", "linux/s390x"} {
		images[p] = writeImage(t, l, p)
	}
	x := writeIndexOf(t, l, images)
	if err := l.Tag(t.Context(), mustParse(t, "multi"), x); err != nil {
		t.Fatal(err)
	}
	os.Remove(l.BlobPath(images["linux/s390x"].Descriptor.Digest)) // as if it had not been pulled
	data := save(t, l, SaveOptions{}, "multi")
	compressed := save(t, l, SaveOptions{Compression: &Compression{}}, "multi")
	for _, data := range [][]byte{data, compressed} {
		l2 := openLayout(t, t.TempDir())
		if _, err := l2.Load(t.Context(), bytes.NewReader(data), LoadOptions{}); err != nil {
			t.Fatal(err)
		}
		d, err := l2.Resolve(t.Context(), mustParse(t, "multi"))
		if err != nil {
			t.Fatal(err)
		}
		for p, want := range map[string]bool{"amd64": true, "arm64": true, "s390x": false} {
			img, err := l2.Image(t.Context(), d, &ocispec.Platform{OS: "linux", Architecture: p})
			if (err == nil) != want || err == nil && img.ID() != images["linux/"+p].ID() {
				t.Errorf("%s: %v", p, err)
			}
		}
	}
	docker := save(t, l, SaveOptions{Format: DockerArchive, Platform: &ocispec.Platform{OS: "linux", Architecture: "arm64"}}, "multi")
	l2 := openLayout(t, t.TempDir())
	loaded, err := l2.Load(t.Context(), bytes.NewReader(docker), LoadOptions{})
	if err != nil || loaded[0].ID != images["linux/arm64"].ID() {
		t.Errorf("docker archive for arm64: %v, %v", loaded, err)
	}
}

func TestSaveNeedsWholeBlobs(t *testing.T) {
	t.Parallel()
	for _, o := range []SaveOptions{{}, {Format: DockerArchive}, {Compression: &Compression{}}} {
		l := openLayout(t, t.TempDir())
		img := writeImage(t, l, "content")
		tag(t, l, "app", img)
		path := l.BlobPath(img.Layers()[0].DiffID)
		data := []byte(read(t, path))
		data[600] ^= 1
		os.WriteFile(path, data, 0o600)
		err := l.Save(t.Context(), io.Discard, []Named{{Reference: mustParse(t, "app"), Descriptor: img.Descriptor, ID: img.ID()}}, o)
		if err == nil || !strings.Contains(err.Error(), string(img.Layers()[0].DiffID)) {
			t.Errorf("%+v: Save of a damaged layer: %v", o, err)
		}
	}
	l := openLayout(t, t.TempDir())
	if err := l.Save(t.Context(), io.Discard, nil, SaveOptions{Format: "zip"}); err == nil {
		t.Error("unknown format is accepted")
	}
}

// archiveOf is a tar of entries: name, content; a content "-> x" is a link.
func archiveOf(entries ...string) []byte {
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for i := 0; i < len(entries); i += 2 {
		h := &tar.Header{Name: entries[i], Typeflag: tar.TypeReg, Size: int64(len(entries[i+1]))}
		if target, ok := strings.CutPrefix(entries[i+1], "-> "); ok {
			h.Typeflag, h.Linkname, h.Size = tar.TypeSymlink, target, 0
		}
		w.WriteHeader(h)
		if h.Size > 0 {
			w.Write([]byte(entries[i+1]))
		}
	}
	w.Close()
	return b.Bytes()
}

func configOf(diffIDs ...string) string {
	ids := []string{}
	for _, d := range diffIDs {
		ids = append(ids, `"`+d+`"`)
	}
	return `{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[` + strings.Join(ids, ",") + `]}}`
}

// TestLoadDocker loads what various versions of docker wrote.
func TestLoadDocker(t *testing.T) {
	t.Parallel()
	layer := string(tarOf("file", "x"))
	diffID := digest.FromString(layer).String()
	one, two := configOf(diffID), configOf(diffID, diffID)
	for _, test := range []struct {
		name, want string
		archive    []byte
	}{
		{"tars in directories", "a:1 b:latest", archiveOf("abc/VERSION", "1.0", "abc/json", "{}", "abc/layer.tar", layer, "c.json", one,
			"manifest.json", `[{"Config":"c.json","RepoTags":["a:1","docker.io/library/b:latest"],"Layers":["abc/layer.tar"]}]`, "repositories", "{}")},
		{"links for layers met before", "", archiveOf("abc/layer.tar", layer, "def/layer.tar", "-> ../abc/layer.tar", "c.json", two,
			"manifest.json", `[{"Config":"c.json","RepoTags":null,"Layers":["abc/layer.tar","def/layer.tar"]}]`)},
		{"manifest first, layer compressed", "a:latest", archiveOf("manifest.json", `[{"Config":"./c.json","RepoTags":["a"],"Layers":["l.tar.gz"]}]`,
			"./c.json", one, "l.tar.gz", string(gzipped([]byte(layer))))},
	} {
		l := openLayout(t, t.TempDir())
		images, err := l.Load(t.Context(), bytes.NewReader(test.archive), LoadOptions{})
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		var names []string
		for _, n := range images {
			names = append(names, n.Reference.Familiar())
			img, err := l.Image(t.Context(), n.Descriptor, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got := digest.FromString(one); img.ID() != got && img.ID() != digest.FromString(two) {
				t.Errorf("%s: ID is %s, want %s", test.name, img.ID(), got)
			}
		}
		if got := strings.Join(names, " "); got != test.want {
			t.Errorf("%s: names %q, want %q", test.name, got, test.want)
		}
		if err := l.Publish(t.Context()); err != nil {
			t.Error(err)
		}
		if blobs, _ := filepath.Glob(l.blobs() + "/*"); len(blobs) > 4 {
			t.Errorf("%s: %d blobs are in the store, some of no use", test.name, len(blobs))
		}
	}
}

// TestLoadClaims: an archive that names the layer of an image of the store gets its files only if it has them.
func TestLoadClaims(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	secret, mine := string(tarOf("file", "secret")), string(tarOf("file", "mine"))
	load := func(layer, content string) error {
		const manifest = `[{"Config":"c.json","RepoTags":null,"Layers":["l"]}]`
		archive := archiveOf("manifest.json", manifest, "c.json", configOf(digest.FromString(layer).String()), "l", content)
		_, err := l.Load(t.Context(), bytes.NewReader(archive), LoadOptions{})
		return err
	}
	if err := load(secret, secret); err != nil {
		t.Fatal(err)
	}
	for _, content := range []string{mine, string(gzipped([]byte(mine))), secret + "x"} {
		if err := load(secret, content); err == nil || !strings.Contains(err.Error(), "not the diffID") {
			t.Errorf("%d bytes in the place of a layer: %v", len(content), err)
		}
	}
	if err := load(secret, string(gzipped([]byte(secret)))); err != nil {
		t.Errorf("the layer in another form: %v", err)
	}
	diffID := digest.FromString(mine).String()
	two := archiveOf("manifest.json", `[{"Config":"c.json","RepoTags":null,"Layers":["l","m"]}]`, "c.json", configOf(diffID, diffID), "l", mine, "m", secret)
	if _, err := l.Load(t.Context(), bytes.NewReader(two), LoadOptions{}); err == nil || !strings.Contains(err.Error(), "not the diffID") {
		t.Errorf("two layers that are to hold the same: %v", err)
	}
}

func TestLoadRefuses(t *testing.T) {
	t.Parallel()
	layer := string(tarOf("file", "x"))
	diffID := digest.FromString(layer).String()
	manifest := `[{"Config":"c.json","RepoTags":["a"],"Layers":["l.tar"]}]`
	var whole bytes.Buffer
	{
		l := openLayout(t, t.TempDir())
		img := writeImage(t, l, "x")
		if err := l.Save(t.Context(), &whole, []Named{{Reference: mustParse(t, "a"), Descriptor: img.Descriptor}}, SaveOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	wrongBlob := bytes.Replace(whole.Bytes(), []byte(`"architecture":"amd64"`), []byte(`"architecture":"AMD64"`), 1)
	for _, test := range []struct {
		name, want string
		archive    []byte
	}{
		{"nothing", "archive is empty", nil},
		{"no archive", "archive: ", bytes.Repeat([]byte("no archive"), 1000)},
		{"a root file system", "neither index.json nor manifest.json", archiveOf("bin/sh", "x")},
		{"no image", "holds no image", archiveOf("manifest.json", "[]")},
		{"no JSON", "manifest.json: invalid", archiveOf("manifest.json", "<")},
		{"no configuration", "archive has no c.json", archiveOf("manifest.json", manifest, "l.tar", layer)},
		{"no layer", "archive has no l.tar", archiveOf("manifest.json", manifest, "c.json", configOf(diffID))},
		{"other layer", "not the diffID", archiveOf("manifest.json", manifest, "c.json", configOf(digA), "l.tar", layer)},
		{"layers that do not match", "names 2 layers, its manifest 1", archiveOf("manifest.json", manifest, "c.json", configOf(diffID, diffID), "l.tar", layer)},
		{"digest", "64 lower case", archiveOf("manifest.json", manifest, "c.json", configOf("sha256:../../x"), "l.tar", layer)},
		{"name", "repository must be lower case", archiveOf("manifest.json", `[{"Config":"c.json","RepoTags":["A"],"Layers":["l.tar"]}]`, "c.json", configOf(diffID), "l.tar", layer)},
		{"links in a circle", "archive has no l.tar", archiveOf("manifest.json", manifest, "c.json", configOf(diffID), "l.tar", "-> m", "m", "-> l.tar")},
		{"link out of the archive", "archive has no l.tar", archiveOf("manifest.json", manifest, "c.json", configOf(diffID), "l.tar", "-> ../../../../etc/passwd")},
		{"large manifest", "more than the 4194304", archiveOf("manifest.json", strings.Repeat(" ", MaxManifestSize+1))},
		{"changed blob", "content has digest", wrongBlob},
		{"blob with a bad name", "64 lower case", archiveOf("blobs/sha256/xyz", "x")},
		{"cut", "unexpected EOF", whole.Bytes()[:whole.Len()*2/3]},
		{"cut gzip", "unexpected EOF", gzipped(whole.Bytes())[:500]},
		{"index without blobs", "is not in the store", archiveOf("oci-layout", "{}", "index.json",
			`{"schemaVersion":2,"manifests":[{"mediaType":"`+ocispec.MediaTypeImageManifest+`","digest":"`+digA+`","size":5}]}`)},
		{"artifacts only", "holds no image", archiveOf("oci-layout", "{}", "index.json", `{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"`+digA+`","size":5}]}`)},
	} {
		l := openLayout(t, t.TempDir())
		images, err := l.Load(t.Context(), bytes.NewReader(test.archive), LoadOptions{})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, %v, want %q", test.name, images, err, test.want)
		}
		if got := listing(t, l); got != "" {
			t.Errorf("%s: named %s", test.name, got)
		}
		if left, _ := filepath.Glob(filepath.Join(l.root, "ingest/*/*")); len(left) > 0 {
			t.Errorf("%s: left %v", test.name, left)
		}
	}
}

func TestImport(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	content := tarOf("bin/sh", "x")
	c := Config{}
	c.Config.Cmd = []string{"/bin/sh"}
	for _, in := range [][]byte{content, gzipped(content), zstded(content)} {
		img, err := l.Import(t.Context(), bytes.NewReader(in), c, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := img.Layers()[0]; got.DiffID != digest.FromBytes(content) || got.Blob.Digest != got.DiffID {
			t.Errorf("layer is %v", got)
		}
		if img.Config.OS != "linux" || img.Config.Architecture == "" || img.Config.Config.Cmd[0] != "/bin/sh" {
			t.Errorf("configuration is %s", img.RawConfig)
		}
		if err := l.Tag(t.Context(), mustParse(t, "base"), img.Descriptor); err != nil {
			t.Error(err)
		}
	}
	dead := errors.New("line is dead")
	for _, test := range []struct {
		name, want string
		r          io.Reader
	}{
		{"nothing", "it has no entries", strings.NewReader("")},
		{"text", "is no tar of a root file system", strings.NewReader(strings.Repeat("text", 10000))},
		{"cut", "unexpected EOF", bytes.NewReader(tarOf("file", strings.Repeat("x", 2000))[:1500])},
		{"cut gzip", "unexpected EOF", bytes.NewReader(gzipped(content)[:30])},
		{"dead line", "line is dead", io.MultiReader(bytes.NewReader(content[:100]), errReader{dead})},
	} {
		if _, err := l.Import(t.Context(), test.r, c, nil); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s: %v, want %q", test.name, err, test.want)
		}
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(dead)
	if _, err := l.Import(ctx, bytes.NewReader(tarOf("a", "b")), c, nil); !errors.Is(err, dead) {
		t.Errorf("cancelled: %v", err)
	}
	if ok, _ := l.Exists(t.Context(), ocispec.Descriptor{Digest: digest.FromBytes(tarOf("a", "b"))}); ok {
		t.Error("a cancelled import left its layer")
	}
	if _, err := os.Stat(l.BlobPath(digest.FromBytes(content))); errors.Is(err, fs.ErrNotExist) {
		t.Error("the layer is not in the store")
	}
}

type errReader struct{ err error }

func (r errReader) Read([]byte) (int, error) { return 0, r.err }

func FuzzLoad(f *testing.F) {
	layer := string(tarOf("file", "x"))
	diffID := digest.FromString(layer).String()
	f.Add(archiveOf("c.json", configOf(diffID), "l.tar", layer, "manifest.json", `[{"Config":"c.json","RepoTags":["a"],"Layers":["l.tar"]}]`))
	f.Add(archiveOf("oci-layout", "{}", "index.json", `{"schemaVersion":2,"manifests":[{"mediaType":"x","digest":"`+digA+`","size":5}]}`))
	f.Add(gzipped(archiveOf("a", "b")))
	f.Fuzz(func(t *testing.T, data []byte) {
		l := openLayout(t, t.TempDir())
		images, err := l.Load(t.Context(), bytes.NewReader(data), LoadOptions{})
		if err != nil && listing(t, l) != "" {
			t.Errorf("Load failed with %v and named %s", err, listing(t, l))
		}
		if err != nil {
			return
		}
		for _, n := range images {
			if _, err := l.whole(t.Context(), n.Descriptor); err != nil {
				t.Errorf("loaded %s: %v", n.displayName(), err)
			}
		}
	})
}

// FuzzReadArchive opens anything as an archive of images, and reads what it says to hold.
func FuzzReadArchive(f *testing.F) {
	f.Add([]byte("x"), "")
	f.Add(bytes.Repeat([]byte{0}, 1024), "x:1")
	f.Add(archiveOf("manifest.json", `[{"Config":"c.json","RepoTags":["a"],"Layers":["l.tar"]}]`, "c.json", configOf(digA), "l.tar", "x"), "a")
	f.Fuzz(func(t *testing.T, raw []byte, name string) {
		path := filepath.Join(t.TempDir(), "a.tar")
		if err := os.WriteFile(path, raw, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, format := range []ArchiveFormat{OCIArchive, DockerArchive} {
			a, err := OpenArchive(t.Context(), path, format)
			if err != nil {
				continue
			}
			if d, err := a.Resolve(t.Context(), Reference{Tag: name}); err == nil {
				_, _ = Read(t.Context(), a, d, nil)
			}
			if err := a.Close(); err != nil {
				t.Error(err)
			}
		}
	})
}
