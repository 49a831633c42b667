// Package far opens the places that a cache is kept in: registries, directories, buckets, GitHub's cache and servers of the Remote
// Execution API, as docker's --cache-from and --cache-to name them.
package far

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/image"
)

// A Spec is a value of docker's --cache-from or --cache-to.
type Spec struct {
	Type  string            // registry, local, inline, gha, s3 or reapi
	Attrs map[string]string // under docker's names, without type
}

// attributes are the attributes of each type, as docker has them. Those of the last two are read where those places are opened.
func attributes() map[string][]string {
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

// ParseFrom reads a place that is read: an image's name, or type=TYPE and attributes as in CSV.
func ParseFrom(s string) (Spec, error) {
	c, err := parse(s)
	if err == nil {
		err = c.need("ref", "src")
	}
	return c, err
}

// ParseTo reads a place that is written.
func ParseTo(s string) (Spec, error) {
	c, err := parse(s)
	if err == nil {
		err = c.need("ref", "dest")
	}
	return c, err
}

// ParseBoth reads a place that is read and written. A directory, which has to be there, has one name for both.
func ParseBoth(s string) (Spec, error) {
	c, err := parse(s)
	if err != nil {
		return c, err
	}
	if c.Type == "local" && c.Attrs["dest"] == "" {
		if _, err := os.Stat(c.Attrs["src"]); err != nil {
			return c, err
		}
		c.Attrs["dest"] = c.Attrs["src"]
	}
	return c, c.need("ref", "dest")
}

func parse(s string) (Spec, error) {
	c := Spec{Attrs: map[string]string{}}
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
func (c Spec) check() error {
	known, ok := attributes()[c.Type]
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
func (c Spec) need(ref, dir string) error {
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

// Is reports whether an attribute is true.
func (c Spec) Is(key string) bool {
	v, _ := strconv.ParseBool(c.Attrs[key])
	return v
}

// Scopes are those of a place that docker's attributes name: for some kinds several.
func (c Spec) Scopes(place *remote.Place) (scopes []*remote.Scope) {
	var names []string
	switch c.Type {
	case "registry":
		ref, _ := image.ParseReference(c.Attrs["ref"])
		names = []string{ref.Tag}
	case "local":
		names = []string{cmp.Or(c.Attrs["tag"], "latest")}
	case "s3":
		names = strings.Split(cmp.Or(c.Attrs["name"], "buildkit"), ";")
	case "gha":
		names = []string{cmp.Or(c.Attrs["scope"], "buildkit")}
	case "reapi":
		names = []string{cmp.Or(c.Attrs["name"], "latest")}
	}
	for _, name := range names {
		scopes = append(scopes, &remote.Scope{Place: place, Name: name, Tags: []string{name, Beside(name)}})
	}
	return scopes
}

// Beside is the tag that a cache gets where its name holds something else: an image, or another builder's cache.
func Beside(tag string) string {
	const suffix = "-forge"
	if len(tag)+len(suffix) <= 128 {
		return tag + suffix
	}
	return remote.ScopeTag(tag)
}
