// Package attest writes down what is known of an image beside the image: statements of in-toto, and in them where it came from, as
// SLSA has it. Package sbom below it lists what is in it.
package attest

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// Types of what is written.
const (
	MediaType      = "application/vnd.in-toto+json" // of a statement; also the artifact type of the manifest that holds it
	SLSA           = "https://slsa.dev/provenance/v1"
	statementType  = "https://in-toto.io/Statement/v1"
	statementType0 = "https://in-toto.io/Statement/v0.1" // which BuildKit writes
	buildType      = "https://github.com/forge-build/forge/blob/main/docs/attestations.md#build-type"
	builderID      = "https://github.com/forge-build/forge"
)

// A Subject is what a statement is about: an image under a name.
type Subject struct {
	Name   string            `json:"name"`
	Digest map[string]string `json:"digest"` // by algorithm, in hexadecimal
}

// NewSubject names the manifest of an image, in the form of a package URL.
func NewSubject(ref image.Reference, p ocispec.Platform, d digest.Digest) Subject {
	name := "pkg:oci/image"
	if ref != (image.Reference{}) {
		name = imageURL(ref.Familiar(), p)
	}
	return Subject{Name: name, Digest: sums(d)}
}

// A Statement says something about its subjects (https://in-toto.io/Statement/v1). What it says is the predicate's business.
type Statement struct {
	Type          string          `json:"_type"`
	Subject       []Subject       `json:"subject"`
	PredicateType string          `json:"predicateType"`
	Predicate     json.RawMessage `json:"predicate"`
}

// NewStatement is a statement about subjects.
func NewStatement(predicateType string, predicate []byte, subjects ...Subject) Statement {
	return Statement{Type: statementType, Subject: subjects, PredicateType: predicateType, Predicate: predicate}
}

// parseStatement reads a statement, of which nothing but the form is checked: who wrote it is for the caller to know.
func parseStatement(data []byte) (s Statement, err error) {
	if err := json.Unmarshal(data, &s); err != nil {
		return s, fmt.Errorf("is not a statement of in-toto: %w", err)
	}
	if s.Type != statementType && s.Type != statementType0 || s.PredicateType == "" || len(s.Predicate) == 0 {
		return s, errors.New("is not a statement of in-toto in a form that is known")
	}
	return s, nil
}

// marshal writes JSON with the characters of URLs as they are.
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	err := encoder.Encode(v)
	return bytes.TrimSpace(b.Bytes()), err
}

// A Material is something that a build has read.
type Material struct {
	URI    string            `json:"uri"`
	Digest map[string]string `json:"digest,omitempty"`
}

// ImageMaterial is an image that a build stands on.
func ImageMaterial(name string, p ocispec.Platform, d digest.Digest) Material {
	return Material{imageURL(name, p), sums(d)}
}

// FileMaterial is what a URL held.
func FileMaterial(address string, d digest.Digest) Material { return Material{address, sums(d)} }

// GitMaterial is a commit of a repository.
func GitMaterial(address, commit string) Material {
	kind := "sha1"
	if len(commit) == 64 {
		kind = "sha256"
	}
	return Material{address, map[string]string{kind: commit}}
}

func sums(d digest.Digest) map[string]string {
	return map[string]string{d.Algorithm().String(): d.Encoded()}
}

// A Build is what provenance tells of a build.
type Build struct {
	ID       string // of this very run
	Builder  string // a URI that says who built; "" is forge's own
	Version  string // of forge
	Began    time.Time
	Ended    time.Time
	Source   Material // the build context; without a URI it was a directory or standard input
	File     string   // path of the build file in it
	Platform string   // of the machine that built

	Request   map[string]any // what was asked for; see docs/attestations.md
	Materials []Material
	Internal  map[string]any // more, for mode=max
}

// Provenance writes the predicate of type [SLSA].
func (b Build) Provenance() ([]byte, error) {
	type object = map[string]any
	source := object{"path": b.File}
	if b.Source.URI != "" {
		source["uri"] = b.Source.URI
	}
	if b.Source.Digest != nil {
		source["digest"] = b.Source.Digest
	}
	internal := object{"builderPlatform": b.Platform}
	for key, value := range b.Internal {
		internal[key] = value
	}
	builder := b.Builder
	if builder == "" {
		builder = builderID
	}
	materials := b.Materials
	if materials == nil {
		materials = []Material{}
	}
	return marshal(object{
		"buildDefinition": object{
			"buildType":            buildType,
			"externalParameters":   object{"configSource": source, "request": b.Request},
			"internalParameters":   internal,
			"resolvedDependencies": materials,
		},
		"runDetails": object{
			"builder": object{"id": builder, "version": object{"forge": b.Version}},
			"metadata": object{
				"invocationId": b.ID,
				"startedOn":    b.Began.UTC().Format(time.RFC3339Nano),
				"finishedOn":   b.Ended.UTC().Format(time.RFC3339Nano),
			},
		},
	})
}
