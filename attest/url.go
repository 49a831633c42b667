package attest

import (
	"net/url"
	"path"
	"strings"

	"github.com/containerd/platforms"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// imageURL is the package URL of an image by its name, as BuildKit writes it: pkg:docker/NAME@TAG?platform=PLATFORM. Of an image of an OCI
// layout, oci-layout://DIR, it tells the directory's own name, and not where that lies: pkg:oci/DIR?platform=PLATFORM.
func imageURL(name string, p ocispec.Platform) string {
	kind := "docker"
	if dir, ok := strings.CutPrefix(name, "oci-layout://"); ok {
		kind, name = "oci", path.Base(dir)
	}
	name, digest, _ := strings.Cut(name, "@")
	tag := ""
	if i := strings.LastIndexByte(name, ':'); i > strings.LastIndexByte(name, '/') {
		name, tag = name[:i], name[i+1:]
	}
	u := "pkg:" + kind + "/" + (&url.URL{Path: name}).EscapedPath()
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
