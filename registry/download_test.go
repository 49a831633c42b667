package registry_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/registrytest"
)

// into has a copy go to a layout as forge's own store takes it: layers in one pass.
func into(l *image.Layout, opts registry.CopyOptions) registry.CopyOptions {
	opts.Publish, opts.Prove = l.Publish, l.Prove
	opts.PushLayer = func(ctx context.Context, layer image.Layer, in image.Incoming) error {
		return l.PushLayer(ctx, layer, in, nil)
	}
	return opts
}

// adopting is into for layers that are not inflated: their files are taken as they are.
func adopting(l *image.Layout, opts registry.CopyOptions) registry.CopyOptions {
	opts = into(l, opts)
	opts.PushLayer = func(_ context.Context, layer image.Layer, in image.Incoming) error {
		if _, err := io.Copy(io.Discard, in); err != nil {
			return err
		}
		f, err := l.Staging().Create()
		if err != nil {
			return err
		}
		if err := in.Adopt(f.Name()); err != nil {
			return errors.Join(err, f.Close())
		}
		return f.Commit(l.BlobPath(layer.Blob.Digest))
	}
	return opts
}

func openLayout(t testing.TB, root string) *image.Layout {
	t.Helper()
	st, err := image.OpenStaging(root)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = st.Close() })
	l, err := image.OpenLayout(root, st)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// pullTo pulls into the layout at root, as a process of its own would.
func pullTo(ctx context.Context, t testing.TB, root string, ref image.Reference, adopt bool) error {
	t.Helper()
	l := openLayout(t, root)
	repo, err := registry.NewClient(registry.Options{Limits: web.Limits{GiveUp: time.Minute}}).Connect(ref)
	if err != nil {
		return err
	}
	d, err := repo.Resolve(ctx, ref)
	if err != nil {
		return err
	}
	opts := into(l, registry.CopyOptions{Name: ref, Partial: registry.OpenPartial(filepath.Join(root, "partial"), l.Guard)})
	if adopt {
		opts = adopting(l, opts)
	}
	_, err = registry.Copy(ctx, l, repo, d, opts)
	return err
}

// checkLayout makes sure that the image is whole.
func checkLayout(t *testing.T, root string, ref image.Reference, tars bool) {
	t.Helper()
	l := openLayout(t, root)
	d, err := l.Resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := l.Image(t.Context(), d, &amd64)
	if err != nil {
		t.Fatal(err)
	}
	for _, layer := range img.Layers() {
		for _, dgst := range []digest.Digest{layer.Blob.Digest, layer.DiffID} {
			raw, err := os.ReadFile(l.BlobPath(dgst))
			if dgst == layer.DiffID && !tars {
				continue
			}
			if err != nil || digest.FromBytes(raw) != dgst {
				t.Errorf("blob %s: %v, %d bytes", dgst, err, len(raw))
			}
		}
	}
	left, err := os.ReadDir(filepath.Join(root, "partial"))
	if err != nil || len(left) != 0 {
		t.Errorf("left in the partial store: %v, %v", left, err)
	}
}

func TestPullToLayout(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	ref := r.Ref(t, "app:1")
	put(t, ref, 1, 1<<20, 10, 300_000)
	for _, adopt := range []bool{false, true} {
		root := t.TempDir()
		if err := pullTo(t.Context(), t, root, ref, adopt); err != nil {
			t.Fatal(err)
		}
		checkLayout(t, root, ref, !adopt)
	}
}

// TestHelperPull is a process that pulls.
func TestHelperPull(t *testing.T) {
	root := os.Getenv("FORGE_TEST_PULL_ROOT")
	if root == "" {
		t.Skip("is a part of other tests")
	}
	if err := pullTo(t.Context(), t, root, registrytest.Ref(t, os.Getenv("FORGE_TEST_PULL_REF")), false); err != nil {
		t.Fatal(err)
	}
}

func pullProcess(t *testing.T, root string, ref image.Reference) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^TestHelperPull$")
	cmd.Env = append(os.Environ(), "FORGE_TEST_PULL_ROOT="+root, "FORGE_TEST_PULL_REF="+ref.String())
	return cmd
}

// TestEightPulls lets eight processes pull one image: each blob is downloaded once.
func TestEightPulls(t *testing.T) {
	long(t)
	t.Parallel()
	r := registrytest.New(t)
	ref := r.Ref(t, "app:1")
	src, _ := put(t, ref, 1, 2<<20, 1<<20, 500_000, 10)
	r.Reset()
	r.Fault(fault{Method: "GET", Path: "/blobs/", Do: slowly})
	root := t.TempDir()
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			if out, err := pullProcess(t, root, ref).CombinedOutput(); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
		})
	}
	wg.Wait()
	if got, want := len(r.Requests("GET", "/blobs/")), src.Len()-1; got != want {
		t.Errorf("%d blobs downloaded by eight processes, want %d", got, want)
	}
	checkLayout(t, root, ref, true)
}

// slowly answers, after a moment.
func slowly(w http.ResponseWriter, r *http.Request, next http.Handler) {
	time.Sleep(100 * time.Millisecond)
	next.ServeHTTP(w, r)
}

