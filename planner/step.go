package planner

import (
	"encoding/binary"
	"fmt"
	"reflect"
	"slices"

	"github.com/containerd/platforms"
)

// steps makes steps and gives the same one for the same operation on the same inputs.
type steps struct {
	all   []*Step
	known map[string]*Step
	buf   []byte
}

// addStep adds a step of a stage.
func (p *planner) addStep(of *stage, s Step) *Step {
	s.Stage, s.file = of.label, p.text
	s.Platform = platforms.Format(platforms.Normalize(*of.platform))
	if target := platforms.Format(platforms.Normalize(p.platforms.target)); target != s.Platform {
		s.Target = target
	}
	return p.steps.add(s)
}

// Join makes the graphs of one build, one for each platform and image, share their steps: each graph that it returns has all steps of
// all graphs, and what two have in common once. It writes to none of those given.
func Join(graphs []*Graph) []*Graph {
	if len(graphs) < 2 && (len(graphs) == 0 || graphs[0].Name == "") {
		return graphs
	}
	var all steps
	joined := make([]*Graph, len(graphs))
	for i, g := range graphs {
		same := all.take(g)
		for _, s := range same {
			if g.Name != "" && !slices.Contains(s.For, g.Name) {
				s.For = append(s.For, g.Name)
			}
		}
		j := *g
		if j.Result != nil {
			j.Result = same[j.Result.Index]
		}
		joined[i] = &j
	}
	for _, j := range joined {
		j.Steps = all.all
	}
	return joined
}

// take adds copies of a graph's steps, and returns them by the index that they have in it.
func (t *steps) take(g *Graph) []*Step {
	same := make([]*Step, len(g.Steps))
	for at, s := range g.Steps {
		one := *s
		one.For = nil
		if one.On != nil {
			one.On = same[one.On.Index]
		}
		one.Reads = make([]*Step, len(s.Reads))
		for r, read := range s.Reads {
			one.Reads[r] = same[read.Index]
		}
		same[at] = t.add(one)
	}
	return same
}

// Needed reports, by Step.Index, which steps the result is made of.
func (g *Graph) Needed() []bool {
	needed := make([]bool, len(g.Steps))
	if g.Result != nil {
		needed[g.Result.Index] = true
	}
	for i := len(g.Steps) - 1; i >= 0; i-- { // each comes after what it needs
		if s := g.Steps[i]; needed[i] {
			for _, other := range append(slices.Clip(s.Reads), s.On) {
				if other != nil {
					needed[other.Index] = true
				}
			}
		}
	}
	return needed
}

// Own is a graph without the steps that it shares its numbers with, those of other platforms: they keep their numbers.
func (g *Graph) Own() *Graph {
	own, same := *g, make([]*Step, len(g.Steps))
	own.Steps = nil
	needed := g.Needed()
	for i, s := range g.Steps {
		if !needed[i] {
			continue
		}
		one := *s
		one.number, one.Index = s.Number(), len(own.Steps)
		if s.On != nil {
			one.On = same[s.On.Index]
		}
		one.Reads = make([]*Step, len(s.Reads))
		for r, read := range s.Reads {
			one.Reads[r] = same[read.Index]
		}
		same[i] = &one
		own.Steps = append(own.Steps, &one)
	}
	if g.Result != nil {
		own.Result = same[g.Result.Index]
	}
	return &own
}

// add returns the step that does what s does, s itself if there was none. A stage that must not be taken from the cache
// makes the step that it shares with another stage such a step too.
func (t *steps) add(s Step) *Step {
	b := appendStep(t.buf[:0], s.On)
	for _, r := range s.Reads {
		b = appendStep(b, r)
	}
	if s.Epoch != nil {
		b = binary.AppendVarint(append(b, 'E'), s.Epoch.Unix())
	}
	b = append(b, '|')
	switch op := s.Op.(type) {
	case *Base: // named by content: two names of one image are one step
		if d := op.Image.Descriptor.Digest; d != "" || len(op.Image.Layers()) == 0 {
			b = append(append(b, 'B'), d...)
		} else {
			b = fmt.Appendf(b, "B%p", op.Image)
		}
	case *Run:
		b = appendValue(append(b, 'R'), reflect.ValueOf(op).Elem())
	case *Copy:
		b = appendValue(append(b, 'C'), reflect.ValueOf(op).Elem())
	case *Mkdir:
		b = appendValue(append(b, 'M'), reflect.ValueOf(op).Elem())
	}
	t.buf = b
	if known := t.known[string(b)]; known != nil {
		known.NoCache = known.NoCache || s.NoCache
		return known
	}
	if t.known == nil {
		t.known = map[string]*Step{}
	}
	s.Index = len(t.all)
	t.all = append(t.all, &s)
	t.known[string(b)] = &s
	return &s
}

func appendStep(b []byte, s *Step) []byte {
	if s == nil {
		return append(b, '-')
	}
	return binary.AppendUvarint(append(b, 's'), uint64(s.Index))
}

// appendValue writes a value so that different values have different bytes. It walks the type, so that a field added to
// an operation cannot be forgotten here.
func appendValue(b []byte, v reflect.Value) []byte {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			b = appendValue(b, v.Field(i))
		}
	case reflect.Slice:
		b = binary.AppendUvarint(b, uint64(v.Len()))
		for i := range v.Len() {
			b = appendValue(b, v.Index(i))
		}
	case reflect.Pointer:
		if v.IsNil() {
			return append(b, 0)
		}
		b = appendValue(append(b, 1), v.Elem())
	case reflect.String:
		b = append(binary.AppendUvarint(b, uint64(v.Len())), v.String()...)
	case reflect.Bool:
		if v.Bool() {
			return append(b, 1)
		}
		return append(b, 0)
	case reflect.Int, reflect.Int64:
		b = binary.AppendVarint(b, v.Int())
	case reflect.Uint32:
		b = binary.AppendUvarint(b, v.Uint())
	default:
		panic("planner: no key for " + v.Type().String())
	}
	return b
}

// needed returns the steps that result stands on and reads, itself last, numbered anew. A step comes after all that it
// needs, and otherwise where the build file has it.
func (t *steps) needed(result *Step) []*Step {
	if result == nil {
		return nil
	}
	keep := make([]bool, len(t.all))
	keep[result.Index] = true
	for i := result.Index; i >= 0; i-- { // a step is made after what it needs
		if !keep[i] {
			continue
		}
		if s := t.all[i]; s.On != nil {
			keep[s.On.Index] = true
		}
		for _, r := range t.all[i].Reads {
			keep[r.Index] = true
		}
	}
	var list []*Step
	for i, s := range t.all {
		if keep[i] {
			s.Index = len(list)
			list = append(list, s)
		}
	}
	return list
}
