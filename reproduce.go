package forge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/source"
)

// EpochOfContext makes all of the image as old as the context, so that it depends on nothing else: as the commit that is
// checked out in a directory, or what SOURCE_DATE_EPOCH=context means for others. A context without a time fails the build.
func (o *BuildOptions) EpochOfContext(ctx context.Context) error {
	if o.Context == "-" || source.IsRemote(o.Context) {
		o.Args, o.needTime = maps.Clone(o.Args), true
		if o.Args == nil {
			o.Args = map[string]string{}
		}
		o.Args["SOURCE_DATE_EPOCH"] = "context"
		return nil
	}
	t, err := source.CommitTime(ctx, o.Context)
	o.Epoch = &t
	return err
}

// contextTime is what SOURCE_DATE_EPOCH=context means.
func (o *BuildOptions) contextTime(src *sources) func(context.Context) (*time.Time, error) {
	return func(ctx context.Context) (*time.Time, error) {
		t, err := src.Time(ctx)
		if err == nil && t == nil && o.needTime {
			err = errors.New("the context does not say how old it is: set SOURCE_DATE_EPOCH")
		}
		return t, err
	}
}

// firstOfZip is the earliest time that all formats of archives can hold, in seconds since 1970: the beginning of 1980.
const firstOfZip = 315532800

// Verify builds twice from nothing, the second time with the context in another directory, and returns what differs,
// one difference a line with its likely cause. Nothing is tagged. Where nobody has said how old the image is to be, both are as old as
// the context's commit or, without one, as 1980.
func (h *Home) Verify(ctx context.Context, o BuildOptions) (differences []string, err error) {
	if _, given := o.Args[planner.EpochName]; !given && o.Epoch == nil {
		if err := o.EpochOfContext(ctx); err != nil {
			t := time.Unix(firstOfZip, 0).UTC()
			o.Epoch = &t
		}
		o.needTime = false
	}
	o.NoCache, o.Tags, o.Outputs = true, nil, []Output{{Type: "cacheonly"}}
	o.IIDFile, o.MetadataFile = "", ""
	again := func() {}
	if o.Context == "-" || o.File == "-" {
		f, err := spoolInput(ctx, o.Stdin)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		again = func() { o.Stdin = io.NewSectionReader(f, 0, math.MaxInt64) }
	}
	again()
	first, err := h.Build(ctx, o)
	if err != nil {
		return nil, err
	}
	if info, err := os.Stat(o.Context); err == nil && info.IsDir() {
		if o.File, err = source.FindBuildFile(o.Context, o.File); err != nil {
			return nil, err
		}
		dir, err := h.copyContext(ctx, o.Context)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		o.Context = dir
	}
	again()
	second, err := h.Build(ctx, o)
	if err != nil {
		return nil, err
	}
	for i := range first.Images {
		d, err := h.compareImages(ctx, first.Images[i], second.Images[i])
		if err != nil {
			return nil, err
		}
		differences = append(differences, d...)
	}
	return differences, nil
}

// spoolInput copies what can be read once to a file without a name, to be read again.
func spoolInput(ctx context.Context, r io.Reader) (*os.File, error) {
	f, err := os.CreateTemp("", "forge-verify-")
	if err != nil {
		return nil, err
	}
	err = os.Remove(f.Name())
	if err == nil {
		_, err = io.Copy(f, durable.Patient(ctx, r))
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

// copyContext copies a context, with its files' times, to a temporary directory.
func (h *Home) copyContext(ctx context.Context, from string) (string, error) {
	dir, err := os.MkdirTemp("", "forge-verify-")
	if err != nil {
		return "", err
	}
	var ignore []string
	if inside, err := pathInside(from, dir); err == nil {
		ignore = []string{inside} // the copy is not of itself
	}
	tree, err := source.OpenDir(from, ignore, "")
	if err == nil {
		err = errors.Join(snapshot.ExportDir(ctx, tree, dir, ""), tree.Close())
	}
	if err != nil {
		return "", errors.Join(err, os.RemoveAll(dir))
	}
	return dir, nil
}

// pathInside is where name is in dir; an error if it is not.
func pathInside(dir, name string) (string, error) {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return "", err
	}
	if dir, err = filepath.EvalSymlinks(dir); err != nil {
		return "", err
	}
	if name, err = filepath.EvalSymlinks(name); err != nil {
		return "", err
	}
	inside, err := filepath.Rel(dir, name)
	if err == nil && !filepath.IsLocal(inside) {
		err = fs.ErrNotExist
	}
	return inside, err
}

// compareImages says what differs between two images of the same build.
func (h *Home) compareImages(ctx context.Context, a, b *image.Image) (differences []string, err error) {
	if a.ID() == b.ID() {
		return nil, nil
	}
	before, after := a.Layers(), b.Layers()
	if len(before) != len(after) {
		differences = append(differences, fmt.Sprintf("%d layers, then %d", len(before), len(after)))
	}
	for i := range min(len(before), len(after)) {
		if before[i].DiffID == after[i].DiffID {
			continue
		}
		changes, err := h.compareLayers(ctx, before[i], after[i])
		if err != nil {
			return nil, err
		}
		for _, c := range changes {
			differences = append(differences, fmt.Sprintf("layer %d: /%s%s", i+1, c, likelyCause(c)))
		}
	}
	if !slices.EqualFunc(a.Config.History, b.Config.History, sameMoment) {
		differences = append(differences, "configuration: times of creation differ: set SOURCE_DATE_EPOCH")
	}
	if len(differences) == 0 {
		differences = append(differences, fmt.Sprintf("configuration: image %s, then %s", a.ID(), b.ID()))
	}
	return differences, nil
}

func sameMoment(a, b ocispec.History) bool {
	return a.Created == b.Created || a.Created != nil && b.Created != nil && a.Created.Equal(*b.Created)
}

// compareLayers lists the files that differ between two layers, each seen alone.
func (h *Home) compareLayers(ctx context.Context, a, b image.Layer) (differences []snapshot.Difference, err error) {
	err = h.withViews(ctx, a, b, func(a, b *snapshot.View) (err error) {
		differences, err = snapshot.Compare(ctx, a, b)
		return err
	})
	return differences, err
}

// withViews opens two layers, each alone, for do.
func (h *Home) withViews(ctx context.Context, a, b image.Layer, do func(a, b *snapshot.View) error) (err error) {
	var views [2]*snapshot.View
	for i, l := range []image.Layer{a, b} {
		v, err := h.view(ctx, []image.Layer{l})
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, v.Close()) }()
		views[i] = v
	}
	return do(views[0], views[1])
}

// likelyCause guesses from a difference what made it.
func likelyCause(d snapshot.Difference) string {
	switch {
	case len(d.What) == 1 && d.What[0] == "mtime":
		return " (it is as old as the build: set SOURCE_DATE_EPOCH)"
	case strings.HasSuffix(d.Path, ".pyc"):
		return " (python writes the time of its source into it: set PYTHONDONTWRITEBYTECODE=1)"
	case strings.HasPrefix(d.Path, "var/cache/"), strings.HasPrefix(d.Path, "var/log/"), strings.HasPrefix(d.Path, "tmp/"):
		return " (a cache or log that a tool left: remove it in the same RUN)"
	}
	return ""
}

// hexOf names a string by its digest, for file names.
func hexOf(s string) string {
	sum := sha256.Sum256([]byte(s))
	return hex.EncodeToString(sum[:])
}
