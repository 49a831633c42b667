package hcl

import (
	"encoding/csv"
	"errors"
	"fmt"
	"math/big"
	"strings"
)

// A Type is one that a variable is declared to have.
type Type struct {
	Name  string // string, number, bool, any, list, set, map, tuple or object
	Of    *Type  // of list, set and map
	Items []*Type
	Attrs map[string]*Type
	order []string // of Attrs
	maybe map[string]bool
}

// ParseType reads a type as it is written, such as list(string).
func ParseType(text string) (*Type, error) {
	p := &parser{text: text, line: 1, open: 1}
	t, err := p.typ()
	if err != nil {
		return nil, fmt.Errorf("type %s: %w", text, err)
	}
	if p.skip(); !p.end() {
		return nil, fmt.Errorf("type %s: more follows it", text)
	}
	return t, nil
}

func (p *parser) typ() (*Type, error) {
	leave, err := p.nest()
	if err != nil {
		return nil, err
	}
	defer leave()
	t := &Type{Name: p.identifier()}
	switch t.Name {
	case "string", "number", "bool", "any":
		return t, nil
	case "list", "set", "map":
		if !p.take("(") {
			return nil, fmt.Errorf("%s needs the type of its elements: %s(string)", t.Name, t.Name)
		}
		if t.Of, err = p.typ(); err != nil {
			return nil, err
		}
	case "tuple":
		if !p.take("(") || !p.take("[") {
			return nil, errors.New("a tuple needs the types of its elements: tuple([string, number])")
		}
		for !p.take("]") {
			one, err := p.typ()
			if err != nil {
				return nil, err
			}
			t.Items = append(t.Items, one)
			p.take(",")
		}
	case "object":
		if err := p.attrTypes(t); err != nil {
			return nil, err
		}
	default:
		return nil, fmt.Errorf("%q is no type", t.Name)
	}
	if !p.take(")") {
		return nil, fmt.Errorf("%s has no end", t.Name)
	}
	return t, nil
}

func (p *parser) attrTypes(t *Type) error {
	if !p.take("(") || !p.take("{") {
		return errors.New("an object needs the types of its attributes: object({name = string})")
	}
	t.Attrs, t.maybe = map[string]*Type{}, map[string]bool{}
	for !p.take("}") {
		name := p.identifier()
		if name == "" || !p.take("=") && !p.take(":") {
			return errors.New("an object needs the types of its attributes: object({name = string})")
		}
		if p.keyword("optional") && p.take("(") {
			t.maybe[name] = true
		}
		one, err := p.typ()
		if err != nil {
			return err
		}
		if t.maybe[name] && !p.take(")") {
			return errors.New("optional has no end")
		}
		t.Attrs[name] = one
		t.order = append(t.order, name)
		p.take(",")
	}
	return nil
}

func (t *Type) String() string {
	switch {
	case t.Of != nil:
		return t.Name + " of " + t.Of.String()
	}
	return t.Name
}

// Primitive reports whether it is a string, a number or a bool.
func (t *Type) Primitive() bool { return t.Name == "string" || t.Name == "number" || t.Name == "bool" }

// Convert makes a value one of the type.
func (t *Type) Convert(v any) (any, error) {
	if v == nil || t.Name == "any" {
		return v, nil
	}
	switch t.Name {
	case "string":
		return String(v)
	case "number":
		return Number(v)
	case "bool":
		return Bool(v)
	case "list", "set", "tuple":
		return t.convertList(v)
	}
	m, err := Map(v)
	if err != nil {
		return nil, err
	}
	out := map[string]any{}
	if t.Name == "map" {
		for k, e := range m {
			if out[k], err = t.Of.Convert(e); err != nil {
				return nil, fmt.Errorf("%q: %w", k, err)
			}
		}
		return out, nil
	}
	for _, k := range t.order {
		e, there := m[k]
		if !there && !t.maybe[k] {
			return nil, fmt.Errorf("attribute %q is required", k)
		}
		if out[k], err = t.Attrs[k].Convert(e); err != nil {
			return nil, fmt.Errorf("%q: %w", k, err)
		}
	}
	return out, nil
}

func (t *Type) convertList(v any) (any, error) {
	list, err := List(v)
	if err != nil {
		return nil, err
	}
	if t.Name == "tuple" && len(list) != len(t.Items) {
		return nil, fmt.Errorf("must have %d elements, and has %d", len(t.Items), len(list))
	}
	out := make([]any, len(list))
	for i, e := range list {
		of := t.Of
		if t.Name == "tuple" {
			of = t.Items[i]
		}
		if out[i], err = of.Convert(e); err != nil {
			return nil, fmt.Errorf("element %d: %w", i, err)
		}
	}
	if t.Name == "set" {
		out = asSet(out)
	}
	return out, nil
}

// FromText is the value of the type that a text of the environment means: a string, number or bool as such, a list, set, tuple or map as CSV.
func (t *Type) FromText(text string) (any, error) {
	if t.Primitive() {
		return primitive(t.Name, text)
	}
	if t.Name == "any" || t.Name == "object" {
		return nil, fmt.Errorf("a value of type %s is given as JSON, in the variable whose name ends with _JSON", t)
	}
	fields, err := csv.NewReader(strings.NewReader(text)).Read()
	if err != nil && text != "" {
		return nil, fmt.Errorf("%q is no CSV", text)
	}
	if t.Name == "map" {
		out := map[string]any{}
		for _, f := range fields {
			k, v, ok := strings.Cut(f, ":")
			if !ok {
				return nil, fmt.Errorf("%q is no KEY:VALUE", f)
			}
			if out[k], err = t.Of.FromText(v); err != nil {
				return nil, err
			}
		}
		return out, nil
	}
	if t.Name == "tuple" && len(fields) != len(t.Items) {
		return nil, fmt.Errorf("must have %d elements, and has %d", len(t.Items), len(fields))
	}
	out := make([]any, len(fields))
	for i, f := range fields {
		of := t.Of
		if t.Name == "tuple" {
			of = t.Items[i]
		}
		if !of.Primitive() {
			return nil, fmt.Errorf("a value of type %s is given as JSON, in the variable whose name ends with _JSON", t)
		}
		if out[i], err = primitive(of.Name, f); err != nil {
			return nil, err
		}
	}
	if t.Name == "set" {
		out = asSet(out)
	}
	return out, nil
}

// FromJSONText is the value of the type that a JSON text means.
func (t *Type) FromJSONText(text string) (any, error) {
	v, err := decode(text)
	if err != nil {
		return nil, err
	}
	return t.Convert(v)
}

// Like is the value that a text of the environment means where a value of some kind is the default.
func Like(def any, text string) (any, error) {
	switch def.(type) {
	case nil, string:
		return text, nil
	case bool:
		return primitive("bool", text)
	case *big.Float:
		return primitive("number", text)
	}
	return nil, fmt.Errorf("the default is %s: declare its type to set it from the environment", kind(def))
}

func primitive(name, text string) (any, error) {
	switch name {
	case "bool":
		switch text {
		case "1", "t", "T", "TRUE", "true", "True":
			return true, nil
		case "0", "f", "F", "FALSE", "false", "False":
			return false, nil
		}
		return nil, fmt.Errorf("%q is neither true nor false", text)
	case "number":
		return Number(text)
	}
	return text, nil
}
