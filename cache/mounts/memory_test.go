package mounts

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"syscall"
	"testing"
	"time"

	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// A countedTree counts the files that are opened.
type countedTree struct {
	filetree.Tree
	opened []string
}

func (c *countedTree) Open(name string) (filetree.File, error) {
	c.opened = append(c.opened, name)
	return c.Tree.Open(name)
}

// tarOf cuts a directory and returns its chunks, which are kept if they were remembered, and the files that were read.
func tarOf(t testing.TB, dir string, m *Memory) (*memoryWriter, []string) {
	t.Helper()
	c, tree := &memoryWriter{}, &countedTree{Tree: snapshot.Plain(snapshot.OpenLive(open(t, dir)))}
	cutter := newTarCutter(tree, m, c)
	cutter.keep = func(sum, int64) bool { return true }
	cutter.add = func(sum, []byte) error { return nil }
	if err := cutter.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	return c, tree.opened
}

// checkTable holds that what is kept of a directory is what would be kept of it if nothing were remembered.
func checkTable(t testing.TB, p *Shelf, dir string) {
	t.Helper()
	v, err := p.Find(t.Context(), cargo)
	if err != nil {
		t.Fatal(err)
	}
	var kept memoryWriter
	kept.tableChunks(v.table)
	if want, _ := tarOf(t, dir, nil); !bytes.Equal(kept.chunks, want.chunks) {
		t.Error("the chunks that are kept are not those of the directory")
	}
}

// TestMemory holds that a save of a directory that is remembered reads what has changed and little else, and keeps what it would keep without.
func TestMemory(t *testing.T) {
	p, _, _ := newShelf(t)
	dir, memory := t.TempDir(), filepath.Join(t.TempDir(), "memory")
	for i := range 400 {
		write(t, dir, fmt.Sprintf("%02d/%d", i%20, i), noise(byte(i), 20_000+i*100))
	}
	write(t, dir, "10/big", noise(7, 9<<20))
	remembering(t, p, cargo, dir, memory)
	time.Sleep(20 * time.Millisecond)
	remembering(t, p, cargo, dir, memory) // now no file has changed in the tick before it
	if _, read := tarOf(t, dir, ReadMemory(memory)); len(read) > 60 {
		t.Errorf("%d of 401 files are read where none has changed", len(read))
	}
	write(t, dir, "10/500", noise(8, 100_000))
	if _, read := tarOf(t, dir, ReadMemory(memory)); len(read) > 130 {
		t.Errorf("%d of 402 files are read where one is new", len(read))
	}
	if saved := remembering(t, p, cargo, dir, memory); saved.Sent > 4<<20 {
		t.Errorf("%d bytes were sent", saved.Sent)
	}
	checkTable(t, p, dir)
}

// TestMemoryModel holds, over random changes, that what is kept is what would be kept if nothing were remembered.
func TestMemoryModel(t *testing.T) {
	for seed := range uint64(12) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			p, _, _ := newShelf(t)
			dir, memory := t.TempDir(), filepath.Join(t.TempDir(), "memory")
			r := rand.New(rand.NewPCG(seed, 9))
			name := func() string { return fmt.Sprintf("%d/%d", r.IntN(6), r.IntN(8)) }
			for range 12 {
				for range r.IntN(6) {
					path := filepath.Join(dir, name())
					var err error
					switch r.IntN(7) {
					case 0:
						err = os.Remove(path)
					case 1:
						err = os.RemoveAll(filepath.Dir(path))
					case 2:
						err = os.Rename(path, filepath.Join(dir, name()))
					case 3:
						err = os.Link(path, filepath.Join(dir, name()))
					case 4:
						err = os.Chmod(path, 0o600+os.FileMode(r.IntN(8)))
					case 5: // the same size and time, another content
						if st, errStat := os.Lstat(path); errStat == nil {
							write(t, dir, path[len(dir)+1:], noise(byte(r.IntN(256)), int(st.Size())))
							err = os.Chtimes(path, st.ModTime(), st.ModTime())
						}
					default:
						write(t, dir, path[len(dir)+1:], noise(byte(r.IntN(256)), r.IntN(2<<20)))
					}
					if err != nil && !errors.Is(err, os.ErrNotExist) && !errors.Is(err, os.ErrExist) {
						t.Fatal(err)
					}
				}
				if r.IntN(3) == 0 {
					time.Sleep(5 * time.Millisecond)
				}
				remembering(t, p, cargo, dir, memory)
				checkTable(t, p, dir)
			}
		})
	}
}

