package remote

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
)

// A store is a place in memory that takes only manifests whose parts are there, as registries do.
type store struct {
	mu    sync.Mutex // guards all below
	blobs map[digest.Digest][]byte
	tags  map[string]ocispec.Descriptor
	puts  int // of tags
	err   func(what string) error
}

func newStore() *store {
	return &store{blobs: map[digest.Digest][]byte{}, tags: map[string]ocispec.Descriptor{}}
}

func (s *store) fails(what string) error {
	s.mu.Lock()
	fail := s.err
	s.mu.Unlock()
	if fail == nil {
		return nil
	}
	return fail(what)
}

func (s *store) Resolve(_ context.Context, r image.Reference) (ocispec.Descriptor, error) {
	if err := s.fails("resolve " + r.Tag); err != nil {
		return ocispec.Descriptor{}, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, ok := s.tags[r.Tag]
	if !ok {
		return d, fs.ErrNotExist
	}
	return d, nil
}

func (s *store) Fetch(ctx context.Context, d ocispec.Descriptor, offset int64) (io.ReadCloser, error) {
	if err := s.fails("fetch " + d.MediaType); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	raw, ok := s.blobs[d.Digest]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return image.Bytes(raw).Open(ctx, offset)
}

func (s *store) Exists(_ context.Context, d ocispec.Descriptor) (bool, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, ok := s.blobs[d.Digest]
	return ok, nil
}

func (s *store) Push(ctx context.Context, d ocispec.Descriptor, c image.Content) (ocispec.Descriptor, error) {
	if err := s.fails("push " + d.MediaType); err != nil {
		return d, err
	}
	r, err := c.Open(ctx, 0)
	if err != nil {
		return d, err
	}
	raw, err := io.ReadAll(r)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[d.Digest] = raw
	return d, err
}

func (s *store) PushManifest(_ context.Context, r image.Reference, d ocispec.Descriptor, raw []byte) error {
	doc, err := image.ParseDocument(raw, d.MediaType)
	if err != nil {
		return err
	}
	kind := "segment"
	if doc.IsIndex() {
		kind = "index"
	}
	if err := s.fails("put " + kind + " " + r.Tag + " " + doc.Config.MediaType); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, child := range doc.Children() {
		if _, ok := s.blobs[child.Digest]; !ok {
			return fmt.Errorf("%s: %w", child.Digest, image.ErrIncomplete)
		}
	}
	s.blobs[d.Digest] = bytes.Clone(raw)
	if r.Tag != "" {
		s.tags[r.Tag] = d
		s.puts++
	}
	return nil
}

// add stores a layer.
func (s *store) add(name string) image.Layer {
	raw := []byte("layer " + name)
	d := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageLayerGzip, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[d.Digest] = raw
	return image.Layer{Blob: d, DiffID: digest.FromString("tar " + name)}
}

func (s *store) Tags(context.Context) (tags []string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for t := range s.tags {
		tags = append(tags, t)
	}
	return tags, nil
}

func (s *store) place() *Place { return &Place{Name: "reg/app", Read: s, Write: s, Tags: s} }

func scope(p *Place, name string) *Scope {
	return &Scope{Place: p, Name: name, Tags: []string{ScopeTag(name)}}
}

func keyOf(s string) cache.Key { return sha256.Sum256([]byte(s)) }

// layerRecord is a record whose layer is in s.
func layerRecord(s *store, name string) Record {
	return Record{Key: keyOf(name), Layer: s.add(name), Name: "RUN " + name, Created: time.UnixMicro(1_700_000_000_123_456).UTC(), Cost: 1500 * time.Millisecond}
}

// machine is a machine that knows nothing, and shares a scope.
type machine struct {
	*Cache
	target *Target

	mu   sync.Mutex // guards told
	told []string
}

func newMachine(t testing.TB, p *Place, name string, change func(*Options)) *machine {
	t.Helper()
	dir := t.TempDir()
	near, err := cache.OpenSteps(dir, nil)
	if err != nil {
		t.Fatal(err)
	}
	memory, err := cache.OpenStore[[]byte](dir + "/remote")
	if err != nil {
		t.Fatal(err)
	}
	m := &machine{target: &Target{Scope: scope(p, name)}}
	o := Options{
		Near: near, Memory: memory, Read: []*Scope{scope(p, name)}, Write: []*Target{m.target},
		Events: func(e event.Event) {
			m.mu.Lock()
			defer m.mu.Unlock()
			m.told = append(m.told, string(e.Kind)+": "+e.Text)
		},
	}
	if change != nil {
		change(&o)
	}
	m.Cache = New(o)
	return m
}

// events is what the machine was told.
func (m *machine) events() string {
	m.mu.Lock()
	defer m.mu.Unlock()
	return strings.Join(m.told, "\n")
}

// keep writes records.
func (m *machine) keep(ctx context.Context, records ...Record) error {
	forms := map[digest.Digest]ocispec.Descriptor{}
	for _, r := range records {
		r.Used = today(time.Now())
		m.use(r)
		if !r.IsValue() {
			forms[r.Layer.DiffID] = r.Layer.Blob
		}
	}
	pending, err := m.Pending(ctx, m.target, nil)
	if err != nil {
		return err
	}
	_, err = m.Save(ctx, m.target, pending, forms)
	return err
}

// knows reports whether the machine gets the answer to a record's key.
func (m *machine) knows(t testing.TB, r Record) bool {
	t.Helper()
	e, ok, err := m.Get(t.Context(), r.Key)
	if err != nil {
		t.Fatal(err)
	}
	if ok && (e.Layer.DiffID != r.Layer.DiffID || e.Layer.Blob.Digest != r.Layer.Blob.Digest || !e.Created.Equal(r.Created)) {
		t.Fatalf("got %+v, want %+v", e, r)
	}
	return ok
}

func signer(t testing.TB, seed byte) (*Signer, Trust) {
	t.Helper()
	key := ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, 32))
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	public, err := x509.MarshalPKIXPublicKey(key.Public())
	if err != nil {
		t.Fatal(err)
	}
	s, err := ReadSigner(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	if err != nil {
		t.Fatal(err)
	}
	trust, err := ReadTrust(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: public}))
	if err != nil {
		t.Fatal(err)
	}
	return s, trust
}

// resolves makes sure that all that an index names is there, down to the layers.
func (s *store) resolves(t testing.TB, tag string) *index {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	x, err := parseIndex(s.blobs[s.tags[tag].Digest])
	if err != nil {
		t.Fatal(err)
	}
	for _, seg := range x.segments {
		var m ocispec.Manifest
		if err := json.Unmarshal(s.blobs[seg.d.Digest], &m); err != nil {
			t.Fatalf("segment %s: %v", seg.d.Digest, err)
		}
		for _, d := range append(m.Layers, m.Config, seg.table) {
			if _, ok := s.blobs[d.Digest]; !ok {
				t.Errorf("index names %s, which is not there", d.Digest)
			}
		}
	}
	return x
}

var errTest = errors.New("as commanded")

func descriptor(mediaType string, raw []byte) ocispec.Descriptor {
	return ocispec.Descriptor{MediaType: mediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}
}
