package local

import (
	"cmp"
	"context"
	"fmt"
	"path"
	"strings"
	"syscall"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/runtime"
	"github.com/forge-build/forge/snapshot/filetree"
)

// runMounts are the mounts of a RUN, with what its inputs come to.
func (w *Worker) runMounts(ctx context.Context, job executor.Job, op *planner.Run) ([]container.Mount, error) {
	var mounts []container.Mount
	if len(op.Files) > 0 {
		scripts := &container.Scripts{Target: planner.ScriptDir}
		for _, f := range op.Files {
			scripts.Files = append(scripts.Files, container.Script{Name: f.Name, Content: f.Content})
		}
		mounts = append(mounts, scripts)
	}
	for n, m := range op.Mounts {
		mount, err := w.runMount(ctx, job, n, op.Platform, m)
		if err != nil {
			return nil, fmt.Errorf("--mount=type=%s,target=%s: %w", m.Type, m.Target, err)
		}
		mounts = append(mounts, mount)
	}
	return mounts, nil
}

func (w *Worker) runMount(ctx context.Context, job executor.Job, n int, platform string, m planner.Mount) (container.Mount, error) {
	access := container.Access(m.Access)
	switch m.Type {
	case planner.Bind:
		return w.runBind(ctx, job, n, m)
	case planner.Cache:
		seed, err := w.cacheSeed(ctx, job, n, m)
		cache := &container.Cache{
			ID: m.ID, Target: m.Target, Sharing: m.Sharing, ReadOnly: m.ReadOnly, Access: access, Seed: seed, Platform: platform,
		}
		if m.From == nil { // else it is of what the cache begins with
			cache.Source = relative(m.Source)
		}
		return cache, err
	case planner.Tmpfs:
		return &container.Tmpfs{Target: m.Target, Options: runtime.Tmpfs{Size: m.Size}, Lasting: w.KeepFailed}, nil
	case planner.Secret:
		return &container.SecretMount{ID: m.ID, Target: m.Target, Env: m.Env, Required: m.Required, Access: access}, nil
	case planner.SSH:
		return &container.Agent{ID: m.ID, Target: m.Target, Required: m.Required, Access: access}, nil
	}
	return nil, fmt.Errorf("there is no mount of type %q", m.Type)
}

// runBind finds layers that hold the files of a bind mount.
func (w *Worker) runBind(ctx context.Context, job executor.Job, n int, m planner.Mount) (_ *container.Layers, err error) {
	bind := &container.Layers{Source: relative(m.Source), Target: m.Target, ReadOnly: m.ReadOnly}
	switch {
	case m.From.Read >= 0:
		bind.Layers = job.Reads[m.From.Read]
	case job.Inputs[n].Layer != nil:
		if _, err := w.tree(ctx, job, n, *m.From); err != nil {
			return nil, err
		}
		bind.Layers = []image.Layer{*job.Inputs[n].Layer}
	default: // a layer, so that the container has no way to the directory itself
		end, err := w.begin(ctx)
		if err != nil {
			return nil, err
		}
		layer, err := w.Inputs.Pack(ctx, job.Op, n, job.Epoch)
		end()
		if err != nil {
			return nil, err
		}
		bind.Layers = []image.Layer{layer}
	}
	bind.Files, err = w.Inputs.Layers.View(ctx, bind.Layers)
	return bind, err
}

// cacheSeed is what a new cache begins with, nil if it begins empty.
func (w *Worker) cacheSeed(ctx context.Context, job executor.Job, n int, m planner.Mount) (*container.Seed, error) {
	if m.From == nil {
		return nil, nil
	}
	tree, err := w.tree(ctx, job, n, *m.From)
	if err != nil {
		return nil, err
	}
	return &container.Seed{Files: tree, Path: relative(m.Source), Digest: "sha256:" + job.Inputs[n].Files[0].Sum}, nil
}

func isRegular(e *filetree.Entry) bool { return e.Mode&syscall.S_IFMT == syscall.S_IFREG }

// relative is a path as a [filetree.Tree] wants it.
func relative(p string) string { return cmp.Or(strings.TrimPrefix(path.Clean("/"+p), "/"), ".") }