// TestMemoryRestored holds that what was restored is remembered: the first save after it reads what has changed since.
func TestMemoryRestored(t *testing.T) {
	p, _, _ := newShelf(t)
	dir := t.TempDir()
	for i := range 200 {
		write(t, dir, fmt.Sprintf("%02d/%d", i%20, i), noise(byte(i), 50_000))
	}
	if err := os.Link(filepath.Join(dir, "00/0"), filepath.Join(dir, "19/link")); err != nil {
		t.Fatal(err)
	}
	save(t, p, cargo, dir)
	v, err := p.Find(t.Context(), cargo)
	if err != nil {
		t.Fatal(err)
	}
	back, memory := t.TempDir(), filepath.Join(t.TempDir(), "memory")
	restored, err := p.Restore(t.Context(), v, open(t, back))
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(20 * time.Millisecond)
	quiet, err := Clock(filepath.Dir(memory))
	if err != nil {
		t.Fatal(err)
	}
	look, err := LookAt(t.Context(), open(t, back))
	if err != nil {
		t.Fatal(err)
	}
	if err := restored.Remember(memory, look, quiet); err != nil {
		t.Fatal(err)
	}
	if _, read := tarOf(t, back, ReadMemory(memory)); len(read) > 60 {
		t.Errorf("%d of 200 files are read where none has changed", len(read))
	}
	write(t, back, "05/new", noise(9, 50_000))
	remembering(t, p, cargo, back, memory)
	checkTable(t, p, back)
}

// TestMemoryRacy holds that a file is read again that may have been changed in the tick of the clock in which it was saved: one that has
// its size, its times and its inode, and another content, as on a file system whose clock ticks once in a second.
func TestMemoryRacy(t *testing.T) {
	dir, memory := t.TempDir(), filepath.Join(t.TempDir(), "memory")
	for i := range 20 {
		write(t, dir, fmt.Sprintf("%02d", i), noise(byte(i), 1<<20))
	}
	var st syscall.Stat_t
	if err := syscall.Stat(filepath.Join(dir, "10"), &st); err != nil {
		t.Fatal(err)
	}
	for _, test := range []struct {
		quiet int64
		read  bool
	}{{st.Ctim.Nano(), true}, {st.Ctim.Nano() - 1, true}, {st.Ctim.Nano() + 1, false}} {
		noted, _ := tarOf(t, dir, nil)
		if err := noted.write(memory, test.quiet); err != nil {
			t.Fatal(err)
		}
		e, err := snapshot.OpenLive(open(t, dir)).Lstat("10")
		if err != nil {
			t.Fatal(err)
		}
		if known := find(t, dir, "10", ReadMemory(memory)); known == test.read {
			t.Errorf("changed at %d, quiet at %d: known %v", e.Changed, test.quiet, known)
		}
	}
}

