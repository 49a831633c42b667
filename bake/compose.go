package bake

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// A composeFile is a compose file that was read.
type composeFile struct {
	name string
	text []byte
}

// isCompose reports whether a text without a telling name is a compose file.
func isCompose(text []byte) bool {
	var root map[string]any
	return yaml.Unmarshal(text, &root) == nil && root["services"] != nil && !strings.HasPrefix(strings.TrimSpace(string(text)), "{")
}

// A composer reads compose files.
type composer struct {
	read  func(name string) ([]byte, error)
	env   map[string]string
	depth int // of files that name others
	files int // that were read
	given int // bytes of variables

	copied int // values that services have of others, as in maxCopied
}

const (
	maxIncludes = 20   // how deep compose files may name others
	maxLoads    = 1000 // how many compose files may be read, each as often as it is named
	maxGiven    = 64 << 20
)

// readCompose adds a target for each service that has a build part, and the group default of all of them.
func (f *File) readCompose(files []composeFile, o Options) error {
	c := &composer{env: map[string]string{}, read: o.readFile}
	text, err := o.readFile(".env")
	if err == nil {
		err = c.dotEnv(string(text), o)
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf(".env: %w", err)
	}
	lookup := func(name string) (string, bool) {
		if v, ok := o.Vars[name]; ok {
			return v, true
		}
		return c.variable(o, name)
	}
	var root map[string]any
	for _, file := range files {
		one, err := c.load(file.name, file.text, lookup)
		if err != nil {
			return err
		}
		root = mergeMaps(root, one)
	}
	services, _ := root["services"].(map[string]any)
	secrets, _ := root["secrets"].(map[string]any)
	if len(services) > maxTargets {
		return fmt.Errorf("%s: there are more than %d services", files[0].name, maxTargets)
	}
	all := &Group{Name: "default", Targets: []string{}}
	for _, name := range sorted(services) {
		service, ok := services[name].(map[string]any)
		if !ok || service["build"] == nil {
			continue
		}
		t := newTarget(strings.ReplaceAll(name, ".", "_"))
		err := checkName(t.Name)
		if err == nil {
			err = t.fromService(service, secrets, lookup)
		}
		if err != nil {
			return fmt.Errorf("%s: service %s: %w", files[0].name, name, err)
		}
		f.add(t)
		all.Targets = append(all.Targets, t.Name)
	}
	if len(services) > 0 {
		f.addGroup(all)
	}
	return c.enough()
}

// enough refuses variables of which more was asked than variable gives: "A=$A$A" a few dozen times would take all memory.
func (c *composer) enough() error {
	if c.given > maxGiven {
		return fmt.Errorf("the variables come to more than %d MiB", maxGiven>>20)
	}
	return nil
}

// variable is that of the environment, or else of .env.
func (c *composer) variable(o Options, name string) (string, bool) {
	v, ok := "", false
	if o.Getenv != nil {
		v, ok = o.Getenv(name)
	}
	if !ok {
		v, ok = c.env[name]
	}
	if c.given += len(v); c.given > maxGiven {
		return "", ok // see enough
	}
	return v, ok
}

