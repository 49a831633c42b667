package erofs

import (
	"encoding/binary"

	"github.com/forge-build/forge/snapshot/filetree"
)

// What stands for a directory and its parent among the names in it.
const (
	dot    = -1
	dotdot = -2
)

// entries returns the names in a directory, itself and its parent among the others: EROFS wants all of them sorted, and some
// names come before ".".
func (e *encoder) entries(dir int32) []int32 {
	kids := e.kids.Of(dir)
	list := filetree.Grow(e.spill, e.dirs[:0], len(kids)+2)
	next := int32(dot)
	for _, kid := range kids {
		for next >= dotdot && e.Base(kid) > dotName(next) {
			list, next = append(list, next), next-1
		}
		list = append(list, kid)
	}
	for ; next >= dotdot; next-- {
		list = append(list, next)
	}
	e.dirs = list
	return list
}

// dotName is the name of a directory in itself, or of its parent.
func dotName(id int32) string { return ".."[:-id] }

// entryName is the name of one of entries.
func (e *encoder) entryName(id int32) string {
	if id < 0 {
		return dotName(id)
	}
	return e.Base(id)
}

// dirBlockLen is how many entries fit into one block, and the bytes they take.
func (e *encoder) dirBlockLen(list []int32) (n, used int) {
	for ; n < len(list); n++ {
		next := used + direntSize + len(e.entryName(list[n]))
		if next > blockSize {
			break
		}
		used = next
	}
	return n, used
}

// dirSize is the size of a directory. Only the last block is not counted whole.
func (e *encoder) dirSize(dir int32) int64 {
	list := e.entries(dir)
	size := int64(0)
	for {
		n, used := e.dirBlockLen(list)
		if list = list[n:]; len(list) == 0 {
			return size + int64(used)
		}
		size += blockSize
	}
}

// writeDir writes those blocks of a directory that begin at from or later and before to. In a block, all entries come
// before all names; a name ends where the next one begins, or at a zero.
func (e *encoder) writeDir(dir int32, from, to int64) {
	list := e.entries(dir)
	for at := int64(0); at < to; at += blockSize {
		n, used := e.dirBlockLen(list)
		if at >= from {
			b := e.clean(blockSize)
			nameAt := n * direntSize
			for i, id := range list[:n] {
				file := id
				switch id {
				case dot:
					file = dir
				case dotdot:
					file = e.List[dir].Parent
				}
				ent := b[i*direntSize:]
				binary.LittleEndian.PutUint64(ent, uint64(e.placeOf(file).slot))
				binary.LittleEndian.PutUint16(ent[8:], uint16(nameAt))
				ent[10] = direntType(uint32(e.file(file).mode))
				nameAt += copy(b[nameAt:], e.entryName(id))
			}
			if n < len(list) {
				used = blockSize
			}
			e.write(b[:used])
		}
		list = list[n:]
	}
}
