package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

const (
	pageSize = 1000
	maxPages = 1000
)

// Tags lists the repository's tags, in the registry's order.
func (r *Repository) Tags(ctx context.Context) ([]string, error) {
	var tags []string
	err := r.pages(ctx, fmt.Sprintf("tags/list?n=%d", pageSize), func(_ http.Header, raw []byte) error {
		var page struct {
			Tags []string `json:"tags"`
		}
		if err := json.Unmarshal(raw, &page); err != nil {
			return err
		}
		tags = append(tags, page.Tags...)
		return nil
	})
	return tags, err
}

// pages gets a list that comes in parts, of at most 4 MiB each.
func (r *Repository) pages(ctx context.Context, what string, page func(http.Header, []byte) error) error {
	return r.try(ctx, byTag, func(e *endpoint) error {
		next, seen := "/v2/"+e.path+"/"+what, map[string]bool{}
		for next != "" {
			if seen[next] || len(seen) >= maxPages {
				return fmt.Errorf("%s: registry's list has no end", r.Name())
			}
			seen[next] = true
			header, raw, err := r.page(ctx, e, next)
			if err != nil {
				return err
			}
			if err := page(header, raw); err != nil {
				return fmt.Errorf("%s: %w", r.Name(), err)
			}
			if next, err = nextPage(next, header); err != nil {
				return fmt.Errorf("%s: %w", r.Name(), err)
			}
		}
		return nil
	})
}

func (r *Repository) page(ctx context.Context, e *endpoint, path string) (http.Header, []byte, error) {
	resp, err := e.origin.do(ctx, &request{
		method: http.MethodGet, path: path, access: e.pull(), name: r.Name(), want: []int{http.StatusOK},
	})
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxDocument+1))
	if err == nil && len(raw) > maxDocument {
		err = errors.New("list is longer than 4 MiB")
	}
	if err != nil {
		return nil, nil, fmt.Errorf("%s: %w", r.Name(), err)
	}
	return resp.Header, raw, nil
}

// nextPage reads the Link header (RFC 8288): path and query of the next page, "" after the last. Its host is not asked for.
func nextPage(current string, h http.Header) (string, error) {
	for _, link := range h.Values("Link") {
		target, params, ok := strings.Cut(strings.TrimSpace(link), ">")
		if !ok || !strings.HasPrefix(target, "<") || !strings.Contains(strings.ReplaceAll(params, " ", ""), "rel=\"next\"") &&
			!strings.Contains(strings.ReplaceAll(params, " ", ""), "rel=next") {
			continue
		}
		base, err := url.Parse(current)
		if err != nil {
			return "", err
		}
		u, err := base.Parse(target[1:])
		if err != nil || !strings.HasPrefix(u.Path, "/v2/") {
			return "", fmt.Errorf("next page of the list is at a false place %q", clip(target[1:]))
		}
		return u.RequestURI(), nil
	}
	return "", nil
}

// Referrers lists the manifests that have d as their subject, of one artifact type unless that is "".
func (r *Repository) Referrers(ctx context.Context, d digest.Digest, artifactType string) ([]ocispec.Descriptor, error) {
	if err := image.CheckDigest(d); err != nil {
		return nil, err
	}
	what := "referrers/" + d.String()
	if artifactType != "" {
		what += "?artifactType=" + url.QueryEscape(artifactType)
	}
	var list []ocispec.Descriptor
	err := r.pages(ctx, what, func(_ http.Header, raw []byte) error {
		page, err := referrersOf(raw)
		list = append(list, page...)
		if len(list) > maxReferences {
			return fmt.Errorf("%s has more than %d referrers", d, maxReferences)
		}
		return err
	})
	if errors.Is(err, fs.ErrNotExist) {
		list, err = r.referrersTag(ctx, d)
	}
	if artifactType != "" {
		list = slices.DeleteFunc(list, func(d ocispec.Descriptor) bool { return d.ArtifactType != artifactType })
	}
	return list, err
}

func referrersOf(raw []byte) ([]ocispec.Descriptor, error) {
	doc, err := image.ParseDocument(raw, ocispec.MediaTypeImageIndex)
	if err != nil {
		return nil, err
	}
	return doc.Manifests, nil
}

// referrersTag reads the list that clients keep where the registry keeps none.
func (r *Repository) referrersTag(ctx context.Context, d digest.Digest) ([]ocispec.Descriptor, error) {
	tag := referrersTag(d)
	_, raw, err := r.getManifest(ctx, r.home(), r.Name()+":"+tag, tag)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return referrersOf(raw)
}
