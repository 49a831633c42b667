package source

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/filetree"
)

// Limits of a lent directory.
const (
	maxLent      = 4 << 20   // files
	maxLentNames = 512 << 20 // bytes of their paths and links
)

// A lentTree is a directory of a [Lender] as a tree. Everything belongs to 0:0, as in a directory of this machine. Contents
// come when they are first asked for, each once, into a file without a name. Digests are remembered by path, size, time
// and mode, so that a directory in which nothing has changed is not sent again. Safe for concurrent use.
type lentTree struct {
	ctx    context.Context
	loan   Loan
	layout *image.Layout
	stats  *statCache
	begun  time.Time
	nodes  map[string]*lentNode
	named  int // bytes of their paths and links

	mu   sync.Mutex // guards what is below
	file *os.File   // keeps what was fetched; nil before the first
	end  int64      // of it
	sums []sumRecord
}

// A lentNode is a file of a lentTree.
type lentNode struct {
	entry filetree.Entry
	n     int         // of the loan
	kids  []*lentNode // of a directory, sorted by name when the list is complete
	first *lentNode   // of a hard link: the name that came first; else nil
	key   dirKey

	fetch sync.Mutex    // held while the content is fetched
	here  *lentFile     // the content; nil if it is not here
	sum   *filetree.Sum // nil if it is not known; guarded by the tree's mu
	gone  error         // why it cannot be fetched
}

func newLentTree(ctx context.Context, loan Loan, layout *image.Layout, index string) *lentTree {
	root := &lentNode{entry: filetree.Entry{Name: ".", Mode: syscall.S_IFDIR | 0o755, Nlink: 2}}
	return &lentTree{
		ctx: ctx, loan: loan, layout: layout, stats: openStatCache(index), begun: time.Now(), nodes: map[string]*lentNode{".": root},
	}
}

// add takes the n'th file of the loan in.
func (t *lentTree) add(n int, name string, e filetree.Entry) error {
	if err := checkLentName(name); err != nil {
		return err
	}
	if len(e.Link) > filetree.MaxPath {
		return fmt.Errorf("the client lends %q with a link of %d bytes", name, len(e.Link))
	}
	if t.named += len(name) + len(e.Link); n >= maxLent || t.named > maxLentNames {
		return fmt.Errorf("the client lends more than %d files, or names of more than %d MiB", maxLent, maxLentNames>>20)
	}
	dir, base := filetree.Split(name)
	parent := t.nodes[dir]
	if parent == nil || !isDir(&parent.entry) {
		return fmt.Errorf("the client lends %q before its directory", name)
	}
	if t.nodes[name] != nil {
		return fmt.Errorf("the client lends %q twice", name)
	}
	e.Name, e.UID, e.GID, e.Nlink, e.Inode, e.Xattrs = base, 0, 0, 1, uint64(n)+1, nil
	node := &lentNode{entry: e, n: n}
	switch e.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		if err := t.addFile(node, name); err != nil {
			return err
		}
	case syscall.S_IFDIR:
		node.entry.Size, node.entry.Nlink = 0, 2
	}
	t.nodes[name] = node
	if last := len(parent.kids) - 1; last >= 0 && parent.kids[last].entry.Name > base {
		return fmt.Errorf("the client lends %q after what follows it", name)
	}
	parent.kids = append(parent.kids, node)
	return nil
}

// addFile completes a regular file.
func (t *lentTree) addFile(node *lentNode, name string) error {
	if to := node.entry.Link; to != "" {
		first := t.nodes[to]
		if first == nil || first.entry.Mode&syscall.S_IFMT != syscall.S_IFREG {
			return fmt.Errorf("the client lends %q as another name of %q, which is no file before it", name, to)
		}
		if first.first != nil {
			first = first.first
		}
		first.entry.Nlink = 2 // or more; a directory of this machine says so, too, and copies of the names are one file then
		base := node.entry.Name
		node.first, node.entry = first, first.entry
		node.entry.Name = base
		return nil
	}
	if node.entry.Size < 0 {
		return fmt.Errorf("the client lends %q with a size of %d bytes", name, node.entry.Size)
	}
	// The stat cache knows files by numbers: those of the path take the places of an inode's.
	where := sha256.Sum256([]byte(name))
	at := uint64(node.entry.ModTime.UnixNano())
	node.key = dirKey{
		ino: binary.LittleEndian.Uint64(where[:]) | 1, dev: binary.LittleEndian.Uint32(where[8:]),
		size: uint64(node.entry.Size), mtime: at, ctime: at, mode: node.entry.Mode,
	}
	if i := t.stats.find(node.key); i > 0 {
		sum := *t.stats.sum(i - 1)
		node.sum = &sum
	}
	return nil
}

