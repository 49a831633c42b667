package bake

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/forge-build/forge/bake/hcl"
)

// An evaluator gives the names in files their values, each when it is first asked for.
type evaluator struct {
	options   Options
	attrs     map[string]*hcl.Expr  // outside of blocks
	variables map[string]*hcl.Block // the last of a name
	functions map[string]*hcl.Block
	values    map[string]any // of variables that are known
	open      map[string]bool
	blocks    map[string][]*instance // of targets and groups, by kind and name
	scope     *hcl.Scope
	depth     int // of calls of functions of the file
}

// An instance is a target or group, one for each combination of its matrix.
type instance struct {
	name  string
	block *hcl.Block
	scope *hcl.Scope
	known map[string]any
}

// maxCalls is how deep functions of a file may call each other.
const maxCalls = 100

// maxMatrix is how many targets a matrix may make.
const maxMatrix = 4096

// evaluate adds what HCL and JSON files describe.
func (f *File) evaluate(sources []source, o Options) error {
	e := &evaluator{
		options: o, attrs: map[string]*hcl.Expr{}, variables: map[string]*hcl.Block{}, functions: map[string]*hcl.Block{},
		values: map[string]any{"BAKE_CMD_CONTEXT": "", "BAKE_LOCAL_PLATFORM": o.Platform}, open: map[string]bool{}, blocks: map[string][]*instance{},
	}
	e.scope = (&hcl.Scope{Var: e.variable, Func: e.function}).With(nil)
	var order []string
	var blocks []*hcl.Block
	for _, s := range sources {
		for name, a := range s.body.Attrs {
			e.attrs[name] = a
		}
		for _, b := range s.body.Blocks {
			if len(b.Labels) != 1 {
				return &hcl.Error{Pos: b.Pos, Err: fmt.Errorf("%s needs one label, its name", b.Type)}
			}
			name := b.Labels[0]
			switch b.Type {
			case "variable":
				if !slices.Contains(order, name) {
					order = append(order, name)
				}
				e.variables[name] = b
			case "function":
				e.functions[name] = b
			case "target", "group":
				blocks = append(blocks, b)
			default:
				return &hcl.Error{Pos: b.Pos, Err: fmt.Errorf("there is no block %q: target, group, variable and function are", b.Type)}
			}
		}
	}
	if err := e.declare(f, order); err != nil {
		return err
	}
	for _, b := range blocks {
		if err := e.instances(f, b); err != nil {
			return err
		}
	}
	for _, b := range blocks {
		if err := e.fill(f, b); err != nil {
			return err
		}
	}
	return nil
}

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
		if def, err = has.Value(e.scope); err != nil {
			return nil, err
		}
		if t != nil {
			if def, err = t.Convert(def); err != nil {
				return nil, fmt.Errorf("the default of variable %s %w", name, err)
			}
		}
	}
	text, given, isJSON := e.given(name, t != nil)
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
func (e *evaluator) given(name string, typed bool) (text string, ok, isJSON bool) {
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
	if (!ok || typed) && e.variables[name+"_JSON"] == nil {
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

// instances finds the names of a block: one, or one for each combination of its matrix.
func (e *evaluator) instances(f *File, b *hcl.Block) error {
	label := b.Labels[0]
	if err := checkName(label); err != nil {
		return &hcl.Error{Pos: b.Pos, Err: err}
	}
	matrix, name := b.Body.Attrs["matrix"], b.Body.Attrs["name"]
	switch {
	case b.Type == "group" && (matrix != nil || name != nil):
		return &hcl.Error{Pos: b.Pos, Err: errors.New("name and matrix are not supported for groups")}
	case matrix == nil && name != nil:
		return &hcl.Error{Pos: name.Pos, Err: errors.New("name requires matrix")}
	}
	scopes, err := e.combinations(matrix)
	if err != nil {
		return err
	}
	var names []string
	for _, s := range scopes {
		one := &instance{name: label, block: b, scope: s, known: map[string]any{}}
		if name != nil {
			v, err := name.Value(s)
			if err != nil {
				return err
			}
			if one.name, err = hcl.String(v); err == nil {
				err = checkName(one.name)
			}
			if err != nil {
				return &hcl.Error{Pos: name.Pos, Err: err}
			}
		}
		if slices.Contains(names, one.name) {
			return &hcl.Error{Pos: b.Pos, Err: fmt.Errorf("the matrix makes two targets that are called %q: give them names with name", one.name)}
		}
		names = append(names, one.name)
		e.blocks[b.Type+" "+one.name] = append(e.blocks[b.Type+" "+one.name], one)
	}
	if matrix != nil && (len(names) != 1 || names[0] != label) {
		f.addGroup(&Group{Name: label, Targets: names})
	}
	return nil
}

// combinations are the scopes of a matrix: one for each way to choose an element of each of its lists.
func (e *evaluator) combinations(matrix *hcl.Expr) ([]*hcl.Scope, error) {
	if matrix == nil {
		return []*hcl.Scope{e.scope}, nil
	}
	v, err := matrix.Value(e.scope)
	if err != nil {
		return nil, err
	}
	lists, err := hcl.Map(v)
	if err != nil {
		return nil, &hcl.Error{Pos: matrix.Pos, Err: errors.New("matrix must be a map")}
	}
	all := []map[string]any{{}}
	for _, k := range sorted(lists) {
		list, err := hcl.List(lists[k])
		if err != nil {
			return nil, &hcl.Error{Pos: matrix.Pos, Err: errors.New("matrix values must be a list")}
		}
		if len(all)*len(list) > maxMatrix {
			return nil, &hcl.Error{Pos: matrix.Pos, Err: fmt.Errorf("the matrix makes more than %d targets", maxMatrix)}
		}
		var next []map[string]any
		for _, v := range list {
			for _, vars := range all {
				more := map[string]any{k: v}
				for name, value := range vars {
					more[name] = value
				}
				next = append(next, more)
			}
		}
		all = next
	}
	var scopes []*hcl.Scope
	for _, vars := range all {
		scopes = append(scopes, e.scope.With(vars))
	}
	return scopes, nil
}

// block is what target.NAME or group.NAME means in an expression.
func (e *evaluator) block(kind, name string) (any, bool, error) {
	all := e.blocks[kind+" "+name]
	if len(all) == 0 {
		return nil, false, fmt.Errorf("there is no %s %q", kind, name)
	}
	return hcl.Lazy(func(attr string) (any, bool, error) {
		if attr == "name" {
			return name, true, nil
		}
		for _, one := range slices.Backward(all) {
			if v, ok, err := e.attr(one, attr); ok || err != nil {
				return v, true, err
			}
		}
		_, known := kindOf(attr)
		return nil, known || attr == "targets" || attr == "description", nil
	}), true, nil
}

// attr is the value of an argument of a block.
func (e *evaluator) attr(one *instance, name string) (v any, ok bool, err error) {
	if v, ok := one.known[name]; ok {
		return v, true, nil
	}
	a := one.block.Body.Attrs[name]
	if a == nil {
		return nil, false, nil
	}
	key := one.block.Type + "." + one.name + "." + name
	if e.open[key] {
		return nil, false, fmt.Errorf("reference cycle not allowed for %s", key)
	}
	e.open[key] = true
	defer delete(e.open, key)
	if v, err = a.Value(one.scope); err == nil {
		one.known[name] = v
	}
	return v, true, err
}

// fill makes targets and groups of a block.
func (e *evaluator) fill(f *File, b *hcl.Block) error {
	if len(b.Body.Blocks) > 0 {
		return &hcl.Error{Pos: b.Body.Blocks[0].Pos, Err: fmt.Errorf("a %s has no block %q", b.Type, b.Body.Blocks[0].Type)}
	}
	for _, name := range sorted(e.blocks) {
		for _, one := range e.blocks[name] {
			if one.block != b {
				continue
			}
			make := e.makeTarget
			if b.Type == "group" {
				make = e.makeGroup
			}
			if err := make(f, one); err != nil {
				return err
			}
		}
	}
	return nil
}

func (e *evaluator) makeTarget(f *File, one *instance) error {
	t := newTarget(one.name)
	for _, name := range sorted(one.block.Body.Attrs) {
		if name == "matrix" || name == "name" {
			continue
		}
		v, _, err := e.attr(one, name)
		if err == nil {
			err = t.set(name, v)
		}
		if err != nil {
			return placed(one.block.Body.Attrs[name].Pos, err)
		}
	}
	f.add(t)
	return nil
}

func (e *evaluator) makeGroup(f *File, one *instance) error {
	g := &Group{Name: one.name, Targets: []string{}}
	for _, name := range sorted(one.block.Body.Attrs) {
		pos := one.block.Body.Attrs[name].Pos
		v, _, err := e.attr(one, name)
		if err != nil {
			return err
		}
		switch name {
		case "targets":
			g.Targets, err = textList(v)
		case "description":
			g.Description, err = hcl.String(v)
		default:
			err = fmt.Errorf("a group has no attribute %q", name)
		}
		if err != nil {
			return placed(pos, err)
		}
	}
	f.addGroup(g)
	return nil
}
