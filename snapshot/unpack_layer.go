package snapshot

import (
	"context"
	"errors"
	"os"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"

	"github.com/forge-build/forge/snapshot/erofs"
)

// unpackLayer unpacks one layer as overlayfs wants it: whiteouts are devices 0:0, opaque directories have an attribute.
func (s *Store) unpackLayer(ctx context.Context, layer image.Layer, path string) error {
	return s.withIndex(ctx, layer, func(e unpackEntry) (err error) {
		if err := os.Mkdir(path, 0o700); err != nil {
			return err
		}
		root, err := openDirectory(path)
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, root.Close()) }()
		u := newUnpacker(ctx, int(root.Fd()), s.rights())
		u.space = s.layout.CheckSpace
		return u.unpack(e)
	})
}

// withIndex opens a layer as the source of an unpacker.
func (s *Store) withIndex(ctx context.Context, layer image.Layer, do func(root unpackEntry) error) (err error) {
	x, err := s.index(ctx, alone(layer))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.Close()) }()
	tar, err := s.layout.OpenTar(ctx, layer)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tar.Close()) }()
	i, err := x.Root()
	if err != nil {
		return err
	}
	e, err := unpackIndex(x, tar, ".", &i)
	if err != nil {
		return err
	}
	return do(e)
}

// unpackIndex makes an index the source of an unpacker.
func unpackIndex(x *erofs.Metadata, tar *os.File, name string, i *erofs.Inode) (unpackEntry, error) {
	e := unpackEntry{whiteout: i.IsWhiteout()}
	if e.whiteout {
		e.Name, e.Mode = name, i.Mode
		return e, nil
	}
	var err error
	if e.Entry, err = x.Entry(name, i); err != nil {
		return e, err
	}
	switch {
	case i.IsDir():
		e.opaque, e.implied = i.Opaque(), i.Implied()
		e.list = func() ([]unpackEntry, error) { return listIndex(x, tar, i) }
	case e.Mode&unix.S_IFMT == unix.S_IFREG && e.Size > 0:
		extents, _, err := x.Extents(i)
		if err != nil {
			return e, err
		}
		e.write = func(dst int, buf []byte) error { return copyExtents(dst, tar, extents, buf) }
	}
	return e, nil
}

func listIndex(x *erofs.Metadata, tar *os.File, dir *erofs.Inode) ([]unpackEntry, error) {
	var entries []unpackEntry
	err := x.List(dir, func(name []byte, slot uint64) error {
		i, err := x.Inode(slot)
		if err != nil {
			return err
		}
		e, err := unpackIndex(x, tar, string(name), &i)
		entries = append(entries, e)
		return err
	})
	return entries, err
}
