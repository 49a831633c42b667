package attest

import (
	"net/url"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// imageURL is the package URL of an image by its name, as BuildKit writes it: pkg:docker/NAME@TAG?platform=PLATFORM.
func imageURL(name string, p ocispec.Platform) string {
	name, digest, _ := strings.Cut(name, "@")
	tag := ""
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, tag = name[:i], name[i+1:]
	}
	u := "pkg:docker/" + (&url.URL{Path: name}).EscapedPath()
	if tag != "" {
		u += "@" + tag
	}
	query := url.Values{}
	if digest != "" {
		query.Set("digest", digest)
	}
	if p.OS != "" {
		query.Set("platform", platforms.Format(p))
	}
	if len(query) > 0 {
		u += "?" + query.Encode()
	}
	return u
}
