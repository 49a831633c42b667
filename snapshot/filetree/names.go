package filetree

import (
	"encoding/binary"
	"hash/maphash"
	"unsafe"
)

// A Name is an entry of a directory. Directories are known by the number of their name.
type Name struct {
	Parent int32
	File   int32 // what the owner knows the file by; -1: replaced by a later name
	text   uint32
	length uint8
	Flags  uint8 // the owner's
}

// Names are the names of a tree, which may have millions. They are kept without a pointer for each, as the collector of garbage
// would follow all of them again and again: bytes lie one after the other in one piece, and a table finds them.
type Names struct {
	List []Name // the first is the root

	text  []byte  // never written again, so that strings may refer to it
	table []int32 // open addressing, with linear probing: numbers of names; 0 is free, as the root is found otherwise
	used  int
	seed  maphash.Seed
	spill *Spill

	recent      map[string]uint32 // of KeepSet
	recentBytes int
}

// NewNames are those of an empty root, kept in spill when they are many.
func NewNames(spill *Spill) Names {
	return Names{List: []Name{{}}, text: make([]byte, 1), table: make([]int32, 64), seed: maphash.MakeSeed(), spill: spill}
}

// Base is the name of that number, "" of the root.
func (n *Names) Base(id int32) string {
	e := &n.List[id]
	return n.Text(e.text, int(e.length))
}

// Text returns bytes that Keep has kept.
func (n *Names) Text(at uint32, length int) string {
	if length == 0 {
		return ""
	}
	return unsafe.String(&n.text[at], length)
}

// Keep keeps bytes and returns where they are, which is never 0. The caller sees to it that there are less than 4 GiB.
func (n *Names) Keep(s string) uint32 {
	at := uint32(len(n.text))
	n.text = append(Grow(n.spill, n.text, len(s)), s...)
	return at
}

// KeepSet is Keep for what many files have the same of, which SetText returns. What was kept lately is not kept again.
func (n *Names) KeepSet(s string) uint32 {
	const most = 1 << 20 // bytes that are remembered
	at, ok := n.recent[s]
	if ok {
		return at
	}
	if n.recentBytes += len(s) + 64; n.recentBytes > most || n.recent == nil {
		n.recent, n.recentBytes = map[string]uint32{}, len(s)+64
	}
	at = uint32(len(n.text))
	n.text = append(binary.LittleEndian.AppendUint32(Grow(n.spill, n.text, 4+len(s)), uint32(len(s))), s...)
	n.recent[s] = at
	return at
}

// SetText returns bytes that KeepSet has kept; "" at 0.
func (n *Names) SetText(at uint32) string {
	if at == 0 {
		return ""
	}
	return n.Text(at+4, int(binary.LittleEndian.Uint32(n.text[at:])))
}

// Size is how many bytes are kept.
func (n *Names) Size() int { return len(n.text) }

// slot is where in the table a name in a directory is, or would be.
func (n *Names) slot(dir int32, base string) int {
	mask := len(n.table) - 1
	h := maphash.String(n.seed, base) ^ uint64(dir)*0x9e3779b97f4a7c15
	for i := int(h^h>>32) & mask; ; i = (i + 1) & mask {
		id := n.table[i]
		if id == 0 || n.List[id].Parent == dir && n.Base(id) == base {
			return i
		}
	}
}

// At finds a name in a directory.
func (n *Names) At(dir int32, base string) (id int32, ok bool) {
	id = n.table[n.slot(dir, base)]
	return id, id != 0
}

// Add enters a name of at most MaxName bytes in a directory and returns its number. An earlier one that is the same is gone, with
// all that was in it.
func (n *Names) Add(dir int32, base string, file int32) int32 {
	slot, id := n.slot(dir, base), int32(len(n.List))
	e := Name{Parent: dir, File: file, length: uint8(len(base))}
	if old := n.table[slot]; old != 0 {
		n.List[old].File = -1
		e.text = n.List[old].text
	} else {
		e.text = n.Keep(base)
		n.used++
	}
	n.List = append(Grow(n.spill, n.List, 1), e)
	n.table[slot] = id
	if n.used*4 > len(n.table)*3 {
		old := n.table
		n.table = Zeros[int32](n.spill, 2*len(old))
		for _, id := range old {
			if id != 0 {
				n.table[n.slot(n.List[id].Parent, n.Base(id))] = id
			}
		}
		Free(n.spill, old)
	}
	return id
}

// Reachable reports whether a name can still be reached: it and its directories were not replaced.
func (n *Names) Reachable(id int32) bool {
	for id != 0 {
		if n.List[id].File < 0 {
			return false
		}
		id = n.List[id].Parent
	}
	return true
}

// Children are the names of each directory that were not replaced, in no order.
func (n *Names) Children() Children {
	first := Zeros[int32](n.spill, len(n.List)+2)
	for _, e := range n.List[1:] {
		if e.File >= 0 {
			first[e.Parent+2]++
		}
	}
	for i := 2; i < len(first); i++ {
		first[i] += first[i-1]
	}
	// first[dir+1] is where the next name of dir goes: in the end where those of dir+1 begin.
	kids := Zeros[int32](n.spill, int(first[len(first)-1]))
	for i, e := range n.List[1:] {
		if e.File >= 0 {
			kids[first[e.Parent+1]] = int32(i + 1)
			first[e.Parent+1]++
		}
	}
	return Children{kids, first}
}

// Children lists names by directory.
type Children struct {
	kids  []int32 // names, by directory
	first []int32 // by name of a directory: where its kids begin
}

// Of returns the names in a directory; they may be sorted in place.
func (c *Children) Of(dir int32) []int32 { return c.kids[c.first[dir]:c.first[dir+1]] }
