package forge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"iter"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/attest"
	"github.com/forge-build/forge/attest/sbom"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// pushReferrers sends what is attached to an image after it, if it is wanted by the type of its predicate. The registry knows the image by another digest if its layers were
// compressed on the way, and the statements that are sent are about that one.
func (h *Home) pushReferrers(ctx context.Context, repo *registry.Repository, ref image.Reference, local, pushed ocispec.Descriptor, wants func(string) bool) error {
	pairs, err := h.counterparts(ctx, repo, local, pushed)
	if err != nil {
		return err
	}
	for _, pair := range pairs {
		for s, err := range h.statementsAbout(ctx, pair.local.Digest) {
			if err != nil {
				return err
			}
			if !wants(s.PredicateType) {
				continue
			}
			s.Subject = []attest.Subject{attest.NewSubject(ref, pair.platform, pair.pushed.Digest)}
			d, manifest, err := s.Push(ctx, repo, pair.pushed)
			if err != nil {
				return err
			}
			if err := repo.PushManifest(ctx, image.Reference{}, d, manifest); err != nil {
				return err
			}
		}
	}
	return nil
}

// A counterpart is the manifest of an image here, and what it became in a registry.
type counterpart struct {
	local, pushed ocispec.Descriptor
	platform      ocispec.Platform
}

// counterparts pairs the images of an index with those of the index that was pushed, by their platforms.
func (h *Home) counterparts(ctx context.Context, repo *registry.Repository, local, pushed ocispec.Descriptor) ([]counterpart, error) {
	if !image.IsIndex(local.MediaType) {
		about, err := h.Layout.Referrers(local.Digest)
		if err != nil || len(about) == 0 {
			return nil, err
		}
		img, err := h.Layout.Image(ctx, local, nil)
		if err != nil {
			return nil, err
		}
		return []counterpart{{local, pushed, img.Config.Platform}}, nil
	}
	doc, _, err := image.ReadDocument(ctx, h.Layout, local)
	if err != nil {
		return nil, err
	}
	var pairs []counterpart
	for _, d := range doc.Manifests {
		about, err := h.Layout.Referrers(d.Digest)
		if err != nil {
			return nil, err
		}
		if len(about) == 0 || d.Platform == nil {
			continue
		}
		there, err := image.Read(ctx, repo, pushed, d.Platform)
		if errors.Is(err, fs.ErrNotExist) {
			continue // only some platforms were pushed
		}
		if err != nil {
			return nil, err
		}
		pairs = append(pairs, counterpart{d, there.Descriptor, *d.Platform})
	}
	return pairs, nil
}

// statementsAbout reads the statements that are attached to an image of the store. An error is the last.
func (h *Home) statementsAbout(ctx context.Context, img digest.Digest) iter.Seq2[attest.Statement, error] {
	about, err := h.Layout.Referrers(img)
	if err != nil {
		return func(yield func(attest.Statement, error) bool) { yield(attest.Statement{}, err) }
	}
	return attest.Statements(ctx, h.Layout, about)
}

// Kinds of attestations.
const (
	AttestationSBOM       = attest.KindSBOM
	AttestationProvenance = attest.KindProvenance
)

// Attestations returns the predicates of a kind that are attached to an image of the store, for platform (os/arch[/variant]; "" is
// any that the store has).
func (h *Home) Attestations(ctx context.Context, name, platform, kind string) ([]json.RawMessage, error) {
	i, err := h.Inspect(ctx, name, platform)
	if err != nil {
		return nil, err
	}
	about, err := h.Layout.Referrers(i.Image.Descriptor.Digest)
	if err != nil {
		return nil, err
	}
	all, err := attest.Predicates(ctx, h.Layout, about, kind)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%s: has no %s here: build it with --%s, or ask its registry with --remote", name, kind, kind)
	}
	return all, err
}

// RemoteAttestations returns the predicates of a kind that a registry has about an image: as referrers of it or, as BuildKit puts
// them, in an index beside it.
func RemoteAttestations(ctx context.Context, name, platform, kind string, o RemoteOptions) ([]json.RawMessage, error) {
	want, err := parsePlatform(platform)
	if err != nil {
		return nil, err
	}
	client := o.client()
	defer client.Close() //nolint:errcheck // of idle connections
	repo, d, err := client.Search(ctx, name)
	if err != nil {
		return nil, err
	}
	if want == nil {
		p := thisPlatform()
		want = &p
	}
	img, err := image.Read(ctx, repo, d, want)
	if err != nil {
		return nil, err
	}
	about, err := repo.Referrers(ctx, img.Descriptor.Digest)
	if err != nil {
		return nil, err
	}
	if image.IsIndex(d.MediaType) {
		doc, _, err := image.ReadDocument(ctx, repo, d)
		if err != nil {
			return nil, err
		}
		for _, child := range doc.Manifests {
			if child.Annotations["vnd.docker.reference.digest"] == img.Descriptor.Digest.String() {
				about = append(about, child)
			}
		}
	}
	all, err := attest.Predicates(ctx, repo, about, kind)
	if err == nil && len(all) == 0 {
		err = fmt.Errorf("%s: its registry has no %s of it", name, kind)
	}
	return all, err
}

// attested adds the statements about an image that are asked for to its tree, under the names that BuildKit gives such files.
func (h *Home) attested(ctx context.Context, o AttestOptions, img *image.Image, tree snapshot.Tree) (snapshot.Tree, error) {
	if !o.Any() {
		return tree, nil
	}
	files := map[string][]byte{}
	for s, err := range h.statementsAbout(ctx, img.Descriptor.Digest) {
		if err != nil {
			return nil, err
		}
		if !o.Wants(s.PredicateType) { // of another build of the same image
			continue
		}
		name := "provenance.json"
		if s.PredicateType == sbom.PredicateType {
			name = "sbom.spdx.json"
		}
		text, err := json.MarshalIndent(s, "", "  ")
		if err != nil {
			return nil, err
		}
		files[name] = append(text, '\n')
	}
	return filetree.WithFiles(tree, files), nil
}
