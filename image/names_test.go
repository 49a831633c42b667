package image

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func tag(t testing.TB, l *Layout, name string, img *Image) {
	t.Helper()
	var r Reference
	if name != "" {
		r = mustParse(t, name)
	}
	if err := l.Tag(t.Context(), r, img.Descriptor); err != nil {
		t.Fatal(err)
	}
}

// listing is what List says: name=first digits of the ID.
func listing(t testing.TB, l *Layout) string {
	t.Helper()
	all, err := l.List(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, n := range all {
		fmt.Fprintf(&b, "%s=%s ", n.Reference.Familiar(), n.ID.Encoded()[:8])
	}
	return strings.TrimSpace(b.String())
}

// indexListing is what index.json says, in the same form.
func indexListing(t testing.TB, l *Layout) string {
	t.Helper()
	var x ocispec.Index
	data, err := os.ReadFile(l.index())
	if err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(data, &x); err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for _, d := range x.Manifests {
		img, err := l.Image(t.Context(), d, nil)
		if err != nil {
			t.Fatal(err)
		}
		var r Reference
		if name := d.Annotations[ocispec.AnnotationRefName]; name != "" {
			r = mustParse(t, name)
		}
		fmt.Fprintf(&b, "%s=%s ", r.Familiar(), img.ID().Encoded()[:8])
	}
	return strings.TrimSpace(b.String())
}

func TestTagAndDrop(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	one, two := writeImage(t, l, "one"), writeImage(t, l, "two")
	id1, id2 := one.ID().Encoded()[:8], two.ID().Encoded()[:8]
	drop := func(img *Image, want string, names ...string) func() {
		return func() {
			var refs []Reference
			for _, name := range names {
				refs = append(refs, mustParse(t, name))
			}
			dropped, gone, err := l.Drop(t.Context(), img.Descriptor.Digest, refs...)
			if got := fmt.Sprintf("%d %v", len(dropped), gone); got != want || err != nil {
				t.Errorf("Drop %s: %s, %v, want %s", names, got, err, want)
			}
		}
	}
	for _, step := range []struct {
		name string
		do   func()
		want string
	}{
		{"name it", func() { tag(t, l, "a", one) }, "a:latest=" + id1},
		{"again", func() { tag(t, l, "a", one) }, "a:latest=" + id1},
		{"a second name", func() { tag(t, l, "b", one) }, "a:latest=" + id1 + " b:latest=" + id1},
		{"another takes a name", func() { tag(t, l, "a", two) }, "a:latest=" + id2 + " b:latest=" + id1},
		{"and the last name", func() { tag(t, l, "b", two) }, "a:latest=" + id2 + " b:latest=" + id2 + " =" + id1},
		{"the nameless gets a name", func() { tag(t, l, "c", one) }, "a:latest=" + id2 + " b:latest=" + id2 + " c:latest=" + id1},
		{"no name is needed", func() { tag(t, l, "", one) }, "a:latest=" + id2 + " b:latest=" + id2 + " c:latest=" + id1},
		{"remove one of two names", drop(two, "1 false", "a"), "b:latest=" + id2 + " c:latest=" + id1},
		{"remove what has moved", drop(one, "0 false", "b"), "b:latest=" + id2 + " c:latest=" + id1},
		{"remove the last name", drop(two, "1 true", "b"), "c:latest=" + id1},
		{"record without a name", func() { tag(t, l, "", two) }, "c:latest=" + id1 + " =" + id2},
		{"remove a name of what has none", drop(two, "0 true", "b"), "c:latest=" + id1},
		{"record without a name", func() { tag(t, l, "", two) }, "c:latest=" + id1 + " =" + id2},
		{"remove by digest", func() { l.Remove(t.Context(), two.Descriptor.Digest) }, "c:latest=" + id1},
		{"remove with its name", func() { l.Remove(t.Context(), one.Descriptor.Digest) }, ""},
	} {
		step.do()
		if got := listing(t, l); got != step.want {
			t.Errorf("%s: List = %s, want %s", step.name, got, step.want)
		}
		if got := indexListing(t, l); got != step.want {
			t.Errorf("%s: index.json = %s, want %s", step.name, got, step.want)
		}
		if _, err := os.Lstat(l.stale()); err == nil {
			t.Errorf("%s: left the mark", step.name)
		}
	}
	if _, _, err := l.Drop(t.Context(), one.Descriptor.Digest, mustParse(t, "a")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Drop of nothing: %v", err)
	}
	if err := l.Remove(t.Context(), one.Descriptor.Digest); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Remove of nothing: %v", err)
	}
}

