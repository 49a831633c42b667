package bake

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/forge-build/forge/bake/hcl"
)

// parse reads a file in whichever of the languages its name, or else its text, says; a compose file, which is read with others, is nil.
func parse(name string, text []byte) (*hcl.Body, error) {
	switch strings.ToLower(filepath.Ext(name)) {
	case ".yml", ".yaml":
		return nil, nil
	case ".hcl":
		return hcl.Parse(name, text)
	case ".json":
		return parseJSON(name, text)
	}
	if isCompose(text) {
		return nil, nil
	}
	if bytes.HasPrefix(bytes.TrimSpace(text), []byte("{")) {
		return parseJSON(name, text)
	}
	return hcl.Parse(name, text)
}

// A member is one of a JSON object; the order of members is kept.
type member struct {
	key   string
	value any // an object is []member
}

// maxDepth is how deep JSON may be nested.
const maxDepth = 200

// parseJSON reads HCL's JSON syntax.
func parseJSON(name string, text []byte) (*hcl.Body, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	v, err := decodeOrdered(d, 0)
	if _, end := d.Token(); err == nil && !errors.Is(end, io.EOF) {
		err = errors.New("more follows the object")
	}
	root, ok := v.([]member)
	if err == nil && !ok {
		err = errors.New("is no object")
	}
	if err != nil {
		line := 1 + bytes.Count(text[:min(int(d.InputOffset()), len(text))], []byte("\n"))
		return nil, &hcl.Error{Pos: hcl.Pos{File: name, Line: line}, Err: err}
	}
	return jsonBody(hcl.Pos{File: name, Line: 1}, root, "target", "group", "variable", "function")
}

func decodeOrdered(d *json.Decoder, depth int) (any, error) {
	if depth > maxDepth {
		return nil, fmt.Errorf("is nested more than %d deep", maxDepth)
	}
	t, err := d.Token()
	if err != nil {
		return nil, err
	}
	switch t {
	case json.Delim('{'):
		out := []member{}
		for d.More() {
			key, err := d.Token()
			if err != nil {
				return nil, err
			}
			v, err := decodeOrdered(d, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, member{fmt.Sprint(key), v})
		}
		_, err = d.Token()
		return out, err
	case json.Delim('['):
		out := []any{}
		for d.More() {
			v, err := decodeOrdered(d, depth+1)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		_, err = d.Token()
		return out, err
	}
	if n, ok := t.(json.Number); ok {
		return hcl.FromJSON(n)
	}
	return t, nil
}

// jsonBody makes a body of a JSON object. The members that labeled names hold blocks by their labels.
func jsonBody(pos hcl.Pos, members []member, labeled ...string) (*hcl.Body, error) {
	b := &hcl.Body{Attrs: map[string]*hcl.Expr{}}
	for _, m := range members {
		if m.key == "//" { // a comment
			continue
		}
		switch {
		case slices.Contains(labeled, m.key):
			if err := jsonBlocks(pos, b, m.key, m.value); err != nil {
				return nil, err
			}
			continue
		case m.key == "validation":
			if err := jsonBlock(pos, b, m.key, nil, m.value); err != nil {
				return nil, err
			}
			continue
		}
		e, err := jsonExpr(pos, m.value)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", m.key, err)
		}
		b.Attrs[m.key] = e
	}
	return b, nil
}

// jsonBlocks adds the blocks of a type, by their labels.
func jsonBlocks(pos hcl.Pos, b *hcl.Body, kind string, v any) error {
	if list, ok := v.([]any); ok {
		for _, one := range list {
			if err := jsonBlocks(pos, b, kind, one); err != nil {
				return err
			}
		}
		return nil
	}
	members, ok := v.([]member)
	if !ok {
		return &hcl.Error{Pos: pos, Err: fmt.Errorf("%s must be an object", kind)}
	}
	for _, m := range members {
		if err := jsonBlock(pos, b, kind, []string{m.key}, m.value); err != nil {
			return err
		}
	}
	return nil
}

func jsonBlock(pos hcl.Pos, b *hcl.Body, kind string, labels []string, v any) error {
	if list, ok := v.([]any); ok {
		for _, one := range list {
			if err := jsonBlock(pos, b, kind, labels, one); err != nil {
				return err
			}
		}
		return nil
	}
	members, ok := v.([]member)
	if v != nil && !ok {
		return &hcl.Error{Pos: pos, Err: fmt.Errorf("%s %s must be an object", kind, strings.Join(labels, " "))}
	}
	body, err := jsonBody(pos, members)
	if err != nil {
		return err
	}
	b.Blocks = append(b.Blocks, &hcl.Block{Type: kind, Labels: labels, Body: body, Pos: pos})
	return nil
}

// jsonExpr makes an expression of a JSON value, in which strings are templates.
func jsonExpr(pos hcl.Pos, v any) (*hcl.Expr, error) {
	switch v := v.(type) {
	case string:
		return hcl.Template(pos, v)
	case []any:
		items := make([]*hcl.Expr, len(v))
		for i, e := range v {
			var err error
			if items[i], err = jsonExpr(pos, e); err != nil {
				return nil, err
			}
		}
		return hcl.Compose(pos, func(s *hcl.Scope) (any, error) {
			out := make([]any, len(items))
			for i, e := range items {
				var err error
				if out[i], err = e.Value(s); err != nil {
					return nil, err
				}
			}
			return out, nil
		}), nil
	case []member:
		return jsonObject(pos, v)
	}
	return hcl.Literal(pos, v), nil
}

func jsonObject(pos hcl.Pos, members []member) (*hcl.Expr, error) {
	var keys, values []*hcl.Expr
	for _, m := range members {
		key, err := hcl.Template(pos, m.key)
		if err != nil {
			return nil, err
		}
		value, err := jsonExpr(pos, m.value)
		if err != nil {
			return nil, err
		}
		keys, values = append(keys, key), append(values, value)
	}
	return hcl.Object(pos, keys, values), nil
}
