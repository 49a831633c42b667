package image

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/internal/durable"
)

// blobCount is how many blobs there are, and how many bytes the disk has for them.
func blobCount(t *testing.T, l *Layout) (count int, bytes int64) {
	t.Helper()
	files, err := os.ReadDir(l.blobs())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		info, err := f.Info()
		if err != nil {
			t.Fatal(err)
		}
		bytes += allocated(info)
	}
	return len(files), bytes
}

func mustFsck(t *testing.T, l *Layout, want string) []Problem {
	t.Helper()
	problems, err := l.Fsck(t.Context(), FsckOptions{Deep: true})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range problems {
		var images []string
		for _, n := range p.Images {
			images = append(images, n.Reference.Familiar())
		}
		got = append(got, fmt.Sprintf("%s [%s]", p.Err, strings.Join(images, " ")))
	}
	if s := strings.Join(got, "; "); !strings.Contains(s, want) || (s == "") != (want == "") {
		t.Errorf("Fsck says %q, want %q", s, want)
	}
	return problems
}

// prune prunes as another process would when this one has ended.
func prune(t *testing.T, l *Layout, o PruneOptions) (Pruned, error) {
	t.Helper()
	if err := l.staging.lease.close(); err != nil {
		t.Fatal(err)
	}
	p, err := l.Prune(t.Context(), o)
	if err != nil {
		return p, err
	}
	return p, l.EmptyTrash()
}

func TestPrune(t *testing.T) {
	t.Parallel()
	root := t.TempDir()
	l := openLayout(t, root)
	named, pulled := writeImage(t, l, "named"), pulledImage(t, l, "pulled")
	nameless, held := writeImage(t, l, "nameless"), writeImage(t, l, "held")
	tag(t, l, "named", named)
	tag(t, l, "pulled", pulled)
	tag(t, l, "", nameless)
	tag(t, l, "", held)
	gone := writeImage(t, l, "gone")
	tag(t, l, "gone", gone)
	if err := l.Remove(t.Context(), gone.Descriptor.Digest); err != nil {
		t.Fatal(err)
	}
	cached := push(t, l, ocispec.MediaTypeImageLayer, tarOf("cached", "layer"))
	push(t, l, ocispec.MediaTypeImageLayer, tarOf("loose", "layer"))
	f, err := l.OpenTar(t.Context(), pulled.Layers()[0])
	if err != nil {
		t.Fatal(err)
	}
	f.Close()
	// The compressed form of what stays, stays; of what goes, goes.
	kept, err := l.compress(t.Context(), named.Layers()[0], Compression{})
	if err != nil {
		t.Fatal(err)
	}
	lost, err := l.compress(t.Context(), gone.Layers()[0], Compression{})
	if err != nil {
		t.Fatal(err)
	}
	if err := l.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	os.WriteFile(filepath.Join(l.blobs(), "tmp-of-another-tool"), nil, 0o600)
	os.MkdirAll(filepath.Join(root, "trash/left"), 0o700)
	os.MkdirAll(filepath.Join(root, "ingest/dead"), 0o700)

	before, bytesBefore := blobCount(t, l)
	keep := []ocispec.Descriptor{cached, held.Descriptor, {MediaType: ocispec.MediaTypeImageManifest, Digest: digA, Size: 5}}
	p, err := prune(t, l, PruneOptions{Keep: keep})
	if err != nil {
		t.Fatal(err)
	}
	after, bytesAfter := blobCount(t, l)
	// Gone: three blobs of an image, its compressed layer, the loose layer, the other tool's file.
	if before-after != 6 || len(p.Blobs) != 5 || p.Bytes != bytesBefore-bytesAfter || len(p.Images) != 0 {
		t.Errorf("Prune removed %d files, says %+v; %d bytes were freed", before-after, p, bytesBefore-bytesAfter)
	}
	for _, dir := range []string{"trash/*", "ingest/dead"} {
		if left, _ := filepath.Glob(filepath.Join(root, dir)); len(left) > 0 {
			t.Errorf("%s is left", left)
		}
	}
	for d, want := range map[digest.Digest]bool{kept.Digest: true, lost.Digest: false, cached.Digest: true, pulled.Layers()[0].DiffID: true} {
		if ok, _ := l.Exists(t.Context(), ocispec.Descriptor{Digest: d}); ok != want {
			t.Errorf("blob %s is there: %v, want %v", d, ok, want)
		}
	}
	if _, ok := l.Compressed(gone.Layers()[0], Compression{}); ok {
		t.Error("the compressed form of a layer that is gone is remembered")
	}
	if p, err := prune(t, l, PruneOptions{Keep: keep}); err != nil || len(p.Blobs) != 0 {
		t.Errorf("Prune again = %+v, %v", p, err)
	}
	p, err = prune(t, l, PruneOptions{Keep: keep, Nameless: true})
	if err != nil || len(p.Images) != 1 || p.Images[0].ID != nameless.ID() || len(p.Blobs) != 3 {
		t.Errorf("Prune of the nameless = %+v, %v", p, err)
	}
	for _, img := range []*Image{named, pulled, held} {
		if _, err := l.whole(t.Context(), img.Descriptor); err != nil {
			t.Error(err)
		}
	}
	mustFsck(t, l, "")
}

