package registry_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/registrytest"
)

var amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}

// quick are limits that try again at once, and wait as long as a busy machine takes. With hasty ones a test gives up within
// seconds: they are for servers that do not answer.
var (
	quick = web.Limits{Headers: time.Minute, Idle: time.Minute, GiveUp: time.Minute, Backoff: 5 * time.Millisecond}
	hasty = web.Limits{Headers: 400 * time.Millisecond, Idle: 400 * time.Millisecond, GiveUp: 3 * time.Second, Backoff: 5 * time.Millisecond}
)

// limitsFor are the limits of a test which expects an error.
func limitsFor(want string) web.Limits {
	if slices.Contains([]string{"does not answer", "too slow", "too many requests", "broke off after"}, want) {
		return hasty
	}
	return quick
}

func TestMain(m *testing.M) { os.Exit(registrytest.Run(m)) }

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

func connect(t *testing.T, ref image.Reference, opts registry.Options) *registry.Repository {
	t.Helper()
	if opts.Limits == (web.Limits{}) {
		opts.Limits = quick
	}
	r, err := registry.NewClient(opts).Connect(ref)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// put copies an image of layers of these sizes into the registry under ref.
func put(t *testing.T, ref image.Reference, seed uint64, sizes ...int) (*registrytest.Memory, ocispec.Descriptor) {
	t.Helper()
	src := registrytest.NewMemory()
	d := src.AddImage(t, seed, amd64, false, sizes...)
	registrytest.Push(t, ref, src, d)
	return src, d
}

// pull resolves and copies to memory.
func pull(ctx context.Context, repo *registry.Repository, opts registry.CopyOptions) (*registrytest.Memory, error) {
	dst := registrytest.NewMemory()
	d, err := repo.Resolve(ctx, repo.Reference())
	if err != nil {
		return dst, err
	}
	opts.Name, opts.Reject = repo.Reference(), repo.Reject
	_, err = registry.Copy(ctx, dst, repo, d, opts)
	return dst, err
}

// inspect asks what a name stands for, and reads its image for a platform.
func inspect(t *testing.T, ref image.Reference, p *ocispec.Platform) (ocispec.Descriptor, *image.Image) {
	t.Helper()
	repo := connect(t, ref, registry.Options{})
	d, err := repo.Resolve(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.Read(t.Context(), repo, d, p)
	if err != nil {
		t.Fatal(err)
	}
	return d, img
}

func ExampleCredential_String() {
	fmt.Println(registry.Credential{Username: "ann", Password: "secret"})
	fmt.Printf("%#v %+v\n", registry.Credential{Username: "ann", Password: "secret"}, &registry.Credential{})
	// Output:
	// credential of ann
	// credential of ann no credential
}

// long is for tests that take more than a moment: go test -short leaves them out.
func long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long")
	}
}
