// Package s3 speaks the part of S3's REST API (version 2006-03-01) that keeps a cache: objects that are got, put, listed and copied onto
// themselves.
//
// Requests are signed by internal/sigv4: Amazon's own library would add a third to the program, and its init to each command
// (docs/decisions/).
package s3

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache/objects"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/sigv4"
	"github.com/forge-build/forge/internal/web"
)

// Options say which bucket, and how it is asked. Bucket and Region are needed.
type Options struct {
	Bucket, Region string
	Endpoint       string // URL; "" is Amazon's for the region
	PathStyle      bool   // the bucket is in the path, not in the name of the host
	Key            sigv4.Key

	Prefix, Blobs, Manifests string        // before all keys; before blobs, "" is blobs/; before names, "" is manifests/
	Touch                    time.Duration // what is older when it is needed is made new, so that rules of the bucket keep it; 0 is a day
	Parallel                 int           // parts of one blob that are sent at a time; 0 is 4

	Limits web.Limits
}

// A Bucket is an [objects.Bucket]. Safe for concurrent use.
type Bucket struct {
	o      Options
	base   url.URL // of the bucket
	client *web.Client
	onePut int64 // see there
}

// Open makes a Bucket. It asks nothing of the network.
func Open(o Options) (*Bucket, error) {
	o.Touch, o.Parallel = cmp.Or(o.Touch, 24*time.Hour), cmp.Or(o.Parallel, 4)
	if o.Bucket == "" || o.Region == "" {
		return nil, errors.New("s3: needs bucket= and region=, or AWS_BUCKET and AWS_REGION")
	}
	if o.Key.ID == "" || o.Key.Secret == "" {
		return nil, errors.New("s3: needs access_key_id= and secret_access_key=, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
	}
	if o.Endpoint == "" {
		o.Endpoint = "https://s3." + o.Region + ".amazonaws.com"
	}
	u, err := url.Parse(o.Endpoint)
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.RawQuery != "" || u.User != nil {
		return nil, fmt.Errorf("s3: endpoint %q is no URL of http or https", web.Redact(o.Endpoint))
	}
	base := url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimSuffix(u.Path, "/") + "/"}
	if o.PathStyle {
		base.Path += o.Bucket + "/"
	} else {
		base.Host = o.Bucket + "." + base.Host
	}
	return &Bucket{o: o, base: base, client: web.New(base.Host, web.Options{Limits: o.Limits, Peer: "bucket"}), onePut: onePut}, nil
}

// Name names the bucket for people.
func (b *Bucket) Name() string {
	return "s3://" + b.o.Bucket + "/" + b.o.Prefix
}

func (b *Bucket) blob(d ocispec.Descriptor) string {
	return b.o.Prefix + cmp.Or(b.o.Blobs, "blobs/") + d.Digest.String()
}

func (b *Bucket) named(name string) string {
	return b.o.Prefix + cmp.Or(b.o.Manifests, "manifests/") + name
}

// A request is what is asked of the bucket.
type request struct {
	method string
	key    string // of an object; "" is the bucket
	query  url.Values
	header http.Header
	body   func() (io.ReadCloser, error)
	size   int64
	sum    string // SHA-256 of the body, in hexadecimal; "" if it is not known
	want   []int
}

// do sends a request until it is answered as wanted.
func (b *Bucket) do(ctx context.Context, r request) (*http.Response, error) {
	return objects.Do(ctx, b.client, b.o.Limits, b.Name()+" "+r.method+" "+r.key, func() (*web.Request, error) {
		u := b.base
		u.Path += r.key
		u.RawPath = sigv4.Path(u.Path)
		u.RawQuery = sigv4.Query(r.query)
		header := http.Header{}
		for name, values := range r.header {
			header[name] = values
		}
		sum := cmp.Or(r.sum, sigv4.Unsigned)
		if r.body == nil {
			sum = sigv4.EmptySum
		}
		b.o.Key.Sign(r.method, &u, header, sigv4.Scope{Region: b.o.Region, Service: "s3"}, sum, time.Now())
		authorization := header.Get("Authorization")
		header.Del("Authorization")
		return &web.Request{Method: r.method, URL: &u, Header: header, Authorization: authorization, Body: r.body, Size: r.size}, nil
	}, r.want...)
}

// done is do for an answer whose body says nothing.
func (b *Bucket) done(ctx context.Context, r request) error {
	resp, err := b.do(ctx, r)
	if err != nil {
		return err
	}
	return web.Drain(resp)
}

