package bake

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/go-units"
	"go.yaml.in/yaml/v3"

	"github.com/forge-build/forge/bake/hcl"
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
	env   map[string]string
	depth int // of files that name others
}

// maxIncludes is how deep compose files may name others.
const maxIncludes = 20

// readCompose adds a target for each service that has a build part, and the group default of all of them.
func (f *File) readCompose(files []composeFile, o Options) error {
	c := &composer{env: map[string]string{}}
	if text, err := os.ReadFile(".env"); err == nil {
		if err := c.dotEnv(string(text), o); err != nil {
			return fmt.Errorf(".env: %w", err)
		}
	}
	lookup := func(name string) (string, bool) {
		if v, ok := o.Vars[name]; ok {
			return v, true
		}
		if o.Getenv != nil {
			if v, ok := o.Getenv(name); ok {
				return v, true
			}
		}
		v, ok := c.env[name]
		return v, ok
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
	return nil
}

// dotEnv reads variables, one a line, with quotes and with ${…} in what has no single quotes.
func (c *composer) dotEnv(text string, o Options) error {
	lookup := func(name string) (string, bool) {
		if o.Getenv != nil {
			if v, ok := o.Getenv(name); ok {
				return v, true
			}
		}
		v, ok := c.env[name]
		return v, ok
	}
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
	return nil
}

// load reads a file with those that it includes, with variables put in and services extended.
func (c *composer) load(name string, text []byte, lookup func(string) (string, bool)) (map[string]any, error) {
	if c.depth++; c.depth > maxIncludes {
		return nil, fmt.Errorf("%s: compose files name each other more than %d deep", name, maxIncludes)
	}
	defer func() { c.depth-- }()
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
	text, err := readFile(name, nil)
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
	out := mergeMaps(under, service)
	delete(out, "extends")
	return out, nil
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
				list := slices.Clone(old)
				for _, e := range v {
					if !slices.ContainsFunc(list, func(o any) bool { return fmt.Sprint(o) == fmt.Sprint(e) }) {
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

// fromService makes the target of a service.
func (t *Target) fromService(service, secrets map[string]any, lookup func(string) (string, bool)) error {
	build, ok := normalized(service)["build"].(map[string]any)
	if !ok {
		return errors.New("build must be a string or a map")
	}
	environment, _ := normalized(service)["environment"].(map[string]any)
	keys := sorted(build)
	slices.SortStableFunc(keys, func(a, b string) int { // provenance comes last
		return strings.Compare(map[bool]string{true: "b", false: "a"}[a == "provenance"], map[bool]string{true: "b", false: "a"}[b == "provenance"])
	})
	for _, key := range keys {
		v := build[key]
		if v == nil {
			continue
		}
		if err := t.fromBuild(key, v, environment, secrets, lookup); err != nil {
			return fmt.Errorf("build.%s: %w", key, err)
		}
	}
	if x, ok := build["x-bake"].(map[string]any); ok {
		if err := t.fromExtension(x); err != nil {
			return fmt.Errorf("build.x-bake: %w", err)
		}
	}
	if len(t.List("tags")) == 0 && service["image"] != nil {
		t.fields["tags"] = []string{fmt.Sprint(service["image"])}
	}
	return nil
}

// fromBuild sets what an attribute of the build part says.
func (t *Target) fromBuild(key string, v any, environment, secrets map[string]any, lookup func(string) (string, bool)) error {
	switch key {
	case "context", "dockerfile", "target", "network":
		t.fields[key] = fmt.Sprint(v)
	case "dockerfile_inline":
		t.fields["dockerfile-inline"] = fmt.Sprint(v)
	case "tags", "platforms", "entitlements":
		t.fields[key] = texts(v)
	case "labels":
		t.fields[key] = textsOf(v)
	case "args":
		t.fields[key] = argsOf(v, environment, lookup)
	case "additional_contexts":
		t.fields["contexts"] = linked(textsOf(v))
	case "extra_hosts":
		t.fields["extra-hosts"] = hosts(v)
	case "cache_from", "cache_to":
		return t.addEntries(strings.ReplaceAll(key, "_", "-"), v)
	case "no_cache", "pull":
		b, err := hcl.Bool(scalar(v))
		if err != nil {
			return err
		}
		if b {
			t.fields[strings.ReplaceAll(key, "_", "-")] = true
		}
	case "shm_size":
		n, err := units.RAMInBytes(fmt.Sprint(v))
		if err != nil {
			return err
		}
		t.fields["shm-size"] = units.BytesSize(float64(n))
	case "ulimits":
		return t.fromUlimits(v)
	case "ssh":
		var list []Entry
		m := pairs(v, "=")
		for _, id := range sorted(m) {
			e := Entry{"id": id}
			if m[id] != nil && m[id] != "" {
				e["paths"] = []string{filepath.Clean(fmt.Sprint(m[id]))}
			}
			list = append(list, e)
		}
		t.fields[key] = list
	case "secrets":
		return t.fromSecrets(v, secrets)
	case "sbom", "provenance":
		return t.fromAttest(key, v)
	case "x-bake", "isolation": // the first comes last; the second is of Windows
	case "privileged":
		if b, err := hcl.Bool(scalar(v)); err != nil || b {
			return errors.New("forge builds without privileges: use entitlements and RUN --security=insecure")
		}
	default:
		if !strings.HasPrefix(key, "x-") {
			return errors.New("is no attribute of build")
		}
	}
	return nil
}

// argsOf are build arguments. One without a value has that of the service's environment, or of ours.
func argsOf(v any, environment map[string]any, lookup func(string) (string, bool)) map[string]string {
	args := map[string]string{}
	for name, value := range pairs(v, "=") {
		if value != nil {
			args[name] = fmt.Sprint(value)
		} else if e, ok := environment[name]; ok && e != nil {
			args[name] = fmt.Sprint(e)
		} else if e, ok := lookup(name); ok {
			args[name] = e
		}
	}
	return args
}

func (t *Target) addEntries(field string, v any) error {
	list := slices.Clip(t.Entries(field))
	for _, text := range texts(v) {
		more, err := parseEntries(field, text)
		if err != nil {
			return err
		}
		list = append(list, more...)
	}
	t.fields[field] = mergeEntries(field, list)
	return nil
}

func (t *Target) fromUlimits(v any) error {
	m, ok := v.(map[string]any)
	if !ok {
		return errors.New("must be a map")
	}
	var list []string
	for _, name := range sorted(m) {
		soft, hard := m[name], m[name]
		if both, ok := m[name].(map[string]any); ok {
			soft, hard = both["soft"], both["hard"]
		}
		list = append(list, fmt.Sprintf("%s=%v:%v", name, soft, hard))
	}
	t.fields["ulimits"] = list
	return nil
}

func (t *Target) fromSecrets(v any, secrets map[string]any) error {
	var list []Entry
	for _, e := range listOf(v) {
		id := fmt.Sprint(e)
		if m, ok := e.(map[string]any); ok {
			id = fmt.Sprint(m["source"])
		}
		secret, _ := secrets[id].(map[string]any)
		if external, _ := secret["external"].(bool); external {
			return fmt.Errorf("unsupported external secret %s", id)
		}
		entry := Entry{"id": id}
		if file := secret["file"]; file != nil {
			entry["src"] = filepath.Clean(fmt.Sprint(file))
		}
		if env := secret["environment"]; env != nil {
			entry["env"] = fmt.Sprint(env)
		}
		list = append(list, entry)
	}
	t.fields["secret"] = list
	return nil
}

// fromAttest reads true, false, or attributes such as mode=max.
func (t *Target) fromAttest(key string, v any) error {
	e := Entry{"type": key}
	text := fmt.Sprint(v)
	if on, err := hcl.Bool(scalar(v)); err == nil {
		if !on {
			e["disabled"] = true
		}
	} else {
		more, err := parseEntries("attest", "type="+key+","+text)
		if err != nil {
			return err
		}
		e = more[0]
	}
	t.fields["attest"] = mergeEntries("attest", append(slices.Clip(t.Entries("attest")), e))
	return nil
}

// fromExtension adds what x-bake says.
func (t *Target) fromExtension(x map[string]any) error {
	for _, key := range sorted(x) {
		v := x[key]
		if text, ok := v.(string); ok && key != "contexts" { // several in one string
			var list []any
			for _, word := range strings.Fields(text) {
				list = append(list, word)
			}
			v = list
		}
		switch key {
		case "tags", "platforms", "no-cache-filter":
			t.fields[key] = unique(append(slices.Clip(t.List(key)), texts(v)...))
		case "cache-from", "cache-to", "secret", "ssh", "output":
			if err := t.addEntries(key, v); err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
		case "pull", "no-cache":
			b, err := hcl.Bool(scalar(x[key]))
			if err != nil {
				return fmt.Errorf("%s: %w", key, err)
			}
			t.fields[key] = b
		case "contexts":
			m := linked(textsOf(v))
			maps.Copy(m, t.Texts(key))
			t.fields[key] = m
		default:
			return fmt.Errorf("there is no %q", key)
		}
	}
	return nil
}

// scalar is a value of YAML as package hcl has it.
func scalar(v any) any {
	switch v.(type) {
	case bool, string:
		return v
	}
	return fmt.Sprint(v)
}

func texts(v any) []string {
	var out []string
	for _, e := range listOf(v) {
		out = append(out, fmt.Sprint(e))
	}
	return out
}

func textsOf(v any) map[string]string {
	out := map[string]string{}
	for k, e := range pairs(v, "=") {
		if e == nil {
			e = ""
		}
		out[k] = fmt.Sprint(e)
	}
	return out
}

// hosts reads NAME=ADDRESS or NAME:ADDRESS.
func hosts(v any) map[string]string {
	out := map[string]string{}
	if m, ok := v.(map[string]any); ok {
		for k, e := range m {
			out[k] = strings.Join(texts(e), ",")
		}
		return out
	}
	for _, line := range texts(v) {
		name, address, ok := strings.Cut(line, "=")
		if !ok {
			name, address, _ = strings.Cut(line, ":")
		}
		address = strings.Trim(address, "[]")
		if out[name] != "" {
			address = out[name] + "," + address
		}
		out[name] = address
	}
	return out
}

// linked names targets where compose names services.
func linked(contexts map[string]string) map[string]string {
	for k, v := range contexts {
		for _, prefix := range []string{"service:", "target:"} {
			if name, ok := strings.CutPrefix(v, prefix); ok {
				contexts[k] = "target:" + strings.ReplaceAll(name, ".", "_")
			}
		}
	}
	return contexts
}
