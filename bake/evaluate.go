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
	made      int                    // instances in blocks
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

// maxTargets is how many targets and groups all files together may describe.
const maxTargets = 4 * maxMatrix

// evaluate adds what HCL and JSON files describe.
func (f *File) evaluate(bodies []*hcl.Body, o Options) error {
	e := &evaluator{
		options: o, attrs: map[string]*hcl.Expr{}, variables: map[string]*hcl.Block{}, functions: map[string]*hcl.Block{},
		values: map[string]any{"BAKE_CMD_CONTEXT": "", "BAKE_LOCAL_PLATFORM": o.Platform}, open: map[string]bool{}, blocks: map[string][]*instance{},
	}
	e.scope = (&hcl.Scope{Var: e.variable, Func: e.function}).With(nil)
	var order []string
	var blocks []*hcl.Block
	for _, body := range bodies {
		for name, a := range body.Attrs {
			e.attrs[name] = a
		}
		for _, b := range body.Blocks {
			if len(b.Labels) != 1 {
				return &hcl.Error{Pos: b.Pos, Err: fmt.Errorf("%s needs one label, its name", b.Type)}
			}
			name := b.Labels[0]
			switch b.Type {
			case "variable":
				if e.variables[name] == nil {
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
	var all [][]*instance // by block
	for _, b := range blocks {
		of, err := e.instances(f, b)
		if err != nil {
			return err
		}
		all = append(all, of)
	}
	for i, b := range blocks {
		if err := e.fill(f, b, all[i]); err != nil {
			return err
		}
	}
	return nil
}

// instances finds the instances of a block, in the order of their names: one, or one for each combination of its matrix.
func (e *evaluator) instances(f *File, b *hcl.Block) (all []*instance, err error) {
	label := b.Labels[0]
	if err := checkName(label); err != nil {
		return nil, &hcl.Error{Pos: b.Pos, Err: err}
	}
	matrix, name := b.Body.Attrs["matrix"], b.Body.Attrs["name"]
	switch {
	case b.Type == "group" && (matrix != nil || name != nil):
		return nil, &hcl.Error{Pos: b.Pos, Err: errors.New("name and matrix are not supported for groups")}
	case matrix == nil && name != nil:
		return nil, &hcl.Error{Pos: name.Pos, Err: errors.New("name requires matrix")}
	}
	scopes, err := e.combinations(matrix)
	if err != nil {
		return nil, err
	}
	if e.made += len(scopes); e.made > maxTargets {
		return nil, &hcl.Error{Pos: b.Pos, Err: fmt.Errorf("there are more than %d targets and groups", maxTargets)}
	}
	var names []string
	for _, s := range scopes {
		one := &instance{name: label, block: b, scope: s, known: map[string]any{}}
		if name != nil {
			v, err := name.Value(s)
			if err != nil {
				return nil, err
			}
			if one.name, err = hcl.String(v); err == nil {
				err = checkName(one.name)
			}
			if err != nil {
				return nil, &hcl.Error{Pos: name.Pos, Err: err}
			}
		}
		if slices.Contains(names, one.name) {
			return nil, &hcl.Error{Pos: b.Pos, Err: fmt.Errorf("the matrix makes two targets that are called %q: give them names with name", one.name)}
		}
		names, all = append(names, one.name), append(all, one)
		e.blocks[b.Type+" "+one.name] = append(e.blocks[b.Type+" "+one.name], one)
	}
	if matrix != nil && (len(names) != 1 || names[0] != label) {
		f.addGroup(&Group{Name: label, Targets: names})
	}
	slices.SortFunc(all, func(a, b *instance) int { return strings.Compare(a.name, b.name) })
	return all, nil
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
		err = e.scope.Count(v)
	}
	if err == nil {
		one.known[name] = v
	}
	return v, true, err
}

// fill makes targets and groups of the instances of a block.
func (e *evaluator) fill(f *File, b *hcl.Block, all []*instance) error {
	if len(b.Body.Blocks) > 0 {
		return &hcl.Error{Pos: b.Body.Blocks[0].Pos, Err: fmt.Errorf("a %s has no block %q", b.Type, b.Body.Blocks[0].Type)}
	}
	for _, one := range all {
		make := e.makeTarget
		if b.Type == "group" {
			make = e.makeGroup
		}
		if err := make(f, one); err != nil {
			return err
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
