package registry_test

import (
	"context"
	"errors"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/registrytest"
)

// flipped spoils blobs as [registrytest.Flip] does, at most times times; the first bytes, so that no decompressor takes them.
func flipped(times int32) registrytest.Do {
	var n atomic.Int32
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if n.Add(1) > times {
			next.ServeHTTP(w, r)
			return
		}
		next.ServeHTTP(&flipWriter{ResponseWriter: w}, r)
	}
}

type flipWriter struct {
	http.ResponseWriter
	done bool
}

func (f *flipWriter) Write(p []byte) (int, error) {
	if !f.done && len(p) > 12 {
		p = append([]byte(nil), p...)
		p[12] ^= 0xff // behind gzip's header
		f.done = true
	}
	return f.ResponseWriter.Write(p)
}

// TestWrongBlobs holds that a blob that is not what its digest says is told as that, asked for once more, and then had from
// the next place: by way of the partial store and without.
func TestWrongBlobs(t *testing.T) {
	long(t)
	home := registrytest.Home(t)
	mirror, origin := registrytest.New(t), registrytest.New(t)
	put(t, origin.Ref(t, "hub/app:1"), 1, 300_000, 1000)
	put(t, mirror.Ref(t, "cache/app:1"), 1, 300_000, 1000)
	write(t, filepath.Join(home, "registries.conf"), "[[registry]]\nprefix = \"example.com/team\"\nlocation = \""+origin.Host()+"/hub\"\n"+
		"[[registry.mirror]]\nlocation = \""+mirror.Host()+"/cache\"\n")
	routed := registrytest.Ref(t, "example.com/team/app:1")
	direct := origin.Ref(t, "hub/app:1")
	wrong := func(times int32) func() registrytest.Do {
		return func() registrytest.Do { return flipped(times) }
	}
	once, next := "content does not match its digest; it is asked once more", "content does not match its digest; the next place is asked, "+origin.Host()+"/hub/app"
	always := func(do registrytest.Do) func() registrytest.Do { return func() registrytest.Do { return do } }
	for _, test := range []struct {
		name           string
		ref            image.Reference
		mirror, origin func() registrytest.Do // to blobs
		want           string
		asked          int    // requests for blobs to the origin, of three; -1 is any number
		told           string // the end of a warning; "" if there is none
	}{
		{"wrong once", direct, nil, wrong(1), "", 4, once},
		{"wrong for ever", direct, nil, wrong(1000), "content", -1, once},
		{"a mirror that is wrong once", routed, wrong(1), nil, "", 0, once},
		{"a mirror that is wrong", routed, wrong(1000), nil, "", -1, next},
		{"all that are wrong", routed, wrong(1000), wrong(1000), "content", -1, next},
		{"a mirror that breaks off", routed, always(registrytest.Cut(100)), nil, "", -1, ""},
		{"a mirror that has other sizes", routed, always(registrytest.Answer("application/octet-stream", []byte("x"))), nil, "", -1, ""},
		{"a mirror that falls silent", routed, always(registrytest.Silence()), nil, "", -1, ""},
		{"a mirror that never ends", routed, always(registrytest.Endless()), nil, "", -1, next},
	} {
		t.Run(test.name, func(t *testing.T) {
			for _, partial := range []bool{true, false} {
				mirror.Reset()
				origin.Reset()
				for r, do := range map[*registrytest.Registry]func() registrytest.Do{mirror: test.mirror, origin: test.origin} {
					if do != nil {
						r.Fault(fault{Method: "GET", Path: "/blobs/", Do: do()})
					}
				}
				root := t.TempDir()
				limits := quick
				if strings.HasSuffix(test.name, "silent") {
					limits.Headers, limits.Idle, limits.Tries = hasty.Headers, hasty.Idle, 2
				}
				var warnings warnings
				err := pullWith(t.Context(), t, root, test.ref, registry.Options{Limits: limits, Events: warnings.take}, partial)
				if told := warnings.String(); !strings.Contains(told, test.told) || (told == "") != (test.told == "") {
					t.Errorf("partial %v: warnings %q, want %q", partial, told, test.told)
				}
				if test.want != "" {
					if err == nil || !errors.Is(err, image.ErrMismatch) || strings.Contains(err.Error(), "gzip") || strings.Contains(err.Error(), "tar") {
						t.Errorf("partial %v: %v, want that the content does not match its digest", partial, err)
					}
					continue
				}
				if err != nil {
					t.Errorf("partial %v: %v", partial, err)
					continue
				}
				checkLayout(t, root, test.ref, true)
				if got := len(origin.Requests("GET", "/blobs/")); test.asked >= 0 && got != test.asked {
					t.Errorf("partial %v: the registry was asked for %d blobs, want %d", partial, got, test.asked)
				}
			}
		})
	}
}

