package image

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/failpoint"
	"github.com/forge-build/forge/internal/flock"
)

// Named is a record of a name (zero Reference: an image without one).
type Named struct {
	Reference  Reference
	Descriptor ocispec.Descriptor // of the manifest or index
	ID         digest.Digest      // of the configuration; of an index, that of [Layout.AnyImage] when it was named
	Remote     digest.Digest      // under which the name's repository has the image, "" if it was neither pulled nor pushed
	Away       bool               // layers may be there alone, and not here
	Given      time.Time          // when the image got the name, or its record was last written; not used when names are given
}

// A record is the content of a file in names/. A file whose name begins with "@" is of an image without a name, whatever
// the record says, so that an image can lose its name by a rename, which a full disk does not hinder.
type record struct {
	Name       string             `json:"name,omitempty"`
	ID         digest.Digest      `json:"id,omitempty"`
	Descriptor ocispec.Descriptor `json:"descriptor"`
	Remote     digest.Digest      `json:"remote,omitempty"`
	Away       bool               `json:"away,omitempty"`
	Sum        string             `json:"sum"` // of the record without it
}

func (r record) sum() string {
	r.Sum = ""
	return checksum(r)
}

// checksum is of a record of strings and numbers: a name or a digest with a wrong character is as good as any.
func checksum(record any) string {
	data, _ := json.Marshal(record)
	return digest.FromBytes(data).Encoded()[:32]
}

// staleName is the file in names/ that is there while index.json is not what the records say.
const staleName = ".stale"

func (l *Layout) stale() string { return filepath.Join(l.names(), staleName) }

// recordPath is the file of a name: the full name with "+", which none can hold, for "/", or, should that be too long for
// a file name, "+" and its hash. A file of an image without a name is "@" and its digest.
func (l *Layout) recordPath(r Reference, d digest.Digest) string {
	if name := r.String(); name != "" {
		return filepath.Join(l.names(), fileName(name))
	}
	return filepath.Join(l.names(), "@"+string(d))
}

// fileName makes a file name of one with slashes.
func fileName(name string) string {
	name = strings.ReplaceAll(name, "/", "+")
	if len(name) > 255 {
		sum := sha256.Sum256([]byte(name))
		name = "+" + hex.EncodeToString(sum[:])
	}
	return name
}

func readRecord(path string) (Named, error) {
	f, err := durable.OpenRegular(path)
	if errors.Is(err, fs.ErrNotExist) {
		return Named{}, err
	}
	if err != nil {
		return Named{}, &recordError{path, err}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxRecord))
	info, statErr := f.Stat()
	if err = errors.Join(err, statErr, f.Close()); err != nil {
		return Named{}, err
	}
	n, err := parseRecord(filepath.Base(path), data)
	if err != nil {
		return n, &recordError{path, err}
	}
	n.Given = info.ModTime()
	return n, nil
}

// maxRecord bounds a record, in bytes. A name has a few hundred.
const maxRecord = 1 << 20

// A recordError means that a file is no record of a name.
type recordError struct {
	path string
	err  error
}

func (e *recordError) Error() string { return e.path + ": damaged record of a name: " + e.err.Error() }

func (e *recordError) Unwrap() error { return e.err }

func parseRecord(file string, data []byte) (n Named, err error) {
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return n, err
	}
	if r.Sum != r.sum() {
		return n, errors.New("is not what was written")
	}
	if !strings.HasPrefix(file, "@") {
		if n.Reference, err = ParseReference(r.Name); err != nil {
			return n, err
		}
	}
	for _, d := range []digest.Digest{r.ID, r.Remote} {
		if d == "" {
			continue
		}
		if err := CheckDigest(d); err != nil {
			return n, err
		}
	}
	n.Descriptor, n.ID, n.Remote, n.Away = r.Descriptor, r.ID, r.Remote, r.Away
	return n, CheckDescriptor(n.Descriptor)
}

// withNames does something while no other process changes names.
func (l *Layout) withNames(ctx context.Context, do func() error) (err error) {
	lock, err := flock.LockDir(ctx, l.names(), flock.Exclusive)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	return do()
}

