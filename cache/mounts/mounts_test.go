package mounts

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
)

// A counted store counts bytes that are fetched.
type counted struct {
	image.Store
	fetched atomic.Int64
}

func (c *counted) Fetch(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	r, err := c.Store.Fetch(ctx, d, offset)
	if err != nil {
		return nil, err
	}
	return struct {
		io.Reader
		io.Closer
	}{io.TeeReader(r, (*counter)(&c.fetched)), r}, nil
}

type counter atomic.Int64

func (c *counter) Write(b []byte) (int, error) {
	(*atomic.Int64)(c).Add(int64(len(b)))
	return len(b), nil
}

func newShelf(t testing.TB) (*Shelf, *counted, string) {
	t.Helper()
	root := t.TempDir()
	dir, err := image.CreateDir(filepath.Join(root, "layout"))
	if err != nil {
		t.Fatal(err)
	}
	staging, err := image.OpenStaging(filepath.Join(root, "state"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if left, _ := filepath.Glob(filepath.Join(root, "state/ingest/*/*")); len(left) > 0 {
			t.Errorf("left behind: %v", left)
		}
		if err := staging.Close(); err != nil {
			t.Error(err)
		}
	})
	store := &counted{Store: dir}
	return &Shelf{
		Place: &remote.Place{Read: store, Write: store, Tags: dir}, Staging: staging, Read: []string{"topic", "main"}, Write: "topic",
		Guard: func(_ context.Context, w io.Writer) io.Writer { return w },
	}, store, filepath.Join(root, "layout")
}

func noise(seed byte, n int) []byte {
	b := make([]byte, n)
	rand.NewChaCha8([32]byte{seed}).Read(b)
	return b
}

func write(t testing.TB, dir, name string, data []byte) {
	t.Helper()
	path := filepath.Join(dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, data, 0o644)); err != nil {
		t.Fatal(err)
	}
}

func open(t testing.TB, dir string) *os.File {
	t.Helper()
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	return f
}

