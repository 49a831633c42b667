package planner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestParseGit(t *testing.T) {
	commit := strings.Repeat("0a", 20)
	for _, test := range []struct{ in, want string }{
		{"https://h/r.git", "https://h/r.git"},
		{"http://h/r.git#v1", "http://h/r.git ref=v1"},
		{"HTTPS://h/r.git", "https://h/r.git"},
		{"https://u:p@h/r.git#:dir/../sub/", "https://u:p@h/r.git dir=sub"},
		{"https://h/r.git#a/b:/c", "https://h/r.git ref=a/b dir=c"},
		{"https://h/r.git#a%2Fb", "https://h/r.git ref=a/b"},
		{"https://h/r.git#:../../etc", "https://h/r.git dir=etc"},
		{"git://h/r", "git://h/r"},
		{"ssh://git@h:22/r#x", "ssh://git@h:22/r ref=x"},
		{"git@h:a/r.git#x:y", "git@h:a/r.git ref=x dir=y"},
		{"git@h:r?branch=b", "git@h:r ref=refs/heads/b"},
		{"https://h/r.git?tag=v1&subdir=d", "https://h/r.git ref=refs/tags/v1 dir=d"},
		{"https://h/r.git?tag=refs/tags/v1", "https://h/r.git ref=refs/tags/v1"},
		{"https://h/r.git?ref=v1#v1", "https://h/r.git ref=v1"},
		{"https://h/r.git?ref=main&subdir=d#main", "https://h/r.git ref=main dir=d"},
		{"https://h/r.git?keep-git-dir&submodules=false&commit=ab&mtime=commit", "https://h/r.git checksum=ab keep nosub mtime"},
		{"https://h/r.git?keep-git-dir=0&submodules=1&mtime=checkout", "https://h/r.git"},
		{"https://h/r.git?fetch-by-commit=1&checksum=" + commit, "https://h/r.git checksum=" + commit + " fetch"},
		{"https://h/r.git?fetch-by-commit#" + commit, "https://h/r.git ref=" + commit + " fetch"},
		{"https://h/r.git?fetch-by-commit#main", "error: fetch-by-commit requires a checksum"},
		{"https://h/r.git?fetch-by-commit&checksum=0a", "error: fetch-by-commit requires a full commit SHA checksum"},
		{"https://h/r.git?ref=a#b", `error: https://h/r.git?ref=a#b: ref conflicts: "b" vs "a"`},
		{"https://h/r.git?tag=a&branch=b", "error: https://h/r.git?tag=a&branch=b: branch conflicts with tag"},
		{"https://h/r.git?subdir=a#:b", `error: https://h/r.git?subdir=a#:b: subdir conflicts: "b" vs "a"`},
		{"https://h/r.git?ref=", `error: https://h/r.git?ref=: query "ref" has no value`},
		{"https://h/r.git?ref=a&ref=b", `error: https://h/r.git?ref=a&ref=b: query "ref" has multiple values`},
		{"https://h/r.git?mtime=now", `error: https://h/r.git?mtime=now: invalid mtime value: "now" (must be "checkout" or "commit")`},
		{"https://h/r.git?submodules=x", `error: https://h/r.git?submodules=x: invalid submodules value: "x"`},
		{"https://tok@h/r.git?x=y", `error: https://xxxxx@h/r.git?x=y: unexpected query "x"`},
		{"https://h/r.git?a=%zz", "https://h/r.git"}, // as in BuildKit
		{"https://tok@h:x/r.git", ""},                // an ADD refuses it as a URL
		{"https://h/r.git#--upload-pack=id", `error: ref "--upload-pack=id" is not valid`},
		{"https://h/r.git?ref=--upload-pack=x", `error: ref "--upload-pack=x" is not valid`},
		{"https://h/r.git?ref=a b", `error: ref "a b" is not valid`},
		{"https://h/r.git#a..b", `error: ref "a..b" is not valid`},
		{"https://h/r.git?checksum=zz", "error: invalid checksum zz"},
		{"-x@h:r", "error: -x@h:r: is not the address of a repository"},
		{"git@-oProxyCommand:r", "error: is not the address of a repository"},
		{"ssh://-oProxyCommand=x/y.git", "error: is not the address of a repository"},
		{"ssh:///y.git", "error: is not the address of a repository"},
		{"https://h/r", ""},
		{"https://h/r.git/file", ""},
		{"ftp://h/r.git", ""},
		{"file:///etc/b.git", ""},
		{"./git@h:r", ""},
		{"us.er@h:p", ""},
		{"a@b", ""},
		{"a b@c:d", ""},
		{"ext::sh -c id", ""},
		{"--upload-pack=id@h:x", ""},
		{"github.com/a/b", ""},
		{"r.git", ""},
		{"", ""},
	} {
		got, ok, err := ParseGit(test.in, "", nil)
		checkGit(t, test.in, got, ok, err, test.want)
	}
}