// warnings are the warnings of a client.
type warnings struct {
	mu   sync.Mutex
	told []string
}

func (w *warnings) take(e event.Event) {
	if e.Kind != event.Warning {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.told = append(w.told, e.Text)
}

func (w *warnings) String() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return strings.Join(w.told, "\n")
}

// pullWith pulls into the layout at root, with a partial store or without.
func pullWith(ctx context.Context, t *testing.T, root string, ref image.Reference, opts registry.Options, partial bool) error {
	t.Helper()
	l := openLayout(t, root)
	repo := connect(t, ref, opts)
	d, err := repo.Resolve(ctx, ref)
	if err != nil {
		return err
	}
	how := registry.CopyOptions{Name: ref, Reject: repo.Reject}
	if partial {
		how.Partial = registry.OpenPartial(filepath.Join(root, "partial"), l.Guard)
	} else {
		if err := os.Mkdir(filepath.Join(root, "partial"), 0o700); err != nil { // which checkLayout looks into
			t.Fatal(err)
		}
	}
	_, err = registry.Copy(ctx, l, repo, d, into(l, how))
	return err
}

// TestMirrorBreaksOffMidway holds that the rest of a blob comes from the registry when its mirror stops in the middle, and that
// what came before is not fetched again.
func TestMirrorBreaksOffMidway(t *testing.T) {
	long(t)
	home := registrytest.Home(t)
	mirror, origin := registrytest.New(t), registrytest.New(t)
	src, d := put(t, origin.Ref(t, "hub/app:1"), 1, 3<<20)
	put(t, mirror.Ref(t, "cache/app:1"), 1, 3<<20)
	write(t, filepath.Join(home, "registries.conf"), "[[registry]]\nprefix = \"example.com/team\"\nlocation = \""+origin.Host()+"/hub\"\n"+
		"[[registry.mirror]]\nlocation = \""+mirror.Host()+"/cache\"\n")
	layer := manifestOf(t, src, d).Layers[0].Digest
	origin.Reset()
	mirror.Fault(fault{Path: layer.String(), Times: 1, Do: registrytest.Cut(1 << 20)})
	mirror.Fault(fault{Path: layer.String(), Do: registrytest.Status(503)})
	dst, err := pull(t.Context(), connect(t, registrytest.Ref(t, "example.com/team/app:1"), registry.Options{}), registry.CopyOptions{})
	if err != nil || dst.Len() != src.Len() {
		t.Fatalf("pulled %d blobs, %v; want %d", dst.Len(), err, src.Len())
	}
	got := origin.Requests("GET", "/blobs/"+layer.String())
	if len(got) != 1 || !strings.HasPrefix(got[0].Range, "bytes=1048576-") {
		t.Errorf("the registry was asked for %+v, want the rest of one blob", got)
	}
}

// TestSlowBlob holds that a few bytes are progress: a small blob that comes over a slow line is waited for.
func TestSlowBlob(t *testing.T) {
	long(t)
	t.Parallel()
	r := registrytest.New(t)
	ref := r.Ref(t, "app:1")
	src, _ := put(t, ref, 1, 60)
	r.Fault(fault{Path: "/blobs/", Do: registrytest.Drip(time.Millisecond)})
	limits := quick
	limits.Tries = 1
	dst, err := pull(t.Context(), connect(t, ref, registry.Options{Limits: limits}), registry.CopyOptions{})
	if err != nil || dst.Len() != src.Len() {
		t.Errorf("pulled %d blobs, %v; want %d", dst.Len(), err, src.Len())
	}
}
