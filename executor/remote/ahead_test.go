package remote

import (
	"fmt"
	"strings"
	"testing"

	"github.com/forge-build/forge/cache/cas"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/reapi"
	"github.com/forge-build/forge/internal/reapi/reapitest"
	"github.com/forge-build/forge/planner"
)

// A chained is steps that stand on each other, which machines that have nothing have done by a server.
type chained struct {
	t      *testing.T
	server *reapitest.Server
	client *reapi.Client
	base   image.Layer
}

func newChained(t *testing.T, s *reapitest.Server) *chained {
	s.Execute = pretend
	return &chained{t: t, server: s, client: dial(t, s), base: tarWith("base")}
}

// build builds so many steps by a machine that has nothing but the base. The last one may be another.
func (c *chained) build(steps int, last string) (w *Worker, img *executor.Image) {
	c.t.Helper()
	m := newMachine(c.t)
	m.layer(c.t, "base")
	w = m.worker(c.t, dialAgain(c.t, c.client), Only)
	g := stepsOn(c.base, steps, func(i int) int { return i - 1 })
	if last != "" {
		g.Result.Op = run(last)
	}
	images, err := executor.Build(c.t.Context(), []*planner.Graph{g}, buildOptions(w))
	if err != nil {
		c.t.Fatal(err)
	}
	w.Cluster.Keep(c.t.Context())
	return w, images[0]
}

// name is the name of the list that the first step has.
func (c *chained) name(w *Worker) string {
	c.t.Helper()
	key, err := (&executor.Job{On: []image.Layer{c.base}, Op: run("1")}).Key()
	if err != nil {
		c.t.Fatal(err)
	}
	name, err := w.Cluster.afterName(&chain{key: key.Key()})
	if err != nil {
		c.t.Fatal(err)
	}
	return name
}

// TestAhead holds that steps which stand on each other are looked up at once and once each, that one which has changed is done and its
// list is kept anew, and that a list which has stayed is not written again.
func TestAhead(t *testing.T) {
	t.Parallel()
	const steps = 20
	c := newChained(t, &reapitest.Server{})
	w, first := c.build(steps, "")
	if n := c.server.Calls(""); n > 3*steps+10 {
		t.Errorf("%d calls for %d steps", n, steps)
	}
	bucket := cas.Bucket{Client: c.client}
	list, err := bucket.Read(t.Context(), c.name(w))
	if err != nil || strings.Count(string(list), "\n") != steps-2 {
		t.Fatalf("list %q, %v", list, err)
	}
	asked, written := c.server.Calls("GetActionResult"), c.server.Calls("UpdateActionResult")
	_, again := c.build(steps, "")
	if n := c.server.Calls("GetActionResult") - asked; again.Done != 0 || c.server.Executed() != steps || n != steps+1 {
		t.Errorf("again: %d steps were not known, %d look-ups", again.Done, n)
	}
	if image.ChainID(again.Layers) != image.ChainID(first.Layers) || c.server.Calls("UpdateActionResult") != written {
		t.Error("it comes to something else, or is written again")
	}
	w, other := c.build(steps, "another")
	if other.Reused != steps-1 || c.server.Executed() != steps+1 {
		t.Errorf("with another last step: %d steps are known, %d executed", other.Reused, c.server.Executed()-steps)
	}
	if now, err := bucket.Read(t.Context(), c.name(w)); err != nil || string(now) == string(list) {
		t.Errorf("the list has stayed: %v", err)
	}
}

// TestAheadLies holds that a list that is wrong costs time and no more.
func TestAheadLies(t *testing.T) {
	t.Parallel()
	const steps = 5
	c := newChained(t, &reapitest.Server{})
	w, first := c.build(steps, "")
	_, other := c.build(steps, "another")
	var others []string
	for _, d := range c.server.Results() {
		others = append(others, d.String(), onlyInput+d.String())
	}
	var absent strings.Builder
	for i := range 3 * maxAhead {
		fmt.Fprintf(&absent, "%064x/%d\n", i, i)
	}
	for what, list := range map[string]string{
		"nothing": "", "noise": "\x00\xff\n\n/\ninput/\n1/2", "what is not there": absent.String(), "what belongs to others": strings.Join(others, "\n"),
		"a path": "../../" + others[0], "one, again and again": strings.Repeat(others[0]+"\n", 1000),
	} {
		if err := (cas.Bucket{Client: c.client}).Write(t.Context(), c.name(w), []byte(list)); err != nil {
			t.Fatal(err)
		}
		asked := c.server.Calls("GetActionResult")
		_, again := c.build(steps, "")
		if again.Done != 0 || image.ChainID(again.Layers) != image.ChainID(first.Layers) || image.ChainID(again.Layers) == image.ChainID(other.Layers) {
			t.Errorf("%s: %d steps were not known, or it comes to something else", what, again.Done)
		}
		if n := c.server.Calls("GetActionResult") - asked; n > maxAhead+2*steps {
			t.Errorf("%s: %d look-ups", what, n)
		}
	}
}

// TestAheadReadOnly holds that nothing is left on a server that takes no names.
func TestAheadReadOnly(t *testing.T) {
	t.Parallel()
	c := newChained(t, &reapitest.Server{ReadOnly: true})
	c.build(5, "")
	if _, again := c.build(5, ""); again.Done != 0 || c.server.Calls("UpdateActionResult") != 0 {
		t.Errorf("%d steps were not known, %d names were given", again.Done, c.server.Calls("UpdateActionResult"))
	}
}
