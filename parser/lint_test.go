package parser

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"testing"
)

func TestWarnings(t *testing.T) {
	for _, test := range []struct{ text, check, want string }{
		{"FROM a\n", "", ""},
		{"FROM a AS B\n", "", "1 StageNameCasing"},
		{"FROM a as b\n", "", "1 FromAsCasing"},
		// What comes before a mistake, which is BuildKit's too: the name is looked at before it is refused.
		{"FROM a AS ${V}\n", "", "1 StageNameCasing, 1: invalid name for build stage: \"${V}\", name can't start with a number or contain symbols"},
		{"FROM a AS B\nMAINTAINER x\nRUM y\nMAINTAINER z\n", "", "1 StageNameCasing, 2 MaintainerDeprecated, 3: unknown instruction: RUM; did you mean RUN?"},
		{"from a as b\nrun x\n", "", ""},
		{"From a as b\n", "", "1 ConsistentInstructionCasing"},
		{"FROM a\nrun x\n", "", "2 ConsistentInstructionCasing"},
		{"from a\nRUN x\nrun y\n", "", "2 ConsistentInstructionCasing"},
		{"FROM a AS x\nFROM b AS x\nFROM c AS X\n", "", "3 StageNameCasing, 2 DuplicateStageName, 3 DuplicateStageName"},
		{"FROM a AS scratch\nFROM b AS context\n", "", "1 ReservedStageName, 2 ReservedStageName"},
		{"FROM a\nRUN x \\\n\n y\n", "", "4 NoEmptyContinuation"},
		{"FROM a\nMAINTAINER x\n", "", "2 MaintainerDeprecated"},
		{"# what\nFROM a AS b\n", "", ""},
		{"# check=experimental=all\n# what\nFROM a AS b\n# c is it\nARG c\n", "", "3 InvalidDefinitionDescription"},
		{"# check=experimental=InvalidDefinitionDescription\n# what\nFROM a AS b\n", "", "3 InvalidDefinitionDescription"},
		{"# check=skip=StageNameCasing\nFROM a AS B\nMAINTAINER x\n", "", "3 MaintainerDeprecated"},
		{"# check=skip=all\nFROM a AS B\nMAINTAINER x\n", "", ""},
		{"# check=skip=all\nFROM a AS B\n", "error=true", "1 StageNameCasing"},
		{"FROM a\n# check=skip=MaintainerDeprecated\nMAINTAINER x\nMAINTAINER y\n", "", "4 MaintainerDeprecated"},
	} {
		f, err := Parse("F", []byte(test.text), Options{Check: test.check})
		var list []string
		for _, w := range f.Warnings {
			line := w.Span.Start
			if strings.HasPrefix(test.text, "# check") && test.check != "" {
				line-- // for the table's sake
			}
			list = append(list, fmt.Sprintf("%d %s", line, w.Rule))
			if w.Description == "" || w.Detail == "" || w.URL == "" || len(w.Source) == 0 {
				t.Errorf("%q: %+v is incomplete", test.text, w)
			}
		}
		if err != nil {
			list = append(list, errText(err))
		}
		if got := strings.Join(list, ", "); got != test.want {
			t.Errorf("%q: %s, want %s", test.text, got, test.want)
		}
	}
}

func TestViolation(t *testing.T) {
	f, err := Parse("F", []byte("# check=error=true\nFROM a AS B\nMAINTAINER x\nMAINTAINER y\n"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if got, want := errText(f.Violation(f.Warnings)), "2: lint violation found for rules: StageNameCasing, MaintainerDeprecated"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if err := f.Violation(nil); err != nil {
		t.Error(err)
	}
	f.Check.ReturnAsError = false
	if err := f.Violation(f.Warnings); err != nil {
		t.Error(err)
	}
}

func TestSortWarnings(t *testing.T) {
	at := func(line int, rule, detail string) Warning {
		return Warning{Rule: rule, Detail: detail, Span: Span{Start: line}}
	}
	ws := []Warning{at(2, "B", "x"), at(1, "Z", "x"), at(2, "A", "y"), at(2, "A", "x")}
	SortWarnings(ws)
	var got []string
	for _, w := range ws {
		got = append(got, fmt.Sprint(w.Span.Start, w.Rule, w.Detail))
	}
	if got, want := strings.Join(got, " "), "1Zx 2Ax 2Ay 2Bx"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

func TestPrintWarnings(t *testing.T) {
	f, err := Parse("dir/F", []byte("FROM a AS B\nRUN 1\nRUN 2\nRUN 3\nRUN 4\nRUN 5\nMAINTAINER me \\\n  you\n"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := f.PrintWarnings(&b, f.Warnings); err != nil {
		t.Fatal(err)
	}
	const want = `
WARNING: StageNameCasing - https://docs.docker.com/go/dockerfile/rule/stage-name-casing/
Stage name 'B' should be lowercase
dir/F:1
--------------------
   1 | >>> FROM a AS B
   2 |     RUN 1
   3 |     RUN 2
--------------------

WARNING: MaintainerDeprecated - https://docs.docker.com/go/dockerfile/rule/maintainer-deprecated/
Maintainer instruction is deprecated in favor of using label
dir/F:7
--------------------
   6 |     RUN 5
   7 | >>> MAINTAINER me \
   8 | >>>   you
--------------------
`
	if got := b.String(); got != want {
		t.Errorf("%s\nwant %s", got, want)
	}
	b.Reset()
	if err := f.Quote(&b, Span{"x", 99, 99}); err != nil || b.Len() != 0 {
		t.Errorf("%q, %v for a line that is not there", b.String(), err)
	}
	if err := f.Quote(broken{}, Span{"x", 1, 1}); err == nil {
		t.Error("an error of the writer is lost")
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, io.ErrShortWrite }

// TestNearest: what a word is compared with is bounded.
func TestNearest(t *testing.T) {
	many := make([]string, 1000)
	for _, test := range []struct {
		word    string
		options []string
		want    string
	}{
		{"targt", []string{"source", "target"}, "target"},
		{"targt", append([]string{"target"}, many[1:]...), "target"},
		{"targt", append([]string{"target"}, many...), ""},
		{strings.Repeat("x", 64), []string{strings.Repeat("y", 1<<20), strings.Repeat("x", 63)}, strings.Repeat("x", 63)},
		{strings.Repeat("x", 65), []string{strings.Repeat("x", 64)}, ""},
	} {
		if got := Nearest(test.word, test.options); got != test.want {
			t.Errorf("Nearest(%.70q) = %.70q, want %.70q", test.word, got, test.want)
		}
	}
}
