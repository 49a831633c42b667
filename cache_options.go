package forge

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/forge-build/forge/cache/far"
	"github.com/forge-build/forge/image"
)

// CacheOptions say where a build finds what other machines have done, and leaves what it has done for them. The zero value uses the
// repository that the image is pushed to, if it is pushed.
type CacheOptions struct {
	Cache    string      // REPOSITORY[:SCOPE] or grpc[s]://SERVER to read and write, or "none"; "" is the default
	ReadOnly bool        // nothing is left there
	Scope    string      // "" is that of the branch, as CI or git says
	From, To []CacheSpec // docker's --cache-from and --cache-to, instead of Cache
	Key      string      // file of an ed25519 key, PEM, that signs what is written; "" signs nothing
	Trust    string      // file of public keys, PEM: what none of them has signed is not believed; "" believes all
	Audit    float64     // this part of the steps that a cache answers, 0 to 1, is done nevertheless and compared
}

// A CacheSpec is a value of docker's --cache-from or --cache-to.
type CacheSpec = far.Spec

// ParseCacheFrom reads a value of --cache-from: an image's name, or type=TYPE and attributes as in CSV.
func ParseCacheFrom(s string) (CacheSpec, error) {
	c, err := far.ParseFrom(s)
	if err != nil {
		return c, fmt.Errorf("--cache-from %q: %w", s, err)
	}
	return c, nil
}

// ParseCacheTo reads a value of --cache-to.
func ParseCacheTo(s string) (CacheSpec, error) {
	c, err := far.ParseTo(s)
	if err == nil {
		_, err = compressionOf(c)
	}
	if err != nil {
		return c, fmt.Errorf("--cache-to %q: %w", s, err)
	}
	return c, nil
}

// compressionOf is the form that layers get in a place.
func compressionOf(c CacheSpec) (CompressionOptions, error) {
	if c.Attrs["compression"] == string(image.EStargz) {
		return CompressionOptions{}, errors.New("compression estargz makes other layers: it is for the image, with --output")
	}
	attrs := map[string]string{"compression-level": c.Attrs["compression-level"], "compression": c.Attrs["compression"]}
	if c.Type == "reapi" { // where layers are tars, as workers read them
		attrs["compression"] = string(image.Uncompressed)
	}
	attrs["force-compression"] = strconv.FormatBool(c.Is("force-compression"))
	return (&Output{Attrs: attrs}).compression()
}
