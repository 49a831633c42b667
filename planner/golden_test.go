package planner

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/containerd/platforms"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/rogpeppe/go-internal/txtar"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/parser"
)

// update writes what the code says into testdata; run the tests with -update, then read the difference.
var update = flag.Bool("update", false, "write testdata anew")

// images is a Resolver that knows a few images and remembers what it was asked.
type images struct {
	mu    sync.Mutex
	asked []string
}

// known are the configurations of images by name.
var known = map[string]string{
	"img": `{"os":"linux","architecture":"amd64","author":"someone",
		"config":{"Env":["PATH=/bin","FOO=bar"],"WorkingDir":"/base","Cmd":["sh"],"Labels":{"l":"1"},"User":"u"},
		"rootfs":{"type":"layers","diff_ids":["sha256:aa","sha256:bb"]},
		"history":[{"created_by":"one"},{"created_by":"two","empty_layer":true},{"created_by":"three"}]}`,
	"plain": `{"os":"linux","architecture":"amd64","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:ab"]},
		"history":[{"created_by":"plain"}]}`,
	"entry": `{"os":"linux","architecture":"amd64","config":{"Entrypoint":["/e"],"Cmd":["c"],"Shell":["/bin/bash","-c"]},
		"rootfs":{"type":"layers","diff_ids":["sha256:ac"]},"history":[{"created_by":"entry"}]}`,
	"nohistory": `{"os":"linux","architecture":"amd64","config":{},
		"rootfs":{"type":"layers","diff_ids":["sha256:ad","sha256:ae"]}}`,
	"toomuch": `{"os":"linux","architecture":"amd64","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:af"]},
		"history":[{"created_by":"a"},{"created_by":"b"}]}`,
	"arm": `{"os":"linux","architecture":"arm64","variant":"v8","config":{},
		"rootfs":{"type":"layers","diff_ids":["sha256:ba"]},"history":[{"created_by":"arm"}]}`,
	"armv7": `{"os":"linux","architecture":"arm","variant":"v7","config":{},
		"rootfs":{"type":"layers","diff_ids":["sha256:bc"]},"history":[{"created_by":"armv7"}]}`,
	"onbuild": `{"os":"linux","architecture":"amd64","config":{"OnBuild":["ARG Q=1","COPY . /app","RUN make $Q",
		"COPY --from=plain /a /b","ONBUILD RUN later"]},
		"rootfs":{"type":"layers","diff_ids":["sha256:bd"]},"history":[{"created_by":"onbuild"}]}`,
	"badtrigger": `{"os":"linux","architecture":"amd64","config":{"OnBuild":["RNU x"]},
		"rootfs":{"type":"layers","diff_ids":["sha256:be"]},"history":[{"created_by":"x"}]}`,
	"empty":   `{"os":"linux","architecture":"amd64","config":{"Env":["X=1"]},"rootfs":{"type":"layers"}}`,
	"windows": `{"os":"windows","architecture":"amd64","config":{},"rootfs":{"type":"layers","diff_ids":["sha256:bf"]}}`,
}

func (r *images) Resolve(_ context.Context, ref string, p *ocispec.Platform) (*image.Image, error) {
	r.mu.Lock()
	r.asked = append(r.asked, ref+" "+platforms.Format(*p))
	r.mu.Unlock()
	parsed, err := image.ParseReference(strings.TrimPrefix(ref, "docker-image://"))
	if err != nil {
		return nil, err
	}
	name, _, _ := strings.Cut(strings.TrimPrefix(parsed.Path, "library/"), ":")
	text, ok := known[name]
	if !ok {
		return nil, fmt.Errorf("%s: not here: %w", ref, fs.ErrNotExist)
	}
	img := &image.Image{RawConfig: []byte(text)}
	if err := json.Unmarshal(img.RawConfig, &img.Config); err != nil {
		return nil, err
	}
	img.Descriptor.Digest = digest.FromString(text)
	img.Manifest.Layers = make([]ocispec.Descriptor, len(img.Config.RootFS.DiffIDs))
	return img, nil
}

// settings are the options of a case, in JSON.
type settings struct {
	Target, Platform, Network, Check string
	Args                             map[string]string
	Labels, Ignore, NoCache, Allow   []string
	Contexts                         map[string]Context
	All                              bool // check instead of planning
}

func (s settings) options(t testing.TB) Options {
	o := Options{
		Target: s.Target, BuildArgs: s.Args, Labels: s.Labels, Ignore: s.Ignore, NoCacheFilter: s.NoCache, Allow: s.Allow,
		Network: s.Network, Contexts: s.Contexts, Resolver: &images{},
		BuildPlatform: ocispec.Platform{OS: "linux", Architecture: "amd64"},
	}
	if s.Platform != "" {
		p, err := platforms.Parse(s.Platform)
		if err != nil {
			t.Fatal(err)
		}
		o.Platform = p
	}
	return o
}

