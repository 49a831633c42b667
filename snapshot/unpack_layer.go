package snapshot

import (
	"context"
	"errors"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
)

// unpackLayer unpacks one layer as overlayfs wants it: whiteouts are devices 0:0, opaque directories have an attribute.
func (s *Store) unpackLayer(ctx context.Context, layer image.Layer, path string) (err error) {
	x, err := s.index(ctx, layer)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, x.Close()) }()
	tar, err := s.layout.OpenTar(ctx, layer)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, tar.Close()) }()
	if err := os.Mkdir(path, 0o700); err != nil {
		return err
	}
	root, err := openDirectory(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, root.Close()) }()
	i, err := x.inode(rootSlot)
	if err != nil {
		return err
	}
	e, err := unpackIndex(x, tar, ".", &i)
	if err != nil {
		return err
	}
	return newUnpacker(ctx, int(root.Fd()), s.rights()).unpack(e)
}

// unpackIndex makes an index the source of an unpacker.
func unpackIndex(x *index, tar *os.File, name string, i *diskInode) (unpackEntry, error) {
	e := unpackEntry{whiteout: i.isWhiteout()}
	if e.whiteout {
		e.Name, e.Mode = name, i.mode
		return e, nil
	}
	var err error
	if e.Entry, err = entryOf(x, name, i); err != nil {
		return e, err
	}
	switch {
	case i.isDir():
		e.opaque = i.flags&flagOpaque != 0
		e.list = func() ([]unpackEntry, error) { return listIndex(x, tar, i) }
	case e.Mode&modeType == modeRegular && e.Size > 0:
		extents, err := x.extents(i)
		if err != nil {
			return e, err
		}
		e.write = func(dst int, buf []byte) error { return copyExtents(dst, tar, extents, buf) }
	}
	return e, nil
}

func listIndex(x *index, tar *os.File, dir *diskInode) ([]unpackEntry, error) {
	var entries []unpackEntry
	err := x.list(dir, func(name []byte, slot uint64) error {
		i, err := x.entry(slot)
		if err != nil {
			return err
		}
		e, err := unpackIndex(x, tar, string(name), &i)
		entries = append(entries, e)
		return err
	})
	return entries, err
}

// entryOf is the metadata of an inode.
func entryOf(x *index, name string, i *diskInode) (e Entry, err error) {
	e = Entry{
		Name: name, Mode: i.mode, UID: i.uid, GID: i.gid, ModTime: time.Unix(i.sec, int64(i.nsec)),
		Nlink: i.nlink, Inode: uint64(i.slot),
	}
	switch i.mode & modeType {
	case modeRegular:
		e.Size = i.size
	case modeLink:
		if e.Link, err = x.readlink(i); err != nil {
			return e, err
		}
	case modeChar, modeBlock:
		major, minor := decodeDev(i.u)
		e.Rdev = unix.Mkdev(major, minor)
	}
	e.Xattrs, err = x.xattrs(i)
	return e, err
}
