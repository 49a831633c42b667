package parser

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// TestErrors has every way in which a file cannot be read: the message, after file and line, and the hint.
func TestErrors(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"", "1: the Dockerfile cannot be empty"},
		{"# only\n# comments\n", "1: file with no instructions"},
		{"\n \n\t\n", "1: file with no instructions"},
		{"ARG A\n# c\nARG B=1\n", "3: dockerfile contains no stages to build"},
		{"RUN x\nFROM a\n", "1: no build stage in current context: RUN comes before the first FROM"},
		{"FROM a\nRNU x\n", "2: unknown instruction: RNU; did you mean RUN?"},
		{"FROM a\nrnu x\n", "2: unknown instruction: rnu; did you mean run?"},
		{"FROM a\nFROMM b\n", "2: unknown instruction: FROMM; did you mean FROM?"},
		{"FROM a\nXYZZY b\n", "2: unknown instruction: XYZZY"},
		{"FROM a\nRUN a \\\n b \\\n", ""},
		{"FROM a\nRUN --mont=type=cache,target=/x make\n", "2: RUN has no flag --mont; did you mean --mount?"},
		{"FROM a\nCOPY --form=b c d\n", "2: COPY has no flag --form; did you mean --from?"},
		{"FROM a\nCOPY --zzzzzzz=b c d\n", "2: COPY has no flag --zzzzzzz"},
		{"FROM a\nADD --parents c d\n", "2: ADD has no flag --parents"},
		{"FROM a\nENV --x=y A=b\n", "2: ENV has no flag --x"},
		{"FROM --platfrom=x a\n", "1: FROM has no flag --platfrom; did you mean --platform?"},
		{"FROM a\nHEALTHCHECK --intervall=1s CMD x\n", "2: HEALTHCHECK has no flag --intervall; did you mean --interval?"},
		{"FROM a\nCOPY --chown=1 --chown=2 a b\n", "2: duplicate flag specified: --chown"},
		{"FROM a\nCOPY --link=maybe a b\n", "2: expecting boolean value for flag --link, not: maybe"},
		{"FROM a\nCOPY --link= a b\n", "2: missing a value on flag: --link"},
		{"FROM a\nCOPY --chown a b\n", "2: missing a value on flag: --chown"},
		{"FROM a\nCOPY --link --parents=false a b\n", ""},
		{"FROM a\nRUN --mount=type=cache,target=/x,sharing=shared,from=$X y\n", "2: 'from' doesn't support variable expansion, define alias stage instead"},
		{"FROM a\nRUN --network=bridge x\n", `2: invalid network mode "bridge"`},
		{"FROM a\nRUN --security=none x\n", `2: security "none" is not valid`},
		{"FROM a\nCOPY a\n", "2: COPY requires at least two arguments, but only one was provided. Destination could not be determined"},
		{"FROM a\nADD\n", "2: ADD requires at least two arguments, but only one was provided. Destination could not be determined"},
		{"FROM a\nCOPY a <<E\nx\nE\n", "2: COPY cannot accept a heredoc as a destination"},
		{"FROM a b c d\n", "1: FROM requires either one or three arguments"},
		{"FROM\n", "1: FROM requires either one or three arguments"},
		{"FROM a AS 1x\n", `1: invalid name for build stage: "1x", name can't start with a number or contain symbols`},
		{"FROM a AS x/y\n", `1: invalid name for build stage: "x/y", name can't start with a number or contain symbols`},
		{"FROM a AS x-1_y.z\n", ""},
		{"FROM a\nENV A\n", "2: ENV must have two arguments"},
		{"FROM a\nENV\n", "2: ENV requires at least one argument"},
		{"FROM a\nENV =x\n", "2: ENV names can not be blank"},
		{"FROM a\nENV A=1 B\n", `2: Syntax error - can't find = in "B". Must be of the form: name=value`},
		{"FROM a\nLABEL\n", "2: LABEL requires at least one argument"},
		{"FROM a\nARG\n", "2: ARG requires at least one argument"},
		{"FROM a\nARG =x\n", "2: ARG names can not be blank"},
		{"FROM a\nEXPOSE\n", "2: EXPOSE requires at least one argument"},
		{"FROM a\nVOLUME\n", "2: VOLUME requires at least one argument"},
		{"FROM a\nVOLUME [\"\"]\n", "2: VOLUME specified can not be an empty string"},
		{"FROM a\nUSER\n", "2: USER requires exactly one argument"},
		{"FROM a\nWORKDIR\n", "2: WORKDIR requires exactly one argument"},
		{"FROM a\nSTOPSIGNAL\n", "2: STOPSIGNAL requires exactly one argument"},
		{"FROM a\nMAINTAINER\n", "2: MAINTAINER requires exactly one argument"},
		{"FROM a\nRUN\nCMD\n", ""},
		{"FROM a\nSHELL bash -c\n", "2: SHELL requires the arguments to be in JSON form"},
		{"FROM a\nSHELL []\n", "2: SHELL requires at least one argument"},
		{"FROM a\nHEALTHCHECK\n", "2: HEALTHCHECK requires at least one argument"},
		{"FROM a\nHEALTHCHECK CMD\n", "2: Missing command after HEALTHCHECK CMD"},
		{"FROM a\nHEALTHCHECK NONE x\n", "2: HEALTHCHECK NONE takes no arguments"},
		{"FROM a\nHEALTHCHECK EXEC x\n", `2: Unknown type "EXEC" in HEALTHCHECK (try CMD)`},
		{"FROM a\nHEALTHCHECK --interval=1us CMD x\n", `2: Interval "interval" cannot be less than 1ms`},
		{"FROM a\nHEALTHCHECK --retries=-1 CMD x\n", "2: --retries cannot be negative (-1)"},
		{"FROM a\nONBUILD\n", "2: ONBUILD requires at least one argument"},
		{"FROM a\nONBUILD ONBUILD RUN x\n", "2: Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"},
		{"FROM a\nONBUILD FROM b\n", "2: FROM isn't allowed as an ONBUILD trigger"},
		{"FROM a\nONBUILD maintainer b\n", "2: MAINTAINER isn't allowed as an ONBUILD trigger"},
		{"FROM a\nCMD [\"a\", 1]\n", "2: when using JSON array syntax, arrays must be comprised of strings only"},
		{"FROM a\nRUN <<E\nnever\n", "2: unterminated heredoc"},
		{"FROM a\nRUN <<E;\nx\nE\n", "2: unterminated heredoc"},
		{"FROM a\nRUN <<E;\nx\nE;\n", ""},
		{"# escape=x\nFROM a\n", "1: invalid escape token 'x' does not match ` or \\"},
		{"# escape=`\n# escape=\\\nFROM a\n", "2: only one escape parser directive can be used"},
		{"# syntax=docker/dockerfile:1\n# syntax=docker/dockerfile:1\nFROM a\n", "2: only one syntax parser directive can be used"},
		{"# check=skp=all\nFROM a\n", `1: check directive: invalid check option "skp"`},
		{"# a\n# check=skp=all\nFROM a\n", ""},
		{"# syntax=me/frontend:1\nFROM a\n", "1: syntax me/frontend:1 is a foreign frontend; only docker/dockerfile is read here; remove the directive, or write # syntax=docker/dockerfile:1"},
		{"# escape=`\n# syntax=docker/other\nFROM a\n", "2: syntax docker/other is a foreign frontend; only docker/dockerfile is read here; remove the directive, or write # syntax=docker/dockerfile:1"},
		{"// syntax=x\nFROM a\n", "1: syntax x is a foreign frontend; only docker/dockerfile is read here; remove the directive, or write # syntax=docker/dockerfile:1"},
		{"{\"syntax\":\"x\"}", "1: syntax x is a foreign frontend; only docker/dockerfile is read here; remove the directive, or write # syntax=docker/dockerfile:1"},
		{"FROM a\nRUN \xff\n", "2: not valid UTF-8"},
		{"FROM a\n# \xff\nRUN x\n", ""},
		{"FROM a\nRUN a\x00b\n", "2: a NUL byte"},
		{"FROM a\nRUN x\nRUN " + strings.Repeat("x", 65532) + "\n", "3: dockerfile line greater than max allowed size of 65535"},
		{"FROM a\nRUN x\nRUN " + strings.Repeat("x", 65531) + "\n", ""},
	} {
		_, err := Parse("F", []byte(test.text), Options{})
		if got := errText(err); got != test.want {
			t.Errorf("%.80q:\n got %s\nwant %s", test.text, got, test.want)
		}
	}
}

