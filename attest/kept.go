package attest

import (
	"context"
	"encoding/json"
	"fmt"
	"iter"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// Kinds of statements, as people ask for them.
const (
	KindSBOM       = "sbom"
	KindProvenance = "provenance"
)

// maxStatement bounds a statement, in bytes: a list of a hundred thousand packages.
const maxStatement = 64 << 20

// Push stores the statement as an artifact about the manifest subject, but for the artifact's own manifest, which it returns.
func (s Statement) Push(ctx context.Context, dst image.Store, subject ocispec.Descriptor) (d ocispec.Descriptor, manifest []byte, err error) {
	statement, err := marshal(s)
	if err != nil {
		return d, nil, err
	}
	about := map[string]string{image.PredicateAnnotation: s.PredicateType}
	blob := ocispec.Descriptor{MediaType: MediaType, Digest: digest.FromBytes(statement), Size: int64(len(statement)), Annotations: about}
	if manifest, d, err = image.NewArtifact(MediaType, []ocispec.Descriptor{blob}, subject, about); err != nil {
		return d, nil, err
	}
	empty := ocispec.DescriptorEmptyJSON // its config
	_, err = dst.Push(ctx, empty, image.Bytes(empty.Data))
	if err == nil {
		_, err = dst.Push(ctx, blob, image.Bytes(statement))
	}
	return d, manifest, err
}

// Statements reads the first statement that each of some artifacts holds. An error, such as that one holds none, is the last.
func Statements(ctx context.Context, src image.Fetcher, artifacts []ocispec.Descriptor) iter.Seq2[Statement, error] {
	return func(yield func(Statement, error) bool) {
		for _, d := range artifacts {
			first, err := Statement{}, fmt.Errorf("%s: holds no statement", d.Digest)
			for first, err = range statements(ctx, src, d, "") {
				break
			}
			if !yield(first, err) || err != nil {
				return
			}
		}
	}
}

// prefixOf is what the types of a kind's predicates begin with.
func prefixOf(kind string) string {
	if kind == KindSBOM {
		return "https://spdx.dev/Document"
	}
	return "https://slsa.dev/provenance/"
}

// Predicates reads what artifacts say that is of a kind.
func Predicates(ctx context.Context, src image.Fetcher, artifacts []ocispec.Descriptor, kind string) (all []json.RawMessage, err error) {
	for _, d := range artifacts {
		for s, err := range statements(ctx, src, d, prefixOf(kind)) {
			if err != nil {
				return nil, err
			}
			all = append(all, s.Predicate)
		}
	}
	return all, nil
}

// statements reads the statements that an artifact holds, of the types of predicates that begin with prefix. An error is the last.
func statements(ctx context.Context, src image.Fetcher, d ocispec.Descriptor, prefix string) iter.Seq2[Statement, error] {
	return func(yield func(Statement, error) bool) {
		doc, _, err := image.ReadDocument(ctx, src, d)
		if err != nil {
			yield(Statement{}, err)
			return
		}
		for _, layer := range doc.Layers {
			if layer.MediaType != MediaType || !strings.HasPrefix(layer.Annotations[image.PredicateAnnotation], prefix) {
				continue
			}
			var s Statement
			raw, err := image.ReadBlob(ctx, src, layer, maxStatement)
			if err == nil {
				if s, err = parseStatement(raw); err != nil {
					err = fmt.Errorf("%s: %w", layer.Digest, err)
				}
			}
			if !yield(s, err) || err != nil {
				return
			}
		}
	}
}
