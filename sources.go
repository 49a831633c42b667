package forge

import (
	"context"
	"errors"
	"path/filepath"
	"strconv"

	"github.com/forge-build/forge/source"
)

// sources are what a build reads: its files, and the images that its FROMs name.
type sources struct {
	*source.Source
	images *resolver
	pins   *source.Pins // what names are to stand for; nil is what they stand for now
}

// openSources opens what a build reads. Directories that others of the build have opened are shared with them, unless shared is nil.
func (h *Home) openSources(ctx context.Context, o BuildOptions, shared *source.Shared) (*sources, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	keep, _ := strconv.ParseBool(o.Args["BUILDKIT_CONTEXT_KEEP_GIT_DIR"]) // as in BuildKit, anything else is false
	var lender source.Lender
	if o.Client != nil {
		lender = o.Client.Files
	}
	src, err := source.Open(ctx, source.Spec{
		Lender:  lender,
		Context: o.Context, File: o.File, Stdin: o.Stdin, Named: o.Contexts, KeepGitDir: keep, Offline: o.Offline, Shared: shared,
		Store: source.Store{
			Layout: h.Layout, Snapshots: h.Snapshots,
			Stats: func(dir string) string { return filepath.Join(h.Dir, "contexts", hexOf(dir)) },
		},
	})
	if err != nil {
		return nil, err
	}
	pins, err := openPins(src, o.Lock)
	if err != nil {
		return nil, errors.Join(err, src.Close())
	}
	pull := o.Pull
	if o.Offline {
		pull = PullNever
	}
	images := &resolver{home: h, pull: pull, remote: o.RemoteOptions, pins: pins, arrivals: &arrivals{}}
	if o.Client != nil {
		images.content = o.Client.Content
	}
	return &sources{Source: src, pins: pins, images: images}, nil
}

// withSources opens what a build reads for do.
func (h *Home) withSources(ctx context.Context, o BuildOptions, do func(*sources) error) (err error) {
	src, err := h.openSources(ctx, o, nil)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, src.Close()) }()
	return do(src)
}
