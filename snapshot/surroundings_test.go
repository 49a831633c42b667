package snapshot_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/snapshot/snapshottest"
)

// defaultACL is that of a directory as setfacl -d -m u::rwx,u:5:rwx,g::rwx,m::rwx,o::rwx makes it: version 2, then tag,
// permissions and ID of each entry.
const defaultACL = "\x02\x00\x00\x00" + "\x01\x00\x07\x00\xff\xff\xff\xff" + "\x02\x00\x07\x00\x05\x00\x00\x00" +
	"\x04\x00\x07\x00\xff\xff\xff\xff" + "\x10\x00\x07\x00\xff\xff\xff\xff" + "\x20\x00\x07\x00\xff\xff\xff\xff"

const capability = "\x01\x00\x00\x02\x00\x04\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// TestSurroundings commits the same changes in stores of each kind and in places that differ. The layers are the same.
func TestSurroundings(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	needRoot(t)
	places := map[string]func(dir string) error{
		"plain":           func(string) error { return nil },
		"default ACL":     func(dir string) error { return unix.Setxattr(dir, "system.posix_acl_default", []byte(defaultACL), 0) },
		"setgid":          func(dir string) error { return os.Chmod(dir, 0o777|os.ModeSetgid) },
		"of another user": func(dir string) error { return os.Chown(dir, 12, 34) },
		"umask":           func(string) error { unix.Umask(0o077); return nil },
	}
	defer unix.Umask(unix.Umask(0o022))
	want := make(map[string]digest.Digest)
	for name, prepare := range places {
		for _, kind := range []snapshot.Kind{snapshot.EROFS, snapshot.Overlay, snapshot.Copy} {
			dir := t.TempDir()
			if err := os.Chown(dir, 0, 77); err != nil {
				t.Fatal(err)
			}
			if err := prepare(dir); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			k := snapshottest.Open(t, filepath.Join(dir, "store"), kind)
			for _, c := range surroundingChanges {
				layer := commitAt(t, k, commitAt(t, k, nil, c.base), c.do)
				top := layer[len(layer)-1].DiffID
				key := c.name
				if want[key] == "" {
					want[key] = top
				} else if top != want[key] {
					t.Errorf("%s, %s store %s: the layer is another one", c.name, kind, name)
				}
			}
			unix.Umask(0o022)
		}
	}
}

