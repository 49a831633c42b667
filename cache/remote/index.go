package remote

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/opencontainers/go-digest"
	"github.com/opencontainers/image-spec/specs-go"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// Media types and annotations of what is kept. The annotation of the scope is what an index is known by: not every registry keeps an
// artifactType.
const (
	typeIndex   = "application/vnd.forge.cache.index.v1"
	typeSegment = "application/vnd.forge.cache.segment.v1"
	typeTable   = "application/vnd.forge.cache.records.v1+zstd"

	noteScope   = "dev.forge.cache.scope"   // of an index: the plain name
	noteWritten = "dev.forge.cache.written" // of an index: RFC 3339
	noteListed  = "dev.forge.cache.listed"  // of an index: later ones are under tags that begin with this one's
	notePlain   = "dev.forge.cache.plain"   // of an index: the registry takes only what looks like an image
	noteEpoch   = "dev.forge.cache.epoch"   // of an index: how often its lanes were closed
	noteOpen    = "dev.forge.cache.open"    // of an index: its lanes hold segments of the same epoch
	noteTable   = "dev.forge.cache.table"   // of a segment: its table, as it travels, in base64url; if it is small
	noteBlob    = "dev.forge.cache.blob"    // of a segment: DIGEST/SIZE of its table
	noteCount   = "dev.forge.cache.count"   // of a segment: RECORDS/LAYERS/BYTES
)

// Limits of an index.
const (
	maxSegments   = 64
	maxInline     = 16 << 10  // bytes of a table in an annotation
	maxInlineAll  = 128 << 10 // bytes of all of them: an index is read by every build
	maxTableFrame = image.MaxManifestSize
)

// A segment is a part of an index: a manifest that names a table and the layers of its records.
type segment struct {
	d       ocispec.Descriptor // of the manifest, as the index has it
	table   ocispec.Descriptor // of its table, as it travels
	inline  []byte             // the table; nil if it has to be fetched
	records int
	layers  int
	bytes   int64 // of the layers
}

// An index is what a tag of a scope stands for.
type index struct {
	digest   digest.Digest // of its bytes; "" if it was not read
	scope    string
	written  time.Time
	listed   bool
	newest   string // of the tags of later indexes; "" if none was seen
	plain    bool
	epoch    int       // of the lanes
	open     bool      // the lanes are in use
	segments []segment // the newest first
}

// A foreignError means that a name holds something that forge has not written.
type foreignError struct{ what string }

func (e *foreignError) Error() string { return "holds " + e.what + ", which is left alone" }

// parseIndex reads an index. Segments that it cannot make use of are left out.
func parseIndex(raw []byte) (*index, error) {
	doc, err := image.ParseDocument(raw, "")
	if err != nil {
		return nil, err
	}
	if !Holds(doc) {
		return nil, &foreignError{foreign(doc)}
	}
	x := &index{
		digest: digest.FromBytes(raw), scope: clip(doc.Annotations[noteScope], 1024),
		listed: doc.Annotations[noteListed] != "", plain: doc.Annotations[notePlain] != "", open: doc.Annotations[noteOpen] != "",
	}
	x.epoch, _ = strconv.Atoi(doc.Annotations[noteEpoch])
	x.written, _ = time.Parse(time.RFC3339, doc.Annotations[noteWritten])
	for _, d := range doc.Manifests {
		if len(x.segments) == maxSegments {
			break
		}
		if s, err := parseSegment(d); err == nil {
			x.segments = append(x.segments, s)
		}
	}
	return x, nil
}

// Holds reports whether a document is an index of ours.
func Holds(doc *image.Document) bool {
	_, ours := doc.Annotations[noteScope]
	return ours && doc.IsIndex()
}