// Close ends the loan and remembers digests.
func (t *lentTree) Close() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	err := errors.Join(t.loan.Close(), t.stats.close(t.sums))
	if t.file != nil {
		err = errors.Join(err, t.file.Close())
		t.file = nil
	}
	return err
}

// find returns the file of a name.
func (t *lentTree) find(op, name string) (*lentNode, error) {
	if name == "" {
		name = "."
	}
	if node := t.nodes[name]; node != nil {
		return node, nil
	}
	for dir, _ := filetree.Split(name); dir != "."; dir, _ = filetree.Split(dir) {
		if above := t.nodes[dir]; above != nil && !isDir(&above.entry) {
			return nil, &fs.PathError{Op: op, Path: name, Err: syscall.ENOTDIR}
		}
	}
	return nil, &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist}
}

// Lstat implements [filetree.Tree].
func (t *lentTree) Lstat(name string) (filetree.Entry, error) {
	node, err := t.find("lstat", name)
	if err != nil {
		return filetree.Entry{}, err
	}
	return node.entry, nil
}

// List implements [filetree.Tree].
func (t *lentTree) List(name string, fn func(e *filetree.Entry, sum *filetree.Sum) error) error {
	node, err := t.find("readdir", name)
	if err != nil {
		return err
	}
	if !isDir(&node.entry) {
		return &fs.PathError{Op: "readdir", Path: name, Err: syscall.ENOTDIR}
	}
	for _, kid := range node.kids {
		e := kid.entry
		if err := fn(&e, t.known(kid)); err != nil {
			return err
		}
	}
	return nil
}

// known is the digest of a file, nil if it is not known.
func (t *lentTree) known(node *lentNode) *filetree.Sum {
	if node.first != nil {
		node = node.first
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return node.sum
}

// Load implements [filetree.Tree]: all is listed already.
func (t *lentTree) Load(context.Context, string) error { return nil }

// Open implements [filetree.Tree].
func (t *lentTree) Open(name string) (filetree.File, error) {
	here, err := t.fetched("open", name)
	if err != nil {
		return nil, err
	}
	return &lentFile{io.NewSectionReader(here.SectionReader, 0, here.Size())}, nil
}

// Sum implements [filetree.Tree]. What is fetched for it, is fetched for all that ask.
func (t *lentTree) Sum(_ context.Context, name string) (filetree.Sum, error) {
	node, err := t.find("digest", name)
	if err != nil {
		return filetree.Sum{}, err
	}
	if sum := t.known(node); sum != nil {
		return *sum, nil
	}
	if _, err := t.fetched("digest", name); err != nil {
		return filetree.Sum{}, err
	}
	return *t.known(node), nil
}

// fetched is the content of a file, which comes from the client if it has not come before.
func (t *lentTree) fetched(op, name string) (*lentFile, error) {
	node, err := t.find(op, name)
	if err != nil {
		return nil, err
	}
	if node.first != nil {
		node = node.first
	}
	if node.entry.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil, &fs.PathError{Op: op, Path: name, Err: errors.New("not a regular file")}
	}
	node.fetch.Lock()
	defer node.fetch.Unlock()
	if node.here != nil || node.gone != nil {
		return node.here, node.gone
	}
	w, err := t.room(node.entry.Size)
	if err != nil {
		return nil, err
	}
	if node.entry.Size > 0 {
		err = t.loan.Fetch(t.ctx, node.n, t.layout.Guard(t.ctx, w))
	}
	if err != nil {
		node.gone = fmt.Errorf("%s: %w", name, err)
		return nil, node.gone
	}
	if w.left != 0 {
		node.gone = fmt.Errorf("%s: %w", name, errChanged)
		return nil, node.gone
	}
	sum := filetree.Sum(w.hash.Sum(nil))
	t.mu.Lock()
	defer t.mu.Unlock()
	if node.sum != nil && *node.sum != sum {
		node.gone = fmt.Errorf("%s: has another content than a build before has seen, with the same size and time: touch it", name)
		return nil, node.gone
	}
	if node.sum == nil {
		node.sum = &sum
		t.sums = append(t.sums, sumRecord{dirKey: node.key, sum: sum, safe: settled(int64(node.key.mtime), t.begun)})
	}
	node.here = &lentFile{io.NewSectionReader(t.file, w.start, node.entry.Size)}
	return node.here, nil
}