// TestDropped: POSIX ACLs that a step sets are not in its layer, and that is said.
func TestDropped(t *testing.T) {
	needRoot(t)
	for _, kind := range []snapshot.Kind{snapshot.EROFS, snapshot.Overlay, snapshot.Copy} {
		for want, do := range map[string]func(r snapshottest.Root){
			"": func(r snapshottest.Root) { r.File("a", "1") },
			"POSIX ACLs are left out, as layers of images do not have them: of /d": func(r snapshottest.Root) {
				r.Dir("d")
				r.Xattr("d", "system.posix_acl_access", defaultACL)
				r.Xattr("d", "system.posix_acl_default", defaultACL)
			},
			"POSIX ACLs are left out, as layers of images do not have them: of /a/b and 1 more": func(r snapshottest.Root) {
				r.File("a/b", "1")
				r.Xattr("a/b", "system.posix_acl_access", defaultACL)
				r.File("c", "1")
				r.Xattr("c", "system.posix_acl_access", defaultACL)
			},
		} {
			k := snapshottest.Open(t, t.TempDir(), kind)
			d, err := k.Store.Draft(t.Context(), nil, snapshot.DraftOptions{})
			if err != nil {
				t.Fatal(err)
			}
			f, err := d.Mount(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			do(snapshottest.NewRoot(t, snapshottest.Path(f)))
			if _, err := d.Commit(t.Context(), nil); err != nil || d.Dropped() != want {
				t.Errorf("%s: %q, %v; want %q", kind, d.Dropped(), err, want)
			}
			if err := d.Close(); err != nil {
				t.Error(err)
			}
		}
	}
}

// TestFarTimes: a time that the store's file system cannot keep is in the layer of a file that was copied up, and is no
// change of one that was not.
func TestFarTimes(t *testing.T) {
	needRoot(t)
	times := []time.Time{
		time.Date(2500, 1, 2, 3, 4, 5, 600, time.UTC), time.Date(2300, 1, 1, 0, 0, 0, 1, time.UTC),
		time.Date(1850, 1, 2, 3, 4, 5, 600, time.UTC), time.Date(1, 1, 2, 3, 4, 5, 0, time.UTC),
	}
	for _, kind := range []snapshot.Kind{snapshot.EROFS, snapshot.Overlay, snapshot.Copy} {
		k := snapshottest.Open(t, t.TempDir(), kind)
		changes := k.Store.NewChanges(nil)
		for i, at := range times {
			for _, name := range []string{"kept", "mode"} {
				e := snapshot.Entry{Mode: unix.S_IFREG | 0o644, ModTime: at}
				if err := changes.Put(fmt.Sprint(name, i), e, snapshot.Content{}); err != nil {
					t.Fatal(err)
				}
			}
		}
		base, err := k.Store.Commit(t.Context(), changes, nil)
		if err != nil {
			t.Fatal(err)
		}
		d, err := k.Store.Draft(t.Context(), []image.Layer{base}, snapshot.DraftOptions{})
		if err != nil {
			t.Fatal(err)
		}
		f, err := d.Mount(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for i := range times {
			snapshottest.NewRoot(t, snapshottest.Path(f)).Chmod(fmt.Sprint("mode", i), 0o600)
		}
		layer, err := d.Commit(t.Context(), nil)
		if err = errors.Join(err, d.Close()); err != nil {
			t.Fatal(err)
		}
		view, err := k.Store.View(t.Context(), []image.Layer{layer})
		if err != nil {
			t.Fatal(err)
		}
		list, err := filetree.ReadDir(view, ".")
		if err != nil || len(list) != len(times) {
			t.Errorf("%s: layer of %d files (%v), want %d", kind, len(list), err, len(times))
		}
		for i, e := range list {
			if !e.ModTime.Equal(times[i]) {
				t.Errorf("%s: %s is of %v, want %v", kind, e.Name, e.ModTime.UTC(), times[i])
			}
		}
		if err := view.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestAttributesOfLinks: a tar can say that links, FIFOs and devices have user attributes, Linux cannot. They can still be
// moved and given to others, by all kinds alike.
func TestAttributesOfLinks(t *testing.T) {
	needRoot(t)
	var out bytes.Buffer
	w := tar.NewWriter(&out)
	for _, h := range []tar.Header{
		{Name: "link", Typeflag: tar.TypeSymlink, Linkname: "x"},
		{Name: "fifo", Typeflag: tar.TypeFifo},
		{Name: "null", Typeflag: tar.TypeChar, Devmajor: 1, Devminor: 3},
		{Name: "file", Typeflag: tar.TypeReg},
	} {
		h.PAXRecords = map[string]string{"SCHILY.xattr.user.x": "1"}
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	want := digest.Digest("")
	for _, kind := range []snapshot.Kind{snapshot.EROFS, snapshot.Overlay, snapshot.Copy} {
		k := snapshottest.Open(t, t.TempDir(), kind)
		desc := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayer, Digest: digest.FromBytes(out.Bytes()), Size: int64(out.Len())}
		if _, err := k.Layout.Push(t.Context(), desc, image.Bytes(out.Bytes())); err != nil {
			t.Fatal(err)
		}
		layers := commitAt(t, k, []image.Layer{{Blob: desc, DiffID: desc.Digest}}, func(r snapshottest.Root) {
			for _, name := range []string{"link", "fifo", "null", "file"} {
				r.Chown(name, 1, 2)
				r.Move(name, name+"2")
			}
		})
		if got := layers[1].DiffID; want == "" {
			want = got
		} else if got != want {
			t.Errorf("%s makes another layer", kind)
		}
	}
}

// commitAt adds a layer of what a change does.
func commitAt(t *testing.T, k *snapshottest.Kit, on []image.Layer, change func(r snapshottest.Root)) []image.Layer {
	t.Helper()
	if change == nil {
		return on
	}
	d, err := k.Store.Draft(t.Context(), on, snapshot.DraftOptions{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	f, err := d.Mount(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	before := unix.Umask(0o022)
	change(snapshottest.NewRoot(t, snapshottest.Path(f)))
	unix.Umask(before)
	epoch := time.Unix(1_700_000_000, 0)
	layer, err := d.Commit(t.Context(), &epoch)
	if err != nil {
		t.Fatal(err)
	}
	return append(on[:len(on):len(on)], layer)
}

var surroundingChanges = []struct {
	name     string
	base, do func(r snapshottest.Root)
}{
	{
		name: "new files",
		do: func(r snapshottest.Root) {
			r.File("dir/file", "1")
			r.Dir("dir/sub")
			r.Symlink("file", "dir/link")
			r.Mknod("fifo", unix.S_IFIFO|0o644, 0, 0)
			r.Mknod("null", unix.S_IFCHR|0o666, 1, 3)
		},
	},
	{
		name: "modes",
		base: func(r snapshottest.Root) { r.File("dir/file", "1"); r.Dir("shared"); r.Chmod("shared", 0o2775) },
		do: func(r snapshottest.Root) {
			r.File("shared/file", "1")
			r.Dir("shared/sub")
			r.Chmod("dir/file", 0o4755)
			r.Chown("dir", 5, 6)
		},
	},
	{
		name: "capabilities",
		base: func(r snapshottest.Root) {
			r.File("kept", "1")
			r.Xattr("kept", "security.capability", capability)
			r.File("written", "1")
			r.Xattr("written", "security.capability", capability)
			r.File("moved", "1")
			r.Xattr("moved", "security.capability", capability)
			r.File("owned", "1")
			r.Xattr("owned", "security.capability", capability)
			r.File("linked", "1")
			r.Xattr("linked", "security.capability", capability)
		},
		do: func(r snapshottest.Root) {
			r.Chmod("kept", 0o711)
			r.Write("written", "22", 0)
			r.Move("moved", "elsewhere")
			r.Chown("owned", 5, 5)
			r.Link("linked", "link")
		},
	},
	{
		name: "hard links",
		base: func(r snapshottest.Root) {
			for _, name := range []string{"removed", "untouched"} {
				r.File(name+"/a", "1")
				r.Link(name+"/a", name+"/b")
			}
		},
		do: func(r snapshottest.Root) {
			r.Remove("removed/b")
			r.File("untouched/c", "")
			r.File("new/a", "1")
			r.Link("new/a", "new/b")
		},
	},
	{
		name: "hard links written through",
		base: func(r snapshottest.Root) {
			for _, name := range []string{"mode", "content", "more", "moved", "attribute", "capable", "owner", "touched"} {
				r.File(name+"/a", "1")
				r.Link(name+"/a", name+"/b")
			}
		},
		do: func(r snapshottest.Root) {
			r.Chmod("mode/a", 0o600)
			r.Write("content/b", "2", 0)
			r.Link("more/a", "more/c")
			r.Move("moved/a", "moved/c")
			r.Xattr("attribute/a", "user.x", "1")
			r.Xattr("capable/a", "security.capability", capability)
			r.Chown("owner/a", 5, 5)
			r.Chown("owner/b", 5, 5)
			r.Chmod("touched/a", 0o600)
			r.Chmod("touched/a", 0o644)
		},
	},
	{
		name: "attributes",
		base: func(r snapshottest.Root) {
			r.File("a", "1")
			r.Xattr("a", "user.x", "1")
			r.Dir("d")
			r.Xattr("d", "user.x", "1")
		},
		do: func(r snapshottest.Root) {
			r.Chmod("a", 0o600)
			r.File("d/new", "1")
			r.Xattr("d/new", "user.y", "2")
		},
	},
}
