package snapshot

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/erofs"
	"github.com/forge-build/forge/snapshot/filetree"
)

// A flatTree is a tree as a map of paths; directories have no content, links "->target".
type flatTree map[string]string

func (f flatTree) remove(path string) {
	for p := range f {
		if p == path || strings.HasPrefix(p, path+"/") {
			delete(f, p)
		}
	}
}

func (f flatTree) String() string {
	var lines []string
	for p, c := range f {
		switch {
		case c == "":
			p += "/"
		case !strings.HasPrefix(c, "->"):
			p += "="
		}
		lines = append(lines, p+c)
	}
	slices.Sort(lines)
	return strings.Join(lines, " ")
}

// randomChanges makes random changes to below, to the model as well, and commits them.
func randomChanges(t *testing.T, r *rand.Rand, s *Store, below *View, tree flatTree) image.Layer {
	t.Helper()
	c := s.NewChanges(below)
	names := []string{"a", "b", "c", ".d"}
	for range 1 + r.IntN(12) {
		path := names[r.IntN(len(names))]
		for r.IntN(5) < 3 {
			path += "/" + names[r.IntN(len(names))]
		}
		parent, _ := filetree.Split(path)
		content, there := tree[parent]
		want := error(nil)
		switch {
		case parent == "." || there && content == "":
		case there:
			want = unix.ENOTDIR
		default:
			want = fs.ErrNotExist
		}
		var err error
		e := Entry{ModTime: time.Unix(int64(r.IntN(2)), 0), UID: uint32(r.IntN(2))}
		switch r.IntN(5) {
		case 0:
			if _, there := tree[path]; !there {
				want = fs.ErrNotExist
			}
			if err = c.Remove(path); err == nil {
				tree.remove(path)
			}
		case 1, 2:
			e.Mode = unix.S_IFDIR | 0o755
			if err = c.Put(path, e, Content{}); err == nil {
				if tree[path] != "" {
					tree.remove(path)
				}
				tree[path] = ""
			}
		case 3:
			text := names[r.IntN(len(names))]
			e.Mode, e.Size = unix.S_IFREG|0o644, int64(len(text))
			if err = c.Put(path, e, textOf(text)); err == nil {
				tree.remove(path)
				tree[path] = text
			}
		case 4:
			e.Mode, e.Link = unix.S_IFLNK|0o777, "x"
			if err = c.Put(path, e, Content{}); err == nil {
				tree.remove(path)
				tree[path] = "->x"
			}
		}
		if (err == nil) != (want == nil) {
			t.Fatalf("%s: %v, want %v; %s", path, err, want, tree)
		}
	}
	layer, err := s.Commit(context.Background(), c, nil)
	if err != nil {
		t.Fatal(err)
	}
	return layer
}

// Layers of random changes sum up to what a map says, and so does their flattened sum.
func TestChangesRandom(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	s := openStore(t)
	for seed := range uint64(120) {
		r := rand.New(rand.NewPCG(seed, 2))
		tree := make(flatTree)
		var layers []image.Layer
		for range 5 {
			below, err := s.View(context.Background(), layers)
			if err != nil {
				t.Fatal(err)
			}
			before := opsSorted(t, below)
			layer := randomChanges(t, r, s, below, tree)
			layers = append(layers, layer)
			after := viewOf(t, s, layers...)
			if got := opsSorted(t, after); got != tree.String() {
				t.Fatalf("seed %d: tree is\n%s, want\n%s", seed, got, tree)
			}
			// A layer has nothing that is the same below.
			if before == tree.String() && changed(t, s, layer) != "" {
				differences, err := Compare(context.Background(), below, after)
				if err != nil || len(differences) == 0 {
					t.Fatalf("seed %d: nothing changed (%v), and the layer has %s", seed, err, changed(t, s, layer))
				}
			}
			below.Close()
		}
		flat, err := s.Squash(context.Background(), nil, layers, nil)
		if err != nil {
			t.Fatal(err)
		}
		differences, err := Compare(context.Background(), viewOf(t, s, layers...), viewOf(t, s, flat))
		if err != nil || len(differences) > 0 {
			t.Fatalf("seed %d: squashed it differs: %v, %v", seed, differences, err)
		}
	}
}

func opsSorted(t *testing.T, tree Tree) string {
	list := strings.Fields(opsOf(t, tree))
	slices.Sort(list)
	return strings.Join(list, " ")
}

