package forge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/source"
)

// A FsckReport says what a check found.
type FsckReport struct {
	Problems []string // each names the file, what is wrong and which images it touches
	Dropped  []string // images that a repair could not make whole
	Images   int      // names
}

// FsckOptions say how closely to look, and what to do about it.
type FsckOptions struct {
	Deep   bool // hash all bytes
	Repair bool // drop what is damaged, and pull again what can be pulled
}

// Fsck looks for damage: whatever is missing, has a wrong size or cannot be read, and, if that was asked for, all bytes that do
// not have the digest that names them.
func (h *Home) Fsck(ctx context.Context, o FsckOptions) (r FsckReport, err error) {
	problems, err := h.Layout.Fsck(ctx, image.FsckOptions{Deep: o.Deep})
	if err != nil {
		return r, err
	}
	for _, p := range problems {
		line := p.String()
		var names []string
		for _, n := range p.Images {
			names = append(names, nameOrDigest(n))
		}
		if len(names) > 0 {
			line += "; images: " + strings.Join(names, " ")
		}
		r.Problems = append(r.Problems, line)
	}
	store, err := h.Snapshots()
	if err != nil {
		return r, err
	}
	indexes, err := store.Check(ctx, image.FsckOptions{Deep: o.Deep})
	if err != nil {
		return r, err
	}
	for _, p := range indexes {
		r.Problems = append(r.Problems, fmt.Sprintf("%s: %v", p.Path, p.Err))
		if o.Repair {
			if err := os.Remove(p.Path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return r, err
			}
		}
	}
	if o.Repair {
		if err := store.ForgetMerged(); err != nil { // which may be made of what was damaged
			return r, err
		}
	}
	contexts, contextsErr := h.checkContexts(o)
	volumes, volumesErr := h.checkVolumes(o)
	entries, err := h.checkCache(o)
	if err = errors.Join(contextsErr, volumesErr, err); err != nil {
		return r, err
	}
	r.Problems = slices.Concat(r.Problems, contexts, volumes, entries)
	if o.Repair {
		if r.Dropped, err = h.repair(ctx, problems); err != nil {
			return r, err
		}
	}
	named, err := h.Layout.List(ctx)
	r.Images = len(named)
	return r, err
}

// repair drops what is damaged, and pulls again what can be pulled.
func (h *Home) repair(ctx context.Context, problems []image.Problem) (dropped []string, err error) {
	lost, err := h.Layout.Repair(ctx, problems, func(ctx context.Context, n image.Named) error { return h.fetchAgain(ctx, n, problems) })
	for _, n := range lost {
		dropped = append(dropped, nameOrDigest(n))
	}
	return dropped, err
}

// fetchAgain pulls an image that has problems by the digest that its repository has it under: its name may stand for something else there by now.
func (h *Home) fetchAgain(ctx context.Context, n image.Named, problems []image.Problem) error {
	client := RemoteOptions{}.client()
	defer client.Close() //nolint:errcheck // of idle connections
	repo, d, err := pinned(ctx, client, n)
	if err != nil {
		return err
	}
	for _, p := range h.platformsHere(ctx, n.Descriptor, problems) { // named when all of them are here
		if _, err := h.receive(ctx, repo.Source(), d, p, image.Reference{}, nil); err != nil {
			return err
		}
	}
	if !h.Layout.Names(n.Reference, n.Descriptor.Digest) { // somebody has given it to another image meanwhile
		return nil
	}
	return h.Layout.TagAll(ctx, image.Named{Reference: n.Reference, Descriptor: d, Remote: d.Digest})
}

// platformsHere are those of an index whose images the store has, or had until their manifests were found to be damaged; this machine's if it is
// no index, or nobody can tell.
func (h *Home) platformsHere(ctx context.Context, d ocispec.Descriptor, problems []image.Problem) (list []ocispec.Platform) {
	if doc, _, err := image.ReadDocument(ctx, h.Layout, d); err == nil {
		for _, child := range doc.Images() {
			here, err := h.Layout.Has(child)
			damaged := slices.ContainsFunc(problems, func(p image.Problem) bool { return p.Path == h.Layout.BlobPath(child.Digest) })
			if (here || damaged) && err == nil && child.Platform != nil {
				list = append(list, *child.Platform)
			}
		}
	}
	if len(list) == 0 {
		list = append(list, thisPlatform())
	}
	return list
}

// checkCache names what the stores of the cache have and cannot be read. A repair forgets it.
func (h *Home) checkCache(o FsckOptions) ([]string, error) {
	problems, err := checkStore(&h.Cache.Store, "cache", o)
	trees, treesErr := checkStore(h.digests, "cache/trees", o)
	downloads, downloadsErr := checkStore(h.downloads, "cache/downloads", o)
	remotes, remotesErr := checkStore(h.remotes, "cache/remote", o)
	lists, listsErr := checkStore(h.lists, "cache/files", o)
	return slices.Concat(problems, trees, downloads, remotes, lists), errors.Join(err, treesErr, downloadsErr, remotesErr, listsErr)
}

func checkStore[V any](s *cache.Store[V], dir string, o FsckOptions) (problems []string, err error) {
	records, err := s.List()
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		if !r.Damaged {
			continue
		}
		problems = append(problems, fmt.Sprintf("%s/%s: cannot be read", dir, r.Key))
		if o.Repair {
			if err := s.Remove(r.Key); err != nil {
				return problems, err
			}
		}
	}
	return problems, nil
}

// checkContexts names the stat caches of build contexts that cannot be read. A repair removes them.
func (h *Home) checkContexts(o FsckOptions) (problems []string, err error) {
	files, err := source.DamagedStats(filepath.Join(h.Dir, "contexts"))
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		problems = append(problems, file+": damaged index of a build context")
		if o.Repair {
			if err := os.RemoveAll(file); err != nil {
				return problems, err
			}
		}
	}
	return problems, nil
}