// Get implements [objects.Bucket].
func (b *Bucket) Get(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if offset > 0 && offset == d.Size {
		return http.NoBody, nil
	}
	r := request{method: http.MethodGet, key: b.blob(d), header: http.Header{}, want: []int{http.StatusOK}}
	if offset > 0 {
		r.header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
		r.want = []int{http.StatusPartialContent}
	}
	resp, err := b.do(ctx, r)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Has implements [objects.Bucket].
func (b *Bucket) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	resp, err := b.do(ctx, request{method: http.MethodHead, key: b.blob(d), want: []int{http.StatusOK, http.StatusNotFound}})
	if err != nil {
		return false, err
	}
	if err := web.Drain(resp); err != nil || resp.StatusCode == http.StatusNotFound || resp.ContentLength != d.Size {
		return false, err
	}
	when, err := http.ParseTime(resp.Header.Get("Last-Modified"))
	if err != nil || time.Since(when) < b.o.Touch {
		return true, nil //nolint:nilerr // without a time there is nothing to do
	}
	return b.touch(ctx, d)
}

// touch copies a blob onto itself. It reports false where it is gone by now.
func (b *Bucket) touch(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	if d.Size > maxPut { // a copy in one request has that limit, too
		return true, nil
	}
	h := http.Header{}
	h.Set("X-Amz-Copy-Source", sigv4.Path("/"+b.o.Bucket+"/"+b.blob(d)))
	h.Set("X-Amz-Metadata-Directive", "REPLACE")
	resp, err := b.do(ctx, request{
		method: http.MethodPut, key: b.blob(d), header: h, want: []int{http.StatusOK, http.StatusNotFound, http.StatusForbidden},
	})
	if err != nil {
		return false, err
	}
	return resp.StatusCode != http.StatusNotFound, web.Drain(resp) // whoever may only read can use it all the same
}

// Read implements [objects.Bucket].
func (b *Bucket) Read(ctx context.Context, name string) ([]byte, error) {
	resp, err := b.do(ctx, request{method: http.MethodGet, key: b.named(name), want: []int{http.StatusOK}})
	if err != nil {
		return nil, err
	}
	return objects.ReadAll(resp)
}

// Write implements [objects.Bucket].
func (b *Bucket) Write(ctx context.Context, name string, raw []byte) error {
	sum := sha256.Sum256(raw)
	return b.done(ctx, request{
		method: http.MethodPut, key: b.named(name), size: int64(len(raw)), sum: hex.EncodeToString(sum[:]),
		body: func() (io.ReadCloser, error) { return image.Bytes(raw).Open(ctx, 0) }, want: []int{http.StatusOK},
	})
}

// Tags lists the names.
func (b *Bucket) Tags(ctx context.Context) (tags []string, err error) {
	prefix := b.named("")
	token := ""
	for range maxPages { // which may be empty, without end
		q := url.Values{"list-type": {"2"}, "prefix": {prefix}}
		if token != "" {
			q.Set("continuation-token", token)
		}
		resp, err := b.do(ctx, request{method: http.MethodGet, query: q, want: []int{http.StatusOK}})
		if err != nil {
			return nil, err
		}
		raw, err := objects.ReadAll(resp)
		if err != nil {
			return nil, err
		}
		var page struct {
			Contents              []struct{ Key string }
			NextContinuationToken string
			IsTruncated           bool
		}
		if err := xml.Unmarshal(raw, &page); err != nil {
			return nil, fmt.Errorf("%s: list: %w", b.Name(), err)
		}
		for _, c := range page.Contents {
			if tag, ok := strings.CutPrefix(c.Key, prefix); ok && !strings.Contains(tag, "/") {
				tags = append(tags, tag)
			}
		}
		switch {
		case !page.IsTruncated:
			return tags, nil
		case page.NextContinuationToken == "" || page.NextContinuationToken == token:
			return nil, fmt.Errorf("%s: list: the server says that there is more after %d names, and not how to ask for it", b.Name(), len(tags))
		case len(tags) > maxTags:
			return nil, fmt.Errorf("%s: list: has more than %d names: delete old ones, or use another name= or prefix=", b.Name(), maxTags)
		}
		token = page.NextContinuationToken
	}
	return nil, fmt.Errorf("%s: list: has more than %d pages", b.Name(), maxPages)
}

// Limits of a list. A page has 1,000 keys.
const (
	maxTags  = 100_000
	maxPages = 1000
)

var _ objects.Bucket = (*Bucket)(nil)
