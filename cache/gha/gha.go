// Package gha speaks to the cache service of GitHub Actions: the REST API of artifactcache (version 1), and the Twirp API
// github.actions.results.api.v1.CacheService with its signed addresses of Azure's Blob service (version 2).
//
// Entries of that service never change. A name that stands for something else from time to time is a row of entries, NAME#1, NAME#2, …,
// of which the newest counts: the service finds the newest entry whose key begins with "NAME#". A key that was begun and never done is taken
// until the service drops it: a blob has the next key of a row then, BLOB#1, BLOB#2, ….
package gha

import (
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache/objects"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
)

// Options say which service, and who asks it.
type Options struct {
	URL     string // of the service of that version
	Token   string
	Version int // 1 or 2
	Limits  web.Limits
}

// ParseOptions reads docker's attributes of a cache of type gha, but for its scope, and, for what they do not say, the variables of a runner.
func ParseOptions(attrs map[string]string, getenv func(string) string) (Options, error) {
	o := Options{Token: cmp.Or(attrs["token"], getenv("ACTIONS_RUNTIME_TOKEN")), Version: 1}
	first, second := cmp.Or(attrs["url"], getenv("ACTIONS_CACHE_URL")), cmp.Or(attrs["url_v2"], getenv("ACTIONS_RESULTS_URL"))
	if on, _ := strconv.ParseBool(getenv("ACTIONS_CACHE_SERVICE_V2")); on || first == "" || attrs["url_v2"] != "" {
		o.Version = 2
	}
	switch v := attrs["version"]; v {
	case "":
	case "1", "2":
		o.Version = int(v[0] - '0')
	default:
		return o, fmt.Errorf("version=%s: must be 1 or 2", v)
	}
	if o.URL = first; o.Version == 2 {
		o.URL = second
	}
	if v := attrs["timeout"]; v != "" {
		d, err := time.ParseDuration(v)
		if err != nil || d <= 0 {
			return o, fmt.Errorf("timeout=%s: must be a time, such as 10m", v)
		}
		o.Limits.GiveUp = d
	}
	return o, nil
}

// A Bucket is an [objects.Bucket]. Safe for concurrent use.
type Bucket struct {
	o      Options
	base   *url.URL // ends in a slash
	client *web.Client
	api    api
	part   int64 // bytes that are sent in one request; of more, several parts are sent at a time
}

// Open makes a Bucket. It asks nothing of the network.
func Open(o Options) (*Bucket, error) {
	if o.URL == "" || o.Token == "" {
		return nil, errors.New("gha: needs url= (or url_v2=) and token=, or ACTIONS_RESULTS_URL and ACTIONS_RUNTIME_TOKEN, which a runner gives " +
			"to actions and not to run: steps: let an action export them")
	}
	u, err := url.Parse(strings.TrimSuffix(o.URL, "/") + "/")
	if err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" || u.User != nil {
		return nil, fmt.Errorf("gha: %q is no URL of http or https", web.Redact(o.URL))
	}
	b := &Bucket{o: o, base: u, client: web.New(u.Host, web.Options{Limits: o.Limits, Peer: "cache service"}), part: 32 << 20}
	if b.api = (*restAPI)(b); o.Version == 2 {
		b.api = (*twirpAPI)(b)
	}
	return b, nil
}

// Name names the service for people.
func (b *Bucket) Name() string { return "gha" }

// An api is a version of the service.
type api interface {
	// find finds the entry of a key or else the newest of its row. A key that ends in "#" is that of a row. It is fs.ErrNotExist if there is none.
	find(ctx context.Context, key string) (entry, error)
	// reserve begins an entry. It is errExists if it was begun before, by whomever.
	reserve(ctx context.Context, key string) (place string, err error)
	// upload sends what an entry holds to its place.
	upload(ctx context.Context, place string, size int64, content image.Content) error
	// commit ends an entry: it can be found from then on.
	commit(ctx context.Context, key, place string, size int64) error
}

// An entry is where a key was found.
type entry struct{ key, url string }

var errExists = errors.New("it was begun before")

// version is what the service keeps entries of different programs apart by.
func version() string {
	sum := sha256.Sum256([]byte("|forge-cache-1"))
	return hex.EncodeToString(sum[:])
}

func blobKey(d ocispec.Descriptor) string { return "forge-blob-1-" + d.Digest.String() }

// row is what the keys of a key's row begin with.
func row(key string) string { return strings.TrimSuffix(key, "#") + "#" }

// nameKey is a name as a key may have it: at most 512 bytes without commas. A name that has to be changed for that gets a digest.
func nameKey(name string) string {
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
			return r
		}
		return '-'
	}, name)
	if plain = plain[:min(len(plain), 200)]; plain != name {
		sum := sha256.Sum256([]byte(name))
		plain += "-" + hex.EncodeToString(sum[:8])
	}
	return "forge-name-1-" + plain + "#"
}

