package pages

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// Limits of one page.
const (
	maxRows = 2000     // platforms, lines of a history, packages
	maxText = 4096     // bytes of one text
	maxPage = 8 << 20  // bytes of its HTML
	maxRead = 32 << 20 // bytes of the documents that are read for it
	minRead = 4096     // bytes that a document counts for if it is smaller: to open it costs, too
)

var errTooMuch = errors.New("that is more than a page can show")

// A view reads what one page shows of a repository, within its limits. It is an [image.Fetcher].
type view struct {
	registry Registry
	repo     string
	left     int64 // bytes that may still be read
}

func (p *Handler) view(repo string) *view { return &view{p.registry, repo, maxRead} }

// Fetch implements [image.Fetcher].
func (v *view) Fetch(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	v.left -= max(d.Size, minRead)
	if err := v.over(ctx); err != nil {
		return nil, err
	}
	return v.registry.Content(v.repo).Fetch(ctx, d, offset)
}

// over is why nothing more can be read; nil if something can.
func (v *view) over(ctx context.Context) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	if v.left < 0 {
		return errTooMuch
	}
	return nil
}

// size is how large the layers of a document are, by the digests of those that were read before.
func (v *view) size(ctx context.Context, d ocispec.Descriptor, had map[digest.Digest]int64) (int64, error) {
	if n, ok := had[d.Digest]; ok {
		return n, nil
	}
	doc, _, err := image.ReadDocument(ctx, v, d)
	if err != nil {
		return 0, err
	}
	had[d.Digest] = layerSize(doc.Layers)
	return had[d.Digest], nil
}

func layerSize(layers []ocispec.Descriptor) (size int64) {
	for _, layer := range layers {
		size += layer.Size
	}
	return size
}

// clip keeps a page short whatever a stranger wrote.
func clip(s string) string {
	if len(s) > maxText {
		return strings.ToValidUTF8(s[:maxText], "") + "…"
	}
	return s
}

// A sheet is a page while it is written.
type sheet struct{ bytes.Buffer }

func (s *sheet) Write(p []byte) (int, error) {
	if s.Len()+len(p) > maxPage {
		return 0, errTooMuch
	}
	return s.Buffer.Write(p)
}

// find moves a decoder that is before an object to the value of a key in it, and reports whether it has one.
func find(dec *json.Decoder, key string) (bool, error) {
	if there, err := enter(dec, '{'); !there || err != nil {
		return false, err
	}
	for dec.More() {
		is, err := dec.Token()
		if err != nil || is == key {
			return err == nil, err
		}
		var other json.RawMessage
		if err := dec.Decode(&other); err != nil {
			return false, err
		}
	}
	return false, nil
}

// enter moves a decoder behind the beginning of an object or a list, and reports whether there is one: null is none.
func enter(dec *json.Decoder, begin json.Delim) (bool, error) {
	is, err := dec.Token()
	if err == nil && is != nil && is != begin {
		err = fmt.Errorf("statement has %v in the place of %s", is, begin)
	}
	return is != nil, err
}
