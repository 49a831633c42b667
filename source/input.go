package source

import (
	"context"
	"encoding/json"
	"fmt"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot/filetree"
)

// An Input is what one thing that an operation reads came to when it was resolved: the n'th source of a COPY or ADD, or the
// n'th mount of a RUN. It is plain data. What is in the build file itself, or has a checksum there, comes to nothing more.
type Input struct {
	Files    []FileDigest `json:"files,omitempty"`    // of what a path selects
	Commit   *Commit      `json:"commit,omitempty"`   // of a repository
	Download *Download    `json:"download,omitempty"` // of a URL

	// Layer holds what is read of a build context, for a worker that has not the context itself: see [Resolver.Pack].
	Layer *image.Layer `json:"layer,omitempty"`
}

// A Resolver resolves what operations read to digests. Safe for concurrent use.
type Resolver struct {
	Contexts  map[string]filetree.Tree // "" is the main one
	Layers    *Layers
	Downloads Downloads
	Digests   Memory               // of files of layers, by what was selected of which; nil remembers nothing
	Lists     *cache.Store[[]byte] // of the files of mounts, for [ChangedFiles]; nil keeps none
	Pins      *Pins                // what URLs and refs are to stand for; nil is what they stand for now
	Offline   bool                 // repositories are not asked
}

// A Memory keeps values under keys; a *[cache.Store] is one.
type Memory interface {
	Get(ctx context.Context, k cache.Key) (value string, ok bool, err error)
	Put(ctx context.Context, k cache.Key, value string) error
}

// Resolve resolves the n'th input of an operation. Layers are the file system that it is read from, if that is a step's. A
// file that is missing, a ref that no repository has and a URL that cannot be had are errors.
func (r *Resolver) Resolve(ctx context.Context, op planner.Op, n int, layers []image.Layer) (Input, error) {
	if op, ok := op.(*planner.Copy); ok {
		switch src := op.Sources[n]; {
		case src.URL != "":
			return r.url(ctx, op, src.URL)
		case src.Git != nil:
			return r.git(ctx, &Git{*src.Git})
		}
	}
	in, find := r.selected(op, n)
	if in == nil {
		return Input{}, nil
	}
	if in.Read < 0 { // the context remembers the digests of its files itself
		tree, err := r.context(in.Context)
		if err != nil {
			return Input{}, err
		}
		files, err := digestsOf(ctx, tree, find, r.keepList)
		return Input{Files: files}, err
	}
	files, err := r.remembered(ctx, op, n, layers, find)
	return Input{Files: files}, err
}

// A finder finds what an input selects of a tree.
type finder func(ctx context.Context, tree filetree.Tree) ([]Selection, error)

// selected is where the n'th input of an operation is read from and how it is found there; nil if it is no file.
func (r *Resolver) selected(op planner.Op, n int) (*planner.Input, finder) {
	switch op := op.(type) {
	case *planner.Copy:
		if op.Sources[n].Path == "" {
			return nil, nil
		}
		return &op.From, func(ctx context.Context, tree filetree.Tree) ([]Selection, error) {
			return Select(ctx, tree, QueryOf(op, n))
		}
	case *planner.Run:
		m := op.Mounts[n]
		return m.From, func(_ context.Context, tree filetree.Tree) ([]Selection, error) {
			s, err := selectMounted(tree, m.Source)
			if err != nil {
				return nil, fmt.Errorf("--mount=type=%s,target=%s: source %s: %w", m.Type, m.Target, m.Source, err)
			}
			return []Selection{s}, nil
		}
	}
	return nil, nil
}

// QueryOf is what the n'th source of a COPY, a path, selects.
func QueryOf(op *planner.Copy, n int) Query {
	return Query{Path: op.Sources[n].Path, Exclude: op.Exclude, Parents: op.Parents}
}

// selectMounted selects a file or directory as a mount shows it.
func selectMounted(tree filetree.Tree, name string) (Selection, error) {
	root, err := filetree.Resolve(tree.Lstat, inTree(name))
	if err != nil {
		return Selection{}, err
	}
	e, err := tree.Lstat(root)
	return Selection{Tree: tree, Named: name, Root: root, Base: ".", Entry: e, mounted: true}, err
}

// digestsOf digests what an input selects: a mount as a whole, of which mounted is told unless it is nil, the sources of a COPY in groups.
func digestsOf(ctx context.Context, tree filetree.Tree, find finder, mounted func(context.Context, *Selection, string)) ([]FileDigest, error) {
	found, err := find(ctx, tree)
	if err != nil {
		return nil, err
	}
	var all []FileDigest
	for i := range found {
		s := &found[i]
		if s.mounted {
			sum, err := s.digest(ctx)
			if err != nil {
				return nil, err
			}
			if mounted != nil {
				mounted(ctx, s, sum)
			}
			all = append(all, FileDigest{s.Named, sum})
			continue
		}
		sums, err := s.digests(ctx)
		if err != nil {
			return nil, err
		}
		all = append(all, sums...)
	}
	return all, nil
}

