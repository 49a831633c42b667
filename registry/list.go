package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/forge-build/forge/image"
)

const (
	pageSize = 1000
	maxPages = 1000
	maxTags  = 100_000
	maxTag   = 128 // characters, as the specification has it
)

// Tags lists the repository's tags, in the registry's order. As all are held in memory, there may be 100,000.
func (r *Repository) Tags(ctx context.Context) (tags []string, err error) {
	err = r.try(ctx, byTag, func(e *endpoint) error {
		tags = nil
		l := listing{e.origin, e.pull(), r.Name(), fmt.Sprintf("/v2/%s/tags/list?n=%d", e.path, pageSize)}
		return l.each(ctx, func(raw []byte) (bool, error) {
			var page struct{ Tags []string }
			if err := json.Unmarshal(raw, &page); err != nil {
				return false, err
			}
			if len(tags)+len(page.Tags) > maxTags {
				return false, fmt.Errorf("has more than %d tags", maxTags)
			}
			if i := slices.IndexFunc(page.Tags, func(tag string) bool { return len(tag) > maxTag }); i >= 0 {
				return false, fmt.Errorf("tag %q has more than %d characters", image.Clip(page.Tags[i]), maxTag)
			}
			tags = append(tags, page.Tags...)
			return true, nil
		})
	})
	return tags, err
}

// A listing is a list that an origin gives in pages.
type listing struct {
	origin *origin
	access access
	name   string // of what is listed, in messages
	first  string // path and query of the first page
}

// each calls take for each page until that says that it has enough.
func (l listing) each(ctx context.Context, take func(raw []byte) (more bool, err error)) error {
	seen := map[string]bool{}
	for next := l.first; next != ""; {
		if seen[next] || len(seen) >= maxPages {
			return fmt.Errorf("%s: registry's list has no end", l.name)
		}
		seen[next] = true
		header, raw, err := l.page(ctx, next)
		if err != nil {
			return err
		}
		more, err := take(raw)
		if err == nil && !more {
			return nil
		}
		if err == nil {
			next, err = nextPage(next, header)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", l.name, err)
		}
	}
	return nil
}

// page gets a part of a list, of at most 4 MiB.
func (l listing) page(ctx context.Context, path string) (http.Header, []byte, error) {
	resp, err := l.origin.do(ctx, &request{
		method: http.MethodGet, path: path, access: l.access, name: l.name, want: []int{http.StatusOK},
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
		return nil, nil, fmt.Errorf("%s: %w", l.name, err)
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
			return "", fmt.Errorf("next page of the list is at a false place %q", image.Clip(target[1:]))
		}
		return u.RequestURI(), nil
	}
	return "", nil
}
