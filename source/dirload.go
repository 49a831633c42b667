package source

import (
	"context"
	"fmt"
	"io/fs"
	"slices"
	"strings"
	"sync"
	"unsafe"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/internal/openat"
	"github.com/forge-build/forge/snapshot/filetree"
)

// walkers is how many threads read a directory tree: a fixed number, since what is remembered must not depend on it and
// more than two gain little over a warm cache.
const walkers = 2

// A dirLoader is what one thread needs to read directories. Memory is taken in pieces that many directories share.
type dirLoader struct {
	d       *Dir
	ignore  *patterns // nil hides nothing
	buf     []byte    // of getdents
	scratch []dirFile
	order   []int32
	names   []byte    // what is left of the last piece
	files   []dirFile // likewise
	nodes   []dirNode // likewise
}

// loader takes a loader; the caller puts it back into loaders.
func (d *Dir) loader() (*dirLoader, error) {
	if l, ok := d.tools.loaders.Get().(*dirLoader); ok {
		return l, nil
	}
	ignore, err := newPatterns(d.ignore)
	if err != nil {
		return nil, fmt.Errorf("ignore patterns: %w", err)
	}
	return &dirLoader{d: d, ignore: ignore, buf: make([]byte, 32<<10)}, nil
}

// read makes sure that n has been read.
func (d *Dir) read(n *dirNode) error {
	if n.ready.Load() {
		return n.err
	}
	l, err := d.loader()
	if err != nil {
		return err
	}
	defer d.tools.loaders.Put(l)
	return l.read(n)
}

// Load reads all directories beneath name on two threads.
func (d *Dir) Load(ctx context.Context, name string) error {
	n, err := d.dir("readdir", name)
	if err != nil {
		return err
	}
	q := &dirQueue{todo: []*dirNode{n}, open: 1}
	q.more.L = &q.mu
	g, ctx := errgroup.WithContext(ctx)
	stop := context.AfterFunc(ctx, func() { q.end() })
	defer stop()
	for range walkers {
		g.Go(func() error {
			l, err := d.loader()
			if err != nil {
				return err
			}
			defer d.tools.loaders.Put(l)
			for n := q.take(); n != nil; n = q.take() {
				if err := l.read(n); err != nil {
					return err
				}
				q.done(n.files)
			}
			return ctx.Err()
		})
	}
	return g.Wait()
}

// A dirQueue holds the directories that are still to be read.
type dirQueue struct {
	mu   sync.Mutex // guards all below
	more sync.Cond
	todo []*dirNode
	open int // in todo or being read
	shut bool
}

// take waits for a directory; nil if there are no more.
func (q *dirQueue) take() *dirNode {
	q.mu.Lock()
	defer q.mu.Unlock()
	for len(q.todo) == 0 && q.open > 0 && !q.shut {
		q.more.Wait()
	}
	if q.shut || len(q.todo) == 0 {
		return nil
	}
	n := q.todo[len(q.todo)-1]
	q.todo = q.todo[:len(q.todo)-1]
	return n
}

// done takes a directory off and puts those in it on, so that they are taken in the order of a walk.
func (q *dirQueue) done(files []dirFile) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.open--
	for i := len(files) - 1; i >= 0; i-- { // slices.Backward would read all of a file, while somebody may be giving it its digest
		if files[i].sub != nil {
			q.todo = append(q.todo, files[i].sub)
			q.open++
		}
	}
	q.more.Broadcast()
}

// end makes take return nil.
func (q *dirQueue) end() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.shut = true
	q.more.Broadcast()
}

// read reads n unless it has been. An error stays: what could not be read once is not read differently later.
func (l *dirLoader) read(n *dirNode) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.ready.Load() {
		n.err = l.load(n)
		n.ready.Store(true)
	}
	return n.err
}

// load reads the names in n and what stat says about each.
func (l *dirLoader) load(n *dirNode) error {
	fd, err := l.d.openat(n.path, unix.O_RDONLY|unix.O_DIRECTORY|unix.O_NOFOLLOW|unix.O_NONBLOCK|unix.O_CLOEXEC)
	if err != nil {
		return err
	}
	defer func() { _ = unix.Close(fd) }()
	l.scratch = l.scratch[:0]
	var failed error // of add, which names the file
	err = filetree.ReadNames(fd, l.buf, func(name []byte, kind uint8) error {
		failed = l.add(n, fd, name, kind)
		return failed
	})
	if failed != nil {
		return failed
	}
	if err != nil {
		return &fs.PathError{Op: "readdir", Path: n.path, Err: err}
	}
	l.keep(n)
	return l.reopen(n)
}

