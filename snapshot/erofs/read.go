package erofs

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"os"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

// Metadata is the index of a layer, or of layers that were merged, being read: one of ours, though perhaps damaged. What it says is checked before it is
// believed, so that damage is an error. Safe for concurrent use.
type Metadata struct {
	data   []byte // the file system
	file   []byte // that and its seal: mapped, or in memory
	mapped bool
	tars   []byte // their slots
}

var (
	// ErrDamaged says that an index is not as it was written.
	ErrDamaged = errors.New("the index is damaged")

	// ErrOutdated says that an index was written by an earlier version of this program. It is ErrDamaged, too: the way out
	// of both is to make the index from the tar.
	ErrOutdated = fmt.Errorf("%w: it is of an earlier version", ErrDamaged)
)

// Open maps an index and checks all of it against its seal.
func Open(f *os.File) (*Metadata, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	if size < superAt+blockSize+sealSize || size != int64(int(size)) {
		return nil, fmt.Errorf("%w: %d bytes", ErrDamaged, size)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("%s: mmap: %w", f.Name(), err)
	}
	x, err := New(data)
	if err != nil {
		return nil, errors.Join(err, unix.Munmap(data))
	}
	x.mapped = true
	return x, nil
}

// New reads an index in memory, which is checked as by Open.
func New(data []byte) (*Metadata, error) {
	if len(data) < superAt+blockSize+sealSize {
		return nil, fmt.Errorf("%w: %d bytes", ErrDamaged, len(data))
	}
	le := binary.LittleEndian
	s := data[superAt:]
	tars := int(le.Uint16(s[86:]))
	start := inodesAt(tars)
	var head [superAt + blockSize]byte
	copy(head[:], data)
	clear(head[superAt+4:][:4])
	switch {
	case le.Uint32(s) != superMagic || checksum(head[:]) != le.Uint32(s[4:]):
		return nil, fmt.Errorf("%w: checksum", ErrDamaged)
	case string(bytes.TrimRight(s[volumeAt:volumeAt+16], "\x00")) != version:
		return nil, ErrOutdated
	case s[12] != blockBits || tars == 0 || int64(le.Uint16(s[14:]))<<slotBits != start || le.Uint32(s[80:]) != featureIncompat:
		return nil, fmt.Errorf("%w: not written by this program", ErrDamaged)
	}
	end := len(data) - sealSize
	if int64(end) < start {
		return nil, fmt.Errorf("%w: %d bytes", ErrDamaged, len(data))
	}
	if int64(le.Uint32(s[36:]))<<blockBits != int64(end) {
		return nil, fmt.Errorf("%w: %d bytes", ErrDamaged, len(data))
	}
	if !bytes.Equal(data[end:], seal(crc32.Checksum(data[:end], castagnoli()))) {
		return nil, fmt.Errorf("%w: checksum", ErrDamaged)
	}
	return &Metadata{data: data[:end], file: data, tars: data[deviceAt:][:tars*deviceSize]}, nil
}

// Files is how many inodes there are.
func (x *Metadata) Files() uint64 { return binary.LittleEndian.Uint64(x.data[superAt+16:]) }

// Tars are those in which files are.
func (x *Metadata) Tars() ([]Tar, error) {
	list := make([]Tar, len(x.tars)/deviceSize)
	for k := range list {
		d := x.tars[k*deviceSize:]
		if _, err := hex.Decode(list[k].DiffID[:], d[:2*len(list[k].DiffID)]); err != nil {
			return nil, fmt.Errorf("%w: name of tar %d", ErrDamaged, k)
		}
		list[k].Size = x.tarSize(k)
	}
	return list, nil
}

// tarSize is how many bytes the blocks of a tar take.
func (x *Metadata) tarSize(k int) int64 {
	return int64(binary.LittleEndian.Uint32(x.tars[k*deviceSize+64:])) << blockBits
}

// Identity tells this index from others of the same layer: the checksum of its super block and its size.
func (x *Metadata) Identity() []byte {
	return binary.LittleEndian.AppendUint64(bytes.Clone(x.data[superAt+4:superAt+8]), uint64(len(x.data)))
}