// find reports whether a file need not be read.
func find(t *testing.T, dir, name string, m *Memory) (known bool) {
	t.Helper()
	err := snapshot.ExportParts(t.Context(), snapshot.OpenLive(open(t, dir)), func(path string, e *snapshot.Entry, header []byte, content int64) error {
		if path == name {
			known = m.find(partKey(header), e, content) >= 0
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return known
}

// TestMemoryInode holds that a file is read that has the name, the size, the time and the inode of another one.
func TestMemoryInode(t *testing.T) {
	dir, memory := t.TempDir(), filepath.Join(t.TempDir(), "memory")
	write(t, dir, "a", noise(1, 3<<20))
	path := filepath.Join(dir, "a")
	before, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	noted, _ := tarOf(t, dir, nil)
	if err := noted.write(memory, before.Sys().(*syscall.Stat_t).Ctim.Nano()+1); err != nil {
		t.Fatal(err)
	}
	if !find(t, dir, "a", ReadMemory(memory)) {
		t.Error("what has not changed is not known")
	}
	time.Sleep(20 * time.Millisecond)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	write(t, dir, "a", noise(2, 3<<20))
	if err := os.Chtimes(path, before.ModTime(), before.ModTime()); err != nil {
		t.Fatal(err)
	}
	// Where the file system gave another inode, the memory is made to say this one.
	after, err := os.Lstat(path)
	if err != nil {
		t.Fatal(err)
	}
	for i := range noted.parts {
		if noted.parts[i].inode == inodeOf(before) {
			noted.parts[i].inode = inodeOf(after)
		}
	}
	if err := noted.write(memory, 1<<62); err != nil {
		t.Fatal(err)
	}
	if find(t, dir, "a", ReadMemory(memory)) {
		t.Error("another file of the same inode, size and time was taken for what it was")
	}
}

// inodeOf is the inode as a live tree names it.
func inodeOf(info os.FileInfo) uint64 {
	st := info.Sys().(*syscall.Stat_t)
	return st.Ino ^ st.Dev<<40
}

// TestMemoryChangedMeanwhile holds that a file that is changed while it is saved is read again the next time, whichever content was saved.
func TestMemoryChangedMeanwhile(t *testing.T) {
	p, _, _ := newShelf(t)
	dir, memory := t.TempDir(), filepath.Join(t.TempDir(), "memory")
	for i := range 20 {
		write(t, dir, fmt.Sprintf("%02d", i), noise(byte(i), 1<<20))
	}
	time.Sleep(20 * time.Millisecond)
	quiet, err := Clock(filepath.Dir(memory))
	if err != nil {
		t.Fatal(err)
	}
	f := open(t, dir)
	look, err := LookAt(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	before, err := os.Lstat(filepath.Join(dir, "10"))
	if err != nil {
		t.Fatal(err)
	}
	w := &memoryWriter{}
	cutter := newTarCutter(snapshot.Plain(snapshot.OpenLive(f)), nil, w)
	cutter.keep = func(sum, int64) bool { return false }
	changed := false
	cutter.add = func(sum, []byte) error {
		if cutter.pos > 12<<20 && !changed { // it was read
			changed = true
			write(t, dir, "10", noise(100, 1<<20))
			return os.Chtimes(filepath.Join(dir, "10"), before.ModTime(), before.ModTime())
		}
		return nil
	}
	if err := cutter.run(t.Context()); err != nil || !changed {
		t.Fatal(err, changed)
	}
	if err := w.write(memory, quiet); err != nil {
		t.Fatal(err)
	}
	if find(t, dir, "10", ReadMemory(memory)) {
		t.Error("the file that changed is taken for what was saved")
	}
	if now, err := LookAt(t.Context(), f); err != nil || now.Fingerprint == look.Fingerprint {
		t.Errorf("the directory looks as before: %v", err)
	}
	remembering(t, p, cargo, dir, memory)
	checkTable(t, p, dir)
}

// TestMemoryDamaged holds that a memory that is damaged, cut off or missing knows nothing.
func TestMemoryDamaged(t *testing.T) {
	dir, memory := t.TempDir(), filepath.Join(t.TempDir(), "memory")
	write(t, dir, "a", noise(1, 3<<20))
	noted, _ := tarOf(t, dir, nil)
	if err := noted.write(memory, 1<<62); err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(memory)
	if err != nil || ReadMemory(memory) == nil {
		t.Fatal("a good memory was not read: ", err)
	}
	for at := 0; at < len(raw); at += 7 {
		spoiled := bytes.Clone(raw)
		spoiled[at] ^= 0x10
		for _, b := range [][]byte{spoiled, raw[:at]} {
			if err := os.WriteFile(memory, b, 0o600); err != nil {
				t.Fatal(err)
			}
			if m := ReadMemory(memory); !reflect.DeepEqual(m, (*Memory)(nil)) {
				t.Fatalf("one that is damaged at %d was read", at)
			}
		}
	}
	if ReadMemory(filepath.Join(dir, "none")) != nil {
		t.Error("one that is missing was read")
	}
}

// TestRestoredLook holds that what was seen of files while they were restored is what is seen of them afterwards; with a file of two names, whose
// change comes later, they are looked at once more.
func TestRestoredLook(t *testing.T) {
	for _, linked := range []bool{false, true} {
		p, _, _ := newShelf(t)
		dir, back := t.TempDir(), t.TempDir()
		for i := range 50 {
			write(t, dir, fmt.Sprintf("%02d/%d", i%5, i), noise(byte(i), i*1000))
		}
		err := os.Symlink("00/0", filepath.Join(dir, "soft"))
		if linked {
			err = errors.Join(err, os.Link(filepath.Join(dir, "00/5"), filepath.Join(dir, "04/link")))
		}
		if err != nil {
			t.Fatal(err)
		}
		save(t, p, cargo, dir)
		v, err := p.Find(t.Context(), cargo)
		if err != nil {
			t.Fatal(err)
		}
		f := open(t, back)
		r, err := p.Restore(t.Context(), v, f)
		if err != nil {
			t.Fatal(err)
		}
		got, err := r.Look(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		want, err := LookAt(t.Context(), f)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("linked %t: %s, %d bytes, changed %d; later %s, %d bytes, changed %d", linked, got.Fingerprint, got.Size, got.Changed, want.Fingerprint, want.Size, want.Changed)
		}
		if r.other != linked {
			t.Errorf("linked %t: to be looked at again: %t", linked, r.other)
		}
	}
}