// errText is an error without its file, and its hint after a semicolon.
func errText(err error) string {
	if err == nil {
		return ""
	}
	e, ok := errors.AsType[*Error](err)
	if !ok {
		return "not an *Error: " + err.Error()
	}
	text := strings.TrimPrefix(err.Error(), "F:")
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

func TestErrorSource(t *testing.T) {
	_, err := Parse("dir/F", []byte("FROM a\r\n# c\r\nRUN --mont=x \\\r\n  y\r\n"), Options{})
	e, ok := errors.AsType[*Error](err)
	if !ok {
		t.Fatal(err)
	}
	if want := (Span{"dir/F", 3, 4}); e.Span != want || e.Source != `RUN --mont=x \` || e.Span.String() != "dir/F:3" {
		t.Errorf("%+v %q", e.Span, e.Source)
	}
}

func TestSyntax(t *testing.T) {
	for _, test := range []struct {
		directive, option string
		ok                bool
	}{
		{"docker/dockerfile", "", true},
		{"docker/dockerfile:1", "", true},
		{"docker/dockerfile:1.7-labs", "", true},
		{"docker.io/docker/dockerfile:1.4@sha256:" + strings.Repeat("a", 64), "", true},
		{"index.docker.io/docker/dockerfile:1", "", true},
		{"docker/dockerfile-upstream:master", "", true},
		{"docker/dockerfile:1 # with a comment", "", true},
		{"localhost:5000/docker/dockerfile:1", "", false},
		{"docker/dockerfiles:1", "", false},
		{"mydocker/dockerfile", "", false},
		{"docker/dockerfile:1", "me/other", false},
		{"me/other", "docker/dockerfile:1", true},
	} {
		_, err := Parse("F", []byte("# syntax = "+test.directive+"\nFROM a\n"), Options{Syntax: test.option})
		if (err == nil) != test.ok {
			t.Errorf("syntax %q, option %q: %v", test.directive, test.option, err)
		}
	}
}

// TestDirectives: they count only before the first comment, blank or instruction.
func TestDirectives(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"#escape=`\nFROM a\n", "` escape=`:1"},
		{"# eScApE = ` \nFROM a\n", "` escape=`:1"},
		{"\uFEFF# escape=`\nFROM a\n", "` escape=`:1"},
		{"# check=skip=all\n# escape=`\n#syntax=docker/dockerfile:1\nFROM a\n", "` check=skip=all:1 escape=`:2 syntax=docker/dockerfile:1:3"},
		{"# comment\n# escape=`\nFROM a\n", `\`},
		{"\n# escape=`\nFROM a\n", `\`},
		{"# other=1\n# escape=`\nFROM a\n", `\`},
		{"FROM a\n# escape=`\n", `\`},
		{"# escape=`\r\nFROM a\r\n", "` escape=`:1"},
	} {
		f, err := Parse("F", []byte(test.text), Options{})
		if err != nil {
			t.Errorf("%q: %v", test.text, err)
			continue
		}
		got := string(f.Escape)
		for _, d := range f.Directives {
			got += fmt.Sprintf(" %s=%s:%d", d.Name, d.Value, d.Line)
		}
		if got != test.want {
			t.Errorf("%q: %s, want %s", test.text, got, test.want)
		}
	}
}

// TestRead reads one RUN, COPY or CMD after a FROM.
func TestRead(t *testing.T) {
	for _, test := range []struct{ text, want string }{
		{"RUN a", `shell ["a"]`},
		{"RUN a \\\n b", `shell ["a  b"]`},
		{"RUN a \\  \n b", `shell ["a  b"]`},
		{"RUN a \\\n# comment\n  # another\n b", `shell ["a  b"]`},
		{"RUN a \\\n\n\n b", `shell ["a  b"]`},
		{"RUN a # no comment", `shell ["a # no comment"]`},
		{"RUN a \\\r\n b\r", `shell ["a  b"]`},
		{"RUN", `shell []`},
		{`RUN ["a", "b c"]`, `exec ["a" "b c"]`},
		{"RUN [\"a\", \\\n# comment\n \"b\"]", `exec ["a" "b"]`},
		{`RUN ['a', 'b']`, `shell ["['a', 'b']"]`},
		{`RUN ["a"] b`, `shell ["[\"a\"] b"]`},
		{`RUN []random string`, `shell ["[]random string"]`},
		{`RUN []`, `exec []`},
		{`RUN [ ] `, `exec []`},
		{"RUN <<E\na\nE", `shell ["<<E"] "E"="a\n"`},
		{"RUN <<-E\n\ta\n\tE", `shell ["<<-E"] "E"="\ta\n"-`},
		{"RUN <<E\n  E\nE", `shell ["<<E"] "E"="  E\n"`},
		{"RUN cat <<A <<B\n1\nA\n2\nB", `shell ["cat <<A <<B"] "A"="1\n" "B"="2\n"`},
		{"RUN cat 3<<E\nx\nE", `shell ["cat 3<<E"] "E"="x\n"`},
		{"RUN cat <<E \\\n && b\nx\nE", `shell ["cat <<E  && b"] "E"="x\n"`},
		{"RUN cat <<'E'\n$x\nE", `shell ["cat <<'E'"] "E"="$x\n"`},
		{"RUN <<E\nE", `shell ["<<E"] "E"=""`},
		{"COPY a b /c/", `["a" "b"] "/c/"`},
		{`COPY ["a b", "c"]`, `["a b"] "c"`},
		{"COPY <<E /x\n$a\nE", `[] "/x" "E"="$a\n"+`},
		{"COPY <<\"E\" x <<-F /d/\na\nE\n\tb\n\tF", `["x"] "/d/" "E"="a\n" "F"="b\n"+`},
		{"CMD a b", `shell ["a b"]`},
		{`CMD ["a"]`, `exec ["a"]`},
		{"ENV A=<<E", `A="<<E"`},
		{"ENV A one  two", `A="one  two"`},
		{`ENV A "one"  'two'`, `A="\"one\"  'two'"`},
		{`ENV A=1 B="x y" C=a\ b`, `A="1" B="\"x y\"" C="a\\ b"`},
	} {
		f, err := Parse("F", []byte("FROM a\n"+test.text+"\n"), Options{})
		if err != nil {
			t.Errorf("%q: %v", test.text, err)
			continue
		}
		in := f.Stages[0].Instructions[0]
		if got := describe(in.Command); got != test.want {
			t.Errorf("%q: %s, want %s", test.text, got, test.want)
		}
		if fresh, err := in.Fresh(); err != nil || describe(fresh) != test.want {
			t.Errorf("%q: made anew %v, %v", test.text, fresh, err)
		}
	}
}

func describe(c instructions.Command) string {
	switch c := c.(type) {
	case *instructions.RunCommand:
		return describeLine(c.ShellDependantCmdLine)
	case *instructions.CmdCommand:
		return describeLine(c.ShellDependantCmdLine)
	case *instructions.CopyCommand:
		text := fmt.Sprintf("%q %q", c.SourcePaths, c.DestPath)
		for _, s := range c.SourceContents {
			text += fmt.Sprintf(" %q=%q", s.Path, s.Data)
			if s.Expand {
				text += "+"
			}
		}
		return text
	case *instructions.EnvCommand:
		var list []string
		for _, kv := range c.Env {
			list = append(list, fmt.Sprintf("%s=%q", kv.Key, kv.Value))
		}
		return strings.Join(list, " ")
	}
	return fmt.Sprintf("%T", c)
}

func describeLine(c instructions.ShellDependantCmdLine) string {
	text := "exec"
	if c.PrependShell {
		text = "shell"
	}
	text += fmt.Sprintf(" %q", c.CmdLine)
	for _, f := range c.Files {
		text += fmt.Sprintf(" %q=%q", f.Name, f.Data)
		if f.Chomp {
			text += "-"
		}
	}
	return text
}

func TestSpans(t *testing.T) {
	const text = "# c\nARG A=1 \\\n B=2\n\nFROM a AS one\nRUN x \\\n # c\n y\nCOPY <<E /z\n1\nE\nFROM b\nCMD z"
	f, err := Parse("F", []byte(text), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	add := func(s Span) { got = append(got, fmt.Sprintf("%d-%d", s.Start, s.End)) }
	for _, in := range f.Args {
		add(in.Span)
	}
	for _, s := range f.Stages {
		add(s.Span)
		for _, in := range s.Instructions {
			add(in.Span)
		}
	}
	if got, want := strings.Join(got, " "), "2-3 5-5 6-8 9-11 12-12 13-13"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if f.Line(5) != "FROM a AS one" || f.Line(13) != "CMD z" || f.Line(0) != "" || f.Line(14) != "" {
		t.Error("lines are not those of the file")
	}
}

func TestParseTrigger(t *testing.T) {
	f, err := Parse("F", []byte("ARG A\nFROM a\n"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	at := f.Stages[0].Span
	for _, test := range []struct{ text, want string }{
		{"RUN a", ""},
		{"RUN <<E\na\nE", ""},
		{"# check=skip=all\nRUN a", ""},
		{"", `2: ONBUILD trigger "": file with no instructions`},
		{"RUN a\nRUN b", `2: ONBUILD trigger "RUN a\nRUN b": onbuild trigger should be a single expression`},
		{"RNU a", `2: ONBUILD trigger "RNU a": unknown instruction: RNU; did you mean RUN?`},
		{"RUN --mont=x", `2: ONBUILD trigger "RUN --mont=x": RUN has no flag --mont; did you mean --mount?`},
		{"FROM a", `2: ONBUILD trigger "FROM a": FROM is not an instruction of a stage`},
		{"RUN \xff", `2: ONBUILD trigger "RUN \xff": not valid UTF-8`},
	} {
		in, err := f.ParseTrigger(test.text, at)
		if got := errText(err); got != test.want {
			t.Errorf("%q: %s, want %s", test.text, got, test.want)
		}
		if err == nil && in.Span != at {
			t.Errorf("%q is at %v", test.text, in.Span)
		}
		if e, ok := errors.AsType[*Error](err); ok && e.Source != "FROM a" {
			t.Errorf("%q: source %q", test.text, e.Source)
		}
	}
}