// readIndex reads all that an index says, as far as it can be read, and gives up on what goes in circles.
func readIndex(x *erofs.Metadata) {
	v, err := viewOfMetadata(nil, x)
	if err != nil {
		return
	}
	files := 0
	var walk func(path string)
	walk = func(path string) {
		list, err := filetree.ReadDir(v, path)
		if err != nil {
			return
		}
		for _, e := range list {
			if files++; files > 2000 || len(path) > 200 {
				return
			}
			name := filetree.Join(path, e.Name)
			v.Lstat(name)
			filetree.Resolve(v.Lstat, name)
			if found, err := v.find(name); err == nil && e.Mode&unix.S_IFMT == unix.S_IFREG {
				x.Extents(&found[0].Inode)
			}
			if e.Mode&unix.S_IFMT == unix.S_IFDIR {
				walk(name)
			}
		}
	}
	walk(".")
}

func TestIndexSize(t *testing.T) {
	b := erofs.NewBuilder(nil)
	if err := b.Add("file", &Entry{Mode: unix.S_IFREG, Size: 5}, 512); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if err := b.Encode(&out, erofs.Tar{Size: 2048}); err != nil {
		t.Fatal(err)
	}
	x, err := erofs.New(out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	v, err := viewOfMetadata(nil, x)
	if err != nil {
		t.Fatal(err)
	}
	found, err := v.find("file")
	if err != nil {
		t.Fatal(err)
	}
	f := &found[0].Inode
	for _, test := range []struct {
		size int64
		want error
	}{{5, nil}, {1 << 20, erofs.ErrDamaged}, {1 << 50, erofs.ErrDamaged}, {1<<63 - 1, erofs.ErrDamaged}} {
		f.Size = test.size
		if _, _, err := x.Extents(f); !errors.Is(err, test.want) {
			t.Errorf("file of %d bytes in a tar of 2048: %v", test.size, err)
		}
	}
}

// indexHead is the size of what comes before the inodes of an index: its super block, of which there is a checksum, ends it.
const indexHead = 1536

// FuzzIndex damages an index: what is read is wrong then, but nothing worse happens.
func FuzzIndex(f *testing.F) {
	b := erofs.NewBuilder(nil)
	for i, file := range everyKind() {
		e := file.Entry
		e.Size = int64(len(file.content))
		if file.hard != "" {
			if err := b.Link(file.path, file.hard); err != nil {
				f.Fatal(err)
			}
		} else if err := b.Add(file.path, &e, int64(i)<<20); err != nil {
			f.Fatal(err)
		}
	}
	for i := range 200 {
		if err := b.Add(fmt.Sprintf("dir/%d", i), &Entry{Mode: unix.S_IFREG, Size: 1}, 512); err != nil {
			f.Fatal(err)
		}
	}
	var out bytes.Buffer
	if err := b.Encode(&out, erofs.Tar{Size: 1 << 30}); err != nil {
		f.Fatal(err)
	}
	damage := func(b []byte, at uint32, value uint64) {
		var v [8]byte
		binary.LittleEndian.PutUint64(v[:], value)
		copy(b[int(at)%len(b):], v[:])
	}
	for seed := range uint64(300) {
		r := rand.New(rand.NewPCG(seed, 3))
		f.Add(uint32(indexHead+r.IntN(out.Len()-indexHead)), r.Uint64()>>r.IntN(64), uint32(r.IntN(out.Len())), r.Uint64()>>r.IntN(64), uint32(0))
	}
	f.Fuzz(func(t *testing.T, at1 uint32, value1 uint64, at2 uint32, value2 uint64, cut uint32) {
		data := bytes.Clone(out.Bytes())
		damage(data, at1, value1)
		damage(data, at2, value2)
		const block = 512 // of the seal, too
		data = data[:len(data)-block-int(cut)%(len(data)-block-indexHead)/block*block]
		le, table := binary.LittleEndian, crc32.MakeTable(crc32.Castagnoli)
		le.PutUint32(data[1024+36:], uint32(len(data)/block))
		clear(data[1028:][:4])
		le.PutUint32(data[1028:], ^crc32.Checksum(data[1024:indexHead], table))
		data = append(data, make([]byte, block)...)
		copy(data[len(data)-block:], "forgeseal")
		le.PutUint32(data[len(data)-block+len("forgeseal"):], crc32.Checksum(data[:len(data)-block], table))
		x, err := erofs.New(data)
		if err != nil {
			if !errors.Is(err, erofs.ErrDamaged) {
				t.Errorf("%v", err)
			}
			return
		}
		readIndex(x)
	})
}
