package executor

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/snapshot"
)

// A Context is a build context that came by stream or network; as in BuildKit, no ignore file applies to it. Close gives
// it back, after the last step that reads it.
type Context struct {
	Tree       snapshot.Tree
	Dockerfile []byte // if what was given is no context but a build file; Tree is empty then
	close      closers
}

// Close gives back what the context holds.
func (c *Context) Close() error { return c.close.close(nil) }

// A ContextOpener opens build contexts that are not directories of this machine.
type ContextOpener struct {
	Snapshots  *snapshot.Store
	Layout     *image.Layout
	KeepGitDir bool // of repositories that do not say themselves
}

// maxBuildFile is how large a build file may be that comes in place of a context.
const maxBuildFile = 4 << 20

// IsRemoteContext tells whether people mean a repository or a URL by a context, and not a directory. As docker has it,
// http(s) is a repository if its path ends in ".git" and else a file: a tar or a build file.
func IsRemoteContext(spec string) bool {
	return isURL(spec) || isGitContext(spec)
}

func isURL(spec string) bool {
	return strings.HasPrefix(spec, "http://") || strings.HasPrefix(spec, "https://")
}

func isGitContext(spec string) bool {
	bare, _, _ := strings.Cut(spec, "#")
	bare, _, _ = strings.Cut(bare, "?")
	if isURL(bare) {
		return strings.HasSuffix(bare, ".git")
	}
	for _, prefix := range []string{"git://", "ssh://", "github.com/"} {
		if strings.HasPrefix(bare, prefix) {
			return true
		}
	}
	return isSCP(bare)
}

// Open opens what people name by "-" (stdin: a tar or a build file), a repository's address or a URL. The caller opens
// directories itself, with [snapshot.OpenDir].
func (o *ContextOpener) Open(ctx context.Context, spec string, stdin io.Reader) (*Context, error) {
	c := &Context{}
	var err error
	switch {
	case spec == "-":
		if err = o.stream(ctx, stdin, c); err != nil {
			err = fmt.Errorf("build context on standard input: %w", err)
		}
	case isGitContext(spec):
		err = o.git(ctx, spec, c)
	case isURL(spec):
		err = fetchURL(ctx, spec, download{}, func(r *http.Response) error {
			_ = c.Close() // of an earlier try
			return o.stream(ctx, r.Body, c)
		})
		if err != nil {
			err = fmt.Errorf("%s: %w", web.Redact(spec), err)
		}
	default:
		err = fmt.Errorf("%q is neither a repository nor a URL", web.Redact(spec))
	}
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return c, nil
}

// stream reads a tar, compressed or not, or else a build file.
func (o *ContextOpener) stream(ctx context.Context, r io.Reader, c *Context) error {
	content, compressed, err := image.Inflate(r)
	if err != nil {
		return err
	}
	c.close.add(content.Close)
	b := bufio.NewReaderSize(content, 4<<10)
	head, err := b.Peek(512)
	if err != nil && err != io.EOF {
		return err
	}
	if len(head) == 512 && isTarHeader(head) {
		tree, err := o.tar(ctx, b, c)
		c.Tree = tree
		return err
	}
	if compressed {
		return errors.New("there is no tar in it")
	}
	c.Dockerfile, err = io.ReadAll(io.LimitReader(b, maxBuildFile+1))
	if err == nil && len(c.Dockerfile) > maxBuildFile {
		err = fmt.Errorf("neither a tar nor a build file: more than %d bytes", maxBuildFile)
	}
	c.Tree = emptyTree()
	return err
}

// isTarHeader tells whether a block has the checksum of a tar header. (A block of zeros, the end of a tar, has not.)
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

// tar makes a tree of a tar: as a layer, which is read in place. Owners and xattrs are the tar's, as in BuildKit.
func (o *ContextOpener) tar(ctx context.Context, r io.Reader, c *Context) (snapshot.Tree, error) {
	w := &Local{Snapshots: o.Snapshots, Layout: o.Layout}
	var spooled closers
	a, err := w.spool(ctx, r, &spooled)
	if err != nil {
		return nil, spooled.close(err)
	}
	changes := snapshot.NewChanges(nil)
	u := unpacker{c: &copier{changes: changes}, root: ".", group: "context", files: make(map[string]unpacked)}
	if err := a.each(ctx, u.add); err != nil {
		return nil, spooled.close(err)
	}
	layer, err := o.Snapshots.Commit(ctx, changes, nil)
	if err = spooled.close(err); err != nil {
		return nil, err
	}
	view, err := o.Snapshots.View(ctx, []image.Layer{layer})
	if err != nil {
		return nil, err
	}
	c.close.add(view.Close)
	return view, nil
}

// git fetches a repository into a temporary directory, without its .git unless asked for.
func (o *ContextOpener) git(ctx context.Context, spec string, c *Context) error {
	g, err := parseGit(spec)
	if err == nil {
		err = g.check()
	}
	if err != nil {
		return err
	}
	if g.keepGitDir == nil {
		g.keepGitDir = &o.KeepGitDir
	}
	dir, err := os.MkdirTemp("", "forge-git-")
	if err != nil {
		return err
	}
	c.close.add(func() error { return os.RemoveAll(dir) })
	at, err := g.resolve(ctx)
	if err != nil {
		return err
	}
	tree, err := g.checkout(ctx, at, dir)
	if err != nil {
		return err
	}
	c.close.add(tree.Close)
	c.Tree = tree
	return nil
}

// emptyTree is what a build file without a context is built in.
func emptyTree() snapshot.Tree {
	return &fileTree{entry: snapshot.Entry{Name: "", Mode: syscall.S_IFREG, ModTime: time.Unix(0, 0)}}
}
