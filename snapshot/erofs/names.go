package erofs

import (
	"hash/maphash"
	"unsafe"
)

// A layer may have millions of names. They are kept without a pointer for each, as the collector of garbage would
// follow all of them again and again: bytes lie one after the other in one piece, and a table finds them.

// An indexName is an entry of a directory. Directories are known by the number of their name, files by their inode's.
type indexName struct {
	text   uint32 // where its bytes are in names.text
	parent int32
	inode  int32 // -1: replaced by a later name
	length uint8
}

// names are all names of a layer, the first that of the root.
type names struct {
	list  []indexName
	text  []byte  // never written again, so that strings may refer to it
	table []int32 // open addressing, with linear probing: numbers of names; 0 is free, as the root is found otherwise
	used  int
	seed  maphash.Seed
}

func newNames() names {
	return names{list: []indexName{{}}, table: make([]int32, 64), seed: maphash.MakeSeed()}
}

// name returns the bytes of a name.
func (n *names) name(id int32) string {
	e := &n.list[id]
	return n.string(e.text, int(e.length))
}

// string returns bytes that keep has kept.
func (n *names) string(at uint32, length int) string {
	if length == 0 {
		return ""
	}
	return unsafe.String(&n.text[at], length)
}

// keep appends bytes and returns where they are.
func (n *names) keep(s string) uint32 {
	at := uint32(len(n.text)) // maxMeta is far less
	n.text = append(n.text, s...)
	return at
}

// slot is where in the table a name in a directory is, or would be.
func (n *names) slot(dir int32, base string) int {
	mask := len(n.table) - 1
	h := maphash.String(n.seed, base) ^ uint64(dir)*0x9e3779b97f4a7c15
	for i := int(h^h>>32) & mask; ; i = (i + 1) & mask {
		id := n.table[i]
		if id == 0 || n.list[id].parent == dir && n.name(id) == base {
			return i
		}
	}
}

// at finds a name in a directory.
func (n *names) at(dir int32, base string) (id int32, ok bool) {
	id = n.table[n.slot(dir, base)]
	return id, id != 0
}

// set enters a name in the table, in the place of an earlier one that is the same.
func (n *names) set(id int32) {
	slot := n.slot(n.list[id].parent, n.name(id))
	if n.table[slot] == 0 {
		n.used++
	}
	n.table[slot] = id
	if n.used*4 > len(n.table)*3 {
		old := n.table
		n.table = make([]int32, 2*len(old))
		for _, id := range old {
			if id != 0 {
				n.table[n.slot(n.list[id].parent, n.name(id))] = id
			}
		}
	}
}
