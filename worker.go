package forge

import (
	"context"
	"path/filepath"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
)

// worker is what does the steps of a build here.
func (h *Home) worker(o BuildOptions, src *sources) (*executor.Local, error) {
	store, err := h.Snapshots()
	if err != nil {
		return nil, err
	}
	return &executor.Local{
		Snapshots: store,
		Layout:    h.Layout,
		Digests:   h.digests,
		Downloads: h.downloads,
		Contexts:  src.Trees,
		Epoch:     o.Epoch,
		Fetch:     src.images.FetchLayers,
		Allow:     o.Allow,
		Limits:    o.Limits,
		Hosts:     o.Hosts,
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
func (h *Home) executorOptions(o BuildOptions, src *sources, worker *executor.Local) executor.Options {
	return executor.Options{
		Worker:      worker,
		Cache:       h.Cache,
		Publish:     h.Layout.Publish,
		NoCache:     o.NoCache,
		Epoch:       o.Epoch,
		Events:      o.Events,
		Explain:     o.Explain,
		Have:        h.haveLayer,
		FetchLayers: src.images.FetchLayers,
	}
}

// haveLayer reports whether a layer that the cache remembers is still here.
func (h *Home) haveLayer(ctx context.Context, l image.Layer) (bool, error) {
	return h.Layout.Exists(ctx, l.Blob)
}
