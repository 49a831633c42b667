package forge

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/forge-build/forge/container/words"
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
type CacheSpec struct {
	Type  string            // registry, local, inline, gha, s3 or reapi
	Attrs map[string]string // under docker's names, without type
}

// cacheAttrs are the attributes of each type, as docker has them. Those of the last two are read where those places are opened.
func cacheAttrs() map[string][]string {
	layers := []string{"mode", "compression", "compression-level", "force-compression", "ignore-error", "oci-mediatypes", "image-manifest"}
	return map[string][]string{
		"registry": append([]string{"ref", "registry.insecure"}, layers...),
		"local":    append([]string{"src", "dest", "tag", "digest"}, layers...),
		"inline":   layers,
		"reapi":    {"url", "name", "mode", "ignore-error"},
		"gha": append([]string{
			"scope", "url", "url_v2", "token", "repository", "ghtoken", "version", "timeout",
		}, layers...),
		"s3": append([]string{
			"bucket", "region", "prefix", "blobs_prefix", "manifests_prefix", "name", "touch_refresh", "upload_parallelism",
			"endpoint_url", "use_path_style", "access_key_id", "secret_access_key", "session_token",
		}, layers...),
	}
}

// ParseCacheFrom reads a value of --cache-from: an image's name, or type=TYPE and attributes as in CSV.
func ParseCacheFrom(s string) (CacheSpec, error) {
	c, err := parseCache(s)
	if err == nil {
		err = c.need("ref", "src")
	}
	if err != nil {
		return c, fmt.Errorf("--cache-from %q: %w", s, err)
	}
	return c, nil
}

// ParseCacheTo reads a value of --cache-to.
func ParseCacheTo(s string) (CacheSpec, error) {
	c, err := parseCache(s)
	if err == nil {
		err = c.need("ref", "dest")
	}
	if err == nil {
		_, err = c.compression()
	}
	if err != nil {
		return c, fmt.Errorf("--cache-to %q: %w", s, err)
	}
	return c, nil
}

func parseCache(s string) (CacheSpec, error) {
	c := CacheSpec{Attrs: map[string]string{}}
	if s != "" && !strings.ContainsAny(s, "=,") {
		c.Type, c.Attrs["ref"] = "registry", s
		return c, nil
	}
	err := words.Attributes(s, func(key, value string) error {
		if key = strings.ToLower(key); key == "type" {
			c.Type = value
		} else {
			c.Attrs[key] = value
		}
		return nil
	})
	if err != nil {
		return c, err
	}
	return c, c.check()
}

// check refuses what no type has, or its type has not.
func (c CacheSpec) check() error {
	known, ok := cacheAttrs()[c.Type]
	if !ok {
		return fmt.Errorf("type %q is not one of registry, local, inline, gha, s3 and reapi", c.Type)
	}
	for key, value := range c.Attrs {
		if !slices.Contains(known, key) {
			return fmt.Errorf("type %s has no attribute %q", c.Type, key)
		}
		switch key {
		case "mode":
			if value != "min" && value != "max" {
				return fmt.Errorf("mode %q: must be min or max", value)
			}
		case "registry.insecure", "ignore-error", "force-compression", "use_path_style", "oci-mediatypes", "image-manifest":
			if _, err := strconv.ParseBool(value); err != nil {
				return fmt.Errorf("%s=%s: must be true or false", key, value)
			}
		}
	}
	return nil
}

// need refuses a specification without the attribute that says where it is.
func (c CacheSpec) need(ref, dir string) error {
	needed := map[string]string{"registry": ref, "local": dir, "s3": "bucket", "reapi": "url"}[c.Type]
	if needed != "" && c.Attrs[needed] == "" {
		return fmt.Errorf("type %s needs %s=", c.Type, needed)
	}
	if c.Type == "registry" {
		_, err := image.ParseReference(c.Attrs["ref"])
		return err
	}
	return nil
}

// is reports whether an attribute is true.
func (c CacheSpec) is(key string) bool {
	v, _ := strconv.ParseBool(c.Attrs[key])
	return v
}

// compression is the form that layers get.
func (c CacheSpec) compression() (CompressionOptions, error) {
	if c.Attrs["compression"] == string(image.EStargz) {
		return CompressionOptions{}, errors.New("compression estargz makes other layers: it is for the image, with --output")
	}
	attrs := map[string]string{"compression-level": c.Attrs["compression-level"], "compression": c.Attrs["compression"]}
	if c.Type == "reapi" { // where layers are tars, as workers read them
		attrs["compression"] = string(image.Uncompressed)
	}
	attrs["force-compression"] = strconv.FormatBool(c.is("force-compression"))
	return (&Output{Attrs: attrs}).compression()
}
