package forge

import (
	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/container/words"
)

// parsePlatform reads os/arch[/variant]; "" is nil, which stands for this machine's platform. Its error is an InvalidError.
func parsePlatform(s string) (*ocispec.Platform, error) {
	if s == "" {
		return nil, nil
	}
	p, err := platforms.Parse(s)
	if err != nil {
		return nil, words.Invalid("platform %q: %v", s, err)
	}
	p = platforms.Normalize(p)
	return &p, nil
}

// buildPlatforms reads the platforms to build for; none is one, the zero value, which lets the base image decide.
func buildPlatforms(list []string) ([]ocispec.Platform, error) {
	if len(list) == 0 {
		return []ocispec.Platform{{}}, nil
	}
	return parsePlatforms(list)
}

// parsePlatforms reads a list of os/arch[/variant].
func parsePlatforms(list []string) ([]ocispec.Platform, error) {
	var all []ocispec.Platform
	for _, s := range list {
		p, err := parsePlatform(s)
		if err != nil {
			return nil, err
		}
		if p == nil {
			return nil, words.Invalid("platform: is empty")
		}
		all = append(all, *p)
	}
	return all, nil
}

// BuildPlatform is what this machine builds for, as os/arch[/variant].
func BuildPlatform() string { return platforms.Format(thisPlatform()) }

// thisPlatform is the platform of this machine as images name it: without the micro-architecture.
func thisPlatform() ocispec.Platform {
	p := platforms.DefaultSpec()
	p = platforms.Normalize(ocispec.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant})
	return p
}
