package buildkit

import (
	"cmp"
	"slices"

	"github.com/forge-build/forge/event/solve"
)

// maxNews is how many bytes of memory the logs, figures and warnings of one build may take until they are forgotten: a step may print without end,
// and a client warn.
const maxNews = 32 << 20

// news is what has happened in a build, from the beginning. The zero value is ready. A slice that Status has taken of list stays as it is.
type news struct {
	list []numbered
	told int // how many there were, with those that are forgotten
	size int // about how many bytes of memory those take that may be forgotten
}

// A numbered status is one of all those of its build, from 0.
type numbered struct {
	*solve.Status
	number int
}

// size is about how much memory a status takes; 0 if it is not to be forgotten, because it says how steps stand.
func (n numbered) size() int {
	if len(n.Vertexes) > 0 {
		return 0
	}
	const each = 256
	size := each * (1 + len(n.Logs) + len(n.Statuses) + len(n.Warnings))
	for _, l := range n.Logs {
		size += len(l.Data)
	}
	for _, w := range n.Warnings {
		size += len(w.Short)
	}
	return size
}

// add adds a status. Where all take too much memory, the oldest of those that may be forgotten give way to a line that says so.
func (n *news) add(s *solve.Status) {
	last := numbered{s, n.told}
	n.list, n.told, n.size = append(n.list, last), n.told+1, n.size+last.size()
	if n.size <= maxNews {
		return
	}
	var kept []numbered
	clipped := false
	for _, one := range n.list {
		size := one.size()
		if size == 0 || n.size <= maxNews/2 {
			kept = append(kept, one)
			continue
		}
		n.size -= size
		if !clipped && len(one.Logs) > 0 {
			clipped = true
			line := one.Logs[0]
			line.Data = []byte("[output clipped: the client reads too slowly, or asks too late]\n")
			mark := numbered{&solve.Status{Logs: []solve.VertexLog{line}}, one.number}
			kept, n.size = append(kept, mark), n.size+mark.size()
		}
	}
	n.list = kept
}

// since returns what there is from a number on, and the number from which on to ask the next time.
func (n *news) since(number int) (list []numbered, next int) {
	i, _ := slices.BinarySearchFunc(n.list, number, func(one numbered, number int) int { return cmp.Compare(one.number, number) })
	return n.list[i:], n.told
}
