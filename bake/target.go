package bake

import (
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/forge-build/forge/bake/hcl"
	"github.com/forge-build/forge/container/words"
)

// A Target is what to build and how, under the names of bake's attributes. A value is a string, a bool, a []string, a map[string]string, or a
// []Entry, as [kinds] says.
type Target struct {
	Name   string
	fields map[string]any
}

// An Entry is a cache, an output, a secret, a key or an attestation: values by name, which are strings, but for the paths of a key and
// whether an attestation is disabled.
type Entry map[string]any

// Get is a value of an entry that is a string; "" if it has none.
func (e Entry) Get(name string) string {
	s, _ := e[name].(string)
	return s
}

// Paths are the files of a key.
func (e Entry) Paths() []string {
	paths, _ := e["paths"].([]string)
	return paths
}

// Spec is the entry as docker's flags write it: name=value with commas between.
func (e Entry) Spec(first ...string) string {
	var fields []string
	for _, name := range append(first, sorted(e)...) {
		v, ok := e[name]
		if !ok || slices.ContainsFunc(fields, func(f string) bool { return strings.HasPrefix(f, name+"=") }) {
			continue
		}
		fields = append(fields, fmt.Sprintf("%s=%v", name, v))
	}
	return words.JoinFields(fields)
}

// A kind is what an attribute holds, and what a later value does to an earlier one.
type kind int

const (
	one       kind = iota // a string: replaces
	yes                   // a bool: replaces
	list                  // of strings: is added
	whole                 // of strings: replaces
	table                 // of strings: key by key
	entries               // are added
	allOfThem             // entries: replace
)

// A fieldKind is an attribute of a target.
type fieldKind struct {
	name string
	kind kind
}

// kinds are the attributes of a target, in the order in which they are printed.
func kinds() []fieldKind {
	return []fieldKind{
		{"description", one},
		{"inherits", list},
		{"annotations", list},
		{"attest", entries},
		{"context", one},
		{"contexts", table},
		{"dockerfile", one},
		{"dockerfile-inline", one},
		{"args", table},
		{"labels", table},
		{"tags", whole},
		{"cache-from", entries},
		{"cache-to", allOfThem},
		{"target", one},
		{"secret", entries},
		{"ssh", entries},
		{"platforms", whole},
		{"output", allOfThem},
		{"pull", yes},
		{"no-cache", yes},
		{"network", one},
		{"no-cache-filter", list},
		{"shm-size", one},
		{"ulimits", list},
		{"call", one},
		{"entitlements", list},
		{"extra-hosts", table},
	}
}

func kindOf(name string) (kind, bool) {
	for _, f := range kinds() {
		if f.name == name {
			return f.kind, true
		}
	}
	return 0, false
}

func newTarget(name string) *Target { return &Target{Name: name, fields: map[string]any{}} }

// Text is an attribute that is a string.
func (t *Target) Text(name string) string {
	s, _ := t.fields[name].(string)
	return s
}

// Is is an attribute that is a bool.
func (t *Target) Is(name string) bool {
	b, _ := t.fields[name].(bool)
	return b
}

// List is an attribute that is a list of strings.
func (t *Target) List(name string) []string {
	l, _ := t.fields[name].([]string)
	return l
}

// Texts is an attribute that is a map.
func (t *Target) Texts(name string) map[string]string {
	m, _ := t.fields[name].(map[string]string)
	return m
}

// Entries is an attribute that is a list of entries.
func (t *Target) Entries(name string) []Entry {
	e, _ := t.fields[name].([]Entry)
	return e
}

// Inline reports whether the build file is in the target itself.
func (t *Target) Inline() bool {
	_, ok := t.fields["dockerfile-inline"]
	return ok
}

// size is how many values the target has.
func (t *Target) size() int {
	n := len(t.fields)
	for _, v := range t.fields {
		switch v := v.(type) {
		case []string:
			n += len(v)
		case []Entry:
			n += len(v)
		case map[string]string:
			n += len(v)
		}
	}
	return n
}

