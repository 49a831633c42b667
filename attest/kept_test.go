package attest_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/attest"
	"github.com/forge-build/forge/attest/sbom"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry/registrytest"
)

// push stores a statement of a type about a manifest, and names what holds it.
func push(t *testing.T, dst image.Store, predicateType, predicate string) ocispec.Descriptor {
	t.Helper()
	subject := ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString("image"), Size: 5}
	s := attest.NewStatement(predicateType, []byte(predicate), attest.NewSubject(image.Reference{}, ocispec.Platform{}, subject.Digest))
	d, manifest, err := s.Push(t.Context(), dst, subject)
	if err == nil {
		err = dst.PushManifest(t.Context(), image.Reference{}, d, manifest)
	}
	if err != nil {
		t.Fatal(err)
	}
	doc, err := image.ParseDocument(manifest, d.MediaType)
	if err != nil || doc.Subject == nil || doc.Subject.Digest != subject.Digest {
		t.Fatalf("the artifact is about %v, %v", doc, err)
	}
	return d
}

// TestKept reads back what was stored: each statement once, by kind, and what is no statement as an error that ends the reading.
func TestKept(t *testing.T) {
	t.Parallel()
	store := registrytest.NewMemory()
	list, made := push(t, store, sbom.PredicateType, `{"a":1}`), push(t, store, attest.SLSA, `{"b":2}`)
	both := []ocispec.Descriptor{list, made}
	var types []string
	for s, err := range attest.Statements(t.Context(), store, both) {
		if err != nil {
			t.Fatal(err)
		}
		types = append(types, s.PredicateType)
	}
	if want := []string{sbom.PredicateType, attest.SLSA}; !slices.Equal(types, want) {
		t.Errorf("statements of %q, want %q", types, want)
	}
	for kind, want := range map[string]string{attest.KindSBOM: `[{"a":1}]`, attest.KindProvenance: `[{"b":2}]`} {
		all, err := attest.Predicates(t.Context(), store, both, kind)
		if got, _ := json.Marshal(all); err != nil || string(got) != want {
			t.Errorf("of kind %s there is %s, %v, want %s", kind, got, err, want)
		}
	}
	if all, err := attest.Predicates(t.Context(), store, both[:1], attest.KindProvenance); len(all) != 0 || err != nil {
		t.Errorf("a list of packages gives provenance %s, %v", all, err)
	}
	empty, d, err := image.NewArtifact("application/x", nil, list, nil)
	if err == nil {
		err = store.PushManifest(t.Context(), image.Reference{}, d, empty)
	}
	if err != nil {
		t.Fatal(err)
	}
	var last error
	n := 0
	for _, last = range attest.Statements(t.Context(), store, []ocispec.Descriptor{list, d, made}) {
		n++
	}
	if n != 2 || last == nil || !strings.Contains(last.Error(), "holds no statement") {
		t.Errorf("%d statements and %v, want the first and that the second artifact holds none", n, last)
	}
	if _, err := attest.Predicates(t.Context(), store, []ocispec.Descriptor{push(t, store, attest.SLSA, `null`)}, attest.KindProvenance); err != nil {
		t.Errorf("a predicate that is null: %v", err)
	}
}
