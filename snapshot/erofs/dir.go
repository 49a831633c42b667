package erofs

import (
	"encoding/binary"
)

// A dirEntry is a name in a directory of an index.
type dirEntry struct {
	name string
	slot uint32
	kind byte
}

// entries returns what is in a directory, itself and its parent among the others: EROFS wants all of them sorted, and some
// names come before ".".
func (e *encoder) entries(dir int32) []dirEntry {
	self, up := dirEntry{".", e.placeOf(dir).slot, 2}, dirEntry{"..", e.placeOf(e.List[dir].Parent).slot, 2}
	list := e.dirs[:0]
	dot, dotdot := false, false
	for _, kid := range e.kids.Of(dir) {
		name := e.Base(kid)
		if !dot && name > "." {
			list, dot = append(list, self), true
		}
		if !dotdot && name > ".." {
			list, dotdot = append(list, up), true
		}
		list = append(list, dirEntry{name, e.placeOf(kid).slot, direntType(uint32(e.file(kid).mode))})
	}
	if !dot {
		list = append(list, self)
	}
	if !dotdot {
		list = append(list, up)
	}
	e.dirs = list
	return list
}

// dirBlockLen is how many entries fit into one block, and the bytes they take.
func dirBlockLen(list []dirEntry) (n, used int) {
	for n < len(list) && used+direntSize+len(list[n].name) <= blockSize {
		used += direntSize + len(list[n].name)
		n++
	}
	return n, used
}

// dirSize is the size of a directory with these entries. Only the last block is not counted whole.
func dirSize(list []dirEntry) int64 {
	size := int64(0)
	for {
		n, used := dirBlockLen(list)
		if list = list[n:]; len(list) == 0 {
			return size + int64(used)
		}
		size += blockSize
	}
}

// writeDir writes those blocks of a directory that begin at from or later and before to. In a block, all entries come
// before all names; a name ends where the next one begins, or at a zero.
func (e *encoder) writeDir(list []dirEntry, from, to int64) {
	for at := int64(0); at < to; at += blockSize {
		n, used := dirBlockLen(list)
		if at >= from {
			var b [blockSize]byte
			nameAt := n * direntSize
			for i, d := range list[:n] {
				ent := b[i*direntSize:]
				binary.LittleEndian.PutUint64(ent, uint64(d.slot))
				binary.LittleEndian.PutUint16(ent[8:], uint16(nameAt))
				ent[10] = d.kind
				nameAt += copy(b[nameAt:], d.name)
			}
			if n < len(list) {
				used = blockSize
			}
			e.write(b[:used])
		}
		list = list[n:]
	}
}
