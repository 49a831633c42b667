package mounts

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/docker/go-units"
	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// fit is a tree without files that make its tar longer than limit bytes, and a phrase for what that leaves out. What is big and
// old goes first: it takes the most room for each time that it was needed lately.
func fit(ctx context.Context, tree filetree.Tree, limit int64) (filetree.Tree, []string, error) {
	type file struct {
		path  string
		size  int64
		inTar int64
		at    time.Time
	}
	var files []file
	total, newest := int64(0), time.Time{}
	err := filetree.Walk(ctx, tree, ".", func(path string, e *snapshot.Entry, _ *filetree.Sum) error {
		total += inTar(e)
		if e.Mode&unix.S_IFMT != unix.S_IFREG {
			return nil
		}
		if e.ModTime.After(newest) {
			newest = e.ModTime
		}
		files = append(files, file{path, e.Size, inTar(e), e.ModTime})
		return nil
	})
	if err != nil || total <= limit {
		return tree, nil, err
	}
	weight := func(f *file) float64 {
		return float64(f.size) * float64(newest.Sub(f.at)+time.Hour)
	}
	slices.SortStableFunc(files, func(a, b file) int { return cmp.Compare(weight(&b), weight(&a)) })
	without := map[string]bool{}
	freed, had := int64(0), total
	for _, f := range files {
		if total <= limit {
			break
		}
		without[f.path] = true
		total -= f.inTar
		freed += f.size
	}
	if total > limit {
		return nil, nil, fmt.Errorf("has %s even without its files, more than the limit of %s", units.HumanSize(float64(total)), units.HumanSize(float64(limit)))
	}
	return &partTree{tree, without}, []string{fmt.Sprintf("of %s, more than the limit of %s, %d old and big files of %s, such as %s",
		units.HumanSize(float64(had)), units.HumanSize(float64(limit)), len(without), units.HumanSize(float64(freed)), files[0].path)}, nil
}

// A partTree is a tree without some of its files.
type partTree struct {
	filetree.Tree
	without map[string]bool
}

// List implements [filetree.Tree].
func (t *partTree) List(name string, fn func(e *snapshot.Entry, sum *filetree.Sum) error) error {
	return t.Tree.List(name, func(e *snapshot.Entry, sum *filetree.Sum) error {
		if t.without[filetree.Join(name, e.Name)] {
			return nil
		}
		return fn(e, sum)
	})
}

func join(phrases []string) string { return strings.Join(phrases, "; ") }