// add puts a name of a directory, which a zero byte follows, into scratch, unless it is hidden or already gone.
func (l *dirLoader) add(n *dirNode, fd int, name []byte, kind uint8) error {
	var hidden bool
	var skip matched
	if l.ignore != nil {
		if ctx := l.d.ctx; ctx != nil && ctx.Err() != nil { // many patterns take milliseconds for each name
			return context.Cause(ctx)
		}
		var err error
		rel := filetree.Join(n.path, string(name))
		if hidden, skip, err = l.ignore.match(rel, n.skip); err != nil {
			return fmt.Errorf("ignore patterns: %s: %w", rel, err)
		}
		if hidden && (kind != unix.DT_DIR && kind != unix.DT_UNKNOWN || !l.ignore.mayReopen(rel)) {
			return nil
		}
	}
	var st unix.Stat_t
	switch err := fstatat(fd, name[:len(name)+1], &st); {
	case err == unix.ENOENT:
		return nil
	case err != nil:
		return &fs.PathError{Op: "stat", Path: filetree.Join(n.path, string(name)), Err: err}
	}
	isDir := st.Mode&unix.S_IFMT == unix.S_IFDIR
	if hidden && !isDir {
		return nil
	}
	l.scratch = append(l.scratch, dirFile{})
	f := &l.scratch[len(l.scratch)-1]
	setStat(f, &st, l.d.stats)
	f.name = l.name(name)
	switch {
	case isDir:
		f.sub = l.node()
		f.sub.path, f.sub.hidden, f.sub.skip = filetree.Join(n.path, f.name), hidden, skip
	case st.Mode&unix.S_IFMT == unix.S_IFLNK:
		link, err := openat.Readlink(fd, f.name)
		if err != nil {
			return &fs.PathError{Op: "readlink", Path: filetree.Join(n.path, f.name), Err: err}
		}
		n.setAux(f.name, dirAux{link: link})
	case st.Rdev != 0:
		n.setAux(f.name, dirAux{rdev: st.Rdev})
	}
	return nil
}

// keep moves scratch to n, sorted.
func (l *dirLoader) keep(n *dirNode) {
	l.order = l.order[:0]
	for i := range l.scratch {
		l.order = append(l.order, int32(i))
	}
	slices.SortFunc(l.order, func(a, b int32) int { return strings.Compare(l.scratch[a].name, l.scratch[b].name) })
	n.files = l.slots(len(l.order))
	for i, at := range l.order {
		n.files[i] = l.scratch[at]
	}
}

// reopen reads the hidden directories that an exception may reach into, and drops those in which nothing is visible.
func (l *dirLoader) reopen(n *dirNode) error {
	kept := n.files[:0]
	for i := range n.files {
		f := n.files[i]
		if f.sub != nil && f.sub.hidden {
			if err := l.read(f.sub); err != nil {
				return err
			}
			if len(f.sub.files) == 0 {
				continue
			}
		}
		kept = append(kept, f)
	}
	n.files = kept
	return nil
}

func (n *dirNode) setAux(name string, a dirAux) {
	if n.aux == nil {
		n.aux = make(map[string]dirAux)
	}
	n.aux[name] = a
}

// setStat fills f with what a context keeps of a stat. A socket becomes an empty file with no inode.
func setStat(f *dirFile, st *unix.Stat_t, x *statCache) {
	f.mode, f.nlink, f.ino, f.size = st.Mode, uint32(st.Nlink), st.Ino, st.Size
	f.mtime, f.ctime = st.Mtim.Nano(), st.Ctim.Nano()
	f.dev = uint32(st.Dev) // the kernel's numbers have 32 bits
	switch st.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		f.sum = x.find(f.key())
	case unix.S_IFSOCK:
		f.mode = st.Mode&^unix.S_IFMT | unix.S_IFREG
		f.ino, f.size, f.nlink = 0, 0, 1
	case unix.S_IFLNK:
	default:
		f.size = 0
	}
}

// name keeps a copy of b.
func (l *dirLoader) name(b []byte) string {
	if len(b) > len(l.names) {
		l.names = make([]byte, max(len(b), 16<<10))
	}
	n := copy(l.names, b)
	s := unsafe.String(unsafe.SliceData(l.names), n) // never written again
	l.names = l.names[n:]
	return s
}

func (l *dirLoader) node() *dirNode {
	if len(l.nodes) == 0 {
		l.nodes = make([]dirNode, 16)
	}
	n := &l.nodes[0]
	l.nodes = l.nodes[1:]
	return n
}

func (l *dirLoader) slots(n int) []dirFile {
	if n > len(l.files) {
		l.files = make([]dirFile, max(n, 256))
	}
	s := l.files[:n:n]
	l.files = l.files[n:]
	return s
}
