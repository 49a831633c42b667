package registry

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
)

// A registryRule is a [[registry]] table of registries.conf, version 2 (containers-registries.conf(5)).
type registryRule struct {
	Prefix   string         `toml:"prefix"`
	Location string         `toml:"location"`
	Insecure bool           `toml:"insecure"`
	Blocked  bool           `toml:"blocked"`
	Mirrors  []registryRule `toml:"mirror"` // of which location, insecure and pull-from-mirror count
	ByDigest bool           `toml:"mirror-by-digest-only"`
	Use      string         `toml:"pull-from-mirror"` // of a mirror: all, digest-only or tag-only; "" is all
}

type registriesFile struct {
	Search     *[]string      `toml:"unqualified-search-registries"`
	Registries []registryRule `toml:"registry"`
}

// readRegistries reads the main file and what is beside it; a later file's rule for a prefix replaces an earlier one's.
func (c *config) readRegistries() error {
	files, err := registriesFiles(c.env)
	if err != nil {
		return err
	}
	for _, path := range files {
		raw, err := readSmall(path)
		if err != nil {
			return err
		}
		var f registriesFile
		if err := toml.Unmarshal(raw, &f); err != nil {
			if strings.Contains(string(raw), "[registries.") {
				return fmt.Errorf("%s: is of version 1, which is not supported; write [[registry]] tables", path)
			}
			return fmt.Errorf("%s: %w", path, err)
		}
		if f.Search != nil {
			c.search = *f.Search
		}
		for _, r := range f.Registries {
			if err := c.addRule(r); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
		}
	}
	return nil
}

func registriesFiles(env func(string) string) ([]string, error) {
	main, dirs := "/etc/containers/registries.conf", []string{"/etc/containers/registries.conf.d"}
	if home := userConfig(env); home != "" {
		user := filepath.Join(home, "containers/registries.conf")
		if _, err := os.Stat(user); err == nil {
			main = user
		}
		dirs = append(dirs, user+".d")
	}
	if path := env("CONTAINERS_REGISTRIES_CONF"); path != "" {
		main = path
	}
	if dir := env("CONTAINERS_REGISTRIES_CONF_DIR"); dir != "" {
		dirs = []string{dir}
	}
	files := []string{main}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
			return nil, err
		}
		for _, e := range entries {
			if filepath.Ext(e.Name()) == ".conf" {
				files = append(files, filepath.Join(dir, e.Name()))
			}
		}
	}
	return files, nil
}

func (c *config) addRule(r registryRule) error {
	wild := strings.HasPrefix(r.Prefix, "*.")
	if r.Prefix == "" {
		r.Prefix = r.Location
	}
	if r.Location == "" && !wild {
		r.Location = r.Prefix
	}
	locations := []string{r.Prefix, r.Location}
	for _, m := range r.Mirrors {
		locations = append(locations, m.Location)
	}
	for _, s := range locations {
		s = strings.TrimPrefix(s, "*.")
		if s == "" && !wild || strings.Contains(s, "://") || strings.HasSuffix(s, "/") || strings.ContainsAny(s, "*@ ") {
			return fmt.Errorf("registry %q: %q is no location (want host[:port][/path])", r.Prefix, s)
		}
	}
	for _, m := range r.Mirrors {
		if !slices.Contains([]string{"", "all", "digest-only", "tag-only"}, m.Use) {
			return fmt.Errorf("registry %q: pull-from-mirror is %q, want all, digest-only or tag-only", r.Prefix, m.Use)
		}
	}
	c.registries = slices.DeleteFunc(c.registries, func(old registryRule) bool { return old.Prefix == r.Prefix })
	c.registries = append(c.registries, r)
	return nil
}

// covers is how much of name the rule's prefix matches: 0 is not at all.
func (r *registryRule) covers(name string) int {
	if suffix, ok := strings.CutPrefix(r.Prefix, "*"); ok {
		host, _, _ := strings.Cut(name, "/")
		if strings.HasSuffix(web.HostOnly(host), suffix) || strings.HasSuffix(host, suffix) {
			return len(host)
		}
		return 0
	}
	rest, ok := strings.CutPrefix(name, r.Prefix)
	if !ok || rest != "" && !strings.ContainsRune("/:@", rune(rest[0])) {
		return 0
	}
	if !strings.Contains(r.Prefix, "/") && strings.HasPrefix(rest, ":") {
		return 0 // the colon begins a port: another registry
	}
	return len(r.Prefix)
}

// rule finds the rule with the longest prefix of name.
func (c *config) rule(name string) (found *registryRule, covered int) {
	length := 0
	for i := range c.registries {
		r := &c.registries[i]
		if n := r.covers(name); n > 0 && len(r.Prefix) > length {
			found, covered, length = r, n, len(r.Prefix)
		}
	}
	return found, covered
}

func (c *config) insecure(domain string) bool {
	r, _ := c.rule(domain)
	return r != nil && r.Insecure
}

// A place is where a repository may be found.
type place struct {
	domain   string // host[:port]
	path     string
	insecure bool
	mirror   bool
	use      string
}

// places lists where ref's repository is: its mirrors, then its registry.
func (c *config) places(ref image.Reference) ([]place, error) {
	name := ref.Domain + "/" + ref.Path
	full := name
	if ref.Tag != "" {
		full += ":" + ref.Tag
	}
	r, covered := c.rule(full)
	if r == nil {
		return []place{{domain: ref.Domain, path: ref.Path}}, nil
	}
	if r.Blocked {
		return nil, fmt.Errorf("%s: registries.conf blocks %s: %w", name, r.Prefix, fs.ErrPermission)
	}
	if covered > len(name) {
		covered = len(name) // a prefix with a tag says nothing of where
	}
	var all []place
	for _, m := range r.Mirrors {
		p := at(m.Location, name[covered:])
		p.insecure, p.mirror, p.use = m.Insecure, true, m.Use
		if r.ByDigest {
			p.use = "digest-only"
		}
		all = append(all, p)
	}
	location := r.Location
	if location == "" {
		location = name[:covered]
	}
	p := at(location, name[covered:])
	p.insecure = r.Insecure
	return append(all, p), nil
}

func at(location, rest string) place {
	domain, path, _ := strings.Cut(location+rest, "/")
	return place{domain: domain, path: path}
}

// candidates lists the full names that a name as people type it may stand for: one, unless registries.conf says where to
// search for names without a registry.
func (c *config) candidates(name string) ([]image.Reference, error) {
	first, _, slash := strings.Cut(name, "/")
	qualified := slash && (strings.ContainsAny(first, ".:") || first == "localhost")
	if qualified || len(c.search) == 0 {
		ref, err := image.ParseReference(name)
		return []image.Reference{ref}, err
	}
	var all []image.Reference
	for _, domain := range c.search {
		ref, err := image.ParseReference(domain + "/" + name)
		if err != nil {
			return nil, err
		}
		all = append(all, ref)
	}
	return all, nil
}
