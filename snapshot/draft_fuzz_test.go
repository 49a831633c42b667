package snapshot_test

import (
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/snapshottest"
)

var kinds = []snapshot.Kind{snapshot.EROFS, snapshot.Overlay, snapshot.Copy}

// FuzzDraft does to drafts what the input says, three times in a row: layers, mounted or read, must show what the draft
// showed.
func FuzzDraft(f *testing.F) {
	for seed := range byte(12) {
		b := make([]byte, 600)
		rand.NewChaCha8([32]byte{seed}).Read(b)
		f.Add(seed, b)
	}
	f.Fuzz(func(t *testing.T, kind byte, ops []byte) {
		needRoot(t)
		k := snapshottest.Open(t, t.TempDir(), kinds[int(kind)%len(kinds)])
		var layers []image.Layer
		for range 3 {
			part := ops[:min(len(ops), 200)]
			ops = ops[len(part):]
			layers = append(layers, snapshottest.Commit(t, k, layers, func(r snapshottest.Root) { scramble(r.Path("."), part) }))
		}
	})
}

// TestKindsAgree makes the same changes with every kind: the layers must be the same, byte by byte.
func TestKindsAgree(t *testing.T) {
	long(t)
	needRoot(t)
	for seed := range byte(8) {
		ops := make([]byte, 800)
		rand.NewChaCha8([32]byte{seed, 1}).Read(ops)
		var want []image.Layer
		for _, kind := range kinds {
			k := snapshottest.Open(t, t.TempDir(), kind)
			var layers []image.Layer
			for i := range 4 {
				layers = append(layers, snapshottest.Commit(t, k, layers, func(r snapshottest.Root) {
					scramble(r.Path("."), ops[200*i:][:200])
					sameTimes(t, r.Path("."))
				}))
				if kind != kinds[0] && layers[i].DiffID != want[i].DiffID {
					t.Errorf("seed %d, layer %d: %s by %s, %s by %s", seed, i, layers[i].DiffID, kind, want[i].DiffID, kinds[0])
				}
			}
			if want == nil {
				want = layers
			}
		}
	}
}

// sameTimes gives every file the same time.
func sameTimes(t *testing.T, root string) {
	t.Helper()
	ts := []unix.Timespec{{Sec: 1e9}, {Sec: 1e9}}
	err := filepath.WalkDir(root+"/", func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return unix.UtimesNanoAt(unix.AT_FDCWD, path, ts, unix.AT_SYMLINK_NOFOLLOW)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// put writes a file, but waits for no fifo.
func put(path string, content []byte) {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_TRUNC|unix.O_NONBLOCK, 0o644)
	if err != nil {
		return
	}
	_, _ = f.Write(content)
	_ = f.Close()
}

// scramble changes a file system as ops say. Operations that make no sense fail, and nobody minds.
func scramble(root string, ops []byte) {
	next := func() int {
		if len(ops) == 0 {
			return 0
		}
		b := ops[0]
		ops = ops[1:]
		return int(b)
	}
	path := func() string {
		p := root
		for range 1 + next()%3 {
			p += "/" + string("abcdef"[next()%6])
		}
		return p
	}
	for len(ops) > 0 {
		switch op, p := next()%16, path(); op {
		case 0, 1, 2:
			put(p, make([]byte, next()*next()))
		case 3:
			put(p, []byte{byte(next())})
		case 4, 5, 6:
			_ = os.MkdirAll(p, 0o755)
		case 7:
			if info, err := os.Lstat(filepath.Dir(p)); err == nil && info.IsDir() { // RemoveAll waits for a fifo
				_ = os.RemoveAll(p)
			}
		case 8:
			_ = unix.Unlink(p)
		case 9:
			_ = os.Symlink("../"+string("abcdef"[next()%6]), p)
		case 10:
			// overlayfs does not rename a directory from below: mv copies it.
			from := path()
			if info, err := os.Lstat(from); err == nil && !info.IsDir() {
				_ = os.Rename(from, p)
			}
		case 11:
			_ = unix.Linkat(unix.AT_FDCWD, path(), unix.AT_FDCWD, p, 0)
		case 12:
			_ = unix.Fchmodat(unix.AT_FDCWD, p, uint32(next())<<4|0o4, 0)
		case 13:
			_ = unix.Lsetxattr(p, "user."+string("xy"[next()%2]), []byte{byte(next() % 2)}, 0)
		case 14:
			_ = unix.Mknod(p, unix.S_IFIFO|0o600, 0)
		case 15:
			_ = os.Lchown(p, next()%3, next()%3)
		}
	}
	// Links within the tree must not be followed out of it when it is listed.
	_ = os.Chtimes(root, time.Time{}, time.Unix(1e9, 0))
}
