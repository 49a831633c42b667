package executor

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"strings"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot/filetree"
)

// runMounts are the mounts of a RUN, with what its inputs come to.
func (w *Local) runMounts(ctx context.Context, job Job, op *planner.Run) ([]container.Mount, error) {
	var mounts []container.Mount
	if len(op.Files) > 0 {
		scripts := &container.Scripts{Target: planner.ScriptDir}
		for _, f := range op.Files {
			scripts.Files = append(scripts.Files, container.Script{Name: f.Name, Content: f.Content})
		}
		mounts = append(mounts, scripts)
	}
	for _, m := range op.Mounts {
		mount, err := w.runMount(ctx, job, m)
		if err != nil {
			return nil, fmt.Errorf("--mount=type=%s,target=%s: %w", m.Type, m.Target, err)
		}
		mounts = append(mounts, mount)
	}
	return mounts, nil
}

func (w *Local) runMount(ctx context.Context, job Job, m planner.Mount) (container.Mount, error) {
	access := container.Access{UID: m.UID, GID: m.GID, Mode: m.Mode}
	switch m.Type {
	case planner.Bind:
		return w.runBind(ctx, job, m)
	case planner.Cache:
		seed, err := w.cacheSeed(ctx, job, m)
		return &container.Cache{
			ID: m.ID, Target: m.Target, Sharing: m.Sharing, ReadOnly: m.ReadOnly, Access: access, Seed: seed,
		}, err
	case planner.Tmpfs:
		return &container.Tmpfs{Target: m.Target, Options: runtime.Tmpfs{Size: m.Size}}, nil
	case planner.Secret:
		return &container.SecretMount{ID: m.ID, Target: m.Target, Env: m.Env, Required: m.Required, Access: access}, nil
	case planner.SSH:
		return &container.Agent{ID: m.ID, Target: m.Target, Required: m.Required, Access: access}, nil
	}
	return nil, fmt.Errorf("there is no mount of type %q", m.Type)
}

// runBind finds layers that hold the files of a bind mount.
func (w *Local) runBind(ctx context.Context, job Job, m planner.Mount) (_ *container.Layers, err error) {
	bind := &container.Layers{Source: relative(m.Source), Target: m.Target, ReadOnly: m.ReadOnly}
	if m.From.Read >= 0 {
		bind.Layers = job.Reads[m.From.Read]
	} else {
		tree, err := w.tree(ctx, job, *m.From)
		if err != nil {
			return nil, err
		}
		name, err := filetree.Resolve(tree.Lstat, bind.Source, true)
		if err != nil {
			return nil, fmt.Errorf("source %s: %w", m.Source, err)
		}
		layer, err := w.layerOf(ctx, tree, name)
		if err != nil {
			return nil, err
		}
		bind.Layers, bind.Source = append(bind.Layers, layer), layerOfName
	}
	bind.Files, err = w.view(ctx, bind.Layers)
	return bind, err
}

// cacheSeed is what a new cache begins with, nil if it begins empty.
func (w *Local) cacheSeed(ctx context.Context, job Job, m planner.Mount) (*container.Seed, error) {
	if m.From == nil {
		return nil, nil
	}
	tree, err := w.tree(ctx, job, *m.From)
	if err != nil {
		return nil, err
	}
	digest, err := w.inputDigest(ctx, job, *m.From, relative(m.Source))
	return &container.Seed{Files: tree, Path: relative(m.Source), Digest: digest}, err
}

// relative is a path as a [filetree.Tree] wants it.
func relative(p string) string { return cmp.Or(strings.TrimPrefix(path.Clean("/"+p), "/"), ".") }
