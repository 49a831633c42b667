package planner

import (
	"bytes"
	"io"
	"os"
	"strings"
	"testing"
)

const printed = `# not a description
ARG VERSION=1
# TAG is derived
ARG TAG=v${VERSION}
# base is what others build on
FROM plain:${TAG} AS base
# WHO to greet
ARG WHO=world
RUN --mount=type=secret,id=s,required --mount=type=ssh echo $WHO
FROM img AS unused
ARG NOT
# final is the result
FROM scratch AS final
COPY --from=base /a /b
COPY --from=img c d
COPY e f
RUN --mount=type=secret,id=t --mount=from=base,target=/base a very long command that has to be cut somewhere or lines get long
CMD run
`

func TestPrint(t *testing.T) {
	f := parse(t, printed)
	opt := Options{Resolver: &images{}, BuildPlatform: amd64}
	g, err := Plan(t.Context(), f, opt)
	if err != nil {
		t.Fatal(err)
	}
	opt.BuildArgs = map[string]string{"WHO": "you"}
	outline, err := NewOutline(t.Context(), f, opt)
	if err != nil {
		t.Fatal(err)
	}
	cached := func(s *Step) string {
		if s.Index == 1 {
			return "cached"
		}
		return ""
	}
	for name, write := range map[string]func(io.Writer) error{
		"plan.txt":     func(w io.Writer) error { return Print(w, g, nil) },
		"cached.txt":   func(w io.Writer) error { return Print(w, g, cached) },
		"plan.json":    func(w io.Writer) error { return g.Document(cached).JSON(w) },
		"outline.txt":  outline.Text,
		"outline.json": outline.JSON,
		"targets.txt":  NewTargets(f).Text,
		"targets.json": NewTargets(f).JSON,
		"check.txt":    func(w io.Writer) error { return f.PrintWarnings(w, g.Warnings) },
	} {
		var got bytes.Buffer
		if err := write(&got); err != nil {
			t.Fatal(err)
		}
		if err := write(full{}); err == nil {
			t.Errorf("%s: an error of the writer is lost", name)
		}
		path := "testdata/print/" + name
		if *update {
			if err := os.WriteFile(path, got.Bytes(), 0o666); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got.Bytes(), want) {
			t.Errorf("%s:\n%s\nwant:\n%s", name, got.Bytes(), want)
		}
	}
}

// full is a writer without room.
type full struct{}

func (full) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

func TestPrintNothing(t *testing.T) {
	g, err := Plan(t.Context(), parse(t, "FROM scratch\n"), Options{BuildPlatform: amd64})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := Print(&b, g, nil); err != nil {
		t.Fatal(err)
	}
	if want := "result: the empty file system, linux/amd64\n"; b.String() != want {
		t.Errorf("%q, want %q", b.String(), want)
	}
}

// TestPrintKeepsSecrets holds that a plan for programs shows neither a token of an address nor a proxy.
func TestPrintKeepsSecrets(t *testing.T) {
	const file = "FROM scratch\nADD https://sesame@h/x.git /g\nADD https://h/x?sig=sesame /u\nFROM plain\nCOPY --from=0 / /\nRUN x\n"
	g, err := Plan(t.Context(), parse(t, file), Options{
		Resolver: &images{}, BuildArgs: map[string]string{"http_proxy": "http://ann:sesame@proxy"},
	})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := g.Document(nil).JSON(&b); err != nil {
		t.Fatal(err)
	}
	if strings.Contains(b.String(), "sesame") || !strings.Contains(b.String(), "https://xxxxx@h/x.git") {
		t.Error(b.String())
	}
	for _, s := range g.Steps {
		if c, ok := s.Op.(*Copy); ok && c.Sources[0].Git != nil && c.Sources[0].Git.Remote != "https://sesame@h/x.git" {
			t.Error("the plan itself has lost the token")
		}
	}
}