func TestGolden(t *testing.T) {
	paths, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(paths) == 0 {
		t.Fatal(paths, err)
	}
	for _, path := range paths {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(path)
			if err != nil {
				t.Fatal(err)
			}
			in := map[string]string{}
			var inputs []txtar.File
			for _, f := range archive.Files {
				in[f.Name] = string(f.Data)
				if f.Name == "options.json" || f.Name == "Dockerfile" {
					inputs = append(inputs, f)
				}
			}
			var set settings
			if text := in["options.json"]; text != "" {
				if err := json.Unmarshal([]byte(text), &set); err != nil {
					t.Fatal(err)
				}
			}
			got := goldenOutput(t, []byte(in["Dockerfile"]), set)
			if *update {
				archive.Files = append(inputs, got...)
				if err := os.WriteFile(path, txtar.Format(archive), 0o666); err != nil {
					t.Fatal(err)
				}
				return
			}
			if n := len(archive.Files) - len(inputs); n != len(got) {
				t.Errorf("%d parts came out, the file has %d", len(got), n)
			}
			for _, f := range got {
				if want := in[f.Name]; want != string(f.Data) {
					t.Errorf("%s:\n%s\nwant:\n%s", f.Name, f.Data, want)
				}
			}
		})
	}
}

// goldenOutput is everything that planning a file says, as files.
func goldenOutput(t *testing.T, text []byte, set settings) []txtar.File {
	f, err := parser.Parse("Dockerfile", text, parser.Options{Check: set.Check})
	var g *Graph
	warnings := f.Warnings
	if err == nil && set.All {
		warnings, err = Check(t.Context(), f, set.options(t))
	} else if err == nil {
		g, err = Plan(t.Context(), f, set.options(t))
		warnings = g.Warnings
	}
	var out []txtar.File
	add := func(name, text string) {
		if text != "" {
			out = append(out, txtar.File{Name: name, Data: []byte(text)})
		}
	}
	add("error", describe(t, err))
	if err == nil && g != nil {
		checkGraph(t, g)
		add("plan", dump(g))
		config, err := json.MarshalIndent(g.Config, "", " ")
		if err != nil {
			t.Fatal(err)
		}
		add("config", string(config)+"\n")
	}
	var b strings.Builder
	for _, w := range warnings {
		fmt.Fprintf(&b, "%s: %s: %s\n", w.Span, w.Rule, w.Detail)
	}
	add("warnings", b.String())
	return out
}

// describe writes an error with its line and its hint, and insists that it has a place.
func describe(t *testing.T, err error) string {
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*parser.Error](err)
	if !ok {
		t.Errorf("%v is no *parser.Error", err)
		return err.Error() + "\n"
	}
	text := err.Error() + "\n  " + e.Source + "\n"
	if e.Hint != "" {
		text += "  " + e.Hint + "\n"
	}
	return text
}

// checkGraph tests what holds for every graph.
func checkGraph(t *testing.T, g *Graph) {
	t.Helper()
	for i, s := range g.Steps {
		if s.Index != i || s.Op == nil || s.Name == "" || s.Span.Start == 0 {
			t.Errorf("step %d is %+v", i, s)
		}
		for _, r := range append(slices.Clone(s.Reads), cmp.Or(s.On, g.Steps[0])) {
			if r == nil || r.Index >= i && i > 0 || r != g.Steps[r.Index] {
				t.Errorf("step %d needs %+v", i, r)
			}
		}
	}
	layers, entries := 0, 0
	for s := g.Result; s != nil; s = s.On {
		if base, ok := s.Op.(*Base); ok {
			layers += len(base.Image.Layers())
			continue
		}
		layers++
	}
	for _, h := range g.Config.History {
		if !h.EmptyLayer {
			entries++
		}
	}
	if layers != entries {
		t.Errorf("%d layers, and a history of %d", layers, entries)
	}
}

// dump writes a graph with everything in it that is not zero.
func dump(g *Graph) string {
	var b strings.Builder
	for _, s := range g.Steps {
		fmt.Fprintf(&b, "%d %s", s.Index, s.Kind())
		if inputs := s.inputs(); inputs != "" {
			fmt.Fprintf(&b, ", %s", inputs)
		}
		if s.NoCache {
			b.WriteString(", no cache")
		}
		fmt.Fprintf(&b, "\n  %s: %s: %s\n", s.Span, s.Stage, s.Name)
		if _, ok := s.Op.(*Base); !ok {
			dumpFields(&b, "  ", reflect.ValueOf(s.Op).Elem())
		}
	}
	if g.Result != nil && g.Result.Index != len(g.Steps)-1 {
		fmt.Fprintf(&b, "result %d\n", g.Result.Index)
	}
	return b.String()
}

func dumpFields(b *strings.Builder, indent string, v reflect.Value) {
	for i := range v.NumField() {
		field, name := v.Field(i), v.Type().Field(i).Name
		if field.Kind() == reflect.Pointer && !field.IsNil() {
			field = field.Elem()
		} else if field.IsZero() {
			continue
		}
		switch {
		case field.Kind() == reflect.Struct:
			fmt.Fprintf(b, "%s%s\n", indent, name)
			dumpFields(b, indent+"  ", field)
		case field.Kind() == reflect.Slice && field.Type().Elem().Kind() == reflect.Struct:
			for k := range field.Len() {
				fmt.Fprintf(b, "%s%s[%d]\n", indent, name, k)
				dumpFields(b, indent+"  ", field.Index(k))
			}
		case name == "Mode":
			fmt.Fprintf(b, "%s%s %#o\n", indent, name, field.Interface())
		default:
			text, _ := json.Marshal(field.Interface()) // strings and numbers, and lists of them
			fmt.Fprintf(b, "%s%s %s\n", indent, name, text)
		}
	}
}
