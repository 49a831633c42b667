package bake

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/forge-build/forge/bake/hcl"
	"github.com/forge-build/forge/container/words"
)

// textList reads a list of strings. null is a list without any, as buildx prints a group of none.
func textList(v any) ([]string, error) {
	if v == nil {
		return []string{}, nil
	}
	values, err := hcl.List(v)
	if err != nil {
		return nil, err
	}
	out := []string{}
	for _, v := range values {
		if v == nil {
			continue
		}
		s, err := hcl.String(v)
		if err != nil {
			return nil, err
		}
		out = append(out, s)
	}
	return out, nil
}

func textMap(v any) (map[string]string, error) {
	values, err := hcl.Map(v)
	if err != nil {
		return nil, err
	}
	out := map[string]string{}
	for k, v := range values {
		if v == nil {
			continue
		}
		if out[k], err = hcl.String(v); err != nil {
			return nil, fmt.Errorf("%s: %w", k, err)
		}
	}
	return out, nil
}

// entryList reads entries that are strings, in docker's words, or objects.
func entryList(name string, v any) ([]Entry, error) {
	values, err := hcl.List(v)
	if err != nil {
		return nil, err
	}
	out := []Entry{}
	for _, v := range values {
		if v == nil || v == "" {
			continue
		}
		if s, ok := v.(string); ok {
			more, err := parseEntries(name, s)
			if err != nil {
				return nil, err
			}
			out = append(out, more...)
			continue
		}
		object, err := hcl.Map(v)
		if err != nil {
			return nil, err
		}
		e := Entry{}
		for _, k := range sorted(object) {
			if object[k] == nil {
				continue
			}
			if err := e.put(name, k, object[k]); err != nil {
				return nil, fmt.Errorf("%s: %w", k, err)
			}
		}
		e.finish(name)
		out = append(out, e)
	}
	return out, checkEntries(name, out)
}

// put sets a value of an entry, under the one name that each has, whichever way it is written: docker's flags know several.
func (e Entry) put(attribute, key string, v any) (err error) {
	key = strings.ToLower(key)
	if attribute == "secret" && key == "source" {
		key = "src"
	}
	switch {
	case attribute == "ssh" && key == "paths":
		e[key], err = textList(v)
	case attribute == "attest" && key == "disabled":
		if text, ok := v.(string); ok {
			if v, err = strconv.ParseBool(text); err != nil {
				return errors.New("disabled must be true or false")
			}
		}
		e[key], err = hcl.Bool(v)
	default:
		e[key], err = hcl.String(v)
	}
	return err
}

// finish gives an entry whose values are all there the form that others look for: a secret has the variable that it comes from in env, and a
// type only if that alone says what its id names.
func (e Entry) finish(attribute string) {
	if attribute != "secret" {
		return
	}
	if e.Get("type") == "env" && e["env"] == nil && e["src"] != nil {
		e["env"] = e.Get("src")
		delete(e, "src")
	}
	if kind := e.Get("type"); kind == "env" && e["env"] != nil || kind == "file" && e["src"] != nil {
		delete(e, "type")
	}
}

func checkEntries(name string, list []Entry) error {
	for _, e := range list {
		switch {
		case name == "ssh" && strings.Contains(e.Get("id"), "="):
			return fmt.Errorf("%q: an id of a key has no =; its files are in paths", e.Get("id"))
		case name != "secret" && name != "ssh" && e.Get("type") == "":
			return fmt.Errorf("type is required for %s", name)
		}
	}
	return nil
}

// parseEntries reads what docker's flags take.
func parseEntries(name, text string) ([]Entry, error) {
	if name == "ssh" {
		id, paths, ok := strings.Cut(text, "=")
		e := Entry{"id": id}
		if ok {
			e["paths"] = strings.Split(paths, ",")
		}
		return []Entry{e}, nil
	}
	fields, err := words.Fields(text)
	if err != nil {
		return nil, fmt.Errorf("%q: %w", text, err)
	}
	if strings.HasPrefix(name, "cache-") && !strings.Contains(text, "=") {
		var out []Entry
		for _, ref := range fields {
			out = append(out, Entry{"type": "registry", "ref": ref})
		}
		return out, nil
	}
	if name == "output" && len(fields) == 1 && !strings.HasPrefix(text, "type=") {
		if text == "-" {
			return []Entry{{"type": "tar", "dest": "-"}}, nil
		}
		return []Entry{{"type": "local", "dest": text}}, nil
	}
	e := Entry{}
	err = words.Attributes(text, func(key, value string) error { return e.put(name, key, value) })
	if err != nil {
		return nil, fmt.Errorf("%q: %w", text, err)
	}
	e.finish(name)
	return []Entry{e}, checkEntries(name, []Entry{e})
}

var errNoSubkey = errors.New("does not support subkeys")
