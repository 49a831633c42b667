package registry_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/registrytest"
)

// TestTemporaryFull: what is kept in a temporary file on the way to or from a daemon or a registry, and whose size is not ours, stops before the
// file system is full, and leaves nothing.
func TestTemporaryFull(t *testing.T) {
	tmp := t.TempDir()
	if err := syscall.Mount("tmpfs", tmp, "tmpfs", 0, "size=192m,mode=0700"); err != nil { // less than has to stay free
		if slices.Contains(strings.Split(os.Getenv("FORGE_TEST_MUST"), ","), "root") {
			t.Fatalf("mount: %v", err)
		}
		t.Skipf("mounting a small file system: %v", err)
	}
	t.Cleanup(func() { _ = syscall.Unmount(tmp, syscall.MNT_DETACH) })
	dir := t.TempDir()
	t.Setenv("TMPDIR", tmp)
	const size = 65 << 20
	layer := make([]byte, size)
	daemon := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write(registrytest.Tar(t, "layer.tar", 1, size))
	}))
	t.Cleanup(daemon.Close)
	t.Setenv("DOCKER_HOST", "tcp://"+daemon.Listener.Addr().String())
	src := registrytest.NewMemory()
	root := src.AddImage(t, 1, amd64, true, size)
	r := registrytest.New(t)
	registrytest.Push(t, r.Ref(t, "app:1"), src, root)

	for name, do := range map[string]func() error{
		"from a daemon": func() error {
			_, err := transfer(t, "oci:"+filepath.Join(dir, "out"), "docker-daemon:team/app:1")
			return err
		},
		"to a daemon": func() error {
			_, err := transfer(t, "docker-daemon:team/app:1", r.Ref(t, "app:1").String())
			return err
		},
		"to a registry that wants to know lengths": func() error {
			r.Fault(registrytest.Fault{Method: "PATCH", Do: registrytest.Status(411)})
			_, err := connect(t, r.Ref(t, "big:1"), registry.Options{}).Push(t.Context(), ocispec.Descriptor{}, image.Content{
				Open: func(_ context.Context, offset int64) (io.ReadCloser, error) {
					return io.NopCloser(bytes.NewReader(layer[offset:])), nil
				},
				Describe: func() ocispec.Descriptor { return ocispec.Descriptor{} },
			})
			return err
		},
	} {
		if err := do(); !errors.Is(err, image.ErrFull) || !strings.Contains(err.Error(), tmp) {
			t.Errorf("%s: %v, want %v of %s", name, err, image.ErrFull, tmp)
		}
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
