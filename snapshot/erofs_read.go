package snapshot

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// An index is an index being read: one of ours, though perhaps damaged. What it says is checked before it is believed,
// so that damage is an error. Safe for concurrent use.
type index struct {
	data   []byte // mapped, or in memory
	mapped bool
	blocks uint32 // of the tar
}

// errDamaged says that an index contradicts itself.
var errDamaged = errors.New("the index is damaged")

// openIndex maps an index.
func openIndex(f *os.File) (*index, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	size := info.Size()
	if size < erofsInodes || size != int64(int(size)) {
		return nil, fmt.Errorf("%s: %w: %d bytes", f.Name(), errDamaged, size)
	}
	data, err := unix.Mmap(int(f.Fd()), 0, int(size), unix.PROT_READ, unix.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("%s: mmap: %w", f.Name(), err)
	}
	x, err := newIndex(data)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%s: %w", f.Name(), err), unix.Munmap(data))
	}
	x.mapped = true
	return x, nil
}

// newIndex reads an index in memory.
func newIndex(data []byte) (*index, error) {
	if len(data) < erofsInodes {
		return nil, fmt.Errorf("%w: %d bytes", errDamaged, len(data))
	}
	le := binary.LittleEndian
	s := data[erofsSuper:]
	var head [erofsInodes]byte
	copy(head[:], data)
	clear(head[erofsSuper+4:][:4])
	switch {
	case le.Uint32(s) != erofsMagic || erofsChecksum(head[:]) != le.Uint32(s[4:]):
		return nil, fmt.Errorf("%w: checksum", errDamaged)
	case s[12] != erofsBlockBits || le.Uint16(s[14:]) != erofsInodes>>erofsSlotBits || le.Uint32(s[80:]) != erofsIncompat:
		return nil, fmt.Errorf("%w: not written by this program", errDamaged)
	}
	return &index{data: data, blocks: le.Uint32(data[erofsDevice+64:])}, nil
}

// Close gives back the memory; nothing that was read from the index may be used any more.
func (x *index) Close() error {
	if !x.mapped {
		return nil
	}
	x.mapped = false
	data := x.data
	x.data = nil
	return unix.Munmap(data)
}

// rootSlot is the slot of the root's inode.
const rootSlot = erofsInodes >> erofsSlotBits

// A diskInode is an inode as it is in the index.
type diskInode struct {
	slot           uint32
	mode, uid, gid uint32
	nlink          uint32
	nsec           uint32
	sec            int64
	size           int64
	layout         uint16
	u              uint32 // block of the contents, chunk format or device
	body           int64  // offset of what follows inode and attributes
	flags          uint8
}

func (i *diskInode) isDir() bool { return i.mode&modeType == modeDir }

// isWhiteout tells whether the inode says that something below is removed.
func (i *diskInode) isWhiteout() bool { return i.mode&modeType == modeChar && i.u == 0 }

// inode reads the inode in a slot.
func (x *index) inode(slot uint32) (diskInode, error) {
	at := int64(slot) << erofsSlotBits
	if at < erofsInodes || at+erofsInode > int64(len(x.data)) {
		return diskInode{}, fmt.Errorf("%w: no inode in slot %d", errDamaged, slot)
	}
	le, b := binary.LittleEndian, x.data[at:at+erofsInode]
	i := diskInode{
		slot: slot, layout: le.Uint16(b) >> 1 & 7, mode: uint32(le.Uint16(b[4:])), size: int64(le.Uint64(b[8:])),
		u: le.Uint32(b[16:]), uid: le.Uint32(b[24:]), gid: le.Uint32(b[28:]),
		sec: int64(le.Uint64(b[32:])), nsec: le.Uint32(b[40:]), nlink: le.Uint32(b[44:]), flags: b[offInodeFlags],
	}
	i.body = at + erofsInode + xattrSize(b)
	if le.Uint16(b)&1 == 0 || i.size < 0 || i.nsec >= 1e9 || i.body > int64(len(x.data)) {
		return diskInode{}, fmt.Errorf("%w: inode in slot %d", errDamaged, slot)
	}
	return i, nil
}

// xattrSize is the size of the attributes behind an inode.
func xattrSize(inode []byte) int64 {
	n := binary.LittleEndian.Uint16(inode[2:])
	if n == 0 {
		return 0
	}
	return erofsXattrHead + 4*(int64(n)-1)
}