// checkGit compares what a parser has found, "" for no repository and "error: …" for an error, with what it should have.
func checkGit(t *testing.T, in string, got *GitRef, ok bool, err error, want string) {
	t.Helper()
	text := ""
	switch {
	case err != nil:
		text = "error: " + err.Error()
	case ok:
		text = got.Remote
		for name, value := range map[string]string{"ref": got.Ref, "dir": got.Dir, "checksum": got.Checksum} {
			if value != "" {
				text += " " + name + "=" + value
			}
		}
		for name, on := range map[string]bool{"keep": got.KeepGitDir, "nosub": !got.Submodules, "mtime": got.CommitTime, "fetch": got.FetchByCommit} {
			if on {
				text += " " + name
			}
		}
	}
	sorted := func(s string) string { return strings.Join(slices.Sorted(strings.FieldsSeq(s)), " ") }
	message, wantError := strings.CutPrefix(want, "error: ")
	if wantError && !(ok && strings.Contains(text, message)) || !wantError && sorted(text) != sorted(want) {
		t.Errorf("%q is %q (a repository: %v), want %q", in, text, ok, want)
	}
}

// TestParseGitFlags holds how flags and address go together.
func TestParseGitFlags(t *testing.T) {
	yes, no := true, false
	for _, test := range []struct {
		in, checksum string
		keep         *bool
		want         string
	}{
		{"https://h/r.git", "ab", &yes, "https://h/r.git keep checksum=ab"},
		{"https://h/r.git?keep-git-dir", "", &yes, "https://h/r.git keep"},
		{"https://h/r.git?keep-git-dir", "", &no, "error: inconsistent keep-git-dir configuration"},
		{"https://h/r.git?commit=ab", "ab", nil, "https://h/r.git checksum=ab"},
		{"https://h/r.git?commit=ab", "ac", nil, `error: checksum mismatch "ac" != "ab"`},
		{"https://h/r.git", "sha256:ab", nil, "error: invalid checksum sha256:ab for Git URL, expected hex commit hash"},
	} {
		got, ok, err := ParseGit(test.in, test.checksum, test.keep)
		checkGit(t, test.in, got, ok, err, test.want)
	}
	for in, want := range map[string]string{
		"github.com/a/b": "https://github.com/a/b keep", "github.com/a/b?submodules=0#v1:d": "https://github.com/a/b ref=v1 dir=d nosub keep",
		"https://h/r.git?keep-git-dir=false": "https://h/r.git", "git@h:r": "git@h:r keep", "us.er@h:p": "", "https://h/x.tgz": "",
		"github.com/a/b#-x": `error: ref "-x" is not valid`,
	} {
		got, ok, err := ParseGitContext(in, &yes)
		checkGit(t, in, got, ok, err, want)
	}
}

// TestGitIsPlanned holds that a wrong repository is refused in planning, where the line is known.
func TestGitIsPlanned(t *testing.T) {
	for source, want := range map[string]string{
		"https://h/x.git?ref=--upload-pack=x":    `Dockerfile:2: https://h/x.git: ref "--upload-pack=x" is not valid`,
		"https://tok@h/x.git?checksum=zz":        "Dockerfile:2: https://xxxxx@h/x.git: invalid checksum zz for Git URL, expected hex commit hash",
		"https://u:se%zzcret@h/x.tgz":            `Dockerfile:2: https://xxxxx@h/x.tgz: invalid URL escape "%zz"`,
		"--checksum=sha256:ab https://h/x.git":   "Dockerfile:2: https://h/x.git: invalid checksum sha256:ab for Git URL, expected hex commit hash",
		"--keep-git-dir=true -x@h:r":             "Dockerfile:2: -x@h:r: is not the address of a repository",
		"https://h/x.git?tag=a&branch=b":         "Dockerfile:2: https://h/x.git?tag=a&branch=b: branch conflicts with tag",
		"https://h/x.git?fetch-by-commit=1#main": "Dockerfile:2: https://h/x.git: fetch-by-commit requires a checksum or a commit SHA ref",
	} {
		_, err := Plan(t.Context(), parse(t, "FROM scratch\nADD "+source+" /x\n"), Options{})
		if got := fmt.Sprint(err); got != want {
			t.Errorf("ADD %s: %s, want %s", source, got, want)
		}
	}
}

