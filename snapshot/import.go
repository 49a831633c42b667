package snapshot

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/snapshot/layertar"
)

// maxDepth is how many directories an imported file may be in: each is open while what is in it is written.
const maxDepth = 256

// Import writes into an open directory, which is empty and nobody else's, the tree that a tar of [Export] holds, while it comes.
// The tar may be forged: nothing is written outside of the directory, entries have to come in Export's order, devices are refused,
// and what gives power over the machine is taken from files ([Plain] says what). The directory itself stays as it is. seen, if it is not nil,
// gets each part of the tar when it is written.
func Import(ctx context.Context, r io.Reader, dir *os.File, seen func(p *Imported)) (err error) {
	fd, err := unix.Openat(int(dir.Fd()), ".", unix.O_RDONLY|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	u := newUnpacker(ctx, fd, readRights())
	u.place = &PlaceOptions{At: dir.Name(), Owners: true}
	x := &importer{unpacker: u, r: bufio.NewReaderSize(r, 64<<10), open: []importDir{{fd: fd, path: "."}}}
	defer func() {
		for len(x.open) > 0 {
			err = errors.Join(err, x.leave(err))
		}
	}()
	p := layertar.NewParser(x.add)
	var header []byte // what was taken since the last entry, or the beginning
	var headerAt int64
	block := make([]byte, layertar.Block)
	for p.Need > 0 {
		if len(header) == 0 {
			headerAt = p.Off
			err = x.skip(p.Off - x.at)
		} else {
			header, err = x.take(header, p.Off-x.at) // what a header is filled up with
		}
		if err != nil {
			return err
		}
		if p.Need > len(block) {
			block = make([]byte, p.Need) // the parser bounds it
		}
		n, err := io.ReadFull(x.r, block[:p.Need])
		x.at += int64(n)
		if n == 0 && err == io.EOF {
			return p.Finish(x.at)
		}
		if err != nil {
			return err
		}
		header = append(header, block[:n]...)
		entries := x.entries
		x.part = Imported{}
		if err := p.Take(block[:p.Need]); err != nil {
			return err
		}
		if x.entries > entries || p.Need == 0 {
			if seen != nil {
				x.part.At, x.part.Header = headerAt, header
				seen(&x.part)
			}
			header = header[:0]
		}
	}
	_, err = io.Copy(io.Discard, x.r)
	return err
}

// An Imported is a part of a tar that was written, as [ExportParts] gives it. It is valid until the function returns that gets it.
type Imported struct {
	At      int64  // where it begins in the tar
	Header  []byte // of the entry
	Content int64  // bytes of its file that follow
	File    Entry  // with content: its Inode and when it was Changed, as of a [Live]
	Other   bool   // what was written is not all that the header says, or was changed since then: as by a name that a file got
}

// An importer writes the entries of a tar as they come.
type importer struct {
	*unpacker
	r       *bufio.Reader
	at      int64       // in the tar
	open    []importDir // the directories that the last entry is in, the root first
	entries int
	part    Imported // that is written
}

// An importDir is a directory that more may come for.
type importDir struct {
	fd   int
	path string
	e    Entry
}

func (x *importer) skip(n int64) error {
	if n < 0 {
		return errors.New("tar: the parser goes back")
	}
	m, err := io.CopyN(io.Discard, x.r, n)
	x.at += m
	return noEOF(err)
}

// take reads n bytes behind b.
func (x *importer) take(b []byte, n int64) ([]byte, error) {
	if n < 0 || n > layertar.Block {
		return b, errors.New("tar: the parser leaves a header")
	}
	at := len(b)
	b = append(b, make([]byte, n)...)
	m, err := io.ReadFull(x.r, b[at:])
	x.at += int64(m)
	return b, noEOF(err)
}

func noEOF(err error) error {
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// leave gives the last directory its metadata, which what is written into it would change, unless err tells that all failed.
func (x *importer) leave(err error) error {
	d := x.open[len(x.open)-1]
	x.open = x.open[:len(x.open)-1]
	if err == nil && len(x.open) > 0 {
		if err = x.setMetadata(d.fd, d.e); err != nil {
			err = fmt.Errorf("%s: %w", d.path, err)
		}
		return errors.Join(err, closeFD(d.fd))
	}
	return closeFD(d.fd)
}

// add writes one entry.
func (x *importer) add(t *layertar.Header) error {
	if x.entries++; x.entries > filetree.MaxEntries {
		return filetree.ErrTooMany
	}
	if err := x.ctx.Err(); err != nil {
		return err
	}
	path, err := layertar.CleanPath(t.Path)
	if err != nil {
		return err
	}
	parent, base := filetree.Split(path)
	for len(x.open) > 1 && x.open[len(x.open)-1].path != parent {
		if err := x.leave(nil); err != nil {
			return err
		}
	}
	dir := x.open[len(x.open)-1]
	if path == "." || dir.path != parent || len(x.open) > maxDepth {
		return fmt.Errorf("%w: it is not in the directory that came before it", layertar.ErrTar)
	}
	e := unpackEntry{Entry: t.Entry}
	e.Name = base
	if uid, gid := x.owner(e.Entry); uint32(uid) != e.UID || uint32(gid) != e.GID {
		x.part.Other = true
	}
	switch t.Kind {
	case layertar.Directory:
		return x.enter(dir.fd, path, e.Entry)
	case layertar.HardLink:
		x.part.Other = true
		return x.hardLink(dir.fd, base, t.Target)
	case layertar.Symlink:
		e.Mode, e.Link = e.Mode|unix.S_IFLNK, t.Target
	case layertar.FIFO:
		e.Mode |= unix.S_IFIFO
	case layertar.Regular:
		if t.Sparse != nil || t.Size > 0 && t.Offset != x.at {
			return fmt.Errorf("%w: a file in pieces", layertar.ErrTar)
		}
		e.Mode = e.Mode&^(unix.S_ISUID|unix.S_ISGID) | unix.S_IFREG
		delete(e.Xattrs, capability) // the parser made the map for this entry
		e.write = func(dst int, buf []byte) error { return x.content(dst, e.Size, buf) }
		e.wrote = func(st *unix.Stat_t) { x.wrote(st, &e.Entry) }
	default:
		return fmt.Errorf("%w: an entry of type %q has no place here", layertar.ErrTar, t.Kind)
	}
	return x.file(dir.fd, path, &e)
}

// wrote notes what became of a regular file.
func (x *importer) wrote(st *unix.Stat_t, e *Entry) {
	x.part.Content = e.Size
	x.part.File.Inode, x.part.File.Changed = liveInode(st), st.Ctim.Nano()
	sec, nsec := e.UnixTime()
	x.part.Other = x.part.Other || st.Mode != e.Mode || st.Mtim.Sec != sec || st.Mtim.Nsec != int64(nsec)
}

// enter makes a directory, which what comes next may be in.
func (x *importer) enter(parent int, path string, e Entry) error {
	_, base := filetree.Split(path)
	if err := unix.Mkdirat(parent, base, 0o700); err != nil {
		return err
	}
	fd, err := unix.Openat(parent, base, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	delete(e.Xattrs, capability)
	e.Mode |= unix.S_IFDIR
	x.open = append(x.open, importDir{fd, path, e})
	return nil
}

func (x *importer) hardLink(dir int, base, target string) error {
	first, err := layertar.CleanPath(target)
	if err != nil {
		return err
	}
	return x.link(first, dir, base)
}

// content writes what a file holds, leaving holes where blocks are zero.
func (x *importer) content(dst int, size int64, buf []byte) error {
	for at := int64(0); at < size; {
		n, err := io.ReadFull(x.r, buf[:min(size-at, int64(len(buf)))])
		x.at += int64(n)
		if err != nil {
			return noEOF(err)
		}
		if err := writeSparse(dst, buf[:n], at); err != nil {
			return err
		}
		at += int64(n)
	}
	return nil
}