// xattrs returns the attributes of a file that belong to it; nil if there are none.
func (x *index) xattrs(i *diskInode) (map[string]string, error) {
	at := int64(i.slot)<<erofsSlotBits + erofsInode
	if i.body == at {
		return nil, nil
	}
	var m map[string]string
	err := decodeXattrs(x.data[at+erofsXattrHead:i.body], func(name, value string) {
		if keepXattr(name) {
			if m == nil {
				m = make(map[string]string)
			}
			m[name] = value
		}
	})
	if err != nil {
		return nil, fmt.Errorf("%w: slot %d: %w", errDamaged, i.slot, err)
	}
	return m, nil
}

// content returns a piece of what the index holds of a file's contents, from a block boundary to the next, or less at the end.
func (x *index) content(i *diskInode, block int64) ([]byte, error) {
	from := block << erofsBlockBits
	n := min(i.size-from, erofsBlock)
	at := int64(i.u)<<erofsBlockBits + from
	if i.layout == erofsFlatInline && n < erofsBlock {
		at = i.body
	}
	if n <= 0 || from < 0 || at < 0 || at+n < at || at+n > int64(len(x.data)) || i.layout == erofsChunkBased {
		return nil, fmt.Errorf("%w: contents of slot %d", errDamaged, i.slot)
	}
	return x.data[at : at+n], nil
}

// readlink returns the target of a symbolic link.
func (x *index) readlink(i *diskInode) (string, error) {
	if i.size == 0 || i.size > maxPath {
		return "", fmt.Errorf("%w: link in slot %d", errDamaged, i.slot)
	}
	var b []byte
	for block := int64(0); block<<erofsBlockBits < i.size; block++ {
		c, err := x.content(i, block)
		if err != nil {
			return "", err
		}
		b = append(b, c...)
	}
	return string(b), nil
}

// A dirBlock is a block of a directory.
type dirBlock []byte

// dirBlock returns a block of a directory, checked so far that names can be taken from it.
func (x *index) dirBlock(i *diskInode, block int64) (dirBlock, error) {
	b, err := x.content(i, block)
	if err != nil {
		return nil, err
	}
	if len(b) < erofsDirent {
		return nil, fmt.Errorf("%w: directory in slot %d", errDamaged, i.slot)
	}
	first := int(binary.LittleEndian.Uint16(b[8:]))
	if first == 0 || first%erofsDirent != 0 || first > len(b) {
		return nil, fmt.Errorf("%w: directory in slot %d", errDamaged, i.slot)
	}
	for at, end := erofsDirent, first; at <= first; at += erofsDirent {
		next := len(b)
		if at < first {
			next = int(binary.LittleEndian.Uint16(b[at+8:]))
		}
		if next < end || next > len(b) {
			return nil, fmt.Errorf("%w: directory in slot %d", errDamaged, i.slot)
		}
		end = next
	}
	return b, nil
}

func (b dirBlock) len() int { return int(binary.LittleEndian.Uint16(b[8:])) / erofsDirent }

// at returns entry k, its name as bytes of the index.
func (b dirBlock) at(k int) (name []byte, slot uint64) {
	le := binary.LittleEndian
	e := b[k*erofsDirent:]
	from, end := int(le.Uint16(e[8:])), len(b)
	if k+1 < b.len() {
		end = int(le.Uint16(e[erofsDirent+8:]))
	}
	name = b[from:end]
	if k+1 == b.len() {
		for n, c := range name {
			if c == 0 {
				name = name[:n]
				break
			}
		}
	}
	return name, le.Uint64(e)
}

// child finds a name in a directory. Blocks are sorted, and names in a block.
func (x *index) child(dir *diskInode, name string) (i diskInode, ok bool, err error) {
	lo, hi := int64(0), (dir.size+erofsBlock-1)>>erofsBlockBits
	var in dirBlock // the last block whose first name is not behind the one that is sought
	for lo < hi {
		mid := (lo + hi) / 2
		b, err := x.dirBlock(dir, mid)
		if err != nil {
			return diskInode{}, false, err
		}
		if first, _ := b.at(0); string(first) > name {
			hi = mid
		} else {
			lo, in = mid+1, b
		}
	}
	if in == nil {
		return diskInode{}, false, nil
	}
	k, end := 0, in.len()
	for k < end {
		mid := (k + end) / 2
		if n, _ := in.at(mid); string(n) < name {
			k = mid + 1
		} else {
			end = mid
		}
	}
	if k == in.len() {
		return diskInode{}, false, nil
	}
	n, slot := in.at(k)
	if string(n) != name {
		return diskInode{}, false, nil
	}
	i, err = x.entry(slot)
	return i, err == nil, err
}

