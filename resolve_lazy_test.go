package forge

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"math/rand/v2"
	"net/http"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/fusefile/fusefiletest"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/registrytest"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/snapshottest"
)

// TestLend runs images whose layers are to be read in a registry, as far as their files are looked for, where something is amiss.
func TestLend(t *testing.T) {
	r := registrytest.New(t)
	ref := r.Ref(t, "app:v1")
	pushStargz(t, ref, map[string]string{"one": "1", "two": randomText(2 << 20)})
	none := r.Ref(t, "app:none")
	rewrite(t, ref, none, func(m *ocispec.Manifest, _ *image.Config) {
		m.Layers[1].Annotations = map[string]string{"containerd.io/snapshot/stargz/toc.digest": digest.FromString("none").String()}
	})
	twice := r.Ref(t, "app:twice")
	rewrite(t, ref, twice, func(m *ocispec.Manifest, c *image.Config) {
		m.Layers, c.RootFS.DiffIDs = append(m.Layers, m.Layers...), append(c.RootFS.DiffIDs, c.RootFS.DiffIDs...)
	})
	same := r.Ref(t, "app:same")
	rewrite(t, ref, same, func(_ *ocispec.Manifest, c *image.Config) { c.RootFS.DiffIDs[1] = c.RootFS.DiffIDs[0] })

	whole := registrytest.IgnoreRange()
	onRange := func(do registrytest.Do) registrytest.Do {
		return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
			if r.Header.Get("Range") != "" {
				do(w, r, next)
				return
			}
			next.ServeHTTP(w, r)
		}
	}
	other := "linux/arm64"
	if runtime.GOARCH == "arm64" {
		other = "linux/amd64"
	}
	for name, test := range map[string]struct {
		name     image.Reference
		platform string
		kind     Snapshotter
		fault    registrytest.Do // of requests for pieces
		ends     bool            // its context does, soon after the start
		note     string          // that is to be sent
		err      string
		lent     int // layers
	}{
		"lent":              {name: ref, lent: 2},
		"a false table":     {name: none, note: "is pulled whole: layer sha256:"},
		"a layer twice":     {name: twice, lent: 2},
		"one layer of two":  {name: same, note: "are to hold the same", err: "sha256:"},
		"another platform":  {name: ref, platform: other, err: "and not for " + other},
		"no way to mount":   {name: ref, kind: snapshot.Overlay, note: "is pulled whole: layers that are elsewhere can be used only as root"},
		"no pieces":         {name: ref, fault: whole, note: "the registry gives no pieces of blobs"},
		"a registry hangs":  {name: ref, fault: registrytest.Silence(), ends: true, err: context.Canceled.Error()},
		"a piece is denied": {name: ref, fault: registrytest.Status(http.StatusForbidden), note: "is pulled whole: layer sha256:"},
	} {
		t.Run(name, func(t *testing.T) {
			r.Reset()
			if test.fault != nil {
				r.Fault(registrytest.Fault{Method: "GET", Path: "/blobs/", Do: onRange(test.fault)})
			}
			h := openHome(t, Options{Dir: t.TempDir(), Snapshotter: test.kind})
			store, err := h.Snapshots()
			if err != nil {
				t.Fatal(err)
			}
			if test.kind == "" {
				snapshottest.Need(t, "erofs", store.CanLend() == nil)
			}
			before := fusefiletest.Served(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if test.ends {
				time.AfterFunc(200*time.Millisecond, cancel)
			}
			var mu sync.Mutex // guards notes
			var notes []string
			events := event.Sink(func(e event.Event) {
				mu.Lock()
				defer mu.Unlock()
				if e.Kind == event.Note {
					notes = append(notes, e.Text)
				}
				if asked := r.Requests("", ""); test.kind != "" && strings.Contains(e.Text, "whole") && len(asked) > 0 {
					t.Errorf("asked for %+v before it says so", asked)
				}
			})
			start := time.Now()
			img, lent, err := h.imageToRun(ctx, RunOptions{Image: test.name.String(), Pull: PullLazy, Platform: test.platform}, events)
			if test.err != "" {
				if err == nil || !strings.Contains(err.Error(), test.err) {
					t.Errorf("%v, want %s", err, test.err)
				}
			} else if err != nil {
				t.Fatal(err)
			}
			if took := time.Since(start); test.ends && took > 20*time.Second {
				t.Errorf("it took %s to end", took)
			}
			mu.Lock()
			defer mu.Unlock()
			isWhole := func(text string) bool { return strings.Contains(text, "is pulled whole") }
			hasNote := func(text string) bool { return strings.Contains(text, test.note) && isWhole(text) }
			if slices.ContainsFunc(notes, isWhole) != (test.note != "") || test.note != "" && !slices.ContainsFunc(notes, hasNote) {
				t.Errorf("notes: %q, want %q", notes, test.note)
			}
			if got := fusefiletest.AwaitServed(t, before+test.lent); got != before+test.lent || lent != (test.lent > 0) {
				t.Errorf("%d layers are lent, %v, want %d", got-before, lent, test.lent)
			}
			if err != nil {
				return
			}
			r.Reset()
			view, err := store.View(t.Context(), img.Layers())
			if err != nil {
				t.Fatal(err)
			}
			f, err := view.Open("one")
			if err != nil {
				t.Fatal(err)
			}
			if got, err := io.ReadAll(f); err != nil || string(got) != "1" {
				t.Errorf("one has %q, %v", got, err)
			}
			if err := errors.Join(f.Close(), view.Close()); err != nil {
				t.Error(err)
			}
			if asked := r.Requests("", ""); (len(asked) > 0) != lent {
				t.Errorf("lent %v, and then asked the registry for %+v", lent, asked)
			}
			if err := h.Close(); err != nil {
				t.Error(err)
			}
			if got := fusefiletest.AwaitServed(t, before); got != before {
				t.Errorf("%d layers are lent after the end", got-before)
			}
		})
	}
}

