package image

import (
	"fmt"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// SelectPlatform finds the manifest for platform p, nil being this machine's. Variants that p's machine can run are
// taken too, the best first.
func SelectPlatform(x ocispec.Index, p *ocispec.Platform) (ocispec.Descriptor, error) {
	want := platforms.DefaultSpec()
	if p != nil {
		want = *p
	}
	match := platforms.Only(want)
	best := -1
	for i, d := range x.Manifests {
		if !IsManifest(d.MediaType) && !IsIndex(d.MediaType) && d.MediaType != "" || isAttestation(d) {
			continue
		}
		if d.Platform == nil { // an index of one image often does without
			if best < 0 && len(x.Manifests) == 1 {
				best = i
			}
			continue
		}
		if match.Match(*d.Platform) && (best < 0 || match.Less(*d.Platform, *x.Manifests[best].Platform)) {
			best = i
		}
	}
	if best < 0 {
		return ocispec.Descriptor{}, fmt.Errorf("has no image for %s, only for %s", platforms.FormatAll(want), strings.Join(platformsOf(x), ", "))
	}
	return x.Manifests[best], nil
}

// isAttestation tells BuildKit's attestation manifests, which lie among the images.
func isAttestation(d ocispec.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] == "attestation-manifest"
}

func platformsOf(x ocispec.Index) []string {
	var all []string
	for _, d := range x.Manifests {
		if d.Platform != nil && !isAttestation(d) {
			all = append(all, platforms.FormatAll(*d.Platform))
		}
	}
	if all == nil {
		return []string{"unknown platforms"}
	}
	return all
}
