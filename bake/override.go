package bake

import (
	"fmt"
	"maps"
	"os"
	"path"
	"slices"
	"strconv"
	"strings"
)

// An override is what --set says of one attribute of a target.
type override struct {
	value  string
	values []string
	add    bool // +=
	clear  bool // an empty list
}

// overrides reads TARGET.KEY[.NAME][+]=VALUE, where TARGET is a pattern.
func (f *File) overrides(list []string) (map[string]map[string]override, error) {
	set := map[string]map[string]override{}
	for _, text := range list {
		name, value, given := strings.Cut(text, "=")
		key, add := strings.CutSuffix(name, "+")
		keys := strings.SplitN(key, ".", 3)
		if len(keys) < 2 {
			return nil, fmt.Errorf("--set %s: must be TARGET.KEY=VALUE", text)
		}
		keys[1] = singular(keys[1])
		if err := checkOverride(text, keys, text[len(key):len(text)-len(value)]); err != nil {
			return nil, err
		}
		if keys[1] == "arg" && !given {
			if value, given = os.LookupEnv(keys[2]); !given {
				continue
			}
		}
		names, err := f.targetsMatching(keys[0])
		if err != nil {
			return nil, err
		}
		for _, name := range names {
			if set[name] == nil {
				set[name] = map[string]override{}
			}
			at := strings.Join(keys[1:], ".")
			o := set[name][at]
			if isListKey(keys[1]) && len(keys) == 2 {
				if !add && value == "" {
					o.clear, o.values = true, nil
				} else {
					o.values = append(slices.Clip(o.values), value)
				}
				o.add = add && !o.clear
			} else {
				o.value = value
			}
			set[name][at] = o
		}
	}
	return set, nil
}

// singular is the name that buildx has for a key with several spellings.
func singular(key string) string {
	switch key {
	case "annotations", "args", "entitlements", "extra-hosts", "labels", "platforms", "resources", "secrets", "tags", "ulimits":
		return strings.TrimSuffix(key, "s")
	}
	return key
}

func isListKey(key string) bool {
	switch key {
	case "output", "cache-to", "cache-from", "tag", "platform", "ssh", "attest", "entitlement", "annotation", "ulimit", "no-cache-filter", "secret":
		return true
	}
	return false
}

// checkOverride refuses what a key does not have. The operator is "=", "+=", or "" without a value.
func checkOverride(text string, keys []string, operator string) error {
	given, add := strings.HasSuffix(operator, "="), strings.HasPrefix(operator, "+")
	switch key := keys[1]; key {
	case "arg", "contexts", "label", "extra-host":
		if len(keys) != 3 {
			return fmt.Errorf("--set %s: invalid key, %s requires name", text, key)
		}
		if key != "arg" && !given {
			return fmt.Errorf("--set %s: must be TARGET.KEY=VALUE", text)
		}
		return nil
	case "secret":
		if len(keys) == 3 && add {
			return fmt.Errorf("--set %s: invalid key, secret does not support append", text)
		}
	case "context", "dockerfile", "target", "call", "no-cache", "shm-size", "network", "pull", "push", "load":
		if len(keys) != 2 {
			return fmt.Errorf("--set %s: invalid key, %s %w", text, key, errNoSubkey)
		}
	case "resource", "policy":
		return fmt.Errorf("--set %s: forge does not do that: leave it out", text)
	default:
		if !isListKey(key) {
			return fmt.Errorf("--set %s: unknown key: %s", text, key)
		}
		if len(keys) != 2 {
			return fmt.Errorf("--set %s: invalid key, %s %w", text, key, errNoSubkey)
		}
	}
	if !given {
		return fmt.Errorf("--set %s: must be TARGET.KEY=VALUE", text)
	}
	return nil
}

// targetsMatching are the targets that a pattern names.
func (f *File) targetsMatching(pattern string) ([]string, error) {
	if f.target(pattern) != nil {
		return []string{pattern}, nil
	}
	var names []string
	for _, t := range f.Targets {
		ok, err := path.Match(pattern, t.Name)
		if err != nil {
			return nil, fmt.Errorf("could not match targets with '%s': %w", pattern, err)
		}
		if ok {
			names = append(names, t.Name)
		}
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("could not find any target matching '%s'", pattern)
	}
	return names, nil
}

