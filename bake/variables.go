package bake

import (
	"errors"
	"fmt"
	"strings"

	"github.com/forge-build/forge/bake/hcl"
)

// declare evaluates and checks all variables.
func (e *evaluator) declare(f *File, order []string) error {
	for _, name := range order {
		b := e.variables[name]
		for attr := range b.Body.Attrs {
			if attr != "default" && attr != "description" && attr != "type" {
				return &hcl.Error{Pos: b.Pos, Err: fmt.Errorf("a variable has no argument %q", attr)}
			}
		}
		v, _, err := e.variable(name)
		if err != nil {
			return placed(b.Pos, err)
		}
		out := Variable{Name: name}
		if d := b.Body.Attrs["description"]; d != nil {
			text, err := d.Value(e.scope)
			if err != nil {
				return err
			}
			out.Description, _ = text.(string)
		}
		t, err := typeOf(b)
		if err != nil {
			return placed(b.Pos, err)
		}
		if t != nil {
			out.Type = t.String()
		}
		if v != nil {
			text, err := hcl.String(v)
			if err != nil {
				encoded, err := hcl.JSON(v)
				if err != nil {
					return placed(b.Pos, err)
				}
				text = string(encoded)
			}
			out.Value = &text
		}
		f.Variables = append(f.Variables, out)
	}
	for _, name := range order {
		if err := e.validate(e.variables[name]); err != nil {
			return err
		}
	}
	return nil
}

// placed gives an error a place, unless it has one.
func placed(pos hcl.Pos, err error) error {
	if _, ok := errors.AsType[*hcl.Error](err); ok || err == nil {
		return err
	}
	return &hcl.Error{Pos: pos, Err: err}
}

func typeOf(b *hcl.Block) (*hcl.Type, error) {
	t := b.Body.Attrs["type"]
	if t == nil || t.Text == "null" {
		return nil, nil
	}
	return hcl.ParseType(t.Text)
}

// validate checks a variable as its blocks say.
func (e *evaluator) validate(b *hcl.Block) error {
	for _, rule := range b.Body.Blocks {
		condition, message := rule.Body.Attrs["condition"], rule.Body.Attrs["error_message"]
		if rule.Type != "validation" || condition == nil || message == nil {
			return &hcl.Error{Pos: rule.Pos, Err: errors.New("a variable has blocks validation, with condition and error_message")}
		}
		v, err := condition.Value(e.scope)
		if err != nil {
			return err
		}
		ok, err := hcl.Bool(v)
		if err != nil {
			return &hcl.Error{Pos: condition.Pos, Err: fmt.Errorf("condition %w", err)}
		}
		if !ok {
			text, err := message.Value(e.scope)
			if err != nil {
				return err
			}
			return &hcl.Error{Pos: condition.Pos, Err: fmt.Errorf("the variable %s is not valid: %v", b.Labels[0], text)}
		}
	}
	return nil
}

// variable is the value of a name.
func (e *evaluator) variable(name string) (v any, ok bool, err error) {
	if v, ok := e.values[name]; ok {
		return v, true, nil
	}
	if name == "target" || name == "group" {
		return hcl.Lazy(func(of string) (any, bool, error) { return e.block(name, of) }), true, nil
	}
	attr, block := e.attrs[name], e.variables[name]
	if attr == nil && block == nil {
		return nil, false, nil
	}
	if e.open[name] {
		return nil, false, fmt.Errorf("variable cycle not allowed for %s", name)
	}
	e.open[name] = true
	defer delete(e.open, name)
	if attr != nil {
		v, err = attr.Value(e.scope)
	} else {
		v, err = e.declared(name, block)
	}
	if err == nil {
		err = e.scope.Count(v)
	}
	if err != nil {
		return nil, false, err
	}
	e.values[name] = v
	return v, true, nil
}

// declared is the value of a variable: of --var or the environment, else its default.
func (e *evaluator) declared(name string, b *hcl.Block) (any, error) {
	t, err := typeOf(b)
	if err != nil {
		return nil, err
	}
	var def any
	has := b.Body.Attrs["default"]
	if has != nil {
		if def, err = has.Value(e.scope); err == nil {
			err = e.scope.Count(def)
		}
		if err != nil {
			return nil, err
		}
		if t != nil {
			if def, err = t.Convert(def); err != nil {
				return nil, fmt.Errorf("the default of variable %s %w", name, err)
			}
		}
	}
	text, given, isJSON := e.given(name, t)
	var v any
	switch {
	case !given && has == nil && t == nil:
		return "", nil
	case !given:
		return def, nil
	case t != nil && isJSON:
		v, err = t.FromJSONText(text)
	case t != nil && t.Name == "any" && has == nil:
		return text, nil
	case t != nil && t.Name != "any":
		v, err = t.FromText(text)
	default:
		v, err = hcl.Like(def, text)
	}
	if err != nil {
		return nil, fmt.Errorf("variable %s, as the environment or --var says: %w", name, err)
	}
	return v, nil
}

// given is what --var or the environment says of a variable: its own name or, of one with a type first, the name with _JSON.
func (e *evaluator) given(name string, t *hcl.Type) (text string, ok, isJSON bool) {
	look := func(name string) (string, bool) {
		if v, ok := e.options.Vars[name]; ok {
			return v, true
		}
		if e.options.Getenv == nil {
			return "", false
		}
		return e.options.Getenv(name)
	}
	text, ok = look(name)
	if (!ok || t != nil) && e.variables[name+"_JSON"] == nil {
		if encoded, found := look(name + "_JSON"); found {
			return encoded, true, true
		}
	}
	return text, ok, false
}

// function is one that the file defines.
func (e *evaluator) function(name string) (hcl.Function, bool, error) {
	b := e.functions[name]
	if b == nil {
		return nil, false, nil
	}
	params, err := e.params(b, "params")
	if err != nil {
		return nil, true, err
	}
	rest, err := e.params(b, "variadic_params")
	if err != nil {
		return nil, true, err
	}
	result := b.Body.Attrs["result"]
	if result == nil {
		return nil, true, fmt.Errorf("function %s has no result", name)
	}
	return hcl.Values(func(args []any) (any, error) {
		if len(args) < len(params) || len(args) > len(params) && len(rest) == 0 {
			return nil, fmt.Errorf("takes %d arguments, and is given %d", len(params), len(args))
		}
		if e.depth++; e.depth > maxCalls {
			return nil, fmt.Errorf("function cycle not allowed for %s", name)
		}
		defer func() { e.depth-- }()
		vars := map[string]any{}
		for i, p := range params {
			vars[p] = args[i]
		}
		if len(rest) > 0 {
			vars[rest[0]] = append([]any{}, args[len(params):]...)
		}
		return result.Value(e.scope.With(vars))
	}), true, nil
}

// params are the names that a function calls its arguments: bare names or, in JSON, strings.
func (e *evaluator) params(b *hcl.Block, attr string) ([]string, error) {
	a := b.Body.Attrs[attr]
	if a == nil {
		if attr == "params" {
			return nil, fmt.Errorf("function %s has no params", b.Labels[0])
		}
		return nil, nil
	}
	text := strings.TrimSpace(a.Text)
	if text == "" { // JSON
		v, err := a.Value(e.scope)
		if err != nil {
			return nil, err
		}
		return textList(v)
	}
	text = strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	var names []string
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); name != "" {
			names = append(names, strings.Trim(name, `"`))
		}
	}
	return names, nil
}
