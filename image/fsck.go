package image

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/internal/durable"
)

// A Problem is something in the store that is not as it should be.
type Problem struct {
	Path   string  // of the file
	Err    error   // what is wrong
	Images []Named // that it touches

	kind problemKind
	blob digest.Digest
}

type problemKind int

const (
	missingBlob problemKind = iota
	damagedBlob
	damagedRecord
	damagedIndex
	strangeFile
)

func (p Problem) String() string { return p.Path + ": " + p.Err.Error() }

// FsckOptions say how much to check.
type FsckOptions struct {
	Deep bool // hash every blob
}

// A checker collects problems.
type checker struct {
	layout   *Layout
	images   map[digest.Digest][]Named // by blobs that they reach
	mu       sync.Mutex
	problems map[string]Problem // by path: the first found
}

// Fsck names what is wrong in the layout and in its names, sorted by path. It changes nothing.
func (l *Layout) Fsck(ctx context.Context, o FsckOptions) ([]Problem, error) {
	c := &checker{layout: l, images: map[digest.Digest][]Named{}, problems: map[string]Problem{}}
	named, damaged, err := l.records()
	if err != nil {
		return nil, err
	}
	for _, bad := range damaged {
		c.add(Problem{Path: bad.path, Err: fmt.Errorf("damaged record of a name: %w", bad.err), kind: damagedRecord})
	}
	for _, n := range named {
		if err := c.image(ctx, n); err != nil {
			return nil, err
		}
	}
	if err := c.blobs(ctx, o); err != nil {
		return nil, err
	}
	if err := c.compressed(); err != nil {
		return nil, err
	}
	if err := l.withNames(ctx, c.index); err != nil {
		return nil, err
	}
	problems := make([]Problem, 0, len(c.problems))
	for _, p := range c.problems {
		if p.blob != "" {
			p.Images = c.images[p.blob]
		}
		problems = append(problems, p)
	}
	slices.SortFunc(problems, func(a, b Problem) int { return strings.Compare(a.Path, b.Path) })
	return problems, nil
}

func (c *checker) add(p Problem) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, ok := c.problems[p.Path]; !ok {
		c.problems[p.Path] = p
	}
}

// image reads all documents of an image and looks for its layers.
func (c *checker) image(ctx context.Context, n Named) error {
	reached := newReach(c.layout)
	problem := reached.from(ctx, n.Descriptor)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	reached.blobs[n.Descriptor.Digest] = true
	for d := range reached.blobs {
		c.images[d] = append(c.images[d], n)
	}
	if problem == nil {
		_, problem = c.layout.identify(ctx, n, newSeen())
	}
	if problem == nil {
		return nil
	}
	// Which blob it is, is found by trying each.
	found := false
	for d := range reached.blobs {
		size, err := c.layout.blobSize(d)
		switch {
		case errors.Is(err, fs.ErrNotExist) && c.needed(reached, d, n):
			c.add(Problem{Path: c.layout.BlobPath(d), Err: errors.New("is missing"), kind: missingBlob, blob: d})
			found = true
		case err == nil && size <= MaxManifestSize:
			if err := c.layout.hash(ctx, d); err != nil {
				c.add(Problem{Path: c.layout.BlobPath(d), Err: err, kind: damagedBlob, blob: d})
				found = true
			}
		}
	}
	for _, layer := range reached.layers {
		size, err := c.layout.blobSize(layer.Blob.Digest)
		if err == nil && size != layer.Blob.Size {
			err = fmt.Errorf("has %d bytes, not %d", size, layer.Blob.Size)
			c.add(Problem{Path: c.layout.BlobPath(layer.Blob.Digest), Err: err, kind: damagedBlob, blob: layer.Blob.Digest})
			found = true
		}
	}
	if !found { // its blobs are what their digests say, and still no image
		d := n.Descriptor.Digest
		c.add(Problem{Path: c.layout.BlobPath(d), Err: problem, kind: missingBlob, blob: d})
	}
	return nil
}

// needed reports whether an image is not whole without a blob: it is without what an index names and was not pulled, and
// without a tar that can be inflated again.
func (c *checker) needed(r *reach, d digest.Digest, n Named) bool {
	if IsIndex(n.Descriptor.MediaType) && d != n.Descriptor.Digest {
		isLayer := slices.ContainsFunc(r.layers, func(l Layer) bool { return l.Blob.Digest == d })
		return isLayer
	}
	return !slices.ContainsFunc(r.layers, func(l Layer) bool { return l.DiffID == d && l.Blob.Digest != d })
}

// hash verifies the content of a blob.
func (l *Layout) hash(ctx context.Context, d digest.Digest) error {
	f, err := l.OpenBlob(d)
	if err != nil {
		return err
	}
	defer f.Close()
	out := &output{ctx: ctx, w: io.Discard, hash: sha256.New()}
	if _, err := io.CopyBuffer(out, struct{ io.Reader }{f}, make([]byte, bufSize)); err != nil {
		return err
	}
	if got := sumDigest(out.hash); got != d {
		return fmt.Errorf("content has digest %s", got)
	}
	return nil
}