// Close gives back the memory; nothing that was read from the index may be used any more.
func (x *Metadata) Close() error {
	if !x.mapped {
		return nil
	}
	x.mapped = false
	file := x.file
	x.data, x.file = nil, nil
	return unix.Munmap(file)
}

// start is the offset of the first inode, the root's.
func (x *Metadata) start() int64 { return inodesAt(len(x.tars) / deviceSize) }

// An Inode is an inode as it is in the index.
type Inode struct {
	Slot     uint32 // its number: equal for the names of one file
	Mode     uint32
	UID, GID uint32
	Nlink    uint32
	Size     int64
	layout   uint16
	contents uint32 // block of the contents, chunk format or device
	body     int64  // offset of what follows inode and attributes
	flags    uint8
	nsec     uint32
	sec      int64
}

// IsDir reports whether it is a directory.
func (i *Inode) IsDir() bool { return i.Mode&unix.S_IFMT == unix.S_IFDIR }

// IsWhiteout reports whether it says that something below is removed.
func (i *Inode) IsWhiteout() bool { return i.Mode&unix.S_IFMT == unix.S_IFCHR && i.contents == 0 }

// Implied reports whether the layer has only something in the directory, so that what lies below says its metadata.
func (i *Inode) Implied() bool { return i.flags&flagImplied != 0 }

// Implies reports, of the root, whether any directory below it is implied.
func (i *Inode) Implies() bool { return i.flags&flagImplies != 0 }

// Opaque reports whether the directory hides what lies below.
func (i *Inode) Opaque() bool { return i.flags&flagOpaque != 0 }

// Root reads the root's inode.
func (x *Metadata) Root() (Inode, error) {
	i, err := x.Inode(uint64(x.start() >> slotBits))
	if err == nil && !i.IsDir() {
		err = fmt.Errorf("%w: the root is no directory", ErrDamaged)
	}
	return i, err
}

// Inode reads the inode in a slot, which is what directories name.
func (x *Metadata) Inode(slot uint64) (Inode, error) {
	at := int64(slot) << slotBits
	if slot > math.MaxUint32 || at < x.start() || at+inodeSize > int64(len(x.data)) {
		return Inode{}, fmt.Errorf("%w: no inode in slot %d", ErrDamaged, slot)
	}
	le, b := binary.LittleEndian, x.data[at:at+inodeSize]
	i := Inode{
		Slot: uint32(slot), layout: le.Uint16(b) >> 1 & 7, Mode: uint32(le.Uint16(b[4:])), Size: int64(le.Uint64(b[8:])),
		contents: le.Uint32(b[16:]), UID: le.Uint32(b[24:]), GID: le.Uint32(b[28:]),
		sec: int64(le.Uint64(b[32:])), nsec: le.Uint32(b[40:]), Nlink: le.Uint32(b[44:]), flags: b[offInodeFlags],
	}
	i.body = at + inodeSize + xattrSize(b)
	if le.Uint16(b)&1 == 0 || i.Size < 0 || i.nsec >= 1e9 || i.body > int64(len(x.data)) {
		return Inode{}, fmt.Errorf("%w: inode in slot %d", ErrDamaged, slot)
	}
	return i, nil
}

// Entry describes a file of the layer. Its inode number is the slot. Of a directory there is no size.
func (x *Metadata) Entry(name string, i *Inode) (e filetree.Entry, err error) {
	e = filetree.Entry{
		Name: name, Mode: i.Mode, UID: i.UID, GID: i.GID, Size: i.Size, ModTime: time.Unix(i.sec, int64(i.nsec)), Nlink: i.Nlink, Inode: uint64(i.Slot),
	}
	switch i.Mode & unix.S_IFMT {
	case unix.S_IFDIR:
		e.Size = 0 // that of the index means nothing to others
	case unix.S_IFLNK:
		if e.Link, err = x.readlink(i); err != nil {
			return e, err
		}
	case unix.S_IFCHR, unix.S_IFBLK:
		major, minor := decodeDev(i.contents)
		e.Rdev = unix.Mkdev(major, minor)
	}
	e.Xattrs, err = x.xattrs(i)
	return e, err
}

