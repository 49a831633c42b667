package planner

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/parser"
)

func parse(t testing.TB, text string) *parser.File {
	t.Helper()
	f, err := parser.Parse("Dockerfile", []byte(text), parser.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// TestExpand holds every form of expansion to testdata/expand.txt.
func TestExpand(t *testing.T) {
	const path = "testdata/expand.txt"
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	for i, line := range lines {
		at := strings.LastIndex(line, " => ")
		if strings.HasPrefix(line, "# ") || at < 0 {
			continue
		}
		word, want := line[:at], line[at+4:]
		got := expandLabel(t, word)
		if *update {
			lines[i] = word + " => " + got
		} else if got != want {
			t.Errorf("%s => %s, want %s", word, got, want)
		}
	}
	if *update {
		if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o666); err != nil {
			t.Fatal(err)
		}
	}
}

func expandLabel(t *testing.T, word string) string {
	text := "FROM scratch\nENV A=abc E= S=foo/bar.tar.gz W=\"x*y\" F=foo/\nARG D\nLABEL x=" + word + "\n"
	f, err := parser.Parse("Dockerfile", []byte(text), parser.Options{})
	var g *Graph
	if err == nil {
		g, err = Plan(t.Context(), f, Options{})
	}
	if err != nil {
		e, ok := errors.AsType[*parser.Error](err)
		if !ok || e.Span.Start != 4 {
			t.Errorf("%s: error %v is not at line 4", word, err)
			return err.Error()
		}
		return "error: " + e.Err.Error()
	}
	var b strings.Builder
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(g.Config.Config.Labels["x"]); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(b.String())
}

func TestResolveOnlyWhatIsNeeded(t *testing.T) {
	f := parse(t, `
FROM plain AS a
FROM nothere AS unused
FROM plain AS b
COPY --from=a x y
FROM --platform=linux/arm64 plain AS c
FROM img
COPY --from=b x y
COPY --from=c x y
RUN --mount=from=arm,target=/m x
`)
	r := &images{}
	if _, err := Plan(t.Context(), f, Options{Resolver: r, BuildPlatform: amd64}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(r.asked)
	want := []string{"arm linux/amd64", "img linux/amd64", "plain linux/amd64", "plain linux/arm64"}
	if !slices.Equal(r.asked, want) {
		t.Errorf("asked for %q, want %q", r.asked, want)
	}
}

var amd64 = ocispec.Platform{OS: "linux", Architecture: "amd64"}

// slow takes a second for every image, and refuses those called missing, the later the sooner.
type slow struct{ images }

func (r *slow) Resolve(ctx context.Context, ref string, p *ocispec.Platform) (*image.Image, error) {
	switch ref {
	case "missing-1":
		time.Sleep(3 * time.Second)
		return nil, fs.ErrNotExist
	case "missing-2":
		return nil, fs.ErrNotExist
	}
	time.Sleep(time.Second)
	return r.images.Resolve(ctx, ref, p)
}

func TestResolveAtOnce(t *testing.T) {
	f := parse(t, "FROM plain AS a\nFROM img AS b\nFROM arm AS c\nFROM entry\nCOPY --from=a x y\nCOPY --from=b x y\nCOPY --from=c x y\n")
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if _, err := Plan(t.Context(), f, Options{Resolver: &slow{}}); err != nil {
			t.Fatal(err)
		}
		if took := time.Since(start); took != time.Second {
			t.Errorf("four images took %v, want the time of one", took)
		}
	})
}

func TestResolveFirstError(t *testing.T) {
	f := parse(t, "FROM missing-1 AS a\nFROM missing-2 AS b\nFROM scratch\nCOPY --from=a x y\nCOPY --from=b x y\n")
	synctest.Test(t, func(t *testing.T) {
		_, err := Plan(t.Context(), f, Options{Resolver: &slow{}})
		if e, ok := errors.AsType[*parser.Error](err); !ok || e.Span.Start != 1 || !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%v, want the first of the file", err)
		}
	})
}

func TestResolverMissing(t *testing.T) {
	_, err := Plan(t.Context(), parse(t, "FROM plain\n"), Options{})
	if !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%v, want fs.ErrNotExist", err)
	}
}

func TestCanceled(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := Plan(ctx, parse(t, "FROM plain\n"), Options{Resolver: canceled{}})
	if _, ok := errors.AsType[*parser.Error](err); ok || !errors.Is(err, context.Canceled) {
		t.Errorf("%v is nobody's mistake in the file", err)
	}
}

type canceled struct{}

func (canceled) Resolve(ctx context.Context, _ string, _ *ocispec.Platform) (*image.Image, error) {
	return nil, ctx.Err()
}

// TestPlanLeavesItsInputs plans one file many times at once, for different platforms and args, and each plan is as if
// it were alone. The race detector finds what the comparison does not.
func TestPlanLeavesItsInputs(t *testing.T) {
	const text = `
ARG NAME=plain
FROM ${NAME} AS a
ARG V=1
ONBUILD RUN --mount=type=cache,id=$V,target=/$V x
RUN --mount=type=cache,id=$V,target=/$V y
COPY --chown=$V a$V b$V
EXPOSE 90 80
FROM a
ENV X=$V Y=$X
LABEL z=$V
HEALTHCHECK CMD $V
COPY <<E /e
$V
E
`
	f := parse(t, text)
	args := func(i int) map[string]string { return map[string]string{"V": fmt.Sprint(i)} }
	want := make([]string, 8)
	for i := range want {
		alone, err := Plan(t.Context(), parse(t, text), Options{Resolver: &images{}, BuildArgs: args(i), BuildPlatform: amd64})
		if err != nil {
			t.Fatal(err)
		}
		want[i] = dump(alone) + describeConfig(t, alone)
	}
	var wait sync.WaitGroup
	for i := range want {
		wait.Go(func() {
			given := args(i)
			g, err := Plan(t.Context(), f, Options{Resolver: &images{}, BuildArgs: given, BuildPlatform: amd64})
			if err != nil {
				t.Error(err)
				return
			}
			if got := dump(g) + describeConfig(t, g); got != want[i] {
				t.Errorf("together:\n%s\nalone:\n%s", got, want[i])
			}
			if !reflect.DeepEqual(given, args(i)) {
				t.Errorf("args became %v", given)
			}
		})
	}
	wait.Wait()
}

