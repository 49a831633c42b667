package source

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot/filetree"
)

// A remoteContext is a context that came by stream or network, or a build file that came in place of one. As in BuildKit,
// no ignore file applies to it.
type remoteContext struct {
	tree      filetree.Tree
	buildFile []byte // if what was given is no context but a build file; tree is empty then
	made      func(context.Context) (*time.Time, error)
	commit    *Commit // nil if it is no repository
}

// IsRemote reports whether people mean a repository or a URL by a context, and not a directory. As docker has it, http(s)
// is a repository if its path ends in ".git" and else a file: a tar or a build file.
func IsRemote(spec string) bool {
	_, isGit, _ := planner.ParseGitContext(spec, nil)
	return isGit || IsURL(spec)
}

// openRemote opens a main context that is no directory: a stream, a repository or a URL. It may be a build file without a
// context.
func (s *Source) openRemote(ctx context.Context) error {
	c, err := s.remote(ctx, s.spec.Context)
	if err != nil {
		return err
	}
	s.Trees[""], s.made, s.Commit = c.tree, c.made, c.commit
	switch {
	case c.buildFile != nil:
		s.Name, s.Text = web.Redact(s.spec.Context), c.buildFile
	case strings.HasPrefix(s.spec.File, LentPrefix):
		_, err = s.lentBuildFile(ctx)
	case s.spec.File == "-":
		s.Name = "-"
		s.Text, err = readLimited(s.spec.Stdin, "standard input")
	default:
		s.Name, s.Text, err = findInTree(c.tree, s.spec.File)
	}
	return err
}

// fetchBuildFile gets the build file of a context of this machine.
func (s *Source) fetchBuildFile(ctx context.Context, address string) ([]byte, error) {
	c, err := s.remote(ctx, address)
	if err == nil && c.buildFile == nil {
		err = fmt.Errorf("%s: is no build file", web.Redact(address))
	}
	if err != nil {
		return nil, err
	}
	return c.buildFile, nil
}

// remote opens what is named by "-" (a tar or a build file on standard input), a repository's address or a URL.
func (s *Source) remote(ctx context.Context, spec string) (*remoteContext, error) {
	c := &remoteContext{}
	repo, isGit, err := planner.ParseGitContext(spec, &s.spec.KeepGitDir)
	switch {
	case err != nil:
		return nil, err
	case spec == "-":
		if err := s.stream(ctx, s.spec.Stdin, c); err != nil {
			return nil, fmt.Errorf("build context on standard input: %w", err)
		}
		return c, nil
	case s.spec.Offline && (isGit || IsURL(spec)):
		return nil, fmt.Errorf("%s: %w", web.Redact(spec), web.ErrOffline)
	case isGit:
		return c, s.checkout(ctx, &Git{*repo}, c)
	case IsURL(spec):
		var modified string
		err := fetchURL(ctx, spec, Download{}, func(r *http.Response) error {
			modified = r.Header.Get("Last-Modified")
			return s.stream(ctx, r.Body, c)
		})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", web.Redact(spec), err)
		}
		if t, err := http.ParseTime(modified); err == nil {
			c.made = func(context.Context) (*time.Time, error) { return &t, nil }
		}
		return c, nil
	}
	return nil, fmt.Errorf("%q is neither a repository nor a URL", web.Redact(spec))
}

// stream reads a tar, compressed or not, or else a build file.
func (s *Source) stream(ctx context.Context, r io.Reader, c *remoteContext) (err error) {
	content, compressed, err := image.Inflate(r)
	if err != nil {
		return err
	}
	defer content.Close() // a decompressor says again what it said when it was read
	b := bufio.NewReaderSize(content, 4<<10)
	head, err := b.Peek(512)
	if err != nil && err != io.EOF {
		return err
	}
	if len(head) == 512 && isTarHeader(head) {
		c.tree, err = s.unpackContext(ctx, b)
		c.made = func(ctx context.Context) (*time.Time, error) { return newest(ctx, c.tree) }
		return err
	}
	if compressed {
		return errors.New("there is no tar in it")
	}
	c.buildFile, err = io.ReadAll(io.LimitReader(b, maxBuildFile+1))
	if err == nil && len(c.buildFile) > maxBuildFile {
		err = fmt.Errorf("neither a tar nor a build file: more than %d bytes", maxBuildFile)
	}
	c.tree = emptyTree()
	return err
}

// isTarHeader reports whether a block has the checksum of a tar header. (A block of zeros, the end of a tar, has not.)
func isTarHeader(block []byte) bool {
	sum := int64(' ' * 8)
	for i, b := range block {
		if i < 148 || i >= 156 {
			sum += int64(b)
		}
	}
	var stated int64
	for _, b := range bytes.Trim(block[148:156], " \x00") {
		if b < '0' || b > '7' {
			return false
		}
		stated = stated*8 + int64(b-'0')
	}
	return stated == sum && sum != ' '*8
}

// unpackContext makes a tree of a tar: as a layer, which is read in place. Owners and xattrs are the tar's, as in BuildKit.
func (s *Source) unpackContext(ctx context.Context, r io.Reader) (_ filetree.Tree, err error) {
	store, err := s.spec.Store.Snapshots()
	if err != nil {
		return nil, err
	}
	a, err := spoolArchive(ctx, s.spec.Store.Layout, r)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, a.Close()) }()
	changes := store.NewChanges(nil)
	defer func() { err = errors.Join(err, changes.Close()) }()
	if err := a.Unpack(ctx, Unpacking{Changes: changes, Root: "."}); err != nil {
		return nil, err
	}
	layer, err := store.Commit(ctx, changes, nil)
	if err != nil {
		return nil, err
	}
	view, err := store.View(ctx, []image.Layer{layer})
	if err != nil {
		return nil, err
	}
	s.closers.Push(view.Close)
	return view, nil
}

// checkout fetches a repository, without its .git unless asked for.
func (s *Source) checkout(ctx context.Context, g *Git, c *remoteContext) error {
	at, err := g.Resolve(ctx)
	if err != nil {
		return err
	}
	tree, err := g.Checkout(ctx, s.spec.Store.Layout, at)
	if err != nil {
		return err
	}
	s.closers.Push(tree.Close)
	c.tree, c.commit = tree, &at
	c.made = func(ctx context.Context) (*time.Time, error) {
		t, err := g.timeOf(ctx, tree.checkout, at.ID)
		return &t, err
	}
	return nil
}

// newest is the time of the newest regular file of a tree, nil if it has none.
func newest(ctx context.Context, tree filetree.Tree) (newest *time.Time, err error) {
	err = filetree.Walk(ctx, tree, ".", func(_ string, e *filetree.Entry, _ *filetree.Sum) error {
		if e.Mode&syscall.S_IFMT == syscall.S_IFREG && (newest == nil || e.ModTime.After(*newest)) {
			t := e.ModTime
			newest = &t
		}
		return nil
	})
	return newest, err
}
