package registry

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"syscall"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/failpoint"
)

// errSpoilt is of a download whose earlier part turned out not to belong to it.
var errSpoilt = errors.New("what was left of an earlier download is damaged")

const (
	downloadBuffer = 256 << 10
	downloadAhead  = 4
)

// A download reads a blob from the file that holds its first bytes and then from its source, keeping what comes in the
// file. Reading, hashing and keeping go on in a goroutine of their own, some buffers ahead of who reads the download.
type download struct {
	d      ocispec.Descriptor
	claim  *claim
	full   chan []byte // filled buffers, closed at the end
	empty  chan []byte
	cancel context.CancelFunc
	err    error  // why full was closed: io.EOF for a blob that is right
	rest   []byte // of the buffer being read
	buf    []byte
}

func startDownload(ctx context.Context, src image.Fetcher, d ocispec.Descriptor, c *claim, m *image.Meter) *download {
	ctx, cancel := context.WithCancel(ctx)
	dl := &download{
		d: d, claim: c, cancel: cancel,
		full: make(chan []byte, downloadAhead), empty: make(chan []byte, downloadAhead),
	}
	for range downloadAhead {
		dl.empty <- make([]byte, min(downloadBuffer, d.Size+1))
	}
	go func() {
		defer close(dl.full)
		if dl.err = dl.run(ctx, src, m); dl.err == nil {
			dl.err = io.EOF
		}
	}()
	return dl
}

// run fills buffers until the blob is whole.
func (dl *download) run(ctx context.Context, src image.Fetcher, m *image.Meter) (err error) {
	f, err := os.OpenFile(dl.claim.path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if st, err := f.Stat(); err != nil {
		return err
	} else if st.Size() > dl.d.Size {
		if err := f.Truncate(0); err != nil {
			return err
		}
	}
	h := sha256.New()
	had, err := dl.pass(ctx, f, io.Discard, h, m)
	if err != nil {
		return err
	}
	r, err := src.Fetch(ctx, dl.d, had)
	if err != nil {
		return err
	}
	defer r.Close()
	if _, err := dl.pass(ctx, r, dl.claim.guard(ctx, f), h, m); err != nil {
		if errors.Is(err, image.ErrMismatch) {
			err = errors.Join(dl.wrong(had, "it is longer than its descriptor says"), f.Truncate(0))
		}
		return err
	}
	if err := failpoint.At("registry.download.kept"); err != nil {
		return err
	}
	if got := digest.NewDigestFromBytes(digest.SHA256, h.Sum(nil)); got != dl.d.Digest {
		if err := f.Truncate(0); err != nil {
			return err
		}
		return dl.wrong(had, "it has "+got.String())
	}
	return nil
}

// pass hands on all of r, up to the blob's size.
func (dl *download) pass(ctx context.Context, r io.Reader, keep io.Writer, h hash.Hash, m *image.Meter) (n int64, err error) {
	for {
		var buf []byte
		select {
		case buf = <-dl.empty:
		case <-ctx.Done():
			return n, ctx.Err()
		}
		k, rerr := fill(r, buf)
		if k > 0 {
			if _, err := keep.Write(buf[:k]); err != nil {
				return n, err
			}
			h.Write(buf[:k])
			_, _ = m.Write(buf[:k])
			dl.full <- buf[:k] // never blocks: there are no more buffers than places
		} else {
			dl.empty <- buf
		}
		if n += int64(k); n > dl.d.Size {
			return n, dl.wrong(1, "")
		}
		if rerr == io.EOF {
			return n, nil
		}
		if rerr != nil {
			return n, rerr
		}
	}
}

// wrong is what is wrong with a blob of which the first had bytes are of an earlier download.
func (dl *download) wrong(had int64, why string) error {
	if had > 0 {
		return fmt.Errorf("%s: %w", dl.d.Digest, errSpoilt)
	}
	return fmt.Errorf("%s: %w: %s", dl.d.Digest, image.ErrMismatch, why)
}

// reason returns why the content could not be used, if that is the content's fault, and else err, which came of it: a
// decompressor fails long before the digest is known. So all is read, up to the size that the manifest gives it or until the disk is nearly full: a
// mirror that has spoilt a layer is to be told from a layer that nobody can inflate.
func (dl *download) reason(ctx context.Context, err error) error {
	if ctx.Err() != nil || isOurs(err) {
		return err
	}
	if _, cause := io.Copy(io.Discard, dl); cause != nil {
		return cause
	}
	return err
}

// isFull reports whether there was no room for what was written.
func isFull(err error) bool { return errors.Is(err, syscall.ENOSPC) || errors.Is(err, image.ErrFull) }

// isOurs reports whether this machine, or the connection, is to blame and not the content.
func isOurs(err error) bool {
	var errno syscall.Errno
	return errors.As(err, &errno) || errors.Is(err, image.ErrFull)
}

// fill reads until buf is full; unlike io.ReadFull it passes on the error as it was.
func fill(r io.Reader, buf []byte) (n int, err error) {
	for n < len(buf) && err == nil {
		var k int
		k, err = r.Read(buf[n:])
		n += k
	}
	return n, err
}

func (dl *download) Read(p []byte) (int, error) {
	for len(dl.rest) == 0 {
		if dl.buf != nil {
			dl.empty <- dl.buf[:cap(dl.buf)]
			dl.buf = nil
		}
		buf, ok := <-dl.full
		if !ok {
			return 0, dl.err
		}
		dl.buf, dl.rest = buf, buf
	}
	n := copy(p, dl.rest)
	dl.rest = dl.rest[n:]
	return n, nil
}

// adopt renames the file that holds the blob; see [image.Incoming].
func (dl *download) adopt(path string) error {
	if dl.err != io.EOF || len(dl.rest) > 0 {
		return fmt.Errorf("%s: is not downloaded yet", dl.d.Digest)
	}
	return durable.Move(dl.claim.path, path)
}

// Close ends the download, wherever it is, and waits for it.
func (dl *download) Close() error {
	dl.cancel()
	for range dl.full {
	}
	return nil
}
