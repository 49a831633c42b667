package mounts

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// damage changes a byte in the middle of a blob of a layout.
func damage(t *testing.T, layout string, d ocispec.Descriptor) {
	t.Helper()
	path := filepath.Join(layout, "blobs/sha256", d.Digest.Encoded())
	raw, err := os.ReadFile(path)
	if err == nil {
		raw[len(raw)/2] ^= 1
		err = os.WriteFile(path, raw, 0o644)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// zero makes all bytes of a blob zero.
func zero(t *testing.T, layout string, d ocispec.Descriptor) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(layout, "blobs/sha256", d.Digest.Encoded()), make([]byte, d.Size), 0o644); err != nil {
		t.Fatal(err)
	}
}

// kept is what is kept of the mount.
func kept(t *testing.T, p *Shelf, m Mount) *Version {
	t.Helper()
	v, err := p.Find(t.Context(), m)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

// TestSecondPlace holds that of a place whose pack is damaged nothing stays in the directory that another place fills.
func TestSecondPlace(t *testing.T) {
	first, _, layout := newShelf(t)
	dir := t.TempDir()
	write(t, dir, "a/file", noise(1, 6<<20))
	write(t, dir, "b/file", noise(2, 6<<20))
	write(t, dir, "of-the-first/file", noise(3, 6<<20))
	save(t, first, cargo, dir)
	v := kept(t, first, cargo)
	damage(t, layout, v.packs[len(v.packs)-1])

	second, _, _ := newShelf(t)
	if err := os.RemoveAll(filepath.Join(dir, "of-the-first")); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "b/file", noise(4, 1<<20))
	save(t, second, cargo, dir)

	into := t.TempDir()
	if _, err := first.Restore(t.Context(), v, open(t, into)); !errors.Is(err, image.ErrMismatch) {
		t.Fatalf("a damaged pack: %v", err)
	}
	if _, err := os.Stat(filepath.Join(into, "a/file")); err != nil {
		t.Fatalf("the first place has left nothing, so this test shows nothing: %v", err)
	}
	if _, err := second.Restore(t.Context(), kept(t, second, cargo), open(t, into)); err != nil {
		t.Error(err)
	}
	checkSame(t, dir, into)
}

// A stubborn store keeps what it has under a digest, as registries do.
type stubborn struct{ image.Store }

func (s stubborn) Push(ctx context.Context, d ocispec.Descriptor, content image.Content) (ocispec.Descriptor, error) {
	if there, err := s.Exists(ctx, d); err != nil || there {
		return d, err
	}
	return s.Store.Push(ctx, d, content)
}

// TestHeal holds that after a restore that found wrong content, a save relies on no pack of that version, so that the next restore succeeds.
func TestHeal(t *testing.T) {
	for _, test := range []struct {
		name  string
		files int // each in a pack
		spoil func(t *testing.T, layout string, d ocispec.Descriptor)
	}{
		{"the only pack", 1, damage},
		{"all packs", 2, damage},
		{"no frames", 1, zero},
	} {
		t.Run(test.name, func(t *testing.T) {
			p, store, layout := newShelf(t)
			p.Place.Write = stubborn{store}
			dir := t.TempDir()
			for i := range test.files {
				write(t, dir, string(rune('a'+i)), noise(byte(i), 2<<20))
				save(t, p, cargo, dir)
			}
			for _, d := range kept(t, p, cargo).packs {
				test.spoil(t, layout, d)
			}
			if _, err := restored(t, p, cargo); !errors.Is(err, image.ErrMismatch) {
				t.Fatalf("a damaged version: %v", err)
			}
			if saved := save(t, p, cargo, dir); saved.Sent < int64(test.files)<<21 {
				t.Errorf("%d bytes were sent", saved.Sent)
			}
			back, err := restored(t, p, cargo)
			if err != nil {
				t.Fatal(err)
			}
			checkSame(t, dir, back)
			if saved := save(t, p, cargo, dir); saved.Sent != 0 {
				t.Errorf("%d bytes were sent once more", saved.Sent)
			}
		})
	}
}

