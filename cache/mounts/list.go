package mounts

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/image"
)

// Info says what a place keeps of a mount in a scope.
type Info struct {
	Scope    string    `json:"scope"`
	ID       string    `json:"id"`
	Platform string    `json:"platform,omitempty"`
	Tag      string    `json:"tag"`
	Locked   bool      `json:"locked,omitempty"` // it is what was left with certain lock files
	Written  time.Time `json:"written,omitzero"`
	Size     int64     `json:"size"`   // of the directory's tar in bytes, 0 if it is not known
	Packed   int64     `json:"packed"` // bytes of its packs
	Packs    int       `json:"packs"`
}

// List lists the mounts that a place keeps, by scope and ID. What has another form than that of this forge is left out. It is an error
// that is [errors.ErrUnsupported] if the place cannot list its tags.
func List(ctx context.Context, p *remote.Place) ([]Info, error) {
	if p.Tags == nil {
		return nil, fmt.Errorf("%s: cannot be listed: %w", p.Name, errors.ErrUnsupported)
	}
	tags, err := p.Tags.Tags(ctx)
	if err != nil {
		return nil, err
	}
	tags = slices.DeleteFunc(tags, func(tag string) bool { return !strings.HasPrefix(tag, tagPrefix) })
	found := make([]*Info, len(tags))
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(2 * fetches)
	for i, tag := range tags {
		g.Go(func() error {
			doc, err := (&Shelf{Place: p}).manifest(gctx, tag)
			if err != nil {
				return gctx.Err() // it is something else, or forgotten, or gone since
			}
			found[i] = infoOf(tag, doc)
			return nil
		})
	}
	if err := g.Wait(); err != nil {
		return nil, err
	}
	var all []Info
	for _, i := range found {
		if i != nil {
			all = append(all, *i)
		}
	}
	slices.SortFunc(all, func(a, b Info) int {
		return cmp.Or(cmp.Compare(a.Scope, b.Scope), cmp.Compare(a.ID, b.ID), cmp.Compare(a.Tag, b.Tag))
	})
	return all, nil
}

// infoOf says what a manifest says of itself.
func infoOf(tag string, doc *image.Document) *Info {
	i := &Info{
		Scope: doc.Annotations[annotationScope], ID: doc.Annotations[annotationID], Platform: doc.Annotations[annotationPlatform],
		Tag: tag, Locked: strings.Contains(strings.TrimPrefix(tag, tagPrefix), "-"), Packs: len(doc.Layers),
	}
	i.Written, _ = time.Parse(time.RFC3339, doc.Annotations[ocispec.AnnotationCreated]) // zero if nobody said
	i.Size, _ = strconv.ParseInt(doc.Annotations[annotationSize], 10, 64)
	for _, d := range doc.Layers {
		i.Packed += d.Size
	}
	return i
}

// Forget makes the place forget a mount that [List] has listed: its name stands for nothing then, and its packs are garbage to the
// place if nothing else leads to them. Names are not deleted, which not every registry allows.
func Forget(ctx context.Context, p *remote.Place, i Info) error {
	if p.Write == nil {
		return fmt.Errorf("%s: %w", p.Name, fs.ErrPermission)
	}
	s := &Shelf{Place: p}
	return s.put(ctx, []string{i.Tag}, &table{}, map[string]string{
		annotationID: i.ID, annotationScope: i.Scope, annotationPlatform: i.Platform, annotationForgotten: "true",
	})
}
