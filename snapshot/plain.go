package snapshot

import (
	"fmt"
	"maps"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

const capability = "security.capability" // an extended attribute

// A PlainTree is a tree without what gives power over the machine that it is written to: device nodes are not in it, and no
// file is set-uid, set-gid or has capabilities. A set-gid directory stays one. It remembers what Lists left out. One
// goroutine at a time may List.
type PlainTree struct {
	Tree
	devices, powers noted
}

// Plain makes a PlainTree of a tree.
func Plain(t Tree) *PlainTree { return &PlainTree{Tree: t} }

// List calls fn for what is in a directory, but for device nodes.
func (t *PlainTree) List(name string, fn func(e *Entry, sum *filetree.Sum) error) error {
	return t.Tree.List(name, func(e *Entry, sum *filetree.Sum) error {
		if isDevice(e.Mode) {
			t.devices.add(filetree.Join(name, e.Name))
			return nil
		}
		if e.Mode&unix.S_IFMT != unix.S_IFREG {
			return fn(e, sum)
		}
		plain := *e
		plain.Mode &^= unix.S_ISUID | unix.S_ISGID
		if _, ok := e.Xattrs[capability]; ok {
			plain.Xattrs = maps.Clone(e.Xattrs)
			delete(plain.Xattrs, capability)
		}
		if plain.Mode != e.Mode || len(plain.Xattrs) != len(e.Xattrs) {
			t.powers.add(filetree.Join(name, e.Name))
		}
		return fn(&plain, sum)
	})
}

// LeftOut says, in phrases for the user, what was left out; "" if nothing was.
func (t *PlainTree) LeftOut() string {
	var what []string
	if t.devices.n > 0 {
		what = append(what, "device nodes: "+t.devices.String())
	}
	if t.powers.n > 0 {
		what = append(what, "set-uid and set-gid bits and capabilities: of "+t.powers.String())
	}
	return strings.Join(what, "; ")
}

// noted are paths of which the first is named and the others are counted.
type noted struct {
	first string
	last  string // what is noted twice in a row counts once
	n     int
}

func (l *noted) add(path string) {
	if path == l.last {
		return
	}
	if l.n == 0 {
		l.first = path
	}
	l.n, l.last = l.n+1, path
}

func (l *noted) String() string {
	if l.n == 1 {
		return "/" + l.first
	}
	return fmt.Sprintf("/%s and %d more", l.first, l.n-1)
}
