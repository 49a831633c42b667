package forge

import (
	"context"
	"path/filepath"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/executor/local"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/source"
)

// worker is what does the steps of a build here.
func (h *Home) worker(o BuildOptions, src *sources) (*local.Worker, error) {
	store, err := h.Snapshots()
	if err != nil {
		return nil, err
	}
	src.layers = &source.Layers{Snapshots: store, Fetch: src.images.FetchLayers}
	return &local.Worker{
		Layout: h.Layout,
		Inputs: &source.Resolver{
			Contexts:  src.Trees,
			Layers:    src.layers,
			Downloads: source.Downloads{Layout: h.Layout, Known: h.downloads},
			Digests:   h.digests,
		},
		Allow:  o.Allow,
		Limits: o.Limits,
		Hosts:  o.Hosts,
		Containers: &container.Factory{
			Snapshots: store,
			Staging:   h.staging,
			Secrets:   o.Secrets,
			SSH:       o.SSH,
			CacheDir:  filepath.Join(h.Dir, "mounts"),
			Events:    o.Events,
			Connect:   h.connector(nil, o.Events),
		},
	}, nil
}

// executorOptions is how the steps of a build are done.
func (h *Home) executorOptions(o BuildOptions, worker *local.Worker) executor.Options {
	return executor.Options{
		Worker:  worker,
		Inputs:  worker.Inputs,
		Cache:   h.Cache,
		Publish: h.Layout.Publish,
		NoCache: o.NoCache,
		Epoch:   o.Epoch,
		Events:  o.Events,
		Explain: o.Explain,
		Have:    h.haveLayer,
		Compare: h.changedFiles,
	}
}

// changedFiles names the files that differ between two layers, but for their times. A layer that is gone is an error.
func (h *Home) changedFiles(ctx context.Context, before, after image.Layer) ([]string, error) {
	store, err := h.Snapshots()
	if err != nil {
		return nil, err
	}
	differences, err := compareLayers(ctx, store, before, after)
	var names []string
	for _, d := range differences {
		if !slices.Equal(d.What, []string{"mtime"}) {
			names = append(names, d.Path)
		}
	}
	return names, err
}

// haveLayer reports whether a layer that the cache remembers is still here.
func (h *Home) haveLayer(ctx context.Context, l image.Layer) (bool, error) {
	if err := h.Layout.Hold(ctx, l.Blob, ocispec.Descriptor{Digest: l.DiffID}); err != nil {
		return false, err
	}
	return h.Layout.Has(l.Blob)
}
