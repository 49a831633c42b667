package forge

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/image"
)

// PruneForecast says what Prune, after PruneContainers if everything is to go, would remove as things stand: a row for each kind of
// which there is something. Bytes are what the file system gets back; what images and the cache share is counted once, as blobs.
func (h *Home) PruneForecast(ctx context.Context, o PruneOptions) (rows []KindUsage, err error) {
	if err := o.Check(); err != nil {
		return nil, err
	}
	containers, users, err := h.forecastContainers(ctx, o)
	if err != nil {
		return nil, err
	}
	drop, err := h.forecastImages(ctx, o, users)
	if err != nil {
		return nil, err
	}
	entries, keep, err := h.forecastCache(o)
	if err != nil {
		return nil, err
	}
	lock, err := h.lockStore(ctx, o.Events)
	if err != nil {
		return nil, err
	}
	pruned, err := h.Layout.Prune(ctx, image.PruneOptions{
		Dry: true, Drop: drop, Keep: heldBy(keep), Roots: users.manifests(), Nameless: o.chosen == nil && o.takes(PruneImages),
	})
	if err := errors.Join(err, lock.Close()); err != nil {
		return nil, err
	}
	images := map[digest.Digest]bool{}
	for _, n := range pruned.Images {
		images[n.Descriptor.Digest] = true
	}
	rows = []KindUsage{
		containers,
		{Name: "images", Count: len(images)},
		{Name: "cache entries", Count: len(entries)},
		{Name: "blobs of images and cache", Count: len(pruned.Blobs), Bytes: pruned.Bytes},
	}
	for _, d := range []struct {
		name, dir string
		goes      bool
	}{{"cache mounts", "mounts", o.All && o.takes(PruneCache)}, {"interrupted downloads", "partial", true}} {
		k, err := treeUsage(filepath.Join(h.Dir, d.dir))
		if k.Name = d.name; err == nil && d.goes && k.Count > 0 {
			rows = append(rows, k)
		}
	}
	if o.Volumes {
		k, err := h.forecastVolumes()
		if err != nil {
			return nil, err
		}
		rows = append(rows, k)
	}
	return slices.DeleteFunc(rows, func(k KindUsage) bool { return k.Count == 0 }), nil
}

// forecastContainers are the containers that would go, and the others, which use images.
func (h *Home) forecastContainers(ctx context.Context, o PruneOptions) (k KindUsage, stay imageUsers, err error) {
	k.Name = "stopped containers"
	if stay, err = h.imageUsers(); err != nil || o.Only != "" {
		return k, stay, err
	}
	list, err := h.Containers(ctx, ListOptions{All: true, Last: -1, Size: true})
	for _, i := range list {
		if h.inUse(i.ID) || o.chosen != nil && !o.chosen(&i) {
			continue
		}
		k.Count, k.Bytes = k.Count+1, k.Bytes+i.Written
		stay = slices.DeleteFunc(stay, func(r *containerRecord) bool { return r.ID == i.ID })
	}
	return k, stay, err
}

// forecastImages are the images that would go although they have a name.
func (h *Home) forecastImages(ctx context.Context, o PruneOptions, users imageUsers) (drop []digest.Digest, err error) {
	if !o.takes(PruneImages) || !o.All && o.chosen == nil {
		return nil, nil
	}
	named, err := h.prunedImages(ctx, &o)
	for _, n := range named {
		if h.userOf(ctx, users, n) == nil {
			drop = append(drop, n.Descriptor.Digest)
		}
	}
	return drop, err
}

// forecastCache are the entries of the cache that would go, and the others.
func (h *Home) forecastCache(o PruneOptions) (gone, keep []cache.Record[cache.Entry], err error) {
	if keep, err = h.Cache.List(); err != nil {
		return nil, nil, err
	}
	policy, any := o.policy()
	if !any {
		return nil, keep, nil
	}
	if gone, err = h.Cache.Chosen(policy); err != nil {
		return nil, nil, err
	}
	keep = slices.DeleteFunc(keep, func(r cache.Record[cache.Entry]) bool {
		return slices.ContainsFunc(gone, func(g cache.Record[cache.Entry]) bool { return g.Key == r.Key })
	})
	return gone, keep, nil
}

// forecastVolumes are the volumes without a name that no container uses.
func (h *Home) forecastVolumes() (k KindUsage, err error) {
	k.Name = "volumes"
	names, err := h.volumes().Names()
	users, usersErr := h.volumeUsers()
	if err := errors.Join(err, usersErr); err != nil {
		return k, err
	}
	for _, name := range names {
		r, err := h.volumes().Record(name)
		if err != nil || users[name] != nil || !r.Anonymous() {
			continue
		}
		one, err := treeUsage(h.volumes().DataPath(name))
		if err != nil {
			return k, err
		}
		k.Count, k.Bytes = k.Count+1, k.Bytes+one.Bytes
	}
	return k, nil
}