// records reads all records, sorted by file name. Those that cannot be read are returned as errors of their own.
func (l *Layout) records() (named []Named, damaged []*recordError, err error) {
	dir, err := os.Open(l.names())
	if err != nil {
		return nil, nil, err
	}
	files, err := dir.Readdirnames(-1)
	dir.Close()
	if err != nil {
		return nil, nil, err
	}
	slices.Sort(files)
	named = make([]Named, 0, len(files))
	for _, file := range files {
		if strings.HasPrefix(file, ".") {
			continue
		}
		path := filepath.Join(l.names(), file)
		n, err := readRecord(path)
		bad, isBad := errors.AsType[*recordError](err)
		switch {
		case errors.Is(err, fs.ErrNotExist): // removed since
		case isBad:
			damaged = append(damaged, bad)
		case err != nil: // a directory, or one that cannot be read
			damaged = append(damaged, &recordError{path, err})
		default:
			named = append(named, n)
		}
	}
	return named, damaged, nil
}

// List returns every record of a name, sorted by name, images without one last. Damaged records are left to Fsck.
func (l *Layout) List(context.Context) ([]Named, error) {
	named, _, err := l.records()
	slices.SortStableFunc(named, compareNamed)
	return named, err
}

func compareNamed(a, b Named) int {
	if (a.Reference == Reference{}) != (b.Reference == Reference{}) {
		if a.Reference == (Reference{}) {
			return 1
		}
		return -1
	}
	return cmp.Or(cmp.Compare(a.Reference.String(), b.Reference.String()), cmp.Compare(a.Descriptor.Digest, b.Descriptor.Digest))
}

// Resolve finds what a name stands for, and holds it. fs.ErrNotExist if nothing. As in docker, a digest in the name counts
// for more than the tag.
func (l *Layout) Resolve(ctx context.Context, r Reference) (ocispec.Descriptor, error) {
	n, err := l.Lookup(ctx, r)
	return n.Descriptor, err
}

// Lookup is [Layout.Resolve] with all that is recorded of the name.
func (l *Layout) Lookup(ctx context.Context, r Reference) (Named, error) {
	return l.take(ctx, func() (Named, error) { return l.lookup(ctx, r) })
}

func (l *Layout) lookup(ctx context.Context, r Reference) (Named, error) {
	none := fmt.Errorf("image %s is not in the store: %w", r, fs.ErrNotExist)
	if r == (Reference{}) {
		return Named{}, none
	}
	n, err := readRecord(l.recordPath(r, ""))
	if err == nil || !errors.Is(err, fs.ErrNotExist) {
		return n, err
	}
	if r.Digest == "" {
		return n, none
	}
	all, err := l.List(ctx)
	if err != nil {
		return n, err
	}
	for _, n := range all { // the digest says all there is to say: any name will do
		if n.Descriptor.Digest == r.Digest {
			return n, nil
		}
	}
	return n, none
}

// Find finds an image by anything people type: name, digest, ID or unique prefix of one. fs.ErrNotExist if there is
// none; an ambiguous prefix is an error that names it.
func (l *Layout) Find(ctx context.Context, s string) (Named, error) {
	prefix, isDigest := strings.CutPrefix(s, "sha256:")
	if !isDigest {
		if r, err := ParseReference(s); err == nil {
			n, err := l.lookup(ctx, r)
			if !errors.Is(err, fs.ErrNotExist) {
				return n, err
			}
		} else if !isHex(s) {
			return Named{}, err
		}
	}
	if prefix == "" || len(prefix) > hexLen || !isHex(prefix) {
		return Named{}, fmt.Errorf("image %q is not in the store: %w", Clip(s), fs.ErrNotExist)
	}
	all, err := l.List(ctx)
	if err != nil {
		return Named{}, err
	}
	return findPrefix(all, prefix, s)
}

