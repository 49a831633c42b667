package source

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"path"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/snapshot/filetree"
)

// A Download is what is known of a URL's content. It is remembered, to be asked after by the next build.
type Download struct {
	Digest       digest.Digest `json:"digest"`
	Size         int64         `json:"size"` // bytes
	ETag         string        `json:"etag,omitempty"`
	LastModified string        `json:"lastModified,omitempty"`
}

// ModTime is when the server says that the content was last changed, else the beginning of time.
func (d Download) ModTime() time.Time {
	if t, err := http.ParseTime(d.LastModified); err == nil {
		return t
	}
	return time.Unix(0, 0)
}

// Downloads keeps the content of URLs as blobs of Layout. Safe for concurrent use.
type Downloads struct {
	Layout *image.Layout
	Known  *cache.Store[Download] // what servers said of versions; nil remembers nothing

	Offline bool // servers are not asked: what was known last is so still
}

// Revalidate returns what a URL holds now, asking the server only whether that has changed if it is known. A server that
// says "not modified" is believed about the digest even if the content is not here any more: it may not be needed.
func (w Downloads) Revalidate(ctx context.Context, address string) (Download, error) {
	known := w.known(ctx, address)
	got, err := w.get(ctx, address, known, "")
	if err != nil {
		return Download{}, err
	}
	if got != known {
		w.keep(ctx, address, got)
	}
	return got, nil
}

// Get makes sure that the content of a URL is here: a blob with the digest of known, if that has one, else one that
// checksum (which may be of another algorithm) allows. It fails if the server gives anything else.
func (w Downloads) Get(ctx context.Context, address string, known Download, checksum digest.Digest) (Download, error) {
	pinned := known.Digest != ""
	if !pinned {
		known = w.known(ctx, address)
	}
	if known.Digest != "" && (checksum == "" || checksum == known.Digest) {
		if size, ok := w.sizeOf(known.Digest); ok {
			known.Size = size // a file of pins says what it likes, and the digest alone is in the keys of layers
			return known, nil
		}
	}
	got, err := w.get(ctx, address, Download{}, checksum)
	if err != nil {
		return Download{}, err
	}
	if pinned && got.Digest != known.Digest {
		return Download{}, fmt.Errorf("%s: is %s, and not %s as before: it changed during the build (build again), or since it was pinned in %s (--update)",
			web.Redact(address), got.Digest, known.Digest, PinsFile)
	}
	w.keep(ctx, address, got)
	return got, nil
}

// pinned is what a file of pins says of a URL, but for how old it is: that is what the server said, since the digest alone is in the keys
// of layers.
func (w Downloads) pinned(ctx context.Context, address string, pin Download) Download {
	pin.LastModified = ""
	if known := w.known(ctx, address); known.Digest == pin.Digest {
		pin.LastModified = known.LastModified
	}
	return pin
}

// File is the content of a URL as a tree of one file, which is root's with mode 0600 and as old as its server says.
func (w Downloads) File(address string, d Download) *File {
	e := filetree.Entry{Name: urlName(address), Mode: 0o600, Size: d.Size, ModTime: d.ModTime()}
	return NewFile(e, func() (filetree.File, error) { return w.Layout.OpenBlob(d.Digest) })
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

// sizeOf is how many bytes the content with a digest has, if it is here.
func (w Downloads) sizeOf(d digest.Digest) (size int64, ok bool) {
	f, err := w.Layout.OpenBlob(d)
	if err != nil {
		return 0, false
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return 0, false
	}
	return st.Size(), true
}

// downloadKey has the whole address in it: what a server gives may depend on the login and on each value of the query. Nothing of them
// can be read from the key.
func downloadKey(address string) cache.Key {
	var h cache.Hash
	h.Field("url", address)
	return h.Key()
}

// known is what was found at a URL before, the zero Download if nothing is known.
func (w Downloads) known(ctx context.Context, address string) Download {
	if w.Known == nil {
		return Download{}
	}
	d, ok, err := w.Known.Get(ctx, downloadKey(address))
	if !ok || err != nil || d.Digest.Validate() != nil {
		return Download{}
	}
	return d
}

// keep remembers; that it cannot costs a download and is no fault of the build.
func (w Downloads) keep(ctx context.Context, address string, d Download) {
	if w.Known != nil {
		_ = w.Known.Put(ctx, downloadKey(address), d)
	}
}

// get fetches a URL into the layout unless the server says that it is still known. Checksum, if there is one, must be its
// digest.
func (w Downloads) get(ctx context.Context, address string, known Download, checksum digest.Digest) (got Download, err error) {
	if w.Offline && known.Digest != "" {
		return known, nil
	}
	if w.Offline {
		return Download{}, fmt.Errorf("%s: %w", web.Redact(address), web.ErrOffline)
	}
	err = fetchURL(ctx, address, known, func(r *http.Response) error {
		if r.StatusCode == http.StatusNotModified {
			got = known
			return nil
		}
		got, err = w.store(ctx, r, checksum)
		return err
	})
	if err != nil {
		return Download{}, fmt.Errorf("%s: %w", web.Redact(address), err)
	}
	return got, nil
}

// store stages the body of a response as a blob.
func (w Downloads) store(ctx context.Context, r *http.Response, checksum digest.Digest) (_ Download, err error) {
	f, err := w.Layout.Staging().Create()
	if err != nil {
		return Download{}, err
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
		return Download{}, err
	}
	d := Download{
		Digest: digest.NewDigest(digest.SHA256, sum), Size: n,
		ETag: r.Header.Get("ETag"), LastModified: r.Header.Get("Last-Modified"),
	}
	if verifier != nil && !verifier.Verified() {
		return Download{}, fmt.Errorf("digest mismatch: got %s, want %s", d.Digest, checksum)
	}
	return d, f.Commit(w.Layout.BlobPath(d.Digest))
}
