package gha

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"

	"github.com/forge-build/forge/cache/objects"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
)

// twirpAPI is version 2. Twirp says by the status what went wrong (twitchtv.github.io/twirp, "Twirp Wire Protocol").
type twirpAPI Bucket

// call asks one method. What is not there, or is there already, is told by the status.
func (a *twirpAPI) call(ctx context.Context, method string, in, out any) (status int, err error) {
	resp, err := (*Bucket)(a).ask(ctx, message{
		method: http.MethodPost, path: "twirp/github.actions.results.api.v1.CacheService/" + method,
		want: []int{http.StatusOK, http.StatusNotFound, http.StatusConflict},
	}.withJSON(in))
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return resp.StatusCode, web.Drain(resp)
	}
	return resp.StatusCode, objects.ReadJSON(resp, out)
}

func (a *twirpAPI) find(ctx context.Context, key string) (entry, error) {
	in := map[string]any{"key": key, "version": version(), "restore_keys": []string{row(key)}}
	var out struct {
		OK  bool   `json:"ok"`
		URL string `json:"signed_download_url"`
		Key string `json:"matched_key"`
	}
	if _, err := a.call(ctx, "GetCacheEntryDownloadURL", in, &out); err != nil {
		return entry{}, err
	}
	if !out.OK {
		return entry{}, fmt.Errorf("%s: %w", key, fs.ErrNotExist)
	}
	return matched(key, entry{out.Key, out.URL})
}

func (a *twirpAPI) reserve(ctx context.Context, key string) (string, error) {
	var out struct {
		OK  bool   `json:"ok"`
		URL string `json:"signed_upload_url"`
	}
	status, err := a.call(ctx, "CreateCacheEntry", map[string]string{"key": key, "version": version()}, &out)
	switch {
	case err != nil:
		return "", err
	case status == http.StatusConflict, !out.OK:
		return "", errExists
	case out.URL == "":
		return "", errors.New("the cache service names no place for it")
	}
	return out.URL, nil
}

// upload puts a block blob ("Put Blob", "Put Block" and "Put Block List" of Azure's Blob service REST API).
func (a *twirpAPI) upload(ctx context.Context, place string, size int64, content image.Content) error {
	if size <= a.part {
		h := http.Header{"X-Ms-Blob-Type": {"BlockBlob"}, "Content-Type": {"application/octet-stream"}}
		return a.put(ctx, place, nil, h, size, func() (io.ReadCloser, error) { return content.Open(ctx, 0) })
	}
	var list struct {
		XMLName xml.Name `xml:"BlockList"`
		Latest  []string
	}
	id := func(i int) string { return base64.StdEncoding.EncodeToString(fmt.Appendf(nil, "%08d", i)) }
	for i, at := 0, int64(0); at < size; i, at = i+1, at+a.part {
		list.Latest = append(list.Latest, id(i))
	}
	err := (*Bucket)(a).parts(ctx, size, content, func(ctx context.Context, i int, _, n int64, body func() (io.ReadCloser, error)) error {
		return a.put(ctx, place, url.Values{"comp": {"block"}, "blockid": {id(i)}}, http.Header{}, n, body)
	})
	if err != nil {
		return err
	}
	raw, err := xml.Marshal(list)
	if err != nil {
		return err
	}
	return a.put(ctx, place, url.Values{"comp": {"blocklist"}}, http.Header{"Content-Type": {"application/xml"}}, int64(len(raw)),
		func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(raw)), nil })
}

// put sends one request to a signed address, to whose query more is added.
func (a *twirpAPI) put(ctx context.Context, place string, more url.Values, header http.Header, size int64, body func() (io.ReadCloser, error)) error {
	b := (*Bucket)(a)
	u, err := b.signed(place)
	if err != nil {
		return err
	}
	if len(more) > 0 { // what is signed stays as it is
		u.RawQuery += "&" + more.Encode()
	}
	header.Set("X-Ms-Version", "2020-10-02")
	resp, err := objects.Do(ctx, b.client, b.o.Limits, "PUT to "+u.Host, func() (*web.Request, error) {
		return &web.Request{Method: http.MethodPut, URL: u, Header: header.Clone(), Body: body, Size: size}, nil
	}, http.StatusCreated)
	if err != nil {
		return err
	}
	return web.Drain(resp)
}

func (a *twirpAPI) commit(ctx context.Context, key, _ string, size int64) error {
	var out struct {
		OK bool `json:"ok"`
	}
	// The size is an int64, which is a string in Protobuf's JSON.
	_, err := a.call(ctx, "FinalizeCacheEntryUpload", map[string]string{"key": key, "version": version(), "size_bytes": fmt.Sprint(size)}, &out)
	if err == nil && !out.OK {
		err = fmt.Errorf("%s: the cache service did not take it", key)
	}
	return err
}