// xattrSize is the size of the attributes behind an inode.
func xattrSize(inode []byte) int64 {
	n := binary.LittleEndian.Uint16(inode[2:])
	if n == 0 {
		return 0
	}
	return xattrHead + 4*(int64(n)-1)
}

// xattrs returns the attributes of a file that belong to it; nil if there are none.
func (x *Metadata) xattrs(i *Inode) (map[string]string, error) {
	at := int64(i.Slot)<<slotBits + inodeSize
	if i.body == at {
		return nil, nil
	}
	var m map[string]string
	err := DecodeXattrs(x.data[at+xattrHead:i.body], func(name, value string) {
		if filetree.KeepXattr(name) {
			if m == nil {
				m = make(map[string]string)
			}
			m[name] = value
		}
	})
	if err != nil {
		return nil, fmt.Errorf("%w: slot %d: %w", ErrDamaged, i.Slot, err)
	}
	return m, nil
}

// content returns a piece of what the index holds of a file's contents, from a block boundary to the next, or less at the end.
func (x *Metadata) content(i *Inode, block int64) ([]byte, error) {
	from := block << blockBits
	n := min(i.Size-from, blockSize)
	at := int64(i.contents)<<blockBits + from
	if i.layout == flatInline && n < blockSize {
		at = i.body
	}
	if n <= 0 || from < 0 || at < 0 || at+n < at || at+n > int64(len(x.data)) || i.layout == chunkBased {
		return nil, fmt.Errorf("%w: contents of slot %d", ErrDamaged, i.Slot)
	}
	return x.data[at : at+n], nil
}

// readlink returns the target of a symbolic link.
func (x *Metadata) readlink(i *Inode) (string, error) {
	if i.Size == 0 || i.Size > filetree.MaxPath {
		return "", fmt.Errorf("%w: link in slot %d", ErrDamaged, i.Slot)
	}
	var b []byte
	for block := int64(0); block<<blockBits < i.Size; block++ {
		c, err := x.content(i, block)
		if err != nil {
			return "", err
		}
		b = append(b, c...)
	}
	return string(b), nil
}

// Extents returns in which tar the data of a regular file is, 0 being the first, and where in it, in order.
func (x *Metadata) Extents(i *Inode) (list []filetree.Extent, tar int, err error) {
	if i.Size == 0 {
		return nil, 0, nil
	}
	damaged := fmt.Errorf("%w: chunks of slot %d", ErrDamaged, i.Slot)
	if i.layout != chunkBased || i.contents&^chunkBitsMask != chunkFormat {
		return nil, 0, damaged
	}
	chunk := int64(blockSize) << (i.contents & chunkBitsMask)
	at := align(i.body, chunkSize)
	n := (i.Size-1)/chunk + 1
	if n > (int64(len(x.data))-at)/chunkSize {
		return nil, 0, damaged
	}
	device := 0 // of the pieces so far
	for k := range n {
		c := x.data[at+k*chunkSize:]
		e := filetree.Extent{Size: min(chunk, i.Size-k*chunk), At: -1}
		if block := binary.LittleEndian.Uint32(c[4:]); block != hole {
			d := int(binary.LittleEndian.Uint16(c[2:]))
			if d == 0 || d*deviceSize > len(x.tars) || device != 0 && d != device {
				return nil, 0, damaged
			}
			device = d
			if e.At = int64(block) << blockBits; e.At+e.Size > x.tarSize(d-1) {
				return nil, 0, damaged
			}
		}
		if last := len(list) - 1; last >= 0 && joins(list[last], e) {
			list[last].Size += e.Size
			continue
		}
		list = append(list, e)
	}
	return list, max(device-1, 0), nil
}

// joins reports whether next goes on where e ends.
func joins(e, next filetree.Extent) bool {
	if e.At < 0 {
		return next.At < 0
	}
	return next.At == e.At+e.Size
}