func save(t testing.TB, p *Shelf, m Mount, dir string) *Saved {
	t.Helper()
	saved, err := saveUpTo(t, p, m, dir, 1<<30)
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

// remembering saves a directory that has a memory, as a build does that nobody disturbs.
func remembering(t testing.TB, p *Shelf, m Mount, dir, memory string) *Saved {
	t.Helper()
	f := open(t, dir)
	quiet, err := Clock(filepath.Dir(memory))
	if err != nil {
		t.Fatal(err)
	}
	look, err := LookAt(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	saved, err := p.Save(t.Context(), m, Dir{File: f, Look: look, Memory: ReadMemory(memory)}, 1<<30)
	if err == nil {
		err = saved.Remember(memory, quiet)
	}
	if err != nil {
		t.Fatal(err)
	}
	return saved
}

func saveUpTo(t testing.TB, p *Shelf, m Mount, dir string, limit int64) (*Saved, error) {
	t.Helper()
	f := open(t, dir)
	look, err := LookAt(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return p.Save(t.Context(), m, Dir{File: f, Look: look}, limit)
}

// restored is a new directory with what is kept of a mount.
func restored(t testing.TB, p *Shelf, m Mount) (string, error) {
	t.Helper()
	dir := t.TempDir()
	v, err := p.Find(t.Context(), m)
	if err != nil {
		return dir, err
	}
	_, err = p.Restore(t.Context(), v, open(t, dir))
	return dir, err
}

func checkSame(t testing.TB, a, b string) {
	t.Helper()
	differences, err := snapshot.Compare(t.Context(), snapshot.OpenLive(open(t, a)), snapshot.OpenLive(open(t, b)))
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range differences {
		if d.Path != "." {
			t.Error(d)
		}
	}
}

var cargo = Mount{ID: "cargo", Platform: "linux/amd64"}

// TestSave holds that a directory comes back as it was, that a change costs about its own size, and nothing costs nothing.
func TestSave(t *testing.T) {
	p, _, _ := newShelf(t)
	dir := t.TempDir()
	for i := range 24 {
		write(t, dir, fmt.Sprintf("registry/%02d/crate", i), noise(byte(i), 1<<20))
	}
	first := save(t, p, cargo, dir)
	if first.Sent < 24<<20 || first.Sent > 25<<20 {
		t.Errorf("the first time %d bytes were sent", first.Sent)
	}
	back, err := restored(t, p, cargo)
	if err != nil {
		t.Fatal(err)
	}
	checkSame(t, dir, back)
	if again := save(t, p, cargo, back); again.Sent != 0 {
		t.Errorf("what was restored and not changed sent %d bytes", again.Sent)
	}
	write(t, back, "registry/12a/crate", noise(100, 1<<20))
	if changed := save(t, p, cargo, back); changed.Sent < 1<<20 || changed.Sent > 4<<20 {
		t.Errorf("a new file of 1 MiB sent %d bytes", changed.Sent)
	}
	third, err := restored(t, p, cargo)
	if err != nil {
		t.Fatal(err)
	}
	checkSame(t, back, third)
}

// TestFind holds which version a mount gets.
func TestFind(t *testing.T) {
	p, _, _ := newShelf(t)
	dir := t.TempDir()
	put := func(scope, lock, content string) {
		t.Helper()
		write(t, dir, "content", []byte(content))
		m := cargo
		p.Write, m.Lock = scope, lock
		save(t, p, m, dir)
	}
	get := func(m Mount) string {
		t.Helper()
		back, err := restored(t, p, m)
		if errors.Is(err, fs.ErrNotExist) {
			return "none"
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(filepath.Join(back, "content"))
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	want := func(m Mount, want string) {
		t.Helper()
		if got := get(m); got != want {
			t.Errorf("%+v gets %s, want %s", m, got, want)
		}
	}
	locked := func(lock string) Mount { m := cargo; m.Lock = lock; return m }
	want(cargo, "none")
	put("main", "A", "main A")
	want(cargo, "main A")
	put("main", "B", "main B")
	want(cargo, "main B")
	want(locked("A"), "main A")
	want(locked("C"), "main B")
	put("topic", "C", "topic C")
	want(cargo, "topic C")
	want(locked("A"), "main A")
	want(locked("D"), "topic C")
	put("foreign", "A", "foreign")
	want(locked("A"), "main A")
	for _, other := range []Mount{
		{ID: "cargo2", Platform: "linux/amd64"}, {ID: "cargo", Platform: "linux/arm64"}, {ID: "cargo", Platform: "linux/amd64", Access: "1:1"},
	} {
		want(other, "none")
	}
}

// A silent store says nothing until it is given up.
type silent struct{ image.Store }

func (silent) Resolve(ctx context.Context, _ image.Reference) (ocispec.Descriptor, error) {
	<-ctx.Done()
	return ocispec.Descriptor{}, ctx.Err()
}

// TestSilence holds that a build waits once for a place that does not answer, and not for long.
func TestSilence(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := &Shelf{Place: &remote.Place{Read: silent{}}, Read: []string{"main"}}
		start := time.Now()
		if _, err := p.FindInTime(t.Context(), cargo); err == nil || errors.Is(err, fs.ErrNotExist) || !strings.Contains(err.Error(), "no answer within 2s") {
			t.Error(err)
		}
		if took := time.Since(start); took != remote.Budget || !p.Silent() {
			t.Errorf("after %s", took)
		}
		if _, err := p.FindInTime(t.Context(), cargo); !errors.Is(err, fs.ErrNotExist) || time.Since(start) != remote.Budget {
			t.Errorf("it is asked again: %v after %s", err, time.Since(start))
		}
		p = &Shelf{Place: &remote.Place{Read: silent{}}, Read: []string{"main"}}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := p.FindInTime(ctx, cargo); !errors.Is(err, context.Canceled) || p.Silent() {
			t.Errorf("a build that was given up: %v, silent: %t", err, p.Silent())
		}
	})
}

// TestPacks holds that many small changes do not become many packs, that what is dead is left behind, and that all is readable then.
func TestPacks(t *testing.T) {
	p, store, _ := newShelf(t)
	dir := t.TempDir()
	for i := range 24 {
		write(t, dir, fmt.Sprintf("%02d", i%7), noise(byte(i), 300<<10))
		save(t, p, cargo, dir)
	}
	v, err := p.Find(t.Context(), cargo)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.packs) > 3*mergeAt {
		t.Errorf("%d packs", len(v.packs))
	}
	stored := int64(0)
	for _, d := range v.packs {
		stored += d.Size
	}
	if stored > 2*v.Size()+1<<20 {
		t.Errorf("%d bytes of packs for %d", stored, v.Size())
	}
	store.fetched.Store(0)
	back, err := restored(t, p, cargo)
	if err != nil {
		t.Fatal(err)
	}
	if n := store.fetched.Load(); n > v.Size()*6/5+1<<20 {
		t.Errorf("%d bytes were fetched for %d", n, v.Size())
	}
	checkSame(t, dir, back)
}

// TestMerge holds that packs of small changes become one.
func TestMerge(t *testing.T) {
	p, _, _ := newShelf(t)
	dir := t.TempDir()
	for i := range 18 {
		write(t, dir, fmt.Sprintf("%02d", i), noise(byte(i), 1<<20))
		save(t, p, cargo, dir)
	}
	v, err := p.Find(t.Context(), cargo)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.packs) > 12 {
		t.Errorf("%d packs of 18 changes", len(v.packs))
	}
	back, err := restored(t, p, cargo)
	if err != nil {
		t.Fatal(err)
	}
	checkSame(t, dir, back)
}

// TestHalfDead holds that of a pack of which little is live little is fetched, and that the next version leaves the dead part behind.
func TestHalfDead(t *testing.T) {
	p, store, _ := newShelf(t)
	dir := t.TempDir()
	for i := range 24 {
		write(t, dir, fmt.Sprintf("%02d", i), noise(byte(i), 1<<20))
	}
	save(t, p, cargo, dir)
	for i := range 24 {
		if i/4%4 != 0 { // a quarter stays, in two places
			if err := os.Remove(filepath.Join(dir, fmt.Sprintf("%02d", i))); err != nil {
				t.Fatal(err)
			}
		}
	}
	save(t, p, cargo, dir)
	store.fetched.Store(0)
	back, err := restored(t, p, cargo)
	if err != nil {
		t.Fatal(err)
	}
	if n := store.fetched.Load(); n > 14<<20 {
		t.Errorf("%d bytes were fetched of a pack of 24 MiB, a third of it live", n)
	}
	checkSame(t, dir, back)
	write(t, dir, "new", []byte("new"))
	save(t, p, cargo, dir)
	v, err := p.Find(t.Context(), cargo)
	if err != nil {
		t.Fatal(err)
	}
	stored := int64(0)
	for _, d := range v.packs {
		stored += d.Size
	}
	if stored > 12<<20 {
		t.Errorf("%d bytes are stored of a directory of %d", stored, v.Size())
	}
}

// TestLost holds that packs which the place has lost are stored again, and that a directory cannot be restored without them.
func TestLost(t *testing.T) {
	p, _, layout := newShelf(t)
	dir := t.TempDir()
	write(t, dir, "file", noise(1, 3<<20))
	save(t, p, cargo, dir)
	v, err := p.Find(t.Context(), cargo)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(layout, "blobs/sha256", v.packs[0].Digest.Encoded())); err != nil {
		t.Fatal(err)
	}
	if _, err := restored(t, p, cargo); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("restored without its pack: %v", err)
	}
	if again := save(t, p, cargo, dir); again.Sent < 3<<20 {
		t.Errorf("%d bytes were sent", again.Sent)
	}
	back, err := restored(t, p, cargo)
	if err != nil {
		t.Fatal(err)
	}
	checkSame(t, dir, back)
}

