package bake

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/go-units"

	"github.com/forge-build/forge/bake/hcl"
)

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
		t.fields[key] = sshOf(v)
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

// sshOf are agents, and keys by the names that a RUN asks for.
func sshOf(v any) (list []Entry) {
	m := pairs(v, "=")
	for _, id := range sorted(m) {
		e := Entry{"id": id}
		if m[id] != nil && m[id] != "" {
			e["paths"] = []string{filepath.Clean(fmt.Sprint(m[id]))}
		}
		list = append(list, e)
	}
	return list
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
