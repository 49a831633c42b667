package erofs

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"math/bits"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

// Encode writes the index of a layer's tar. Equal files give equal bytes, in whatever order they came.
func (b *Builder) Encode(w io.Writer, tar Tar) error {
	return b.EncodeMerged(w, tar.DiffID, []Tar{tar})
}

// EncodeMerged writes one index of several tars, which are called by their places in the list. The id tells it from others.
func (b *Builder) EncodeMerged(w io.Writer, id filetree.Sum, tars []Tar) error {
	if len(tars) > maxTars {
		return fmt.Errorf("index of %d layers, more than %d", len(tars), maxTars)
	}
	for _, tar := range tars {
		if tar.blocks() >= hole {
			return fmt.Errorf("layer of %d bytes is too big to be mounted", tar.Size)
		}
	}
	sum := crc32.New(castagnoli())
	e := encoder{Builder: b, w: bufio.NewWriterSize(io.MultiWriter(w, sum), 256<<10)}
	e.kids = e.Children()
	e.start = inodesAt(len(tars))
	if err := e.place(); err != nil {
		return err
	}
	e.noteImplied()
	if e.end>>blockBits >= hole {
		return fmt.Errorf("index of %d bytes is too big to be mounted", e.end)
	}
	e.write(superblock(uint64(len(e.order)), uint32(e.end>>blockBits), id, tars))
	for _, n := range e.order {
		e.writeInode(n)
	}
	for _, n := range e.order {
		e.writeBlocks(n)
	}
	e.pad(e.end)
	if err := e.w.Flush(); err != nil { // tells of earlier errors, too
		return err
	}
	_, err := w.Write(seal(sum.Sum32()))
	return err
}

// An encoder lays out an index: first all inodes, with their attributes, chunk indexes and short contents behind
// them, directory after directory; then the contents that are longer.
type encoder struct {
	*Builder
	w   *bufio.Writer
	pos int64

	start int64 // of the inodes
	end   int64

	kids  filetree.Children
	order []int32 // names, each that of another inode, as they are laid out
	byIno []placed
	dirs  []int32 // reused: see entries

	zeros, scratch [blockSize]byte // what is written would be allocated each time
}

// A placed inode has its place in the index.
type placed struct {
	slot  uint32 // offset / 32; 0: not yet
	nlink uint32
	block uint32 // of contents that do not lie behind the inode
	size  int64  // of the contents that the index holds, a directory's entries or a link's target
}

// place gives every inode its place, breadth first, so that the files of a directory lie together.
func (e *encoder) place() error {
	e.byIno = filetree.Zeros[placed](e.spill, len(e.inodes))
	e.order = append(filetree.Grow(e.spill, []int32(nil), len(e.inodes)), 0)
	e.byIno[0].nlink = 2
	for i := 0; i < len(e.order); i++ {
		dir := e.order[i]
		if !e.isDir(dir) {
			continue
		}
		kids := e.kids.Of(dir)
		slices.SortFunc(kids, func(a, b int32) int { return strings.Compare(e.Base(a), e.Base(b)) })
		for _, kid := range kids {
			p := &e.byIno[e.List[kid].File]
			if p.nlink++; p.nlink == 1 {
				e.order = append(e.order, kid)
			}
			if e.isDir(kid) {
				p.nlink++ // its own "."
				e.byIno[e.List[dir].File].nlink++
			}
		}
	}
	pos := e.start
	for _, n := range e.order {
		p := e.placeOf(n)
		p.size = e.contentSize(n)
		head := e.headSize(n)
		size := head + e.tail(n, head)
		if size > head && pos&(blockSize-1)+size > blockSize {
			pos = align(pos, blockSize) // contents behind an inode may not cross into another block
		}
		if pos>>slotBits > math.MaxUint32 {
			return fmt.Errorf("index of more than %d GiB", math.MaxUint32>>(30-slotBits))
		}
		p.slot = uint32(pos >> slotBits)
		pos = align(pos+size, 1<<slotBits)
	}
	pos = align(pos, blockSize)
	for _, n := range e.order {
		if p := e.placeOf(n); p.size > 0 && e.tail(n, e.headSize(n)) == 0 {
			p.block = uint32(pos >> blockBits)
			pos += align(p.size, blockSize)
		} else if whole := p.size &^ (blockSize - 1); whole > 0 {
			p.block = uint32(pos >> blockBits)
			pos += whole
		}
	}
	e.end = pos
	return nil
}

func align(n, to int64) int64 { return (n + to - 1) &^ (to - 1) }

func (e *encoder) placeOf(name int32) *placed { return &e.byIno[e.List[name].File] }

func (e *encoder) file(name int32) *indexInode { return &e.inodes[e.List[name].File] }

// xattrsOf returns all attributes of a file, overlayfs's too.
func (e *encoder) xattrsOf(i *indexInode) string {
	if i.flags&flagOpaque == 0 {
		return e.SetText(i.xattrs)
	}
	opaque, _ := appendXattr(nil, "trusted.overlay.opaque", "y") // its prefix is known and it is short
	return string(opaque) + e.SetText(i.xattrs)
}

// headSize is the size of an inode with its attributes and chunk indexes.
func (e *encoder) headSize(name int32) int64 {
	i := e.file(name)
	size := int64(inodeSize)
	if x := len(e.xattrsOf(i)); x > 0 {
		size += xattrHead + int64(x)
	}
	if i.fileType() == unix.S_IFREG && i.size > 0 {
		_, n := e.cut(name)
		size = align(size, chunkSize) + chunkSize*n
	}
	return size
}