func TestTagLongName(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	name := "registry.example.com/" + strings.Repeat("a/", 120) + "a:" + strings.Repeat("t", 128)
	img := writeImage(t, l, "x")
	tag(t, l, name, img)
	if d, err := l.Resolve(t.Context(), mustParse(t, name)); err != nil || d.Digest != img.Descriptor.Digest {
		t.Errorf("Resolve = %v, %v", d, err)
	}
	if got, want := listing(t, l), name+"="+img.ID().Encoded()[:8]; got != want {
		t.Errorf("List = %s, want %s", got, want)
	}
	if _, gone, err := l.Drop(t.Context(), img.Descriptor.Digest, mustParse(t, name)); !gone || err != nil {
		t.Error(err)
	}
}

func TestTagNeedsTheWholeImage(t *testing.T) {
	t.Parallel()
	for _, part := range []string{"layer", "config", "manifest"} {
		l := openLayout(t, t.TempDir())
		img := writeImage(t, l, "x")
		if err := l.Publish(t.Context()); err != nil {
			t.Fatal(err)
		}
		d := map[string]digest.Digest{"layer": img.Layers()[0].Blob.Digest, "config": img.ID(), "manifest": img.Descriptor.Digest}[part]
		os.Remove(l.BlobPath(d))
		err := l.Tag(t.Context(), mustParse(t, "x"), img.Descriptor)
		if !errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), string(d)) || !strings.Contains(err.Error(), "image docker.io/library/x:latest: ") {
			t.Errorf("Tag without its %s: %v", part, err)
		}
		if got := listing(t, l); got != "" {
			t.Errorf("without %s: List = %s", part, got)
		}
	}
}

func TestResolveDigest(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	img := writeImage(t, l, "x")
	tag(t, l, "ghcr.io/o/r:v1", img)
	d := string(img.Descriptor.Digest)
	for name, want := range map[string]string{
		"ghcr.io/o/r:v1":         "",
		"ghcr.io/o/r@" + d:       "",
		"ghcr.io/o/r:other@" + d: "",
		"ghcr.io/o/r:other":      "image ghcr.io/o/r:other is not in the store",
		"ghcr.io/o/r@" + digA:    "image ghcr.io/o/r@" + digA + " is not in the store",
		"ghcr.io/o/r:v1@" + digA: "image ghcr.io/o/r:v1@" + digA + " is not in the store",
	} {
		got, err := l.Resolve(t.Context(), mustParse(t, name))
		if !strings.HasPrefix(errText(err), want) || (err == nil) != (want == "") || err == nil && got.Digest != img.Descriptor.Digest {
			t.Errorf("Resolve(%s) = %v, %v, want %q", name, got.Digest, err, want)
		}
	}
}

func TestFind(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	var images []*Image
	for i := range 40 { // with 16 first digits, some IDs share theirs
		img := writeImage(t, l, fmt.Sprint(i))
		images = append(images, img)
		tag(t, l, fmt.Sprint("image", i), img)
	}
	img := images[7]
	tag(t, l, "beef", img) // hexadecimal, and a name
	for in, want := range map[string]string{
		"image7":                             "",
		"docker.io/library/image7:latest":    "",
		"beef":                               "",
		string(img.ID()):                     "",
		img.ID().Encoded():                   "",
		img.ID().Encoded()[:12]:              "",
		"sha256:" + img.ID().Encoded()[:12]:  "",
		string(img.Descriptor.Digest):        "",
		img.Descriptor.Digest.Encoded()[:12]: "",
		"image99":                            `image "image99" is not in the store`,
		"sha256:":                            `image "sha256:" is not in the store`,
		hexA:                                 `image "` + hexA + `" is not in the store`,
		"Image7":                             `reference "Image7": repository must be lower case`,
		img.ID().Encoded()[:1]:               `image "` + img.ID().Encoded()[:1] + `" is ambiguous`,
	} {
		n, err := l.Find(t.Context(), in)
		if !strings.HasPrefix(errText(err), want) || (err == nil) != (want == "") || err == nil && n.ID != img.ID() {
			t.Errorf("Find(%s) = %v, %v, want %q", in, n.ID, err, want)
		}
	}
}

