package image

import (
	"encoding/json"
	"errors"
	"io/fs"
	"maps"
	"os"
	"slices"

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
	if err := l.staging.writeDurably(l.index(), data, "image.index"); err != nil {
		return err
	}
	if err := os.Remove(l.stale()); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// indexOf lists images under their full names.
func indexOf(named []Named) ocispec.Index {
	x := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2},
		MediaType: ocispec.MediaTypeImageIndex,
		Manifests: make([]ocispec.Descriptor, len(named)),
	}
	slices.SortStableFunc(named, compareNamed)
	for i, n := range named {
		d := n.Descriptor
		if name := n.Reference.String(); name != "" {
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
