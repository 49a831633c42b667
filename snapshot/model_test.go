package snapshot

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"path"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/snapshot/layertar"
)

// A modelFile is a file of a file system in memory, unpacked in the plainest way.
type modelFile struct {
	Entry
	content string
	kids    map[string]*modelFile
}

func modelDir() *modelFile {
	return &modelFile{Entry: Entry{Mode: unix.S_IFDIR | 0o755, ModTime: time.Unix(0, 0)}, kids: make(map[string]*modelFile)}
}

// A model is a tree of such files.
type model struct{ root *modelFile }

// walk goes down a path of directories, through links, making what is missing.
func (m *model) walk(name string, create bool, hops int) (*modelFile, error) {
	if hops > 40 {
		return nil, errors.New("loop")
	}
	stack := []*modelFile{m.root}
	at := func() *modelFile { return stack[len(stack)-1] }
	parts := strings.Split(name, "/")
	for i, part := range parts {
		switch part {
		case "", ".":
			continue
		case "..":
			stack = stack[:max(1, len(stack)-1)]
			continue
		}
		kid := at().kids[part]
		switch {
		case kid == nil && !create:
			return nil, unix.ENOENT
		case kid == nil:
			kid = modelDir()
			at().kids[part] = kid
		case kid.Mode&unix.S_IFMT == unix.S_IFLNK:
			// Where the link leads, spelled out from the root, and on from there.
			base := "/"
			if !strings.HasPrefix(kid.Link, "/") {
				base = m.pathOf(at())
			}
			return m.walk(base+"/"+kid.Link+"/"+strings.Join(parts[i+1:], "/"), create, hops+1)
		case kid.kids == nil:
			return nil, unix.ENOTDIR
		}
		stack = append(stack, kid)
	}
	return at(), nil
}

func (m *model) pathOf(f *modelFile) string {
	var find func(dir *modelFile, at string) string
	find = func(dir *modelFile, at string) string {
		if dir == f {
			return at
		}
		for name, kid := range dir.kids {
			if kid.kids != nil {
				if p := find(kid, at+"/"+name); p != "" {
					return p
				}
			}
		}
		return ""
	}
	return cmpOr(find(m.root, "/"), "/")
}

func cmpOr(a, b string) string {
	if a != "" {
		return a
	}
	return b
}

// unpackModel unpacks a tar that archive/tar reads, and describes the result as listTree does.
func unpackModel(data []byte) ([]string, error) {
	m := &model{modelDir()}
	for tr := tar.NewReader(bytes.NewReader(data)); ; {
		h, err := tr.Next()
		if err == io.EOF {
			break
		}
		if err != nil {
			return nil, err
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			return nil, err
		}
		if err := m.unpack(h, string(b)); err != nil {
			return nil, err
		}
	}
	var lines []string
	names := make(map[*modelFile]string)
	var list func(at string, f *modelFile)
	list = func(at string, f *modelFile) {
		f.Size = int64(max(len(f.content), len(f.Link)))
		line := describe(at, f.Entry, f.content)
		if first, ok := names[f]; ok {
			line += " = " + first
		} else {
			names[f] = at
		}
		lines = append(lines, line)
		var kids []string
		for name := range f.kids {
			kids = append(kids, name)
		}
		slices.Sort(kids)
		for _, name := range kids {
			list(filetree.Join(at, name), f.kids[name])
		}
	}
	list(".", m.root)
	return lines, nil
}

func (m *model) unpack(h *tar.Header, content string) error {
	name := path.Clean("/" + h.Name)
	dir, base := path.Split(name)
	if strings.Contains(dir, "/.wh..wh.") || strings.HasPrefix(base, ".wh..wh.") && base != layertar.WhiteoutOpaque {
		return nil
	}
	if h.Typeflag == tar.TypeXGlobalHeader {
		return nil
	}
	var target *modelFile
	if h.Typeflag == tar.TypeLink && !strings.HasPrefix(base, layertar.WhiteoutPrefix) {
		from, to := path.Split(path.Clean("/" + h.Linkname))
		in, err := m.walk(from, false, 0)
		if err != nil {
			return err
		}
		if target = in.kids[to]; target == nil || target.kids != nil {
			return errors.New("no such file to link to")
		}
	}
	parent, err := m.walk(dir, true, 0)
	if err != nil {
		return err
	}
	if strings.HasPrefix(base, layertar.WhiteoutPrefix) {
		return nil // nothing lies below
	}
	if target != nil {
		if old := parent.kids[base]; old != target {
			parent.kids[base] = target
		}
		return nil
	}
	f := &modelFile{content: content, Entry: Entry{
		Mode: uint32(h.Mode & filetree.ModePerm), UID: uint32(h.Uid), GID: uint32(h.Gid), ModTime: h.ModTime,
	}}
	kinds := map[byte]uint32{tar.TypeReg: unix.S_IFREG, '7': unix.S_IFREG, 'S': unix.S_IFREG, tar.TypeSymlink: unix.S_IFLNK, tar.TypeChar: unix.S_IFCHR, tar.TypeBlock: unix.S_IFBLK, tar.TypeDir: unix.S_IFDIR, tar.TypeFifo: unix.S_IFIFO}
	kind := kinds[h.Typeflag]
	if strings.HasSuffix(h.Name, "/") && kind == unix.S_IFREG {
		kind = unix.S_IFDIR
	}
	f.Mode |= kind
	switch kind {
	case 0:
		return errors.New("unknown type")
	case unix.S_IFLNK:
		f.Link = h.Linkname
	case unix.S_IFCHR, unix.S_IFBLK:
		f.Rdev = unix.Mkdev(uint32(h.Devmajor), uint32(h.Devminor))
	case unix.S_IFDIR:
		f.content, f.kids = "", make(map[string]*modelFile)
	}
	for key, value := range h.PAXRecords {
		if x, ok := strings.CutPrefix(key, "SCHILY.xattr."); ok && filetree.KeepXattr(x) && filetree.HasXattrs(f.Mode) {
			if f.Xattrs == nil {
				f.Xattrs = make(map[string]string)
			}
			f.Xattrs[x] = value
		}
	}
	if base == "" {
		f.kids = m.root.kids
		*m.root = *f
		return nil
	}
	if old := parent.kids[base]; old != nil && old.kids != nil && kind == unix.S_IFDIR {
		f.kids = old.kids
		*old = *f
		return nil
	}
	parent.kids[base] = f
	return nil
}