func TestCheckMode(t *testing.T) {
	for mode, ok := range map[string]bool{
		"": true, "0": true, "644": true, "0644": true, "7777": true, "07777": true, "u=rwX,go=rX": true, "a+x": true, "+x": true,
		"u=rw-x": true, "go=u": true, "g-w,+t": true, "=": true, "u+s": true,
		"10000": false, "8": false, "0o644": false, "-1": false, "u": false, "u+q": false, "a+x,": false, ",a+x": false, "x": false,
	} {
		if _, err := ParseMode(mode); (err == nil) != ok {
			t.Errorf("mode %q: %v", mode, err)
		}
	}
}

func TestIsSignal(t *testing.T) {
	for s, want := range map[string]bool{
		"9": true, "-1": true, "TERM": true, "SIGTERM": true, "sigterm": true, "Usr1": true, "SIGRTMIN": true, "RTMAX": true,
		"SIGRTMIN+1": true, "SIGRTMIN+15": true, "RTMAX-14": true,
		"0": false, "": false, "SIG": false, "NOPE": false, "SIGRTMIN+0": false, "SIGRTMIN+16": false, "RTMAX-15": false,
		"RTMIN+01": false, " TERM": false, "ABRT ALRM": false, "SIGSIGTERM": false,
	} {
		if got := isSignal(s); got != want {
			t.Errorf("isSignal(%q) = %v", s, got)
		}
	}
}

func TestByName(t *testing.T) {
	for s, want := range map[string]bool{
		"": false, "0": false, "1:2": false, "root": false, "root:root": false, "1:": false, "2147483647": false,
		"me": true, "1:me": true, "me:1": true, "2147483648": true, "-1": true, "5:-1": true,
		":5": false, // no user is 0, and nobody has to be looked up for that
	} {
		if got := ParseChown(s).ByName(); got != want {
			t.Errorf("ParseChown(%q).ByName() = %v", s, got)
		}
	}
}

func TestJoin(t *testing.T) {
	for _, test := range []struct {
		dir, name string
		keep      bool
		want      string
	}{
		{"", "", false, "/"},
		{"", "a", false, "/a"},
		{"/w", "", false, "/w"},
		{"/w", "a/../b", false, "/w/b"},
		{"/w", "../../..", false, "/"},
		{"w", "a", false, "/w/a"},
		{"/w", "/a/", false, "/a/"},
		{"/w", "/a/../b", false, "/a/../b"},
		{"/w", "a/", true, "/w/a/"},
		{"/w", "a/.", true, "/w/a/."},
		{"/", "./", true, "/"},
		{"/", "/.", true, "/."},
		{"/w", "..", true, "/"},
	} {
		got := join(test.dir, test.name)
		if test.keep {
			got = joinDest(test.dir, test.name)
		}
		if got != test.want {
			t.Errorf("join(%q, %q), keep %v = %q, want %q", test.dir, test.name, test.keep, got, test.want)
		}
	}
}

