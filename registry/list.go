package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
)

const (
	pageSize = 1000
	maxPages = 1000
)

// Tags lists the repository's tags, in the registry's order.
func (r *Repository) Tags(ctx context.Context) (tags []string, err error) {
	err = r.try(ctx, byTag, func(e *endpoint) error {
		tags = nil
		next, seen := fmt.Sprintf("/v2/%s/tags/list?n=%d", e.path, pageSize), map[string]bool{}
		for next != "" {
			if seen[next] || len(seen) >= maxPages {
				return fmt.Errorf("%s: registry's list has no end", r.Name())
			}
			seen[next] = true
			header, raw, err := r.page(ctx, e, next)
			if err != nil {
				return err
			}
			var page struct{ Tags []string }
			if err = json.Unmarshal(raw, &page); err == nil {
				tags = append(tags, page.Tags...)
				next, err = nextPage(next, header)
			}
			if err != nil {
				return fmt.Errorf("%s: %w", r.Name(), err)
			}
		}
		return nil
	})
	return tags, err
}

// page gets a part of a list, of at most 4 MiB.
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
