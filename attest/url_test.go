package attest

import (
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

func TestImageURL(t *testing.T) {
	p := ocispec.Platform{OS: "linux", Architecture: "amd64"}
	for name, want := range map[string]string{
		"alpine":                      "pkg:docker/alpine?platform=linux%2Famd64",
		"host:5000/a/b:1":             "pkg:docker/host:5000/a/b@1?platform=linux%2Famd64",
		"a:1@sha256:0":                "pkg:docker/a@1?digest=sha256%3A0&platform=linux%2Famd64",
		"oci-layout:///home/u/dir:v1": "pkg:oci/dir@v1?platform=linux%2Famd64",
	} {
		if got := imageURL(name, p); got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
}