// TestKeysDiffer has operations that differ in one field each, and no two are taken for one.
func TestKeysDiffer(t *testing.T) {
	mode := uint32(0o700)
	ops := []Op{
		&Mkdir{Path: "/a"}, &Mkdir{Path: "/a", User: "u"}, &Mkdir{User: "/a"},
		&Run{}, &Run{Args: []string{"a", "b"}}, &Run{Args: []string{"ab"}}, &Run{Env: []string{"a", "b"}}, &Run{Dir: "/a"},
		&Run{Mounts: []Mount{{}}}, &Run{Mounts: []Mount{{From: &Input{}}}}, &Run{Mounts: []Mount{{From: &Input{Read: -1}}}},
		&Run{Mounts: []Mount{{Access: Access{Mode: &mode}}}}, &Run{Mounts: []Mount{{Access: Access{Mode: new(uint32)}}}}, &Run{Insecure: true},
		&Run{Files: []File{{Name: "a"}}}, &Run{Files: []File{{Content: "a"}}},
		&Copy{}, &Copy{Link: true}, &Copy{Parents: true}, &Copy{Add: &Add{}}, &Copy{Add: &Add{Unpack: new(bool)}},
		&Copy{Sources: []Source{{Path: "a"}}}, &Copy{Sources: []Source{{URL: "a"}}}, &Copy{Sources: []Source{{File: &File{}}}},
	}
	var all steps
	for i, op := range ops {
		if s := all.add(Step{Op: op}); s.Index != i {
			t.Errorf("%+v is taken for %+v", op, all.all[s.Index].Op)
		}
	}
	for i, op := range ops {
		if s := all.add(Step{Op: op, Name: "other", Stage: "other"}); s.Index != i {
			t.Errorf("%+v is not itself", op)
		}
	}
	if s := all.add(Step{Op: ops[0], On: all.all[1]}); s.Index != len(ops) {
		t.Error("what a step stands on does not matter")
	}
	if s := all.add(Step{Op: ops[0], Reads: []*Step{all.all[1]}}); s.Index != len(ops)+1 {
		t.Error("what a step reads does not matter")
	}
}

