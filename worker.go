package forge

import (
	"context"
	"errors"
	"path/filepath"
	"slices"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/executor/local"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/source"
)

// worker does the steps of a build on this machine. It is to be closed by closeWorker.
func (h *Home) worker(o BuildOptions, src *sources) (*local.Worker, error) {
	store, err := h.Snapshots()
	if err != nil {
		return nil, err
	}
	w := &local.Worker{
		Layout: h.Layout,
		Inputs: &source.Resolver{
			Contexts:  src.Trees,
			Layers:    &source.Layers{Snapshots: store, Fetch: src.images.FetchLayers},
			Downloads: source.Downloads{Layout: h.Layout, Known: h.downloads},
			Digests:   h.digests,
		},
		Containers: &container.Factory{
			Snapshots: store,
			Staging:   h.staging,
			CacheDir:  filepath.Join(h.Dir, "mounts"),
			Events:    o.Events,
			Connect:   h.connector(nil, o.Events),
		},
		KeepFailed: o.stops(),
	}
	return w, o.give(w)
}

// closeWorker closes a worker and the layers that its steps have read.
func closeWorker(w *local.Worker) error { return errors.Join(w.Close(), w.Inputs.Layers.Close()) }

// give lets a worker use what the options say.
func (o *BuildOptions) give(w *local.Worker) error {
	w.Allow = o.Allow
	_, err := container.ParseNetwork(o.Network)
	errs := []error{w.Allow.Check(), err}
	w.Limits, err = container.ParseLimits(o.LimitOptions)
	errs = append(errs, err)
	errs = append(errs, container.ParseSecurityOpts(o.SecurityOpts, &w.Security))
	w.Hosts, err = container.ParseHosts(o.AddHosts)
	errs = append(errs, err)
	for _, spec := range o.Secrets {
		secret, err := container.ParseSecret(spec)
		w.Containers.Secrets, errs = append(w.Containers.Secrets, secret), append(errs, err)
	}
	for _, spec := range o.SSH {
		source, err := container.ParseSSH(spec)
		w.Containers.SSH, errs = append(w.Containers.SSH, source), append(errs, err)
	}
	return errors.Join(errs...)
}

// executorOptions is how the steps of a build are done.
func (h *Home) executorOptions(o BuildOptions, worker *local.Worker, bases executor.Bases) executor.Options {
	return executor.Options{
		Worker:  worker,
		Inputs:  worker.Inputs,
		Cache:   h.Cache,
		Publish: h.Layout.Publish,
		Again:   executor.Again{NoCache: o.NoCache, Since: o.Since},
		Epoch:   o.Epoch,
		Events:  o.Events,
		Explain: o.Explain,
		Have:    h.haveLayer,
		Bases:   bases,
		Compare: h.changedFiles,
	}
}

// changedFiles names the files that differ between two layers, but for their times. A layer that is gone is an error.
func (h *Home) changedFiles(ctx context.Context, before, after image.Layer) ([]string, error) {
	differences, err := h.compareLayers(ctx, before, after)
	var names []string
	for _, d := range differences {
		if !slices.Equal(d.What, []string{"mtime"}) {
			names = append(names, d.Path)
		}
	}
	return names, err
}

// haveLayer reports whether a layer that the cache remembers is still in the store.
func (h *Home) haveLayer(ctx context.Context, l image.Layer) (bool, error) {
	if err := h.Layout.Hold(ctx, l.Blob, ocispec.Descriptor{Digest: l.DiffID}); err != nil {
		return false, err
	}
	return h.Layout.Has(l.Blob)
}