// TestLimit holds that old and big files are left out first, are said, and stay where they are.
func TestLimit(t *testing.T) {
	p, _, _ := newShelf(t)
	dir := t.TempDir()
	now := time.Now()
	for name, age := range map[string]time.Duration{"new/big": 0, "old/small": 100 * time.Hour, "old/big": 100 * time.Hour} {
		size := 100 << 10
		if strings.HasSuffix(name, "big") {
			size = 3 << 20
		}
		write(t, dir, name, noise(1, size))
		if err := os.Chtimes(filepath.Join(dir, name), now.Add(-age), now.Add(-age)); err != nil {
			t.Fatal(err)
		}
	}
	saved, err := saveUpTo(t, p, cargo, dir, 4<<20)
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(saved.Left, "old/big") || !strings.Contains(saved.Left, "1 old and big") || saved.Size > 4<<20 {
		t.Errorf("left out: %q, size %d", saved.Left, saved.Size)
	}
	back, err := restored(t, p, cargo)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	_ = filepath.WalkDir(back, func(path string, d fs.DirEntry, _ error) error {
		if !d.IsDir() {
			names = append(names, strings.TrimPrefix(path, back+"/"))
		}
		return nil
	})
	if !slices.Equal(names, []string{"new/big", "old/small"}) {
		t.Errorf("restored %v", names)
	}
	if _, err := os.Stat(filepath.Join(dir, "old/big")); err != nil {
		t.Error(err)
	}
	if _, err := saveUpTo(t, p, cargo, dir, 100); err == nil || !strings.Contains(err.Error(), "even without its files") {
		t.Errorf("a limit that nothing keeps: %v", err)
	}
}