// contentSize is the size of what the index holds of a file's contents.
func (e *encoder) contentSize(name int32) int64 {
	switch i := e.file(name); i.mode & unix.S_IFMT {
	case unix.S_IFDIR:
		return e.dirSize(name)
	case unix.S_IFLNK:
		return i.size
	}
	return 0
}

// tail is how much of the contents lies behind the inode: what is over whole blocks, if it fits into one with the inode.
func (e *encoder) tail(name int32, head int64) int64 {
	p, tail := e.placeOf(name), e.placeOf(name).size&(blockSize-1)
	if head+tail > blockSize || p.size > tail && !e.isDir(name) {
		return 0 // Linux wants links in one piece
	}
	return tail
}

// cut returns how a regular file is cut: into how many chunks of 1<<chunkBits blocks.
func (e *encoder) cut(name int32) (chunkBits uint8, n int64) {
	i := e.file(name)
	if i.flags&flagSparse != 0 {
		s := e.sparseMap(i)
		return s.bits, int64(len(s.chunks))
	}
	blocks := uint64(i.size+blockSize-1) >> blockBits
	chunkBits = uint8(min(bits.Len64(blocks-1), chunkBitsMask))
	return chunkBits, int64((blocks-1)>>chunkBits + 1)
}

// writeChunks writes where the chunks of a regular file are.
func (e *encoder) writeChunks(name int32) {
	e.pad(align(e.pos, chunkSize))
	i := e.file(name)
	var s sparseMap
	isSparse := i.flags&flagSparse != 0
	if isSparse {
		s = e.sparseMap(i)
	}
	chunkBits, n := e.cut(name)
	block := uint32(i.offset >> blockBits)
	for k := range n {
		at := block + uint32(k<<chunkBits)
		if isSparse {
			at = s.chunks[k]
		}
		c := e.clean(chunkSize)
		if binary.LittleEndian.PutUint32(c[4:], at); at != hole {
			binary.LittleEndian.PutUint16(c[2:], i.tar+1)
		}
		e.write(c)
	}
}

func (e *encoder) writeInode(name int32) {
	i, p := e.file(name), e.placeOf(name)
	e.pad(int64(p.slot) << slotBits)
	head := e.headSize(name)
	tail := e.tail(name, head)
	xattrs := e.xattrsOf(i)

	b := e.clean(inodeSize)
	le := binary.LittleEndian
	layout := uint16(flatPlain)
	size := i.size
	switch i.mode & unix.S_IFMT {
	case unix.S_IFREG:
		if size > 0 {
			layout = chunkBased
			chunkBits, _ := e.cut(name)
			le.PutUint32(b[16:], uint32(chunkBits)|chunkFormat)
		}
	case unix.S_IFDIR, unix.S_IFLNK:
		if size = p.size; tail > 0 {
			layout = flatInline
		}
		le.PutUint32(b[16:], p.block)
	case unix.S_IFCHR, unix.S_IFBLK:
		le.PutUint32(b[16:], i.extra)
	}
	le.PutUint16(b[0:], 1|layout<<1)
	if xattrs != "" {
		le.PutUint16(b[2:], uint16(len(xattrs)/4+1))
	}
	le.PutUint16(b[4:], i.mode)
	le.PutUint64(b[8:], uint64(size))
	le.PutUint32(b[20:], p.slot) // i_ino, for a stat of 32 bits
	le.PutUint32(b[24:], i.uid)
	le.PutUint32(b[28:], i.gid)
	le.PutUint64(b[32:], uint64(i.sec))
	le.PutUint32(b[40:], i.nsec)
	le.PutUint32(b[44:], p.nlink)
	b[offInodeFlags] = i.flags &^ flagSparse
	e.write(b)

	if xattrs != "" {
		e.write(e.zeros[:xattrHead])
		e.writeString(xattrs)
	}
	if layout == chunkBased {
		e.writeChunks(name)
	}
	if tail > 0 {
		e.writeContent(name, p.size-tail, p.size)
	}
}

// writeBlocks writes the contents of a file that do not lie behind its inode.
func (e *encoder) writeBlocks(name int32) {
	p := e.placeOf(name)
	if end := p.size - e.tail(name, e.headSize(name)); end > 0 {
		e.pad(int64(p.block) << blockBits)
		e.writeContent(name, 0, end)
	}
}

// writeContent writes a part of the contents that the index holds; from and to are at block boundaries or the end.
func (e *encoder) writeContent(name int32, from, to int64) {
	if !e.isDir(name) {
		e.writeString(e.link(e.file(name))[from:to])
		return
	}
	e.writeDir(name, from, to)
}

func (e *encoder) write(b []byte) {
	n, _ := e.w.Write(b) // Flush tells
	e.pos += int64(n)
}

func (e *encoder) writeString(s string) {
	n, _ := e.w.WriteString(s)
	e.pos += int64(n)
}

// clean returns n bytes to be written, zero so far and good until it is called again.
func (e *encoder) clean(n int) []byte {
	clear(e.scratch[:n])
	return e.scratch[:n]
}

// pad writes zeros up to an offset.
func (e *encoder) pad(to int64) {
	for e.pos < to {
		e.write(e.zeros[:min(to-e.pos, blockSize)])
	}
}

// noteImplied sets flagImplies.
func (e *encoder) noteImplied() {
	e.inodes[0].flags &^= flagImplies
	for _, n := range e.order[1:] {
		if e.file(n).flags&flagImplied != 0 {
			e.inodes[0].flags |= flagImplies
			return
		}
	}
}
