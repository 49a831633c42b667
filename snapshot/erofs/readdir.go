package erofs

import (
	"encoding/binary"
	"fmt"

	"github.com/forge-build/forge/snapshot/filetree"
)

// A dirBlock is a block of a directory.
type dirBlock []byte

// dirBlock returns a block of a directory, checked so far that names can be taken from it.
func (x *Metadata) dirBlock(i *Inode, block int64) (dirBlock, error) {
	b, err := x.content(i, block)
	if err != nil {
		return nil, err
	}
	if len(b) < direntSize {
		return nil, fmt.Errorf("%w: directory in slot %d", ErrDamaged, i.Slot)
	}
	first := int(binary.LittleEndian.Uint16(b[8:]))
	if first == 0 || first%direntSize != 0 || first > len(b) {
		return nil, fmt.Errorf("%w: directory in slot %d", ErrDamaged, i.Slot)
	}
	for at, end := direntSize, first; at <= first; at += direntSize {
		next := len(b)
		if at < first {
			next = int(binary.LittleEndian.Uint16(b[at+8:]))
		}
		if next < end || next > len(b) {
			return nil, fmt.Errorf("%w: directory in slot %d", ErrDamaged, i.Slot)
		}
		end = next
	}
	return b, nil
}

func (b dirBlock) len() int { return int(binary.LittleEndian.Uint16(b[8:])) / direntSize }

// at returns entry k, its name as bytes of the index.
func (b dirBlock) at(k int) (name []byte, slot uint64) {
	le := binary.LittleEndian
	e := b[k*direntSize:]
	from, end := int(le.Uint16(e[8:])), len(b)
	if k+1 < b.len() {
		end = int(le.Uint16(e[direntSize+8:]))
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

// Child finds a name in a directory. Blocks are sorted, and names in a block.
func (x *Metadata) Child(dir *Inode, name string) (i Inode, ok bool, err error) {
	lo, hi := int64(0), (dir.Size+blockSize-1)>>blockBits
	var in dirBlock // the last block whose first name is not behind the one that is sought
	for lo < hi {
		mid := (lo + hi) / 2
		b, err := x.dirBlock(dir, mid)
		if err != nil {
			return Inode{}, false, err
		}
		if first, _ := b.at(0); string(first) > name {
			hi = mid
		} else {
			lo, in = mid+1, b
		}
	}
	if in == nil {
		return Inode{}, false, nil
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
		return Inode{}, false, nil
	}
	n, slot := in.at(k)
	if string(n) != name {
		return Inode{}, false, nil
	}
	i, err = x.Inode(slot)
	return i, err == nil, err
}

// A Cursor goes through a directory in order of names, but for the directory itself and its parent.
type Cursor struct {
	metadata *Metadata
	dir      *Inode
	next     int64 // block
	block    dirBlock
	at       int // in block

	Name []byte // valid until the index is closed; nil at the end
	Slot uint64 // of its inode
}

// Cursor begins to read a directory. The cursor is before the first name.
func (x *Metadata) Cursor(dir *Inode) Cursor { return Cursor{metadata: x, dir: dir} }

// Next goes to the next name.
func (c *Cursor) Next() error {
	for before := c.Name; ; before = c.Name {
		for c.block == nil || c.at == c.block.len() {
			if c.next<<blockBits >= c.dir.Size {
				c.Name = nil
				return nil
			}
			var err error
			if c.block, err = c.metadata.dirBlock(c.dir, c.next); err != nil {
				return err
			}
			c.next, c.at = c.next+1, 0
		}
		c.Name, c.Slot = c.block.at(c.at)
		c.at++
		if !ValidName(c.Name) || before != nil && string(before) >= string(c.Name) {
			return fmt.Errorf("%w: name %.32q in the directory in slot %d", ErrDamaged, c.Name, c.dir.Slot)
		}
		if string(c.Name) != "." && string(c.Name) != ".." {
			return nil
		}
	}
}

// List hands on what is in a directory, sorted by name, but for the directory itself and its parent. The name is valid
// until the index is closed.
func (x *Metadata) List(dir *Inode, yield func(name []byte, slot uint64) error) error {
	c := x.Cursor(dir)
	for {
		if err := c.Next(); err != nil || c.Name == nil {
			return err
		}
		if err := yield(c.Name, c.Slot); err != nil {
			return err
		}
	}
}

// ValidName reports whether a name can be one of a file.
func ValidName(name []byte) bool {
	if len(name) == 0 || len(name) > filetree.MaxName {
		return false
	}
	for _, c := range name {
		if c == 0 || c == '/' {
			return false
		}
	}
	return true
}