// remembered keeps what layers answered, since they never answer otherwise: a build from the cache need not have them.
func (r *Resolver) remembered(ctx context.Context, op planner.Op, n int, layers []image.Layer, find finder) ([]FileDigest, error) {
	var question cache.Hash
	question.Field("files of layers", "2", image.ChainID(layers).String())
	switch op := op.(type) {
	case *planner.Copy:
		q := QueryOf(op, n)
		question.Field("source", q.Path)
		question.Field("exclude", q.Exclude...)
		question.Field("parents", fmt.Sprint(q.Parents))
	case *planner.Run:
		question.Field("mounted", op.Mounts[n].Source)
	}
	if r.Digests != nil {
		var files []FileDigest
		if known, ok, err := r.Digests.Get(ctx, question.Key()); ok && err == nil && json.Unmarshal([]byte(known), &files) == nil {
			r.touchLists(files)
			return files, nil
		}
	}
	tree, err := r.Layers.View(ctx, layers)
	if err != nil {
		return nil, err
	}
	files, err := digestsOf(ctx, tree, find, r.keepList)
	if err != nil || r.Digests == nil {
		return files, err
	}
	if b, err := json.Marshal(files); err == nil {
		_ = r.Digests.Put(ctx, question.Key(), string(b)) // not to remember costs time
	}
	return files, nil
}

// context is a build context.
func (r *Resolver) context(name string) (filetree.Tree, error) {
	if t, ok := r.Contexts[name]; ok {
		return t, nil
	}
	if name == "" {
		return nil, fmt.Errorf("there is no build context")
	}
	return nil, fmt.Errorf("there is no build context %q", name)
}

// url asks what a URL holds now. With --checksum nothing is asked: the operation says it already.
func (r *Resolver) url(ctx context.Context, op *planner.Copy, address string) (Input, error) {
	checksum, err := Checksum(op)
	if err != nil || checksum != "" {
		return Input{}, err
	}
	name, err := r.Pins.nameURL(address)
	if err != nil {
		return Input{}, err
	}
	if d, ok := pin(r.Pins, pinnedURLs, name); ok {
		d = r.Downloads.pinned(ctx, address, d)
		return Input{Download: &d}, nil
	}
	d, err := r.Downloads.Revalidate(ctx, address)
	if err != nil {
		return Input{}, err
	}
	setPin(r.Pins, pinnedURLs, name, d)
	return Input{Download: &d}, nil
}

// Checksum is what --checksum asks of the content of a URL; "" is nothing.
func Checksum(op *planner.Copy) (digest.Digest, error) {
	if op.Add == nil || op.Add.Checksum == "" {
		return "", nil
	}
	checksum := digest.Digest(op.Add.Checksum)
	if err := checksum.Validate(); err != nil {
		return "", fmt.Errorf("--checksum=%s: %w", checksum, err)
	}
	return checksum, nil
}

// git asks which commit the ref of a repository names now.
func (r *Resolver) git(ctx context.Context, g *Git) (Input, error) {
	if planner.IsCommit(g.Ref) || g.FetchByCommit { // nobody is asked where a ref is, so there is nothing to pin
		at, err := g.Resolve(ctx)
		return Input{Commit: &at}, err
	}
	if at, ok := pin(r.Pins, pinnedRefs, g.shown()); ok {
		at, err := g.verified(at)
		if err != nil {
			err = fmt.Errorf("%w, as %s has it (--update)", err, PinsFile)
		}
		return Input{Commit: &at}, err
	}
	if r.Offline {
		return Input{}, g.failed(web.ErrOffline)
	}
	at, err := g.Resolve(ctx)
	if err != nil {
		return Input{}, err
	}
	setPin(r.Pins, pinnedRefs, g.shown(), at)
	return Input{Commit: &at}, nil
}

// Verify reports an error if what the n'th input of an operation selects of tree is not what it was resolved to.
func (r *Resolver) Verify(ctx context.Context, op planner.Op, n int, in Input, tree filetree.Tree) error {
	_, find := r.selected(op, n)
	if find == nil {
		return nil
	}
	now, err := digestsOf(ctx, tree, find, nil)
	if err != nil {
		return err
	}
	for i, f := range now {
		if i >= len(in.Files) || f != in.Files[i] {
			return fmt.Errorf("%s: %w", f.Name, errChanged)
		}
	}
	if len(now) < len(in.Files) {
		return fmt.Errorf("%s: %w", in.Files[len(now)].Name, errChanged)
	}
	return nil
}