// TestPullResumes kills a process amid a download: the next one asks for the rest only, and for no layer that had come.
func TestPullResumes(t *testing.T) {
	long(t)
	t.Parallel()
	r := registrytest.New(t)
	ref := r.Ref(t, "app:1")
	put(t, ref, 1, 3<<20, 200_000)
	r.Reset()
	const first = 2 << 20
	r.Fault(fault{Method: "GET", Path: "/blobs/", Do: func(w http.ResponseWriter, req *http.Request, next http.Handler) {
		next.ServeHTTP(&stuckWriter{ResponseWriter: w, left: first, done: req.Context().Done()}, req)
	}})
	root := t.TempDir()
	cmd := pullProcess(t, root, ref)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	waitUntil(t, func() bool {
		small, big := false, false
		blobs, _ := filepath.Glob(filepath.Join(root, "images/blobs/sha256/*"))
		for _, b := range blobs {
			if st, err := os.Stat(b); err == nil && st.Size() > 150_000 {
				small = true
			}
		}
		parts, _ := filepath.Glob(filepath.Join(root, "partial/*"))
		for _, p := range parts {
			if st, err := os.Stat(p); err == nil && st.Size() >= first-512<<10 {
				big = true
			}
		}
		return small && big
	})
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	r.Reset()
	if err := pullTo(t.Context(), t, root, ref, false); err != nil {
		t.Fatal(err)
	}
	got := r.Requests("GET", "/blobs/")
	if len(got) != 1 || !strings.HasPrefix(got[0].Range, "bytes=1") && !strings.HasPrefix(got[0].Range, "bytes=2") {
		t.Errorf("second process asked for %+v, want the rest of one layer", got)
	}
	checkLayout(t, root, ref, true)
}

// A stuckWriter stops after some bytes and waits for the client to go away.
type stuckWriter struct {
	http.ResponseWriter
	left int
	done <-chan struct{}
}

func (s *stuckWriter) Write(p []byte) (int, error) {
	if s.left < len(p) {
		_, _ = s.ResponseWriter.Write(p[:s.left])
		s.ResponseWriter.(interface{ Flush() }).Flush()
		s.left = 0
		<-s.done
		return 0, io.ErrClosedPipe
	}
	s.left -= len(p)
	return s.ResponseWriter.Write(p)
}

func waitUntil(t *testing.T, f func() bool) {
	t.Helper()
	for range 500 {
		if f() {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Fatal("it does not happen")
}

// TestDamagedPartial starts from bytes that a power cut has spoilt.
func TestDamagedPartial(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	ref := r.Ref(t, "app:1")
	src, d := put(t, ref, 1, 300_000)
	img := manifestOf(t, src, d)
	for name, left := range map[string][]byte{
		"zeros":    make([]byte, 100_000),
		"too long": bytes.Repeat([]byte("x"), 1<<20),
		"full":     make([]byte, img.Layers[0].Size),
		"empty":    {},
	} {
		root := t.TempDir()
		write(t, filepath.Join(root, "partial", img.Layers[0].Digest.Encoded()), string(left))
		if err := pullTo(t.Context(), t, root, ref, false); err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		checkLayout(t, root, ref, true)
	}
}

// TestWrongLayerLeavesNothing pulls layers that are not what the manifest or the configuration says.
func TestWrongLayerLeavesNothing(t *testing.T) {
	t.Parallel()
	r := registrytest.New(t)
	ref := r.Ref(t, "app:1")
	src, d := put(t, ref, 1, 300_000)
	layer := manifestOf(t, src, d).Layers[0].Digest
	r.Fault(fault{Path: "/blobs/" + layer.String(), Do: registrytest.Flip()})
	root := t.TempDir()
	err := pullTo(t.Context(), t, root, ref, false)
	if err == nil || !strings.Contains(err.Error(), layer.String()) {
		t.Errorf("flipped bit: %v, want an error that names the layer", err)
	}
	l := openLayout(t, root)
	if _, err := os.Stat(l.BlobPath(layer)); err == nil {
		t.Error("the wrong blob is in the store")
	}
	if _, err := l.Resolve(t.Context(), ref); err == nil {
		t.Error("the name was given")
	}
	r.Reset()
	if err := pullTo(t.Context(), t, root, ref, false); err != nil {
		t.Errorf("after the registry was mended: %v", err)
	}
	checkLayout(t, root, ref, true)
}

func TestPrunePartial(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "partial")
	p := registry.OpenPartial(dir, nil)
	if freed, err := p.Prune(); err != nil || freed != 0 {
		t.Errorf("Prune of nothing = %d, %v", freed, err)
	}
	write(t, filepath.Join(dir, digest.FromString("x").Encoded()), "12345")
	if freed, err := p.Prune(); err != nil || freed != 5 {
		t.Errorf("Prune = %d, %v; want 5", freed, err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func manifestOf(t *testing.T, src *registrytest.Memory, d ocispec.Descriptor) ocispec.Manifest {
	t.Helper()
	doc, _, err := image.ReadDocument(t.Context(), src, d)
	if err != nil {
		t.Fatal(err)
	}
	m, err := doc.Manifest()
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", d.Digest, err))
	}
	return m
}
