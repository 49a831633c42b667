package registry

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/internal/flock"
)

// A Partial keeps downloads that are not finished, one file a blob, so that the next process goes on where the last one
// stopped, and sees to it that of several processes one downloads a blob and the others wait. Safe for concurrent use, by
// processes too.
//
//	<dir>/<hex>        the first bytes of the blob: not synced, not trusted, but hashed again when they are used
//	<dir>/<hex>.lock   flocked by who downloads the blob, until others can see it in the store
type Partial struct {
	dir   string
	guard Guard
}

// A Guard returns a writer that stops when ctx ends or the file system is about to be full; see [image.Layout.Guard].
type Guard func(ctx context.Context, w io.Writer) io.Writer

// OpenPartial keeps downloads in dir, which is made when the first one begins. What is written there passes guard.
func OpenPartial(dir string, guard Guard) *Partial { return &Partial{dir, guard} }

// A claim is the right to download a blob.
type claim struct {
	lock  *os.File
	path  string // of the bytes
	guard Guard
}

func (p *Partial) path(d digest.Digest) string { return filepath.Join(p.dir, d.Encoded()) }

// claim takes the right to download d, or returns nil if somebody else has it.
func (p *Partial) claim(d digest.Digest) (*claim, error) {
	if err := os.MkdirAll(p.dir, 0o700); err != nil {
		return nil, err
	}
	path := p.path(d)
	lock, err := flock.TryLock(path+".lock", flock.Exclusive)
	if errors.Is(err, flock.ErrHeld) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &claim{lock: lock, path: path, guard: p.guard}, nil
}

// release gives the claim up; what was downloaded stays.
func (c *claim) release() error { return errors.Join(os.Remove(c.path+".lock"), c.lock.Close()) }

// drop gives the claim up and removes what was downloaded.
func (c *claim) drop() error {
	err := os.Remove(c.path)
	if errors.Is(err, fs.ErrNotExist) {
		err = nil // adopted
	}
	return errors.Join(err, c.release())
}

// tidy removes what a process that died left of a blob which is in the store by now.
func (p *Partial) tidy(d digest.Digest) error {
	if p == nil {
		return nil
	}
	if _, err := os.Lstat(p.path(d) + ".lock"); err != nil {
		if _, err := os.Lstat(p.path(d)); err != nil {
			return nil
		}
	}
	c, err := p.claim(d)
	if c == nil || err != nil {
		return err
	}
	return c.drop()
}

// claimPause is how long to wait before asking again for a blob that another process has claimed.
const claimPause = 20 * time.Millisecond

// Prune removes the downloads that nobody is at, and returns how many bytes that freed.
func (p *Partial) Prune() (int64, error) {
	entries, err := os.ReadDir(p.dir)
	if errors.Is(err, fs.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var freed int64
	for _, e := range entries {
		hex := strings.TrimSuffix(e.Name(), ".lock")
		c, err := p.claim(digest.NewDigestFromEncoded(digest.SHA256, hex))
		if err != nil {
			return freed, err
		}
		if c == nil {
			continue
		}
		if st, err := os.Stat(c.path); err == nil {
			freed += st.Size()
		}
		if err := c.drop(); err != nil {
			return freed, err
		}
	}
	return freed, nil
}