func TestPruneDoesNotGuess(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	img := writeImage(t, l, "x")
	tag(t, l, "app", img)
	count, _ := blobCount(t, l)
	record := l.recordPath(mustParse(t, "app"), "")
	whole := read(t, record)
	os.WriteFile(record, nil, 0o600)
	if _, err := prune(t, l, PruneOptions{}); err == nil || !strings.Contains(err.Error(), record) {
		t.Errorf("Prune with a damaged record: %v", err)
	}
	os.WriteFile(record, []byte(whole), 0o600)
	os.WriteFile(l.BlobPath(img.Descriptor.Digest), []byte("{}"), 0o600)
	if _, err := prune(t, l, PruneOptions{}); err == nil || !strings.Contains(err.Error(), "image docker.io/library/app:latest is damaged") {
		t.Errorf("Prune with a damaged manifest: %v", err)
	}
	if now, _ := blobCount(t, l); now != count {
		t.Errorf("%d of %d blobs are left", now, count)
	}
}

func TestDiskUsage(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	base := push(t, l, ocispec.MediaTypeImageLayer, tarOf("base", strings.Repeat("b", 100_000)))
	var images []*Image
	for i := range 2 {
		own := push(t, l, ocispec.MediaTypeImageLayer, tarOf("own", strings.Repeat("o", 20_000*(i+1))))
		img, err := l.Write(t.Context(), Config{}, []Layer{{base, base.Digest}, {own, own.Digest}}, nil)
		if err != nil {
			t.Fatal(err)
		}
		images = append(images, img)
		tag(t, l, fmt.Sprint("image", i), img)
	}
	tag(t, l, "alias", images[0])
	loose := push(t, l, ocispec.MediaTypeImageLayer, tarOf("loose", "x"))
	if err := l.Publish(t.Context()); err != nil {
		t.Fatal(err)
	}
	blobs, count, err := l.DiskUsage(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	holders := map[digest.Digest]int{base.Digest: 2, loose.Digest: 0}
	for _, img := range images {
		holders[img.Layers()[1].DiffID], holders[img.ID()], holders[img.Descriptor.Digest] = 1, 1, 1
	}
	size, all := map[digest.Digest]int64{}, int64(0)
	for _, b := range blobs {
		size[b.Digest] = b.Bytes
		all += b.Bytes
		if want, ok := holders[b.Digest]; !ok || len(b.Images) != want {
			t.Errorf("%s is held by %v, want %d images", b.Digest, b.Images, want)
		}
		delete(holders, b.Digest)
	}
	if _, total := blobCount(t, l); all != total || count != 2 || len(holders) > 0 {
		t.Errorf("%d images, %d bytes, without %v; want 2, %d", count, all, holders, total)
	}
	if size[base.Digest] < 100_000 {
		t.Errorf("the base takes %d bytes", size[base.Digest])
	}
}

func TestFsckAndRepair(t *testing.T) {
	t.Parallel()
	long(t)
	flip := func(t *testing.T, path string) {
		data := []byte(read(t, path))
		data[len(data)/2] ^= 1
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, test := range []struct {
		name   string
		damage func(t *testing.T, l *Layout, built, pulled *Image)
		want   string // from Fsck
		left   string // images after Repair
	}{
		{"nothing", func(*testing.T, *Layout, *Image, *Image) {}, "", "alias:latest built:latest pulled:latest"},
		{
			"a bit in a layer", func(t *testing.T, l *Layout, built, _ *Image) { flip(t, l.BlobPath(built.Layers()[0].DiffID)) },
			"content has digest", "pulled:latest",
		},
		{
			"a bit in a tar that can be made again", func(t *testing.T, l *Layout, _, pulled *Image) { flip(t, l.BlobPath(pulled.Layers()[0].DiffID)) },
			"[pulled:latest]", "alias:latest built:latest pulled:latest",
		},
		{
			"a bit in a compressed layer", func(t *testing.T, l *Layout, _, pulled *Image) { flip(t, l.BlobPath(pulled.Layers()[0].Blob.Digest)) },
			"[pulled:latest]", "alias:latest built:latest",
		},
		{
			"a bit in a configuration", func(t *testing.T, l *Layout, built, _ *Image) { flip(t, l.BlobPath(built.ID())) },
			"[alias:latest built:latest]", "pulled:latest",
		},
		{
			"a bit in a manifest", func(t *testing.T, l *Layout, _, pulled *Image) { flip(t, l.BlobPath(pulled.Descriptor.Digest)) },
			"[pulled:latest]", "alias:latest built:latest",
		},
		{
			"an empty layer", func(t *testing.T, l *Layout, built, _ *Image) { os.Truncate(l.BlobPath(built.Layers()[0].DiffID), 0) },
			"content has digest sha256:e3b0", "pulled:latest",
		},
		{
			"a layer that is gone", func(t *testing.T, l *Layout, built, _ *Image) { os.Remove(l.BlobPath(built.Layers()[0].DiffID)) },
			"is missing [alias:latest built:latest]", "pulled:latest",
		},
		{
			"a tar that is gone and can be made again", func(t *testing.T, l *Layout, _, pulled *Image) { os.Remove(l.BlobPath(pulled.Layers()[0].DiffID)) },
			"", "alias:latest built:latest pulled:latest",
		},
		{
			"a manifest that is gone", func(t *testing.T, l *Layout, built, _ *Image) { os.Remove(l.BlobPath(built.Descriptor.Digest)) },
			"is missing [alias:latest built:latest]", "pulled:latest",
		},
		{
			"an empty record", func(t *testing.T, l *Layout, _, _ *Image) { os.Truncate(l.recordPath(mustParse(t, "built"), ""), 0) },
			"damaged record of a name", "alias:latest built:latest pulled:latest",
		},
		{"an empty record and no index", func(t *testing.T, l *Layout, _, _ *Image) {
			os.Truncate(l.recordPath(mustParse(t, "built"), ""), 0)
			os.Remove(l.index())
		}, "damaged record of a name", "alias:latest pulled:latest"},
		{
			"another's index", func(t *testing.T, l *Layout, _, _ *Image) { os.WriteFile(l.index(), []byte("{}"), 0o600) },
			"does not say what the names say", "alias:latest built:latest pulled:latest",
		},
		{
			"litter", func(t *testing.T, l *Layout, _, _ *Image) {
				os.Mkdir(filepath.Join(l.blobs(), digest.FromString("").Encoded()), 0o700)
			},
			"is no blob", "alias:latest built:latest pulled:latest",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			l := openLayout(t, t.TempDir())
			built, pulled := writeImage(t, l, "built"), pulledImage(t, l, strings.Repeat("pulled", 1000))
			f, err := l.OpenTar(t.Context(), pulled.Layers()[0])
			if err != nil {
				t.Fatal(err)
			}
			f.Close()
			tag(t, l, "built", built)
			tag(t, l, "alias", built)
			tag(t, l, "pulled", pulled)
			test.damage(t, l, built, pulled)
			problems := mustFsck(t, l, test.want)
			dropped, err := l.Repair(t.Context(), problems, nil)
			if err != nil {
				t.Fatal(err)
			}
			var left []string
			all, err := l.List(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for _, n := range all {
				left = append(left, n.Reference.Familiar())
				img, err := l.Image(t.Context(), n.Descriptor, nil)
				if err != nil {
					t.Fatal(err)
				}
				f, err := l.OpenTar(t.Context(), img.Layers()[0])
				if err != nil {
					t.Fatal(err)
				}
				f.Close()
			}
			if got := strings.Join(left, " "); got != test.left {
				t.Errorf("after Repair there are %s, want %s; dropped %v", got, test.left, dropped)
			}
			mustFsck(t, l, "")
		})
	}
}

func TestRepairFetches(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	img := writeImage(t, l, "x")
	tag(t, l, "local", img) // which no repository has
	if err := l.TagAll(t.Context(), Named{Reference: mustParse(t, "app"), Descriptor: img.Descriptor, Remote: img.Descriptor.Digest}); err != nil {
		t.Fatal(err)
	}
	d := img.Layers()[0].Blob
	os.WriteFile(l.BlobPath(d.Digest), []byte("damaged"), 0o600)
	fetched := 0
	fetch := func(ctx context.Context, n Named) error {
		fetched++
		if n.Reference.Familiar() != "app:latest" {
			return errors.New("not this one")
		}
		push(t, l, d.MediaType, tarOf("file", "x"))
		return l.Publish(ctx)
	}
	dropped, err := l.Repair(t.Context(), mustFsck(t, l, "content has digest"), fetch)
	if err != nil || len(dropped) != 0 || fetched != 1 {
		t.Errorf("Repair = %v, %v after %d fetches", dropped, err, fetched)
	}
	mustFsck(t, l, "")
}

// TestFsckShallow finds what needs no hashing of layers.
func TestFsckShallow(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	img := writeImage(t, l, strings.Repeat("x", MaxManifestSize))
	tag(t, l, "app", img)
	path := l.BlobPath(img.Layers()[0].DiffID)
	for size, want := range map[int64]string{MaxManifestSize + 5: "has 4194309 bytes, not ", 0: "content has digest"} {
		if err := os.Truncate(path, size); err != nil {
			t.Fatal(err)
		}
		problems, err := l.Fsck(t.Context(), FsckOptions{})
		if err != nil || len(problems) != 1 || !strings.HasPrefix(problems[0].String(), path+": "+want) || len(problems[0].Images) != 1 {
			t.Errorf("cut to %d: %v, %v", size, problems, err)
		}
	}
}

// TestRecordBeingWritten: the record of a compressed layer that another process writes, or that one was killed in writing,
// is nothing that fsck has to tell of, and a prune beside its writer leaves it.
func TestRecordBeingWritten(t *testing.T) {
	t.Parallel()
	l := openLayout(t, t.TempDir())
	path := l.compressedPath(digest.FromString("layer"), Compression{Algorithm: Gzip, Level: 6})
	if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := durable.Create(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close() //nolint:errcheck
	problems, err := l.Fsck(t.Context(), FsckOptions{Deep: true})
	if err != nil || len(problems) != 0 {
		t.Errorf("fsck beside a writer: %v, %v", problems, err)
	}
	if _, err := l.Prune(t.Context(), PruneOptions{}); err != nil {
		t.Fatal(err)
	}
	if err := f.Replace(); err != nil {
		t.Errorf("a prune took the file from its writer: %v", err)
	}
}