func sorted[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// merge has what other says override or extend what the target says.
func (t *Target) merge(other *Target) {
	for name, v := range other.fields {
		k, _ := kindOf(name)
		switch k {
		case list:
			t.fields[name] = append(slices.Clip(t.List(name)), other.List(name)...)
		case table:
			m := maps.Clone(t.Texts(name))
			if m == nil {
				m = map[string]string{}
			}
			maps.Copy(m, other.Texts(name))
			t.fields[name] = m
		case entries:
			t.fields[name] = mergeEntries(name, append(slices.Clip(t.Entries(name)), other.Entries(name)...))
		case one, yes, whole, allOfThem:
			t.fields[name] = v
		}
	}
}

// mergeEntries leaves each entry once: of secrets, keys and attestations the last of a name, in the place of the first.
func mergeEntries(name string, list []Entry) []Entry {
	key := map[string]string{"secret": "id", "ssh": "id", "attest": "type"}[name]
	var out []Entry
	at := map[string]int{} // where in out an entry is, by what it may have only once
	for _, e := range list {
		same := e.Get(key)
		if key == "" {
			same = fmt.Sprintf("%#v", e)
		}
		if i, ok := at[same]; ok {
			out[i] = e
			continue
		}
		at[same] = len(out)
		out = append(out, e)
	}
	return out
}

// normalize leaves out what is empty or there twice.
func (t *Target) normalize() {
	for _, f := range kinds() {
		v, ok := t.fields[f.name]
		if !ok {
			continue
		}
		switch f.kind {
		case list, whole:
			t.fields[f.name] = slices.DeleteFunc(unique(v.([]string)), func(s string) bool { return s == "" }) //nolint:forcetypeassert // its kind
		case entries, allOfThem:
			t.fields[f.name] = mergeEntries(f.name, v.([]Entry)) //nolint:forcetypeassert // its kind
		case one, yes, table:
		}
	}
	if t.Text("network") == "host" {
		t.fields["entitlements"] = unique(append(slices.Clip(t.List("entitlements")), "network.host"))
	}
	contexts := maps.Clone(t.Texts("contexts"))
	maps.DeleteFunc(contexts, func(_, v string) bool { return v == "" })
	t.fields["contexts"] = contexts
}

// MarshalJSON implements [json.Marshaler]: what bake --print shows.
func (t *Target) MarshalJSON() ([]byte, error) {
	escape := strings.NewReplacer("${", "$${", "%{", "%%{")
	var b strings.Builder
	for _, f := range kinds() {
		v, ok := t.fields[f.name]
		if !ok || isEmpty(v) {
			continue
		}
		switch f.name {
		case "annotations":
			list := slices.Clone(t.List(f.name))
			for i := range list {
				list[i] = escape.Replace(list[i])
			}
			v = list
		case "args", "labels", "extra-hosts":
			m := maps.Clone(t.Texts(f.name))
			for k := range m {
				m[k] = escape.Replace(m[k])
			}
			v = m
		case "dockerfile-inline":
			v = escape.Replace(t.Text(f.name))
		}
		text, err := json.Marshal(v)
		if err != nil {
			return nil, err
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		fmt.Fprintf(&b, "%q:%s", f.name, text)
	}
	return []byte("{" + b.String() + "}"), nil
}

func isEmpty(v any) bool {
	switch v := v.(type) {
	case []string:
		return len(v) == 0
	case []Entry:
		return len(v) == 0
	case map[string]string:
		return len(v) == 0
	}
	return false
}

// set sets an attribute to what an expression came to. Null leaves it as it is.
func (t *Target) set(name string, v any) (err error) {
	k, ok := kindOf(name)
	switch {
	case !ok && (name == "policy" || name == "resources"):
		return fmt.Errorf("%s: forge does not do that: leave it out", name)
	case !ok:
		return fmt.Errorf("a target has no attribute %q", name)
	case v == nil:
		return nil
	}
	switch k {
	case one:
		t.fields[name], err = hcl.String(v)
	case yes:
		t.fields[name], err = hcl.Bool(v)
	case list, whole:
		t.fields[name], err = textList(v)
	case table:
		t.fields[name], err = textMap(v)
	case entries, allOfThem:
		t.fields[name], err = entryList(name, v)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	return nil
}
