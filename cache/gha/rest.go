package gha

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"golang.org/x/sync/errgroup"

	"github.com/forge-build/forge/cache/objects"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
)

const (
	parallel   = 4                                            // parts on their way
	restAccept = "application/json;api-version=6.0-preview.1" // as actions/toolkit sends it
)

// notThere is err, unless it says that something is not there.
func notThere(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// A message is a request to the service itself.
type message struct {
	method, path string
	query        url.Values
	header       http.Header
	body         func() (io.ReadCloser, error)
	size         int64
	want         []int
}

// ask sends a message until it is answered as wanted.
func (b *Bucket) ask(ctx context.Context, m message) (*http.Response, error) {
	return objects.Do(ctx, b.client, b.o.Limits, m.method+" "+m.path, func() (*web.Request, error) {
		u := *b.base
		u.Path += m.path
		u.RawQuery = m.query.Encode()
		header := m.header.Clone()
		if header == nil {
			header = http.Header{}
		}
		return &web.Request{Method: m.method, URL: &u, Header: header, Authorization: "Bearer " + b.o.Token, Body: m.body, Size: m.size}, nil
	}, m.want...)
}

// withJSON gives a message a body.
func (m message) withJSON(v any) message {
	raw, err := json.Marshal(v)
	m.size = int64(len(raw))
	m.body = func() (io.ReadCloser, error) {
		if err != nil {
			return nil, err
		}
		return io.NopCloser(strings.NewReader(string(raw))), nil
	}
	m.header = m.header.Clone()
	if m.header == nil {
		m.header = http.Header{}
	}
	m.header.Set("Content-Type", "application/json")
	return m
}

// parts calls send for each part of a content, several at a time. Part 0 is the first.
func (b *Bucket) parts(ctx context.Context, size int64, content image.Content, send func(ctx context.Context, i int, at, n int64, body func() (io.ReadCloser, error)) error) error {
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for i, at := 0, int64(0); at < size; i, at = i+1, at+b.part {
		n := min(b.part, size-at)
		g.Go(func() error {
			return send(ctx, i, at, n, func() (io.ReadCloser, error) {
				return content.Section(ctx, at, n)
			})
		})
	}
	return g.Wait()
}

// restAPI is version 1.
type restAPI Bucket

func (a *restAPI) header() http.Header { return http.Header{"Accept": {restAccept}} }

func (a *restAPI) find(ctx context.Context, key string) (entry, error) {
	resp, err := (*Bucket)(a).ask(ctx, message{
		method: http.MethodGet, path: "_apis/artifactcache/cache", header: a.header(),
		query: url.Values{"keys": {key}, "version": {version()}}, want: []int{http.StatusOK, http.StatusNoContent},
	})
	if err != nil {
		return entry{}, err
	}
	if resp.StatusCode == http.StatusNoContent {
		return entry{}, errors.Join(web.Drain(resp), fmt.Errorf("%s: %w", key, fs.ErrNotExist))
	}
	var found struct{ CacheKey, ArchiveLocation string }
	if err := objects.ReadJSON(resp, &found); err != nil {
		return entry{}, err
	}
	return matched(key, entry{found.CacheKey, found.ArchiveLocation})
}

// matched is what was found, if that is what was looked for: the service takes every key for the beginning of one.
func matched(key string, e entry) (entry, error) {
	if e.url == "" || e.key != key && !strings.HasPrefix(e.key, row(key)) {
		return entry{}, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
	}
	return e, nil
}

func (a *restAPI) reserve(ctx context.Context, key string) (string, error) {
	resp, err := (*Bucket)(a).ask(ctx, message{
		method: http.MethodPost, path: "_apis/artifactcache/caches", header: a.header(),
		want: []int{http.StatusOK, http.StatusCreated, http.StatusConflict},
	}.withJSON(map[string]string{"key": key, "version": version()}))
	if err != nil {
		return "", err
	}
	if resp.StatusCode == http.StatusConflict {
		return "", errors.Join(web.Drain(resp), errExists)
	}
	var reserved struct{ CacheID int64 }
	if err := objects.ReadJSON(resp, &reserved); err != nil || reserved.CacheID == 0 {
		return "", fmt.Errorf("the cache service reserved nothing: %w", cmpErr(err))
	}
	return strconv.FormatInt(reserved.CacheID, 10), nil
}

// cmpErr is err, or that an answer is not complete.
func cmpErr(err error) error {
	if err != nil {
		return err
	}
	return errors.New("incomplete answer")
}

func (a *restAPI) upload(ctx context.Context, place string, size int64, content image.Content) error {
	b := (*Bucket)(a)
	return b.parts(ctx, size, content, func(ctx context.Context, _ int, at, n int64, body func() (io.ReadCloser, error)) error {
		h := a.header()
		h.Set("Content-Type", "application/octet-stream")
		h.Set("Content-Range", fmt.Sprintf("bytes %d-%d/*", at, at+n-1))
		resp, err := b.ask(ctx, message{
			method: http.MethodPatch, path: "_apis/artifactcache/caches/" + place, header: h, body: body, size: n,
			want: []int{http.StatusOK, http.StatusNoContent},
		})
		if err != nil {
			return err
		}
		return web.Drain(resp)
	})
}

func (a *restAPI) commit(ctx context.Context, _, place string, size int64) error {
	resp, err := (*Bucket)(a).ask(ctx, message{
		method: http.MethodPost, path: "_apis/artifactcache/caches/" + place, header: a.header(),
		want: []int{http.StatusOK, http.StatusNoContent},
	}.withJSON(map[string]int64{"size": size}))
	if err != nil {
		return err
	}
	return web.Drain(resp)
}