// dotEnv reads variables, one a line, with quotes and with ${…} in what has no single quotes.
func (c *composer) dotEnv(text string, o Options) error {
	lookup := func(name string) (string, bool) { return c.variable(o, name) }
	for n, line := range strings.Split(text, "\n") {
		line = strings.TrimSpace(line)
		line = strings.TrimSpace(strings.TrimPrefix(line, "export "))
		if line == "" || line[0] == '#' {
			continue
		}
		name, value, ok := strings.Cut(line, "=")
		if name = strings.TrimSpace(name); !ok {
			continue
		}
		value = strings.TrimSpace(value)
		switch {
		case len(value) > 1 && value[0] == '\'' && strings.IndexByte(value[1:], '\'') >= 0:
			c.env[name] = value[1 : 1+strings.IndexByte(value[1:], '\'')]
			continue
		case len(value) > 1 && value[0] == '"' && strings.IndexByte(value[1:], '"') >= 0:
			value = strings.NewReplacer(`\n`, "\n", `\"`, `"`, `\\`, `\`).Replace(value[1 : 1+strings.LastIndexByte(value[1:], '"')])
		default:
			if i := strings.Index(value, " #"); i >= 0 {
				value = strings.TrimSpace(value[:i])
			}
		}
		value, err := interpolate(value, lookup)
		if err != nil {
			return fmt.Errorf("line %d: %w", n+1, err)
		}
		c.env[name] = value
	}
	return c.enough()
}

// load reads a file with those that it includes, with variables put in and services extended.
func (c *composer) load(name string, text []byte, lookup func(string) (string, bool)) (map[string]any, error) {
	if c.depth++; c.depth > maxIncludes {
		return nil, fmt.Errorf("%s: compose files name each other more than %d deep", name, maxIncludes)
	}
	defer func() { c.depth-- }()
	if c.files++; c.files > maxLoads {
		return nil, fmt.Errorf("%s: compose files name more than %d others", name, maxLoads)
	}
	var raw any
	if err := yaml.Unmarshal(text, &raw); err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	if raw == nil {
		return nil, fmt.Errorf("%s: empty compose file", name)
	}
	value, err := interpolated(raw, lookup, 0)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	root, ok := value.(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s: is no compose file", name)
	}
	var below map[string]any
	for _, include := range listOf(root["include"]) {
		paths := listOf(include)
		if m, ok := include.(map[string]any); ok {
			paths = listOf(m["path"])
		}
		for _, p := range paths {
			one, err := c.loadFile(filepath.Join(filepath.Dir(name), fmt.Sprint(p)), lookup)
			if err != nil {
				return nil, err
			}
			below = mergeMaps(below, one)
		}
	}
	services, _ := root["services"].(map[string]any)
	for _, s := range sorted(services) {
		if services[s], err = c.extended(name, root, s, lookup, nil); err != nil {
			return nil, fmt.Errorf("%s: service %s: %w", name, s, err)
		}
	}
	return mergeMaps(below, root), nil
}

func (c *composer) loadFile(name string, lookup func(string) (string, bool)) (map[string]any, error) {
	text, err := c.read(name)
	if err != nil {
		return nil, err
	}
	return c.load(name, text, lookup)
}

// extended is a service with what it extends.
func (c *composer) extended(file string, root map[string]any, name string, lookup func(string) (string, bool), seen []string) (map[string]any, error) {
	services, _ := root["services"].(map[string]any)
	value, ok := services[name]
	if !ok {
		return nil, fmt.Errorf("there is no service %q", name)
	}
	service, _ := value.(map[string]any)
	service = normalized(service)
	extends := service["extends"]
	if extends == nil {
		return service, nil
	}
	if slices.Contains(seen, name) {
		return nil, errors.New("extends itself")
	}
	if len(seen) > maxDepth {
		return nil, fmt.Errorf("extends services more than %d deep", maxDepth)
	}
	base, from := fmt.Sprint(extends), ""
	if m, ok := extends.(map[string]any); ok {
		base = fmt.Sprint(m["service"])
		from, _ = m["file"].(string)
	}
	below := root
	if from != "" {
		var err error
		if below, err = c.loadFile(filepath.Join(filepath.Dir(file), from), lookup); err != nil {
			return nil, err
		}
		seen = nil
	}
	under, err := c.extended(file, below, base, lookup, append(seen, name))
	if err != nil {
		return nil, err
	}
	if c.copied += values(under); c.copied > maxCopied {
		return nil, fmt.Errorf("services have more than %d values of those that they extend", maxCopied)
	}
	out := mergeMaps(under, service)
	delete(out, "extends")
	return out, nil
}

// values is how many values are in one.
func values(v any) int {
	n := 1
	switch v := v.(type) {
	case []any:
		for _, e := range v {
			n += values(e)
		}
	case map[string]any:
		for _, e := range v {
			n += values(e)
		}
	}
	return n
}

// normalized gives what may be written in several ways one form, so that it can be merged.
func normalized(service map[string]any) map[string]any {
	out := maps.Clone(service)
	if out == nil {
		out = map[string]any{}
	}
	if context, ok := out["build"].(string); ok {
		out["build"] = map[string]any{"context": context}
	}
	if e := out["environment"]; e != nil {
		out["environment"] = pairs(e, "=")
	}
	build, ok := out["build"].(map[string]any)
	if !ok {
		return out
	}
	build = maps.Clone(build)
	for _, key := range []string{"args", "labels", "additional_contexts", "ssh"} {
		if build[key] != nil {
			build[key] = pairs(build[key], "=")
		}
	}
	out["build"] = build
	return out
}

// pairs makes a map of a list of NAME=VALUE; a name alone has no value.
func pairs(v any, sep string) map[string]any {
	if m, ok := v.(map[string]any); ok {
		return m
	}
	out := map[string]any{}
	for _, e := range listOf(v) {
		k, value, ok := strings.Cut(fmt.Sprint(e), sep)
		if ok {
			out[k] = value
		} else {
			out[k] = nil
		}
	}
	return out
}

func listOf(v any) []any {
	switch v := v.(type) {
	case nil:
		return nil
	case []any:
		return v
	}
	return []any{v}
}

// mergeMaps is a with b over it: maps key by key, lists one behind the other.
func mergeMaps(a, b map[string]any) map[string]any {
	out := maps.Clone(a)
	if out == nil {
		out = map[string]any{}
	}
	for k, v := range b {
		switch v := v.(type) {
		case map[string]any:
			if old, ok := out[k].(map[string]any); ok {
				out[k] = mergeMaps(old, v)
				continue
			}
		case []any:
			if old, ok := out[k].([]any); ok {
				list, there := slices.Clone(old), map[string]bool{}
				for _, e := range old {
					there[fmt.Sprint(e)] = true
				}
				for _, e := range v {
					if text := fmt.Sprint(e); !there[text] {
						there[text] = true
						list = append(list, e)
					}
				}
				out[k] = list
				continue
			}
		}
		out[k] = v
	}
	return out
}