func describeConfig(t *testing.T, g *Graph) string {
	text, err := json.Marshal(g.Config)
	if err != nil {
		t.Error(err)
	}
	return string(text)
}

func TestEpoch(t *testing.T) {
	for _, test := range []struct {
		text string
		args map[string]string
		want string // Graph.Epoch and what a stage sees
	}{
		{"FROM scratch\n", nil, "<nil> -"},
		{"FROM scratch\nARG SOURCE_DATE_EPOCH=7\n", nil, "<nil> 7"},
		{"ARG SOURCE_DATE_EPOCH=7\nFROM scratch\n", nil, "7 -"},
		{"ARG SOURCE_DATE_EPOCH=7\nFROM scratch\nARG SOURCE_DATE_EPOCH\n", nil, "7 7"},
		{"FROM scratch\nARG SOURCE_DATE_EPOCH\n", map[string]string{"SOURCE_DATE_EPOCH": "8"}, "8 8"},
		{"ARG SOURCE_DATE_EPOCH=7\nFROM scratch\nARG SOURCE_DATE_EPOCH\n", map[string]string{"SOURCE_DATE_EPOCH": "008"}, "8 8"},
		{"FROM scratch\nARG SOURCE_DATE_EPOCH\n", map[string]string{"SOURCE_DATE_EPOCH": ""}, "<nil> -"},
		{"FROM scratch\nARG SOURCE_DATE_EPOCH\n", map[string]string{"SOURCE_DATE_EPOCH": "context"}, "9 9"},
		{"ARG SOURCE_DATE_EPOCH=context\nFROM scratch\nARG SOURCE_DATE_EPOCH\n", nil, "9 9"},
	} {
		g, err := Plan(t.Context(), parse(t, test.text+"LABEL e=${SOURCE_DATE_EPOCH:--}\n"),
			Options{BuildArgs: test.args, ContextTime: func(context.Context) (*time.Time, error) { return new(time.Unix(9, 0)), nil }})
		if err != nil {
			t.Fatal(err)
		}
		got := "<nil>"
		if g.Epoch != nil {
			got = fmt.Sprint(g.Epoch.Unix())
		}
		if got += " " + g.Config.Config.Labels["e"]; got != test.want {
			t.Errorf("%q with %v: %s, want %s", test.text, test.args, got, test.want)
		}
	}
}

func TestOptionErrors(t *testing.T) {
	for _, test := range []struct {
		opt  Options
		want string
	}{
		{Options{Platform: ocispec.Platform{OS: "windows", Architecture: "amd64"}}, "platform windows/amd64: only linux images are built here"},
		{Options{Network: "bridge"}, `network mode "bridge": not default, none or host`},
		{Options{Labels: []string{"=x"}}, `label "=x" has no name`},
		{Options{Ignore: []string{"["}}, "ignore patterns: syntax error in pattern"},
	} {
		if _, err := Plan(t.Context(), parse(t, "FROM scratch\n"), test.opt); err == nil || err.Error() != test.want {
			t.Errorf("%v, want %s", err, test.want)
		}
	}
}

func TestCheckReturnsBoth(t *testing.T) {
	f := parse(t, "FROM plain AS Big\nSTOPSIGNAL NOPE\n")
	warnings, err := Check(t.Context(), f, Options{Resolver: &images{}, BuildPlatform: amd64})
	if err == nil || len(warnings) != 1 || warnings[0].Rule != "StageNameCasing" {
		t.Errorf("warnings %v, error %v: want both", warnings, err)
	}
}

func TestJoinGraphs(t *testing.T) {
	file := parse(t, "FROM --platform=$BUILDPLATFORM scratch AS b\nCOPY a /\nFROM scratch\nARG TARGETARCH\nCOPY --from=b a /$TARGETARCH")
	var graphs []*Graph
	for _, arch := range []string{"amd64", "arm64"} {
		g, err := Plan(t.Context(), file, Options{Platform: ocispec.Platform{OS: "linux", Architecture: arch}})
		if err != nil {
			t.Fatal(err)
		}
		graphs = append(graphs, g)
	}
	joined := Join(graphs)
	a, b := joined[0], joined[1]
	if len(a.Steps) != 3 || len(b.Steps) != 3 || a.Result != a.Steps[1] || b.Result != b.Steps[2] || a.Result.Reads[0] != b.Result.Reads[0] {
		t.Errorf("joined graphs have %d and %d steps, results %d and %d", len(a.Steps), len(b.Steps), a.Result.Index, b.Result.Index)
	}
	for i, s := range b.Steps {
		if s.Index != i {
			t.Errorf("step %d has index %d", i, s.Index)
		}
	}
	if len(graphs[1].Steps) != 2 || graphs[1].Result.Index != 1 {
		t.Error("Join writes to the graphs that it joins")
	}
}