// foreign says what a document is that is no index of ours.
func foreign(doc *image.Document) string {
	const buildkit = "application/vnd.buildkit.cacheconfig."
	isBuildKit := func(d ocispec.Descriptor) bool { return strings.HasPrefix(d.MediaType, buildkit) }
	switch {
	case isBuildKit(doc.Config), slices.ContainsFunc(doc.Manifests, isBuildKit):
		return "a BuildKit cache"
	case doc.IsIndex(), image.IsConfig(doc.Config.MediaType):
		return "an image"
	}
	return "something else"
}

func parseSegment(d ocispec.Descriptor) (s segment, err error) {
	if !image.IsDocument(d.MediaType) {
		return s, errors.New("is no manifest")
	}
	s.d = d
	name, size, _ := strings.Cut(d.Annotations[noteBlob], "/")
	s.table = ocispec.Descriptor{MediaType: typeTable, Digest: digest.Digest(name)}
	if s.table.Size, err = strconv.ParseInt(size, 10, 64); err != nil || s.table.Size > maxTableFrame {
		return s, errors.New("names no table")
	}
	if err := image.CheckDescriptor(s.table); err != nil {
		return s, err
	}
	if text := d.Annotations[noteTable]; text != "" && len(text) <= base64.RawURLEncoding.EncodedLen(maxInline) {
		table, err := base64.RawURLEncoding.DecodeString(text)
		if err != nil || digest.FromBytes(table) != s.table.Digest {
			return s, errors.New("has a table that is not its own")
		}
		s.inline = table
	}
	counts := strings.SplitN(d.Annotations[noteCount], "/", 3)
	for len(counts) < 3 {
		counts = append(counts, "0")
	}
	s.records, _ = strconv.Atoi(counts[0])
	s.layers, _ = strconv.Atoi(counts[1])
	s.bytes, _ = strconv.ParseInt(counts[2], 10, 64)
	return s, nil
}

// encode writes an index. The newest tables are in it, as far as they are small.
func (x *index) encode() ([]byte, ocispec.Descriptor, error) {
	out := ocispec.Index{
		Versioned: specs.Versioned{SchemaVersion: 2}, MediaType: ocispec.MediaTypeImageIndex, ArtifactType: typeIndex,
		Manifests:   []ocispec.Descriptor{}, // never null
		Annotations: map[string]string{noteScope: x.scope, noteWritten: x.written.UTC().Format(time.RFC3339)},
	}
	if x.plain {
		out.ArtifactType, out.Annotations[notePlain] = "", "true"
	}
	if x.listed {
		out.Annotations[noteListed] = "true"
	}
	if x.epoch != 0 {
		out.Annotations[noteEpoch] = strconv.Itoa(x.epoch)
	}
	if x.open {
		out.Annotations[noteOpen] = "true"
	}
	room := maxInlineAll
	for _, s := range x.segments {
		d := ocispec.Descriptor{MediaType: s.d.MediaType, Digest: s.d.Digest, Size: s.d.Size, Annotations: map[string]string{
			noteBlob:  fmt.Sprintf("%s/%d", s.table.Digest, s.table.Size),
			noteCount: fmt.Sprintf("%d/%d/%d", s.records, s.layers, s.bytes),
		}}
		if !x.plain {
			d.ArtifactType = typeSegment
		}
		if n := len(s.inline); n > 0 && n <= maxInline && n <= room {
			d.Annotations[noteTable] = base64.RawURLEncoding.EncodeToString(s.inline)
			room -= n
		}
		out.Manifests = append(out.Manifests, d)
	}
	raw, err := json.Marshal(out)
	return raw, ocispec.Descriptor{MediaType: out.MediaType, Digest: digest.FromBytes(raw), Size: int64(len(raw))}, err
}

// has reports whether a segment is in the index.
func (x *index) has(d digest.Digest) bool {
	return slices.ContainsFunc(x.segments, func(s segment) bool { return s.d.Digest == d })
}

// inlined is how many bytes of tables are in the index.
func (x *index) inlined() (n int) {
	for _, s := range x.segments {
		n += len(s.inline)
	}
	return n
}
