package executor

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"syscall"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot"
)

// A download is what is known of a URL's content. It is kept in the cache, to be asked after by the next build.
type download struct {
	Digest       digest.Digest `json:"digest"`
	Size         int64         `json:"size"`
	ETag         string        `json:"etag,omitempty"`
	LastModified string        `json:"lastModified,omitempty"`
}

// describeURL adds the digest of what a URL holds now. With --checksum nothing is asked: the key holds it already.
func (w *Local) describeURL(ctx context.Context, op *planner.Copy, address string, h *cache.Hash) error {
	if op.Add != nil && op.Add.Checksum != "" {
		if err := digest.Digest(op.Add.Checksum).Validate(); err != nil {
			return fmt.Errorf("--checksum=%s: %w", op.Add.Checksum, err)
		}
		return nil
	}
	d, err := w.revalidate(ctx, address)
	if err != nil {
		return err
	}
	w.pins.pinURL(address, d)
	h.Field("content "+shownURL(address), d.Digest.String())
	return nil
}

// copyURL copies what a URL holds: a file of root's with mode 0600, as old as its server says.
func (w *Local) copyURL(ctx context.Context, op *planner.Copy, address string, c *copier, open *closers) error {
	d, err := w.download(ctx, op, address)
	if err != nil {
		return err
	}
	mtime := time.Unix(0, 0)
	if t, err := http.ParseTime(d.LastModified); err == nil {
		mtime = t
	}
	t := &fileTree{
		entry: snapshot.Entry{Name: urlName(address), Mode: syscall.S_IFREG | 0o600, Size: d.Size, ModTime: mtime, Nlink: 1},
		open: func() (io.ReadCloser, error) {
			f, err := w.Layout.OpenBlob(d.Digest)
			if err != nil {
				return nil, err
			}
			return f, nil
		},
	}
	sel := t.selection()
	if op.Add != nil && op.Add.Unpack != nil && *op.Add.Unpack {
		if done, err := w.unpack(ctx, sel, op.Dest, c, open); err != nil || done {
			return err
		}
	}
	return c.copy(ctx, sel, op.Dest)
}

// urlName is the name of a file that comes from a URL: the last element of its path.
func urlName(address string) string {
	if u, err := url.Parse(address); err == nil {
		if base := path.Base(u.Path); base != "." && base != "/" && base != ".." {
			return base
		}
	}
	return "__unnamed__"
}

// download makes sure that the content of a URL is here. If it is not what described the step, or has not the checksum
// that was asked for, it fails.
func (w *Local) download(ctx context.Context, op *planner.Copy, address string) (download, error) {
	var checksum digest.Digest
	if op.Add != nil {
		checksum = digest.Digest(op.Add.Checksum)
	}
	if err := checksum.Validate(); checksum != "" && err != nil {
		return download{}, fmt.Errorf("--checksum=%s: %w", checksum, err)
	}
	known, pinned := w.pins.url(address)
	ok := pinned
	if !ok {
		known, ok = w.knownDownload(address)
	}
	if ok && (checksum == "" || checksum == known.Digest) && w.hasBlob(known.Digest) {
		return known, nil
	}
	got, err := w.get(ctx, address, download{}, checksum)
	if err != nil {
		return download{}, err
	}
	if pinned && checksum == "" && got.Digest != known.Digest {
		return download{}, fmt.Errorf("%s: changed from %s to %s during the build; build again", web.Redact(address), known.Digest, got.Digest)
	}
	w.keepDownload(address, got)
	return got, nil
}

// revalidate returns what a URL holds now, asking the server only whether that has changed if it is known.
func (w *Local) revalidate(ctx context.Context, address string) (download, error) {
	// A server that says "not modified" is believed about the digest even if the content has gone: it may not be needed.
	known, _ := w.knownDownload(address)
	got, err := w.get(ctx, address, known, "")
	if err != nil {
		return download{}, err
	}
	if got != known {
		w.keepDownload(address, got)
	}
	return got, nil
}

func (w *Local) hasBlob(d digest.Digest) bool {
	f, err := w.Layout.OpenBlob(d)
	if err != nil {
		return false
	}
	return f.Close() == nil
}

func downloadKey(address string) *cache.Hash {
	var h cache.Hash
	h.Field("http", shownURL(address))
	return &h
}

func (w *Local) knownDownload(address string) (d download, ok bool) {
	if w.Cache == nil {
		return d, false
	}
	e, ok := w.Cache.Get(downloadKey(address).Key())
	if !ok || json.Unmarshal([]byte(e.Value), &d) != nil || d.Digest.Validate() != nil {
		return download{}, false
	}
	return d, true
}

// keepDownload remembers; that it could not costs a download and is no fault of the build.
func (w *Local) keepDownload(address string, d download) {
	if w.Cache == nil {
		return
	}
	value, err := json.Marshal(d)
	if err != nil {
		return
	}
	h := downloadKey(address)
	_ = w.Cache.Put(h.Key(), cache.Entry{Created: time.Now(), Value: string(value), Fields: h.Fields()})
}

// get fetches a URL into the layout unless the server says that it is still known. Checksum, if there is one, must be its
// digest.
func (w *Local) get(ctx context.Context, address string, known download, checksum digest.Digest) (got download, err error) {
	err = fetchURL(ctx, address, known, func(r *http.Response) error {
		if r.StatusCode == http.StatusNotModified {
			got = known
			return nil
		}
		got, err = w.store(ctx, r, checksum)
		return err
	})
	if err != nil {
		return download{}, fmt.Errorf("%s: %w", web.Redact(address), err)
	}
	return got, nil
}

// store stages the body of a response as a blob.
func (w *Local) store(ctx context.Context, r *http.Response, checksum digest.Digest) (_ download, err error) {
	f, err := w.Layout.Staging().Create()
	if err != nil {
		return download{}, err
	}
	defer func() {
		if e := f.Close(); e != nil && !errors.Is(e, fs.ErrClosed) {
			err = errors.Join(err, e)
		}
	}()
	sum := sha256.New()
	out := io.MultiWriter(w.Layout.Guard(ctx, f), sum)
	var verifier digest.Verifier
	if checksum != "" {
		verifier = checksum.Verifier()
		out = io.MultiWriter(out, verifier)
	}
	n, err := io.CopyBuffer(out, struct{ io.Reader }{r.Body}, make([]byte, 128<<10))
	if err != nil {
		return download{}, err
	}
	d := download{
		Digest: digest.NewDigest(digest.SHA256, sum), Size: n,
		ETag: r.Header.Get("ETag"), LastModified: r.Header.Get("Last-Modified"),
	}
	if verifier != nil && !verifier.Verified() {
		return download{}, fmt.Errorf("digest mismatch: got %s, want %s", d.Digest, checksum)
	}
	return d, f.Commit(w.Layout.BlobPath(d.Digest))
}