// TestReplaced holds that what is damaged of a version but its packs is stepped over, so that another scope's is found, and that a save replaces it.
func TestReplaced(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, p *Shelf, layout string){
		"table": func(t *testing.T, p *Shelf, layout string) { damage(t, layout, documentOf(t, p).Config) },
		"manifest of something else": func(t *testing.T, p *Shelf, _ string) {
			raw := []byte(`{"schemaVersion":2,"mediaType":"` + ocispec.MediaTypeImageManifest + `","config":{"mediaType":"x","digest":"` +
				digest.FromString("").String() + `","size":0},"layers":[]}`)
			d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
			if err := p.Place.Write.PushManifest(t.Context(), p.tagged(cargo.tag(p.Write)), d, raw); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			p, _, layout := newShelf(t)
			dir := t.TempDir()
			write(t, dir, "a", noise(1, 1<<20))
			save(t, p, cargo, dir)
			spoil(t, p, layout)
			if _, err := p.Find(t.Context(), cargo); !errors.Is(err, errDamaged) {
				t.Fatalf("damaged: %v", err)
			}
			p.Write = "main"
			write(t, dir, "main", noise(3, 1<<20))
			save(t, p, cargo, dir)
			if v, err := p.Find(t.Context(), cargo); err != nil || v.Scope != "main" {
				t.Errorf("of another scope: %+v, %v", v, err)
			}
			p.Write = "topic"
			write(t, dir, "b", noise(2, 1<<20))
			save(t, p, cargo, dir)
			if v, err := p.Find(t.Context(), cargo); err != nil || v.Scope != "topic" {
				t.Errorf("after a save: %+v, %v", v, err)
			}
		})
	}
}

func documentOf(t *testing.T, p *Shelf) *image.Document {
	t.Helper()
	doc, err := p.manifest(t.Context(), cargo.tag(p.Write))
	if err != nil {
		t.Fatal(err)
	}
	return doc
}

// spread is a table of the same chunks in one pack, which the layout gets: they lie so far from each other that 200 MiB have to be fetched.
func spread(t *testing.T, v *Version, layout string) *table {
	t.Helper()
	const size = 256 << 20
	d := digest.FromString("spread")
	blobs := filepath.Join(layout, "blobs/sha256")
	raw, err := os.ReadFile(filepath.Join(blobs, v.packs[0].Digest.Encoded()))
	if err != nil || len(v.packs) > 1 {
		t.Fatal(err, len(v.packs))
	}
	f, err := os.Create(filepath.Join(blobs, d.Encoded()))
	if err != nil {
		t.Fatal(err)
	}
	spread := &table{size: v.table.size, packs: []pack{{digest: d, size: size, live: size}}}
	at := int64(0)
	for i, c := range v.table.chunks {
		if at += 3 << 20; i == maxRuns {
			at = 220 << 20
		}
		if _, err := f.WriteAt(raw[c.offset:c.offset+c.length], at); err != nil {
			t.Fatal(err)
		}
		c.offset = at
		spread.chunks = append(spread.chunks, c)
	}
	if err := errors.Join(f.Truncate(size), f.Close()); err != nil {
		t.Fatal(err)
	}
	return spread
}

// TestTooMuch holds that a version is not fetched of which most would be for nothing, and that none is saved in such a way.
func TestTooMuch(t *testing.T) {
	p, store, layout := newShelf(t)
	dir := t.TempDir()
	write(t, dir, "file", noise(1, 5<<20))
	save(t, p, cargo, dir)
	forged := spread(t, kept(t, p, cargo), layout)
	if n := len(forged.chunks); n <= maxRuns+1 {
		t.Fatalf("%d chunks are not more than runs", n)
	}
	if err := p.write(t.Context(), cargo, forged); err != nil {
		t.Fatal(err)
	}
	store.fetched.Store(0)
	if _, err := restored(t, p, cargo); err == nil || !strings.Contains(err.Error(), "would be fetched") {
		t.Errorf("a version of which 200 MiB are fetched for 5: %v", err)
	}
	if n := store.fetched.Load(); n > 1<<20 {
		t.Errorf("%d bytes were fetched", n)
	}
	if saved := save(t, p, cargo, dir); saved.Sent < 5<<20 {
		t.Errorf("%d bytes were sent in the place of that", saved.Sent)
	}
	back, err := restored(t, p, cargo)
	if err != nil {
		t.Fatal(err)
	}
	checkSame(t, dir, back)
}

// A full disk has a few bytes left.
type full struct{ left int }

func (f *full) Write(b []byte) (int, error) {
	if f.left -= len(b); f.left < 0 {
		return 0, image.ErrFull
	}
	return len(b), nil
}

// TestFull holds that what is fetched ends where the disk would be full, counted over all packs.
func TestFull(t *testing.T) {
	p, _, _ := newShelf(t)
	dir := t.TempDir()
	for i := range 3 {
		write(t, dir, string(rune('a'+i)), noise(byte(i), 1<<20))
		save(t, p, cargo, dir)
	}
	if n := len(kept(t, p, cargo).packs); n < 3 {
		t.Fatalf("%d packs", n)
	}
	p.Guard = func(context.Context, io.Writer) io.Writer { return &full{left: 2 << 20} }
	if _, err := restored(t, p, cargo); !errors.Is(err, image.ErrFull) {
		t.Errorf("3 MiB on a disk that has 2: %v", err)
	}
}