// entry reads the inode that a directory names.
func (x *index) entry(slot uint64) (diskInode, error) {
	if slot != uint64(uint32(slot)) {
		return diskInode{}, fmt.Errorf("%w: no inode in slot %d", errDamaged, slot)
	}
	return x.inode(uint32(slot))
}

// A dirCursor goes through a directory in order of names, but for the directory itself and its parent.
type dirCursor struct {
	index *index
	dir   *diskInode
	next  int64 // block
	block dirBlock
	at    int // in block

	name []byte // valid until the index is closed; nil at the end
	slot uint64
}

// cursor begins to read a directory. The cursor is before the first name.
func (x *index) cursor(dir *diskInode) dirCursor { return dirCursor{index: x, dir: dir} }

// advance goes to the next name.
func (c *dirCursor) advance() error {
	for before := c.name; ; before = c.name {
		for c.block == nil || c.at == c.block.len() {
			if c.next<<erofsBlockBits >= c.dir.size {
				c.name = nil
				return nil
			}
			var err error
			if c.block, err = c.index.dirBlock(c.dir, c.next); err != nil {
				return err
			}
			c.next, c.at = c.next+1, 0
		}
		c.name, c.slot = c.block.at(c.at)
		c.at++
		if !validName(c.name) || before != nil && string(before) >= string(c.name) {
			return fmt.Errorf("%w: name %.32q in the directory in slot %d", errDamaged, c.name, c.dir.slot)
		}
		if string(c.name) != "." && string(c.name) != ".." {
			return nil
		}
	}
}

// list hands on what is in a directory, sorted by name, but for the directory itself and its parent. The name is valid
// until the index is closed.
func (x *index) list(dir *diskInode, yield func(name []byte, slot uint64) error) error {
	c := x.cursor(dir)
	for {
		if err := c.advance(); err != nil || c.name == nil {
			return err
		}
		if err := yield(c.name, c.slot); err != nil {
			return err
		}
	}
}

// validName tells whether a name can be one of a file.
func validName(name []byte) bool {
	if len(name) == 0 || len(name) > maxName {
		return false
	}
	for _, c := range name {
		if c == 0 || c == '/' {
			return false
		}
	}
	return true
}

// An extent is a stretch of a file that lies in one piece of the tar, or is a hole.
type extent struct {
	size int64
	at   int64 // in the tar; -1: a hole
}

// extents returns where the data of a regular file is, in order.
func (x *index) extents(i *diskInode) ([]extent, error) {
	if i.size == 0 {
		return nil, nil
	}
	damaged := fmt.Errorf("%w: chunks of slot %d", errDamaged, i.slot)
	if i.layout != erofsChunkBased || i.u&^erofsChunkBits != erofsChunkFormat {
		return nil, damaged
	}
	chunk := int64(erofsBlock) << (i.u & erofsChunkBits)
	at := align(i.body, erofsChunk)
	n := (i.size-1)/chunk + 1
	if n > (int64(len(x.data))-at)/erofsChunk {
		return nil, damaged
	}
	var list []extent
	for k := range n {
		c := x.data[at+k*erofsChunk:]
		e := extent{size: min(chunk, i.size-k*chunk), at: -1}
		if block := binary.LittleEndian.Uint32(c[4:]); block != erofsHole {
			if e.at = int64(block) << erofsBlockBits; e.at+e.size > int64(x.blocks)<<erofsBlockBits {
				return nil, damaged
			}
		}
		if last := len(list) - 1; last >= 0 && list[last].joins(e) {
			list[last].size += e.size
			continue
		}
		list = append(list, e)
	}
	return list, nil
}

// joins tells whether next goes on where e ends.
func (e extent) joins(next extent) bool {
	if e.at < 0 {
		return next.at < 0
	}
	return next.at == e.at+e.size
}