func TestDamagedRecords(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	img := writeImage(t, l, "x")
	tag(t, l, "good", img)
	for i, content := range []string{"", "{", `{"name":"../x"}`, `{"name":"a","descriptor":{"digest":"sha256:.."}}`, "\x00\x00\x00"} {
		name := fmt.Sprint("bad", i)
		path := l.recordPath(mustParse(t, name), "")
		os.WriteFile(path, []byte(content), 0o600)
		if _, err := l.Resolve(t.Context(), mustParse(t, name)); err == nil || !strings.Contains(err.Error(), path+": damaged record") {
			t.Errorf("Resolve of record %q: %v", content, err)
		}
		if got, want := listing(t, l), "good:latest="+img.ID().Encoded()[:8]; got != want {
			t.Errorf("with record %q: List = %s, want %s", content, got, want)
		}
	}
	tag(t, l, "bad0", img)
	if d, err := l.Resolve(t.Context(), mustParse(t, "bad0")); err != nil || d.Digest != img.Descriptor.Digest {
		t.Errorf("after naming it anew: %v, %v", d, err)
	}
}

func TestStaleIndexIsMadeAnew(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	l := openLayout(t, root)
	tag(t, l, "a", writeImage(t, l, "x"))
	os.WriteFile(l.stale(), nil, 0o600)
	os.WriteFile(l.index(), []byte("{}"), 0o600)
	l = openLayout(t, root)
	if got, want := indexListing(t, l), listing(t, l); got != want {
		t.Errorf("index.json = %s, want %s", got, want)
	}
}

// A witness is a context that does something when it is asked for the n'th time whether it has ended.
type witness struct {
	context.Context
	n  *int
	do func()
}

func (w witness) Err() error {
	if *w.n--; *w.n == 0 {
		w.do()
	}
	return w.Context.Err()
}

// TestTagBesideDeath: a name that another process has written, and died before it made that durable and told so in index.json, does not count as
// given, whenever that happens.
func TestTagBesideDeath(t *testing.T) {
	t.Parallel()
	for n := 1; ; n++ {
		root := t.TempDir()
		l := openLayout(t, root)
		img := writeImage(t, l, "x")
		tag(t, l, "a", img)
		record := l.recordPath(mustParse(t, "a"), img.Descriptor.Digest)
		raw, err := os.ReadFile(record)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := l.Drop(t.Context(), img.Descriptor.Digest, mustParse(t, "a")); err != nil {
			t.Fatal(err)
		}
		left := n
		died := func() {
			if err := errors.Join(l.markStale(), os.WriteFile(record, raw, 0o600)); err != nil {
				t.Error(err)
			}
		}
		if err := l.Tag(witness{t.Context(), &left, died}, mustParse(t, "a"), img.Descriptor); err != nil {
			t.Fatal(err)
		}
		if left > 0 {
			if n < 3 {
				t.Errorf("it was asked %d times only", n-left)
			}
			return
		}
		if got, want := indexListing(t, l), "a:latest="+img.ID().Encoded()[:8]; got != want {
			t.Errorf("after %d: index.json = %s, want %s", n, got, want)
		}
	}
}

func TestTagConcurrent(t *testing.T) {
	t.Parallel()
	long(t)
	root := t.TempDir()
	images := make([]*Image, 4)
	setup := openLayout(t, root)
	for i := range images {
		images[i] = writeImage(t, setup, fmt.Sprint(i))
	}
	if err := setup.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for _, img := range images {
		l := openLayout(t, root) // each stands for a process
		wg.Go(func() {
			for i := range 10 {
				for _, name := range []string{"shared", fmt.Sprint("own", i, "-", img.ID().Encoded()[:8])} {
					if err := l.Tag(t.Context(), mustParse(t, name), img.Descriptor); err != nil {
						t.Error(err)
					}
				}
			}
		})
	}
	wg.Wait()
	if got, want := indexListing(t, setup), listing(t, setup); got != want || strings.Count(got, "=") != 41 {
		t.Errorf("index.json = %s\nList = %s", got, want)
	}
}
