package executor

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"maps"
	"path"
	"slices"
	"strconv"
	"syscall"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

func isRegular(e *snapshot.Entry) bool { return e.Mode&syscall.S_IFMT == syscall.S_IFREG }

// describeRun adds what a RUN's bind mounts hold, and what its caches begin with.
func (w *Local) describeRun(ctx context.Context, job Job, op *planner.Run, h *cache.Hash) error {
	for _, m := range op.Mounts {
		if m.From == nil {
			continue
		}
		sum, err := w.inputDigest(ctx, job, *m.From, relative(m.Source))
		if err != nil {
			return fmt.Errorf("--mount=type=%s,target=%s: source %s: %w", m.Type, m.Target, m.Source, err)
		}
		h.Field("files "+m.Target, sum)
	}
	return nil
}

// inputDigest is the digest of what is at name of an input. What it is of a step's layers never changes, so that it is
// remembered and a build from the cache need not even have them.
func (w *Local) inputDigest(ctx context.Context, job Job, in planner.Input, name string) (string, error) {
	compute := func() (string, error) {
		tree, err := w.tree(ctx, job, in)
		if err != nil {
			return "", err
		}
		resolved, err := filetree.Resolve(tree.Lstat, name, true)
		if err != nil {
			return "", err
		}
		return treeDigest(ctx, tree, resolved)
	}
	if in.Read < 0 {
		return compute()
	}
	var question cache.Hash
	question.Field("tree", "1", image.ChainID(job.Reads[in.Read]).String(), name)
	return w.remember(ctx, &question, compute)
}

// treeDigest is a digest of all that is at name and below: names, types, modes, owners, contents, links and xattrs, but
// not times.
func treeDigest(ctx context.Context, t snapshot.Tree, name string) (string, error) {
	h := sha256.New()
	err := filetree.Walk(ctx, t, name, func(at string, e *snapshot.Entry, sum *filetree.Sum) error {
		content := ""
		if isRegular(e) {
			if sum == nil {
				s, err := t.Sum(at)
				if err != nil {
					return err
				}
				sum = &s
			}
			content = "sha256:" + hex.EncodeToString(sum[:])
		}
		hashEntry(h, relTo(name, at), *e, content)
		return nil
	})
	if err != nil {
		return "", err
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}

// hashEntry writes an entry so that no two write the same: each part after its length.
func hashEntry(h hash.Hash, rel string, e snapshot.Entry, content string) {
	part := func(s string) {
		io.WriteString(h, strconv.Itoa(len(s)))
		io.WriteString(h, ":")
		io.WriteString(h, s)
	}
	part(rel)
	part(fmt.Sprintf("%o %d:%d %d %d", e.Mode, e.UID, e.GID, e.Rdev, len(e.Xattrs)))
	part(e.Link)
	part(content)
	for _, k := range slices.Sorted(maps.Keys(e.Xattrs)) {
		part(k)
		part(e.Xattrs[k])
	}
}

// relTo is a path beneath dir as seen from there, "." being dir itself.
func relTo(dir, name string) string {
	switch {
	case name == dir:
		return "."
	case dir == ".":
		return name
	}
	return name[len(dir)+1:]
}

// layerOfName is where layerOf puts things.
const layerOfName = "source"

// layerOf makes a layer of what is at name of a tree, so that it can be mounted: with owners as the tree says, without
// what its ignore file hides, and with no way for the container to the directory itself.
func (w *Local) layerOf(ctx context.Context, t snapshot.Tree, name string) (image.Layer, error) {
	changes := snapshot.NewChanges(nil)
	err := filetree.Walk(ctx, t, name, func(from string, e *snapshot.Entry, _ *filetree.Sum) error {
		at := path.Join(layerOfName, relTo(name, from))
		var content snapshot.Content
		switch e.Mode & syscall.S_IFMT {
		case syscall.S_IFREG:
			content.Open = func() (io.ReadCloser, error) { return t.Open(from) }
		case syscall.S_IFDIR, syscall.S_IFLNK:
		default:
			return nil // nothing that a build could read
		}
		put := *e
		put.Name = path.Base(at)
		return changes.Put(at, put, content)
	})
	if err != nil {
		return image.Layer{}, err
	}
	return w.Snapshots.Commit(ctx, changes, w.Epoch)
}

// Compare names the files that differ between two layers, if both are here.
func (w *Local) Compare(ctx context.Context, before, after image.Layer) ([]string, error) {
	var sums [2]map[string]string
	for i, layer := range []image.Layer{before, after} {
		view, err := w.Snapshots.View(ctx, []image.Layer{layer})
		if err != nil {
			return nil, err
		}
		sums[i], err = entrySums(ctx, view)
		if err = errors.Join(err, view.Close()); err != nil {
			return nil, err
		}
	}
	var names []string
	for name, sum := range sums[1] {
		if sums[0][name] != sum {
			names = append(names, name)
		}
		delete(sums[0], name)
	}
	names = slices.AppendSeq(names, maps.Keys(sums[0]))
	slices.Sort(names)
	return names, nil
}

// entrySums are digests of the entries of a tree, one by one.
func entrySums(ctx context.Context, t snapshot.Tree) (map[string]string, error) {
	sums := make(map[string]string)
	err := filetree.Walk(ctx, t, ".", func(rel string, e *snapshot.Entry, _ *filetree.Sum) error {
		if isDir(e) {
			return nil // said by what is in it
		}
		sum, err := treeDigest(ctx, t, rel)
		sums[rel] = sum
		return err
	})
	return sums, err
}
