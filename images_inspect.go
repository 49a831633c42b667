package forge

import (
	"context"
	"maps"
	"slices"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/inspect"
)

// Docker is the image as docker's API shows it.
func (i *Inspection) Docker() inspect.Image {
	img, base := i.Image, i.Image.Config.Config
	v := inspect.Image{
		ID: img.ID().String(), RepoTags: []string{}, RepoDigests: []string{}, Author: img.Config.Author, Architecture: img.Config.Architecture,
		Variant: img.Config.Variant, Os: img.Config.OS, Size: i.Size, Descriptor: img.Descriptor,
		RootFS: inspect.Layers{Type: img.Config.RootFS.Type, Layers: img.Config.RootFS.DiffIDs},
		Config: inspect.ImageConfig{
			ArgsEscaped: base.ArgsEscaped, Cmd: base.Cmd, Entrypoint: base.Entrypoint, Env: base.Env, ExposedPorts: base.ExposedPorts, //nolint:staticcheck // images have it
			Healthcheck: base.Healthcheck, Labels: base.Labels, OnBuild: base.OnBuild, Shell: base.Shell, StopSignal: base.StopSignal, User: base.User,
			Volumes: base.Volumes, WorkingDir: base.WorkingDir,
		},
	}
	v.Metadata.LastTagTime = i.Tagged
	if img.Config.Created != nil {
		v.Created = &inspect.Timestamp{Time: *img.Config.Created}
	}
	if n := len(img.Config.History); n > 0 {
		v.Comment = img.Config.History[n-1].Comment
	}
	for _, ref := range i.Names {
		v.RepoTags = append(v.RepoTags, ref.Familiar())
	}
	for _, ref := range i.Remotes {
		if at := ref.Familiar(); !slices.Contains(v.RepoDigests, at) {
			v.RepoDigests = append(v.RepoDigests, at)
		}
	}
	return v
}

// InspectImage finds an image as Inspect does, and shows it as docker's API does.
func (h *Home) InspectImage(ctx context.Context, name, platform string) (*inspect.Image, error) {
	i, err := h.Inspect(ctx, name, platform)
	if err != nil {
		return nil, err
	}
	v := i.Docker()
	store, err := h.Snapshots()
	if err != nil {
		return nil, err
	}
	kind, _ := store.Kind()
	v.GraphDriver.Name = string(kind)
	return &v, nil
}

// ImageManifests are the images that a name stands for, as docker's API lists them: those of an index, or one.
func (h *Home) ImageManifests(ctx context.Context, name string) ([]inspect.Manifest, error) {
	n, err := h.Layout.Find(ctx, name)
	if err != nil {
		return nil, notFound(name, err)
	}
	users, err := h.imageUsers()
	if err != nil {
		return nil, err
	}
	doc, _, err := image.ReadDocument(ctx, h.Layout, n.Descriptor)
	if err != nil {
		return nil, err
	}
	children := []ocispec.Descriptor{n.Descriptor}
	if doc.IsIndex() {
		children = doc.Images()
	}
	var list []inspect.Manifest
	for _, d := range children {
		m := inspect.Manifest{ID: d.Digest, Descriptor: d, Kind: "image", ImageData: &inspect.ManifestData{Containers: []string{}}}
		if d.Platform != nil {
			m.ImageData.Platform = *d.Platform
		}
		if img, err := h.Layout.Image(ctx, d, nil); err == nil {
			size := h.sizeOf(ctx, d, users)
			m.Available, m.Size.Content, m.ImageData.Size.Unpacked = true, size.Content, size.Disk
			m.Size.Total = size.Content + size.Disk
			m.ImageData.Platform = img.Config.Platform
			m.ImageData.Containers = users.ids(img.ID())
		}
		list = append(list, m)
	}
	return list, nil
}

// ids are the containers that were made of an image.
func (u imageUsers) ids(of digest.Digest) []string {
	list := []string{}
	for _, r := range u {
		if r.ImageID == of {
			list = append(list, r.ID)
		}
	}
	return list
}

// ImageSummaries lists images as Images does, each once.
func (h *Home) ImageSummaries(ctx context.Context, o ImagesOptions) (list []*inspect.ImageSummary, err error) {
	groups, users, err := h.imageGroups(ctx, o)
	for _, infos := range groups {
		info := &infos[0]
		v := &inspect.ImageSummary{
			Containers: len(users.ids(info.ID)), ID: info.ID.String(), Labels: maps.Clone(info.Labels), RepoTags: namesOf(infos), RepoDigests: []string{},
			SharedSize: -1, Size: info.Size, Descriptor: info.descriptor,
		}
		if !info.Created.IsZero() {
			v.Created = info.Created.Unix()
		}
		for _, info := range infos {
			if at := info.Repository + "@" + info.Remote.String(); info.Remote != "" && info.Repository != "" && !slices.Contains(v.RepoDigests, at) {
				v.RepoDigests = append(v.RepoDigests, at)
			}
		}
		list = append(list, v)
	}
	return list, err
}

// ShareSizes finds out what each image has in common with others of the list, and returns how much all layers are, each once, in bytes.
func (h *Home) ShareSizes(ctx context.Context, list []*inspect.ImageSummary) (total int64) {
	size, users := map[digest.Digest]int64{}, map[digest.Digest]int{}
	images := make([]*image.Image, len(list))
	for i, v := range list {
		img, err := h.Layout.AnyImage(ctx, v.Descriptor)
		if err != nil {
			continue // removed meanwhile
		}
		images[i] = img
		for _, l := range img.Layers() {
			if users[l.DiffID]++; users[l.DiffID] == 1 {
				size[l.DiffID] = h.Layout.TarSize(l)
				total += size[l.DiffID]
			}
		}
	}
	for i, v := range list {
		v.SharedSize = 0
		if images[i] == nil {
			continue
		}
		for _, l := range images[i].Layers() {
			if users[l.DiffID] > 1 {
				v.SharedSize += size[l.DiffID]
			}
		}
	}
	return total
}