// override applies what --set says.
func (t *Target) override(set map[string]override) error {
	for _, at := range sorted(set) {
		key, name, _ := strings.Cut(at, ".")
		o := set[at]
		var err error
		switch key {
		case "arg", "label", "extra-host":
			t.setIn(key+"s", name, o.value)
		case "contexts":
			t.setIn(key, name, o.value)
		case "no-cache", "pull":
			t.fields[key], err = strconv.ParseBool(o.value)
		case "push", "load":
			err = t.overrideOutput(key, o.value)
		case "tag", "platform", "ulimit":
			t.setList(key+"s", o)
		case "no-cache-filter":
			t.setList(key, o)
		case "annotation", "entitlement":
			o.add = !o.clear
			t.setList(key+"s", o)
		case "output", "cache-to", "cache-from", "ssh", "attest", "secret":
			if name != "" {
				err = t.overrideSecret(name, o.value)
			} else {
				err = t.setEntries(key, o)
			}
		default:
			t.fields[key] = o.value
		}
		if err != nil {
			return fmt.Errorf("--set %s: %w", at, err)
		}
	}
	return nil
}

func (t *Target) setIn(field, name, value string) {
	m := maps.Clone(t.Texts(field))
	if m == nil {
		m = map[string]string{}
	}
	m[name] = value
	t.fields[field] = m
}

func (t *Target) setList(field string, o override) {
	if o.add {
		t.fields[field] = append(slices.Clip(t.List(field)), o.values...)
		return
	}
	t.fields[field] = o.values
}

func (t *Target) setEntries(field string, o override) error {
	var list []Entry
	for _, text := range o.values {
		if text == "" {
			continue
		}
		more, err := parseEntries(field, text)
		if err != nil {
			return err
		}
		list = append(list, more...)
	}
	if o.add || field == "attest" && !o.clear {
		list = append(slices.Clip(t.Entries(field)), list...)
	}
	t.fields[field] = mergeEntries(field, list)
	return nil
}

// overrideSecret says where a secret of the target comes from.
func (t *Target) overrideSecret(id, value string) error {
	list := slices.Clone(t.Entries("secret"))
	for i, e := range list {
		if e.Get("id") != id {
			continue
		}
		next, err := parseEntries("secret", value)
		if err != nil {
			return err
		}
		if other := next[0].Get("id"); other != "" && other != id {
			return fmt.Errorf("the secret is called %q and not %q", id, other)
		}
		next[0]["id"] = id
		list[i] = next[0]
		t.fields["secret"] = list
		return nil
	}
	return fmt.Errorf("secret %q must be declared before it can be overridden", id)
}

// overrideOutput has the result pushed, or kept, as --push and --load mean it: where another kind of output was asked for, that stays.
func (t *Target) overrideOutput(key, value string) error {
	on, err := strconv.ParseBool(value)
	if err != nil {
		return fmt.Errorf("%q must be true or false", value)
	}
	outputs := make([]Entry, 0, len(t.Entries("output"))+1)
	for _, e := range t.Entries("output") {
		outputs = append(outputs, maps.Clone(e))
	}
	switch {
	case key == "push" && !on:
		outputs = slices.DeleteFunc(outputs, func(e Entry) bool { return e.Get("type") == "registry" })
		for _, e := range outputs {
			if e.Get("type") == "image" {
				e["push"] = "false"
			}
		}
	case key == "push":
		push := true
		for _, e := range outputs {
			push = push && e.Get("type") == "docker"
			if e.Get("type") == "image" {
				e["push"] = "true"
			}
		}
		if push {
			outputs = append(outputs, Entry{"type": "image", "push": "true"})
		}
	case on:
		for _, e := range outputs {
			switch e.Get("type") {
			case "docker":
				if e.Get("dest") == "" {
					return nil
				}
			case "image", "registry", "oci":
			default:
				return nil
			}
		}
		outputs = append(outputs, Entry{"type": "docker"})
	}
	t.fields["output"] = outputs
	return nil
}