// Get implements [objects.Bucket].
func (b *Bucket) Get(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if offset > 0 && offset == d.Size {
		return http.NoBody, nil
	}
	e, err := b.api.find(ctx, blobKey(d))
	if err != nil {
		return nil, err
	}
	return b.open(ctx, e, offset)
}

// open gets what an entry holds, from an offset on.
func (b *Bucket) open(ctx context.Context, e entry, offset int64) (io.ReadCloser, error) {
	want, header := http.StatusOK, http.Header{}
	if offset > 0 {
		want = http.StatusPartialContent
		header.Set("Range", fmt.Sprintf("bytes=%d-", offset))
	}
	u, err := b.signed(e.url)
	if err != nil {
		return nil, err
	}
	resp, err := objects.Do(ctx, b.client, b.o.Limits, "GET "+e.key, func() (*web.Request, error) {
		return &web.Request{Method: http.MethodGet, URL: u, Header: header.Clone()}, nil
	}, want)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// signed reads an address that the service names, if it may name it.
func (b *Bucket) signed(address string) (*url.URL, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, errors.New("the cache service names no address")
	}
	return u, b.client.Allow(b.base, u)
}

// Has implements [objects.Bucket]. That an entry was looked for keeps it from being collected.
func (b *Bucket) Has(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	_, err := b.api.find(ctx, blobKey(d))
	return err == nil, notThere(err)
}

// Put implements [objects.Bucket]. Content is checked before its key is taken, which nobody can give back. What somebody else has begun has
// the same content and is waited for. Whoever began it may have died: then the blob is stored under the next key of its row.
func (b *Bucket) Put(ctx context.Context, d ocispec.Descriptor, content image.Content) error {
	if err := objects.Check(ctx, content); err != nil {
		return err
	}
	key := blobKey(d)
	for n := range maxBegun {
		if n > 0 {
			key = row(blobKey(d)) + strconv.Itoa(n)
		}
		if err := b.save(ctx, key, d.Size, content); !errors.Is(err, errExists) {
			return err
		}
		if there, err := b.await(ctx, d); there || err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: %w, and it is not there: %d who began it are slow or have died", blobKey(d), errExists, maxBegun)
}

// await waits until a blob that somebody else has begun can be found, and reports whether it can.
func (b *Bucket) await(ctx context.Context, d ocispec.Descriptor) (bool, error) {
	for try := range patience {
		if there, err := b.Has(ctx, d); there || err != nil {
			return there, err
		}
		if err := b.sleep(ctx, try); err != nil {
			return false, err
		}
	}
	return b.Has(ctx, d)
}

func (b *Bucket) save(ctx context.Context, key string, size int64, content image.Content) error {
	place, err := b.api.reserve(ctx, key)
	if err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	if err := b.api.upload(ctx, place, size, content); err != nil {
		return fmt.Errorf("%s: %w", key, err)
	}
	return b.api.commit(ctx, key, place, size)
}

// Read implements [objects.Bucket].
func (b *Bucket) Read(ctx context.Context, name string) ([]byte, error) {
	e, err := b.api.find(ctx, nameKey(name))
	if err != nil {
		return nil, err
	}
	body, err := b.open(ctx, e, 0)
	if err != nil {
		return nil, err
	}
	raw, err := io.ReadAll(io.LimitReader(body, image.MaxManifestSize+1))
	if err = errors.Join(err, body.Close()); err == nil && len(raw) > image.MaxManifestSize {
		err = fmt.Errorf("%s: is longer than %d bytes", e.key, image.MaxManifestSize)
	}
	return raw, err
}

// What somebody else has begun is waited for, but not longer than patience, since whoever began it may have died: the next number is taken
// then.
const (
	patience = 8
	maxRow   = 16 // names that are tried
	maxBegun = 3  // keys of a blob that are tried: each may be a copy of it
)

// Write implements [objects.Bucket].
func (b *Bucket) Write(ctx context.Context, name string, raw []byte) error {
	key := nameKey(name)
	skip := 1
	for try := range maxRow {
		n := 0
		e, err := b.api.find(ctx, key)
		switch {
		case err == nil:
			if n, err = strconv.Atoi(strings.TrimPrefix(e.key, key)); err != nil || n < 0 {
				return fmt.Errorf("%s: is not a number of %s", e.key, key)
			}
		case notThere(err) != nil:
			return err
		}
		err = b.save(ctx, key+strconv.Itoa(n+skip), int64(len(raw)), image.Bytes(raw))
		if !errors.Is(err, errExists) {
			return err
		}
		if try >= patience {
			skip++
			continue
		}
		if err := b.sleep(ctx, try); err != nil {
			return err
		}
	}
	return fmt.Errorf("%s: others write it all the time", key)
}

// sleep waits for another who writes the same, the longer the more often that was tried.
func (b *Bucket) sleep(ctx context.Context, try int) error {
	return web.Sleep(ctx, cmp.Or(b.o.Limits.Backoff, 200*time.Millisecond)<<min(try, 4))
}

var _ objects.Bucket = (*Bucket)(nil)