// blobs looks at every file among the blobs, and into them if the check is deep.
func (c *checker) blobs(ctx context.Context, o FsckOptions) error {
	files, err := os.ReadDir(c.layout.blobs())
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(2)
	for _, f := range files {
		path, d := filepath.Join(c.layout.blobs(), f.Name()), digest.Digest("sha256:"+f.Name())
		if CheckDigest(d) != nil || !f.Type().IsRegular() {
			c.add(Problem{Path: path, Err: errors.New("is no blob"), kind: strangeFile})
			continue
		}
		info, err := f.Info()
		if err != nil || !o.Deep && info.Size() > 0 {
			continue
		}
		g.Go(func() error {
			err := c.layout.hash(ctx, d)
			if ctx.Err() != nil {
				return context.Cause(ctx)
			}
			if err != nil {
				c.add(Problem{Path: path, Err: err, kind: damagedBlob, blob: d})
			}
			return nil
		})
	}
	return g.Wait()
}

// compressed reads what is remembered of compressed layers.
func (c *checker) compressed() error {
	dir := c.layout.path("compressed")
	files, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range files {
		if durable.Temporary(f.Name()) {
			continue // of a push that goes on, or was killed; a prune removes it
		}
		path := filepath.Join(dir, f.Name())
		_, err := readCompressed(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			c.add(Problem{Path: path, Err: fmt.Errorf("damaged record of a compressed layer: %w", err), kind: strangeFile})
		}
	}
	return nil
}

// index compares index.json with the records.
func (c *checker) index() error {
	named, _, err := c.layout.records()
	if err != nil {
		return err
	}
	want, err := json.Marshal(indexOf(named))
	if err != nil {
		return err
	}
	got, err := os.ReadFile(c.layout.index())
	if err == nil && !bytes.Equal(got, want) {
		err = errors.New("does not say what the names say")
	}
	if err != nil {
		c.add(Problem{Path: c.layout.index(), Err: err, kind: damagedIndex})
	}
	return nil
}

// Repair drops what Fsck found to be damaged. For each image that is not whole then, or has lost one of its platforms, and that a repository has, it
// calls fetch, unless that is nil, and after that it drops those that are still not whole; they are returned, and so are manifests of platforms
// that are lost. A damaged record of a name is read from index.json if that
// still has it.
func (l *Layout) Repair(ctx context.Context, problems []Problem, fetch func(context.Context, Named) error) (dropped []Named, err error) {
	t := trash{parent: l.path("trash")}
	defer func() { err = errors.Join(err, t.close(), l.EmptyTrash()) }()
	for _, p := range problems {
		switch p.kind {
		case damagedBlob, strangeFile:
			err = t.put(p.Path)
		case damagedRecord:
			err = l.repairRecord(ctx, p.Path)
		case missingBlob, damagedIndex:
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return nil, err
		}
	}
	broken, err := l.broken(ctx)
	if err != nil {
		return nil, err
	}
	hadName := map[digest.Digest]bool{}
	losses := l.losses(ctx, problems)
	ask := broken
	for _, loss := range losses {
		ask = append(ask, loss.of)
	}
	asked := map[string]bool{} // by record: an image may have lost several platforms, and have other damage, too
	for _, n := range ask {
		record := l.recordPath(n.Reference, n.Descriptor.Digest)
		if n.Reference == (Reference{}) || asked[record] {
			continue
		}
		asked[record], hadName[n.Descriptor.Digest] = true, true
		if n.Remote != "" && fetch != nil {
			_ = fetch(ctx, n) // what it is worth is seen below
		}
	}
	if broken, err = l.broken(ctx); err != nil {
		return nil, err
	}
	for _, n := range broken {
		if err := l.Remove(ctx, n.Descriptor.Digest); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return dropped, err
		}
		if n.Reference != (Reference{}) || !hadName[n.Descriptor.Digest] { // else its name stands for the form that its repository has
			dropped = append(dropped, n)
		}
	}
	lost, err := l.lost(ctx, losses)
	if err != nil {
		return dropped, err
	}
	return append(dropped, lost...), l.withNames(ctx, l.writeIndex)
}

// broken are the records of images that are not whole.
func (l *Layout) broken(ctx context.Context) (broken []Named, err error) {
	named, err := l.List(ctx)
	if err != nil {
		return nil, err
	}
	had := newSeen()
	for _, n := range named {
		_, err := l.identify(ctx, n, had)
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if err != nil {
			broken = append(broken, n)
		}
	}
	return broken, nil
}

// repairRecord writes a damaged record anew from what index.json says, or removes it.
func (l *Layout) repairRecord(ctx context.Context, path string) error {
	data, err := os.ReadFile(l.index())
	if err != nil {
		data = nil
	}
	var x ocispec.Index
	if json.Unmarshal(data, &x) != nil {
		x.Manifests = nil
	}
	return l.withNames(ctx, func() error {
		if info, err := os.Lstat(path); err == nil && !info.Mode().IsRegular() {
			if err := l.Trash(path); err != nil { // a directory, which nothing can be renamed to
				return err
			}
		}
		for _, d := range x.Manifests {
			r, err := ParseReference(d.Annotations[ocispec.AnnotationRefName])
			if err != nil {
				r = Reference{}
			}
			if l.recordPath(r, d.Digest) != path {
				continue
			}
			d.Annotations = nil
			if id, err := l.whole(ctx, d); err == nil {
				record, err := l.recordOf(Named{Reference: r, Descriptor: d, ID: id})
				if err != nil {
					return err
				}
				return l.staging.writeDurably("image.tag", record)
			}
		}
		if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		return nil
	})
}
