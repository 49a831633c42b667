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
		for k, v := range object {
			if v == nil {
				continue
			}
			switch {
			case name == "ssh" && k == "paths":
				e[k], err = textList(v)
			case name == "attest" && k == "disabled":
				e[k], err = hcl.Bool(v)
			default:
				e[k], err = hcl.String(v)
			}
			if err != nil {
				return nil, fmt.Errorf("%s: %w", k, err)
			}
		}
		out = append(out, e)
	}
	return out, checkEntries(name, out)
}

func checkEntries(name string, list []Entry) error {
	for _, e := range list {
		if name != "secret" && name != "ssh" && e.Get("type") == "" {
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
	kind := ""
	err = words.Attributes(text, func(key, value string) error {
		key = strings.ToLower(key)
		switch {
		case name == "secret" && key == "type":
			kind = value
			return nil
		case name == "secret" && key == "source":
			key = "src"
		case name == "attest" && key == "disabled":
			off, err := strconv.ParseBool(value)
			if err != nil {
				return errors.New("disabled must be true or false")
			}
			e[key] = off
			return nil
		}
		e[key] = value
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("%q: %w", text, err)
	}
	if kind == "env" && e["env"] == nil {
		e["env"] = e.Get("src")
		delete(e, "src")
	}
	return []Entry{e}, checkEntries(name, []Entry{e})
}

var errNoSubkey = errors.New("does not support subkeys")