func openHome(t *testing.T, o Options) *Home {
	t.Helper()
	h, err := Open(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func randomText(n int) string {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return string(b)
}

// pushStargz pushes an image in eStargz with a layer for each file.
func pushStargz(t *testing.T, ref image.Reference, files map[string]string) {
	t.Helper()
	h := openHome(t, Options{Dir: t.TempDir()})
	config := image.Config{Image: ocispec.Image{Platform: thisPlatform(), RootFS: ocispec.RootFS{Type: "layers"}}}
	var layers []image.Layer
	for _, name := range []string{"one", "two"} {
		var b bytes.Buffer
		w := tar.NewWriter(&b)
		if err := w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(files[name])), Typeflag: tar.TypeReg}); err != nil {
			t.Fatal(err)
		}
		_, err := io.WriteString(w, files[name])
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		blob, err := h.Layout.Push(t.Context(), ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(b.Bytes()), Size: int64(b.Len())}, image.Bytes(b.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		layers = append(layers, image.Layer{Blob: blob, DiffID: blob.Digest})
	}
	img, err := h.Layout.Write(t.Context(), config, layers, nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Layout.Tag(t.Context(), ref, img.Descriptor); err != nil {
		t.Fatal(err)
	}
	if _, err := h.Push(t.Context(), ref.String(), PushOptions{CompressionOptions: CompressionOptions{Compression: "estargz"}}); err != nil {
		t.Fatal(err)
	}
}

// rewrite pushes an image under another name, with something changed.
func rewrite(t *testing.T, from, to image.Reference, change func(*ocispec.Manifest, *image.Config)) {
	t.Helper()
	repo, err := registry.NewClient(registry.Options{}).Connect(from)
	if err != nil {
		t.Fatal(err)
	}
	d, err := repo.Resolve(t.Context(), from)
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.Read(t.Context(), repo, d, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, c := img.Manifest, img.Config
	m.Layers = slices.Clone(m.Layers)
	change(&m, &c)
	raw, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	m.Config.Digest, m.Config.Size = digest.FromBytes(raw), int64(len(raw))
	if _, err := repo.Push(t.Context(), m.Config, image.Bytes(raw)); err != nil {
		t.Fatal(err)
	}
	if raw, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	d.Digest, d.Size = digest.FromBytes(raw), int64(len(raw))
	if err := repo.PushManifest(t.Context(), to, d, raw); err != nil {
		t.Fatal(err)
	}
}
