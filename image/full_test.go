package image

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// smallDisk is a directory on a file system of its own, of size bytes.
func smallDisk(t *testing.T, size string) string {
	t.Helper()
	dir := t.TempDir()
	err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size="+size+",mode=0700")
	if err != nil {
		if slices.Contains(strings.Split(os.Getenv("FORGE_TEST_MUST"), ","), "root") {
			t.Fatalf("mount: %v", err)
		}
		t.Skipf("mounting a small file system: %v", err)
	}
	t.Cleanup(func() { syscall.Unmount(dir, syscall.MNT_DETACH) })
	return dir
}

// fill takes all the space there is.
func fill(t *testing.T, dir string) {
	t.Helper()
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	for err == nil {
		_, err = f.Write(make([]byte, 4096))
	}
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatal(err)
	}
}

func TestFullDisk(t *testing.T) {
	t.Parallel()
	long(t)
	root := smallDisk(t, "8m")
	l := openLayout(t, root)
	stays, goes := writeImage(t, l, "stays"), writeImage(t, l, strings.Repeat("x", 1<<20))
	tag(t, l, "stays", stays)
	tag(t, l, "goes", goes)
	archive := save(t, l, SaveOptions{}, "goes")
	big := tarOf("file", strings.Repeat("y", 7<<20))
	for name, do := range map[string]func() error{
		"push": func() error { _, err := l.Push(t.Context(), describe("", big), Bytes(big)); return err },
		"load": func() error {
			_, err := openLayout(t, root).Load(t.Context(), io.MultiReader(bytes.NewReader(archiveOf("blob", string(big), "more", string(big)))), LoadOptions{})
			return err
		},
		"import": func() error { _, err := l.Import(t.Context(), bytes.NewReader(big), Config{}, nil); return err },
		"inflate": func() error {
			blob := gzipped(big)
			return l.PushLayer(t.Context(), Layer{describe("", blob), digest.FromBytes(big)}, Incoming{Reader: bytes.NewReader(blob)}, nil)
		},
	} {
		err := do()
		if !errors.Is(err, syscall.ENOSPC) || !strings.Contains(err.Error(), root) {
			t.Errorf("%s on a full disk: %v", name, err)
		}
		if left, _ := filepath.Glob(root + "/ingest/*/*"); len(left) > 0 {
			t.Errorf("%s left %v", name, left)
		}
	}

	fill(t, root)
	if err := l.Tag(t.Context(), mustParse(t, "new"), goes.Descriptor); !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("Tag with no space at all: %v", err)
	}
	if err := l.staging.lease.close(); err != nil {
		t.Fatal(err)
	}
	l = openLayout(t, root) // another process
	for _, name := range []string{"goes:latest", "stays:latest"} {
		if got := listing(t, l); !strings.Contains(got, name) {
			t.Errorf("List = %s", got)
		}
	}
	if _, gone, err := l.Drop(t.Context(), goes.Descriptor.Digest, mustParse(t, "goes")); !gone || err != nil {
		t.Errorf("Drop: %v, %v", gone, err)
	}
	p, err := prune(t, l, PruneOptions{})
	if err != nil || p.Bytes < 1<<20 {
		t.Errorf("Prune = %+v, %v", p, err)
	}
	if _, err := os.Stat(l.stale()); err == nil {
		t.Error("index.json is not what the names say, though there is space again")
	}
	os.Remove(filepath.Join(root, "filler"))
	if _, err := l.Load(t.Context(), bytes.NewReader(archive), LoadOptions{}); err != nil {
		t.Errorf("Load when there is space again: %v", err)
	}
	mustFsck(t, l, "")
	if ok, _ := l.Exists(t.Context(), ocispec.Descriptor{Digest: stays.ID()}); !ok {
		t.Error("Prune took what stays")
	}
}
