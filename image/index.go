package image

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/internal/flock"
)

// index.json tells other tools what names/ says. It is derived: whoever changes a record first leaves a mark, made
// durable along with the record, then writes index.json anew and takes the mark away. A mark found later means that
// somebody died in between.

func (l *Layout) markStale() error {
	f, err := os.OpenFile(l.stale(), os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	return f.Close()
}

// refreshIndex writes index.json anew unless somebody is just about to. It is for other tools, so that failing, as on a
// full disk, may not keep us from working.
func (l *Layout) refreshIndex() {
	lock, err := flock.TryLockDir(l.names(), flock.Exclusive)
	if err != nil {
		return
	}
	_ = l.writeIndex()
	_ = lock.Close()
}

// writeIndex derives index.json from the records. The caller holds the lock of names/.
func (l *Layout) writeIndex() error {
	named, _, err := l.records()
	if err != nil {
		return err
	}
	data, err := json.Marshal(indexOf(named))
	if err != nil {
		return err
	}
	if err := l.staging.writeDurably("image.index", replacement{l.index(), data}); err != nil {
		return err
	}
	return l.unmarkStale()
}

// unmarkStale takes the mark away when index.json is written.
func (l *Layout) unmarkStale() error {
	if err := os.Remove(l.stale()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// NewIndex makes an index of manifests, each of which names its platform, and its descriptor.
func NewIndex(manifests []ocispec.Descriptor, annotations map[string]string) ([]byte, ocispec.Descriptor, error) {
	if manifests == nil {
		manifests = []ocispec.Descriptor{} // an empty list in JSON, not null
	}
	raw, err := json.Marshal(ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex,
		Manifests: manifests, Annotations: annotations,
	})
	return raw, describe(ocispec.MediaTypeImageIndex, raw), err
}

// indexOf lists images under their full names, or under a tag that has no repository.
func indexOf(named []Named) ocispec.Index {
	x := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: make([]ocispec.Descriptor, len(named)),
	}
	slices.SortStableFunc(named, compareNamed)
	for i, n := range named {
		d := n.Descriptor
		if name := indexName(n.Reference); name != "" {
			d.Annotations = maps.Clone(d.Annotations)
			if d.Annotations == nil {
				d.Annotations = map[string]string{}
			}
			d.Annotations[ocispec.AnnotationRefName] = name
		}
		x.Manifests[i] = d
	}
	return x
}

// indexName is a name as an index has it: a full one, or a tag without a repository.
func indexName(r Reference) string {
	if r.Domain == "" && r.Path == "" {
		return r.Tag
	}
	return r.String()
}

// pick finds what a name stands for in the index of an archive or of a directory. A name is what an annotation says, or
// the last part of that if it is so of one image only, or a digest. Without a name there must be one image.
func pick(x ocispec.Index, r Reference) (ocispec.Descriptor, error) {
	want := indexName(r)
	if want == "" {
		want = string(r.Digest)
	}
	var names []string
	var tagged []ocispec.Descriptor
	for _, d := range x.Manifests {
		name, full := d.Annotations[ocispec.AnnotationRefName], d.Annotations[annotationContainerdName]
		if want != "" && (name == want || full == want || string(d.Digest) == want) {
			return d, nil
		}
		if strings.HasSuffix(name, ":"+want) || strings.HasSuffix(full, ":"+want) {
			tagged = append(tagged, d)
		}
		names = append(names, cmp.Or(name, full, string(d.Digest)))
	}
	switch {
	case want != "" && len(tagged) == 1:
		return tagged[0], nil
	case want == "" && len(x.Manifests) == 1:
		return x.Manifests[0], nil
	}
	return ocispec.Descriptor{}, notPicked(want, names)
}

// A noImageError means that there is no such image in an archive or a directory. It is fs.ErrNotExist.
type noImageError string

func (e noImageError) Error() string { return string(e) }

// Is makes it fs.ErrNotExist.
func (e noImageError) Is(target error) bool { return target == fs.ErrNotExist }

// notPicked says which images there are, where none of them could be chosen.
func notPicked(want string, names []string) error {
	switch {
	case len(names) == 0:
		return noImageError("holds no image")
	case want == "":
		return fmt.Errorf("holds %d images: say which: %s", len(names), Clip(strings.Join(names, ", ")))
	}
	return noImageError(fmt.Sprintf("holds no image %q, only %s", Clip(want), Clip(strings.Join(names, ", "))))
}