// findPrefix finds the one image whose ID or digest begins with prefix, by its first name.
func findPrefix(all []Named, prefix, asked string) (Named, error) {
	var found []Named
	for _, n := range all {
		if !hasPrefix(n.ID, prefix) && !hasPrefix(n.Descriptor.Digest, prefix) {
			continue
		}
		same := func(o Named) bool {
			return o.Descriptor.Digest == n.Descriptor.Digest || o.ID != "" && o.ID == n.ID
		}
		if !slices.ContainsFunc(found, same) {
			found = append(found, n)
		}
	}
	switch len(found) {
	case 0:
		return Named{}, fmt.Errorf("image %q is not in the store: %w", Clip(asked), fs.ErrNotExist)
	case 1:
		return found[0], nil
	}
	var ids []string
	for _, n := range found[:min(len(found), 4)] {
		ids = append(ids, string(cmp.Or(n.ID, n.Descriptor.Digest))[:len("sha256:")+12])
	}
	return Named{}, fmt.Errorf("image %q is ambiguous: %d images begin with it, such as %s", Clip(asked), len(found), strings.Join(ids, ", "))
}

func hasPrefix(d digest.Digest, prefix string) bool {
	return d != "" && strings.HasPrefix(d.Encoded(), prefix)
}

// Tag publishes, then names d. An image with no name is recorded with Tag(ctx, Reference{}, d). What had the name before
// stays, nameless if it has no other. When Tag returns nil, the image is whole and it and its name survive a power cut.
func (l *Layout) Tag(ctx context.Context, r Reference, d ocispec.Descriptor) error {
	return l.TagAll(ctx, Named{Reference: r, Descriptor: d})
}

// Drop takes names from an image, those of them that still stand for it. If it has no other by then, its record without a name goes, too, and
// the image is gone: its blobs stay until Prune. It returns the names it took. fs.ErrNotExist if there is no record of the image.
func (l *Layout) Drop(ctx context.Context, d digest.Digest, names ...Reference) (dropped []Reference, gone bool, err error) {
	err = l.withNames(ctx, func() error {
		all, _, err := l.records()
		if err != nil {
			return err
		}
		all = slices.DeleteFunc(all, func(n Named) bool { return n.Descriptor.Digest != d })
		if len(all) == 0 {
			return notFound("image", d)
		}
		var drop, nameless []Named
		for _, n := range all {
			switch {
			case n.Reference == (Reference{}):
				nameless = append(nameless, n)
			case slices.Contains(names, n.Reference):
				drop = append(drop, n)
			}
		}
		if gone = len(drop)+len(nameless) == len(all); gone {
			drop = append(drop, nameless...)
		}
		return l.dropRecords(func() error {
			for _, n := range drop {
				if err := os.Remove(l.recordPath(n.Reference, d)); err != nil {
					return err
				}
				if n.Reference != (Reference{}) {
					dropped = append(dropped, n.Reference)
				}
			}
			return nil
		})
	})
	return dropped, gone && err == nil, err
}

// Remove removes every record, with a name or without, of the images whose manifests are given. Their blobs stay until
// Prune. fs.ErrNotExist if there is no record of any.
func (l *Layout) Remove(ctx context.Context, ds ...digest.Digest) error {
	return l.withNames(ctx, func() error {
		all, _, err := l.records()
		if err != nil {
			return err
		}
		gone := map[digest.Digest]bool{}
		for _, d := range ds {
			gone[d] = true
		}
		all = slices.DeleteFunc(all, func(n Named) bool { return !gone[n.Descriptor.Digest] })
		if len(all) == 0 && len(ds) > 0 {
			return notFound("image", ds[0])
		}
		return l.dropRecords(func() error {
			for _, n := range all {
				if err := os.Remove(l.recordPath(n.Reference, n.Descriptor.Digest)); err != nil {
					return err
				}
			}
			return nil
		})
	})
}

// dropRecords has drop remove records, and makes that durable. It works on a full disk: index.json is then left for later.
func (l *Layout) dropRecords(drop func() error) error {
	if err := l.markStale(); err != nil && !isFull(err) {
		return err
	}
	if err := failpoint.At("image.untag.before-remove"); err != nil {
		return err
	}
	if err := drop(); err != nil {
		return err
	}
	if err := failpoint.At("image.untag.after-remove"); err != nil {
		return err
	}
	if err := durable.SyncDir(l.names()); err != nil {
		return err
	}
	if err := l.writeIndex(); err != nil && !isFull(err) {
		return err
	}
	return nil
}
