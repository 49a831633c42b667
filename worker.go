package forge

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/executor/local"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/source"
)

// workers do the steps of a build on this machine: one for each of its settings. They are to be closed by closeWorkers.
func (h *Home) workers(b *building) ([]*local.Worker, error) {
	t := b.first()
	inputs, err := h.inputs(b)
	if err != nil {
		return nil, err
	}
	of := b.of
	if len(of) == 0 { // no command runs
		of = []*making{t}
	}
	var ws []*local.Worker
	for _, t := range of {
		w, err := h.worker(t.BuildOptions, inputs)
		if err != nil {
			return nil, b.named(t, err)
		}
		if len(ws) > 0 {
			w.Beside = ws[0]
		}
		ws = append(ws, w)
	}
	return ws, nil
}

// inputs resolves what the steps of a build read.
func (h *Home) inputs(b *building) (*source.Resolver, error) {
	store, err := h.Snapshots()
	if err != nil {
		return nil, err
	}
	t := b.first()
	src := t.src
	trees, pins := src.Trees, src.pins
	if b.several() {
		var all []*source.Pins
		for _, t := range b.targets {
			all = append(all, t.src.pins)
		}
		if pins, err = source.JoinPins(all); err != nil {
			return nil, err
		}
		trees = b.shared.Trees()
	}
	var digests source.Memory = h.digests
	if far := src.images.far; far != nil {
		digests = &remote.Values{Far: far.Cache, Near: h.digests}
	}
	return &source.Resolver{
		Contexts:  trees,
		Layers:    &source.Layers{Snapshots: store, Fetch: src.images.FetchLayers},
		Downloads: source.Downloads{Layout: h.Layout, Known: h.downloads, Offline: t.Offline},
		Digests:   digests,
		Lists:     h.lists,
		Pins:      pins,
		Offline:   t.Offline,
	}, nil
}

// worker does the steps of targets that have the same settings.
func (h *Home) worker(o BuildOptions, inputs *source.Resolver) (*local.Worker, error) {
	w := &local.Worker{
		Layout: h.Layout,
		Events: o.Events,
		Inputs: inputs,
		Containers: &container.Factory{
			Snapshots: inputs.Layers.Snapshots,
			Staging:   h.staging,
			CacheDir:  filepath.Join(h.Dir, "mounts"),
			Events:    o.Events,
			Isolation: isolation(o.Isolation),
			Connect:   h.connector(nil, withoutNetwork(), o.Events),
		},
		KeepFailed: o.stops(),
	}
	return w, o.give(w)
}

// isolation is what --isolation or FORGE_ISOLATION says; docker's word for auto is default.
func isolation(text string) runtime.Isolation {
	if text == "" || text == "default" {
		text = "auto"
	}
	return runtime.Isolation(text)
}

// withoutNetwork is the mode of the network that RUN gets where none can be made for it. What is in a container already shares
// that of the container, not the machine's.
func withoutNetwork() string {
	if runtime.InContainer() {
		return "host"
	}
	return "none"
}

// closeWorkers closes workers and the layers that their steps have read.
func closeWorkers(ws []*local.Worker) error {
	var errs []error
	for _, w := range ws {
		errs = append(errs, w.Close())
	}
	return errors.Join(append(errs, ws[0].Inputs.Layers.Close())...)
}

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
	if o.Client != nil {
		w.Containers.Client = &o.Client.Steps
	}
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

// remoteSlots is how many jobs are under way at once where other machines do them: here each is a stream that waits.
const remoteSlots = 4096

// executorOptions is how the steps of a build are done.
func (h *Home) executorOptions(o BuildOptions, inputs *source.Resolver, bases *resolver, does executor.Worker) executor.Options {
	var answers cache.Cache = h.Cache
	if bases.far != nil {
		answers = bases.far
	}
	slots := 0
	if bases.cluster != nil {
		slots = remoteSlots
	}
	return executor.Options{
		Worker:  does,
		Away:    bases.cluster != nil,
		Slots:   slots,
		Inputs:  inputs,
		Cache:   answers,
		Publish: h.Layout.Publish,
		Again:   executor.Again{NoCache: o.NoCache, Since: o.Since},
		Events:  o.Events,
		Explain: o.Explain,
		Audit:   o.Audit,
		Bases:   bases,
		Compare: bases.changedFiles,
		Mounted: h.filesMounted,
	}
}

// maxChanged is how many changed files are told of.
const maxChanged = 10

// changedFiles is that of the Home, for layers of which the earlier one may still be elsewhere.
func (r *resolver) changedFiles(ctx context.Context, before, after image.Layer) (changes []event.Change, more int, err error) {
	if err := r.FetchLayers(ctx, []image.Layer{before}); err != nil {
		return nil, 0, err
	}
	return r.home.changedFiles(ctx, before, after)
}

// changedFiles finds the files that differ between two layers, but for their times, and how many there are besides. A layer that is gone is an error.
func (h *Home) changedFiles(ctx context.Context, before, after image.Layer) (changes []event.Change, more int, err error) {
	err = h.withViews(ctx, before, after, func(a, b *snapshot.View) error {
		differences, err := snapshot.Compare(ctx, a, b)
		for _, d := range differences {
			if slices.Equal(d.What, []string{"mtime"}) {
				continue
			}
			if len(changes) == maxChanged {
				more++
				continue
			}
			c := event.Change{Field: "file", Name: "/" + d.Path, How: event.Replaced}
			c.Old, c.OldSize = contentOf(ctx, a, d.Path)
			c.New, c.NewSize = contentOf(ctx, b, d.Path)
			switch {
			case slices.Equal(d.What, []string{"added"}):
				c.How = event.Added
			case slices.Equal(d.What, []string{"removed"}):
				c.How = event.Removed
			case c.Old == c.New && c.OldSize == c.NewSize:
				c.Name += " (" + strings.Join(d.What, ", ") + ")"
			}
			changes = append(changes, c)
		}
		return err
	})
	return changes, more, err
}

// filesMounted finds the files behind the change of a mount's digest, and how many there are besides.
func (h *Home) filesMounted(ctx context.Context, c event.Change) (files []event.Change, more int, err error) {
	return source.ChangedFiles(ctx, h.lists, c, maxChanged)
}

// pruneLists forgets the lists of the files of mounts that no entry names.
func (h *Home) pruneLists(records []cache.Record[cache.Entry]) error {
	named := map[cache.Key]bool{}
	for _, r := range records {
		for _, f := range r.Value.Fields {
			for _, v := range f.Values {
				if key, err := cache.ParseKey(strings.TrimPrefix(v, "sha256:")); err == nil && strings.HasPrefix(f.Name, "files ") {
					named[key] = true
				}
			}
		}
	}
	return errors.Join(h.lists.Keep(named), h.lists.Sweep())
}

// contentOf is the digest and the size of a file, or where a link leads.
func contentOf(ctx context.Context, v *snapshot.View, path string) (string, int64) {
	e, err := v.Lstat(path)
	if err != nil || e.Link != "" {
		return e.Link, 0
	}
	sum, err := v.Sum(ctx, path)
	if err != nil { // it has no content
		return "", 0
	}
	return fmt.Sprintf("sha256:%x", sum), e.Size
}