// TestRedact: who may read a history learns no password.
func TestRedact(t *testing.T) {
	g, err := Plan(t.Context(), parse(t, "FROM scratch\nADD http://user:sesame@host/x /x\n"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	if text := fmt.Sprintf("%q %+v", g.Steps[0].Name, g.Config.History); strings.Contains(text, "sesame") || !strings.Contains(text, "http://xxxxx@host/x") {
		t.Error(text)
	}
}

// TestBound: a few lines cannot take all memory, and nothing reasonable is refused.
func TestBound(t *testing.T) {
	if testing.Short() {
		t.Skip("takes long")
	}
	double := strings.Repeat("ENV A=$A$A\n", 40)
	thousand := "ENV A=" + strings.Repeat("a", 1000) + "\n"
	many := "ENV A=" + strings.Repeat("a", 60_000) + "\n"
	ports := "EXPOSE 1-65535\n"
	nested := func(n int) string { return strings.Repeat("${a:-", n) + strings.Repeat("}", n) }
	for _, test := range []struct{ text, want string }{
		{"ENV A=aaaaaaaaaaaaaaaa\n" + double, "Dockerfile:16: A: a value of 262144 bytes, more than the 128 KiB that a process can be given"},
		{"ARG A=aaaaaaaaaaaaaaaa\n" + strings.ReplaceAll(double, "ENV", "ARG"), "Dockerfile:16: A: a value of 262144 bytes, more than the 128 KiB that a process can be given"},
		{thousand + "LABEL x=${A//a/${A//a/$A}}\n", `Dockerfile:3: "${A//a/${A//a/$A}}" may expand to more than 64 MiB`},
		{thousand + "LABEL x=" + strings.Repeat("${A//a/b}", 50) + "\n", ""},
		{thousand + "LABEL x=${A//a/${A}}\n", ""},
		{many + "LABEL x=${A:-" + strings.Repeat("b", 2000) + "} y=${A-" + strings.Repeat("b", 2000) + "}\n", ""}, // nothing is searched
		{many + "LABEL x=${A#" + strings.Repeat("b", 2000) + "}\n", `Dockerfile:3: "${A#bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb" may expand to more than 64 MiB`},
		{thousand + strings.Repeat("LABEL x="+strings.Repeat("$A", 1000)+"\n", 20), "Dockerfile:19: the instructions so far expand to more than 16 MiB"},
		{thousand + "LABEL x=" + strings.Repeat("$A", 1000) + "\n", ""},
		{strings.Repeat("FROM s AS s\nENV A=a\n", 1000), "Dockerfile:1160: the instructions so far expand to more than 16 MiB"},
		{strings.Repeat("FROM s AS s\nENV A=a\n", 400), ""},
		{"ENV A=" + strings.Repeat("a", 60000) + "\nENV B=$A$A\nRUN [\"x\"]\nCOPY a ${B:-/x/y}\n", ""},
		{many + `LABEL x=${A//x/\}${A//a/\}${A//a/a}}}` + "\n", `Dockerfile:3: "${A//x/\\}${A//a/\\}${A//a/a}}}" may expand to more than 64 MiB`},
		{many + `LABEL x=${A//a/"}${A//a/$A}"}` + "\n", `Dockerfile:3: "${A//a/\"}${A//a/$A}\"}" may expand to more than 64 MiB`},
		{thousand + `LABEL x=${A//a/"}"}${A//a/\}}${A//a/'}'}` + "\n", ""},
		{strings.ReplaceAll(many, "A=", "É=") + "LABEL x=" + strings.Repeat("$É", 2000) + "\n", `Dockerfile:3: "$É$É$É$É$É$É$É$É$É$É$É$É$É$É$É$É$É$É$É$É" may expand to more than 64 MiB`},
		{many + "LABEL" + strings.Repeat(" x="+strings.Repeat("$A", 100), 20) + "\n", "Dockerfile:3: the words expand to more than 64 MiB"},
		{many + "COPY <<E /\n" + strings.Repeat("$A", 300) + "\nE\n", "Dockerfile:3: the instructions so far expand to more than 16 MiB"},
		{strings.Repeat(ports, 50), "Dockerfile:28: the instructions so far expand to more than 16 MiB"},
		{"EXPOSE" + strings.Repeat(" 1-65535", 8000) + "\n", "Dockerfile:2: the instructions so far expand to more than 16 MiB"},
		{ports + strings.Repeat("FROM s AS s\n", 50), "Dockerfile:27: the instructions so far expand to more than 16 MiB"},
		{ports + strings.Repeat("FROM s AS s\n", 10), ""},
		{"LABEL x=" + nested(100) + "\n", ""},
		{"LABEL x=" + nested(101) + "\n", `Dockerfile:2: "${a:-${a:-${a:-${a:-${a:-${a:-${a:-${a:-" has more than 100 ${…} inside each other`},
		{"COPY --from=" + nested(10_000) + " a b\n", `Dockerfile:2: "${a:-${a:-${a:-${a:-${a:-${a:-${a:-${a:-" has more than 100 ${…} inside each other`},
		{set(4000), "Dockerfile:5777: the instructions so far expand to more than 16 MiB"},
	} {
		_, err := Plan(t.Context(), parse(t, "FROM scratch AS s\n"+test.text), Options{})
		if got := fmt.Sprint(err); got != test.want && (err != nil || test.want != "") {
			t.Errorf("%.60q: %s, want %s", test.text, got, test.want)
		}
	}
	global := "ARG A=aaaaaaaaaaaaaaaa\n" + strings.Repeat("ARG A=$A$A\n", 40) + "FROM scratch\n"
	if _, err := Plan(t.Context(), parse(t, global), Options{}); err == nil {
		t.Error("global ARGs are not bounded")
	}
	global = strings.Replace(many, "ENV", "ARG", 1) + strings.Repeat("ARG B=$A\n", 400) + "FROM scratch\n"
	if _, err := Plan(t.Context(), parse(t, global), Options{}); err == nil {
		t.Error("global ARGs are not bounded together")
	}
}

// set are n variables, each before a step.
func set(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "ENV A%d=\nWORKDIR /w\n", i)
	}
	return b.String()
}

// TestSharedEnvironment: steps without an ENV between them have one list of variables.
func TestSharedEnvironment(t *testing.T) {
	g, err := Plan(t.Context(), parse(t, "FROM scratch\nENV A=a\nCOPY a /\nWORKDIR /w\nARG B=b\nCOPY b /\nRUN --mount=type=ssh [\"x\"]\nWORKDIR /v\n"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	var lists [][]string
	for _, s := range g.Steps {
		lists = append(lists, s.Around.Env)
	}
	if &lists[0][0] != &lists[1][0] || &lists[2][0] != &lists[4][0] {
		t.Error("there are copies")
	}
	agent := "SSH_AUTH_SOCK=/run/buildkit/ssh_agent.0"
	for i, want := range []string{"A=a", "A=a", "B=b", agent, "B=b"} {
		if got := lists[i][len(lists[i])-1]; got != want {
			t.Errorf("%s ends with %s, want %s", g.Steps[i].Name, got, want)
		}
	}
}

// TestPlanEnds: planning ends when nobody wants it any more.
func TestPlanEnds(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := Plan(ctx, parse(t, "FROM scratch\nCOPY a /\n"), Options{}); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}