// TestForged holds that what a place gives is checked: chunks of other content, tables that lie, and packs that are not theirs.
func TestForged(t *testing.T) {
	good := func() *table {
		content := noise(3, 1000)
		return &table{
			size:   1000,
			packs:  []pack{{digest: digest.FromBytes(content), size: 1000, live: 1000}},
			chunks: []piece{{sum: sum{1}, offset: 0, length: 1000, size: 1000}},
		}
	}
	for name, spoil := range map[string]func(t *table){
		"pack out of range":   func(t *table) { t.chunks[0].pack = 1 },
		"behind the pack":     func(t *table) { t.chunks[0].offset = 1 },
		"no length":           func(t *table) { t.chunks[0].length = 0 },
		"no size":             func(t *table) { t.chunks[0].size = 0 },
		"big chunk":           func(t *table) { t.chunks[0].size, t.size = 1<<30, 1<<30 },
		"frame beyond reason": func(t *table) { t.chunks[0].size, t.size = 1, 1 },
		"other sum":           func(t *table) { t.size++ },
		"a pack twice":        func(t *table) { t.packs = append(t.packs, t.packs[0]) },
		"many packs": func(t *table) {
			for i := range maxPacks {
				t.packs = append(t.packs, pack{digest: digest.FromString(fmt.Sprint(i)), size: 1000})
			}
		},
	} {
		table := good()
		spoil(table)
		raw, err := table.marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseTable(raw); err == nil {
			t.Errorf("%s: was taken", name)
		}
	}
	raw, err := good().marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := parseTable(raw); err != nil {
		t.Errorf("a good one: %v", err)
	}
}

// TestWrongPack holds that a pack with other bytes is a mismatch, and nothing of the wrong chunk is written.
func TestWrongPack(t *testing.T) {
	p, _, layout := newShelf(t)
	dir := t.TempDir()
	write(t, dir, "file", bytes.Repeat([]byte("secret"), 500_000))
	save(t, p, cargo, dir)
	v, err := p.Find(t.Context(), cargo)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(layout, "blobs/sha256", v.packs[0].Digest.Encoded())
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	w, err := image.NewFrameWriter()
	if err != nil {
		t.Fatal(err)
	}
	forged := w.Append(nil, bytes.Repeat([]byte("forged"), int(v.table.chunks[0].size)/6))
	copy(raw, append(forged, make([]byte, max(len(raw)-len(forged), 0))...))
	if err := os.WriteFile(path, raw, 0o644); err != nil {
		t.Fatal(err)
	}
	back, err := restored(t, p, cargo)
	if err == nil {
		t.Error("a wrong pack was restored")
	}
	if b, err := os.ReadFile(filepath.Join(back, "file")); err == nil && bytes.Contains(b, []byte("forged")) {
		t.Error("the forged bytes were written")
	}
}

// FuzzTable holds that no table breaks its reader, and that what is read is written as it was.
func FuzzTable(f *testing.F) {
	w, err := image.NewFrameWriter()
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte("FMT1"))
	f.Add(append(binary.LittleEndian.AppendUint32([]byte("FMT1"), 1<<31), make([]byte, 24)...))
	f.Fuzz(func(t *testing.T, raw []byte) {
		table, err := parseTable(w.Append(nil, raw))
		if err != nil {
			return
		}
		covered := table.runs()
		for _, c := range table.chunks {
			if !slices.ContainsFunc(covered, func(r *run) bool { return r.pack == c.pack && r.from <= c.offset && c.offset+c.length <= r.to }) {
				t.Fatalf("chunk at %d of pack %d is not fetched", c.offset, c.pack)
			}
		}
		again, err := table.marshal()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := parseTable(again); err != nil {
			t.Fatal(err)
		}
	})
}

// TestListAndForget: what is kept is listed by what it is, and what is forgotten is neither listed nor found, until it is kept again.
func TestListAndForget(t *testing.T) {
	t.Parallel()
	p, _, _ := newShelf(t)
	dir := t.TempDir()
	write(t, dir, "a", noise(1, 1000))
	save(t, p, cargo, dir)
	infos, err := List(t.Context(), p.Place)
	if err != nil || len(infos) != 1 || infos[0].ID != cargo.ID || infos[0].Scope != p.Write || infos[0].Size == 0 || infos[0].Packed == 0 {
		t.Fatalf("listed %+v, %v", infos, err)
	}
	if err := Forget(t.Context(), p.Place, infos[0]); err != nil {
		t.Fatal(err)
	}
	if infos, err := List(t.Context(), p.Place); err != nil || len(infos) != 0 {
		t.Errorf("listed %+v, %v, want none", infos, err)
	}
	if _, err := p.Find(t.Context(), cargo); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("found: %v", err)
	}
	save(t, p, cargo, dir)
	if _, err := p.Find(t.Context(), cargo); err != nil {
		t.Error(err)
	}
}
