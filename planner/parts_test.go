package planner

import (
	"fmt"
	"strings"
	"testing"
)

func TestParseGit(t *testing.T) {
	yes, no := true, false
	for _, test := range []struct {
		in   string
		want GitRef // nothing: not a repository
		err  string
	}{
		{"https://h/r.git", GitRef{Remote: "https://h/r.git"}, ""},
		{"http://h/r.git#v1", GitRef{Remote: "http://h/r.git", Ref: "v1"}, ""},
		{"https://u:p@h/r.git#:dir/../sub/", GitRef{Remote: "https://u:p@h/r.git", Dir: "sub"}, ""},
		{"https://h/r.git#a/b:/c", GitRef{Remote: "https://h/r.git", Ref: "a/b", Dir: "c"}, ""},
		{"https://h/r.git#:../../etc", GitRef{Remote: "https://h/r.git", Dir: "etc"}, ""},
		{"git://h/r", GitRef{Remote: "git://h/r"}, ""},
		{"ssh://git@h:22/r#x", GitRef{Remote: "ssh://git@h:22/r", Ref: "x"}, ""},
		{"git@h:a/r.git#x:y", GitRef{Remote: "git@h:a/r.git", Ref: "x", Dir: "y"}, ""},
		{"git@h:r?branch=b", GitRef{Remote: "git@h:r", Ref: "refs/heads/b"}, ""},
		{"https://h/r.git?tag=v1&subdir=d", GitRef{Remote: "https://h/r.git", Ref: "refs/tags/v1", Dir: "d"}, ""},
		{"https://h/r.git?tag=refs/tags/v1", GitRef{Remote: "https://h/r.git", Ref: "refs/tags/v1"}, ""},
		{"https://h/r.git?ref=v1#v1", GitRef{Remote: "https://h/r.git", Ref: "v1"}, ""},
		{"https://h/r.git?keep-git-dir&submodules=false&fetch-by-commit=1&commit=ab&mtime=commit",
			GitRef{Remote: "https://h/r.git", KeepGitDir: &yes, Submodules: &no, FetchByCommit: true, Checksum: "ab", MTime: "commit"}, ""},
		{"https://h/r.git?ref=a#b", GitRef{}, `https://h/r.git?ref=a#b: ref conflicts: "b" vs "a"`},
		{"https://h/r.git?tag=a&branch=b", GitRef{}, "https://h/r.git?tag=a&branch=b: branch conflicts with tag"},
		{"https://h/r.git?ref=", GitRef{}, `https://h/r.git?ref=: query "ref" has no value`},
		{"https://h/r.git?ref=a&ref=b", GitRef{}, `https://h/r.git?ref=a&ref=b: query "ref" has multiple values`},
		{"https://h/r.git?mtime=now", GitRef{}, `https://h/r.git?mtime=now: invalid mtime value: "now" (must be "checkout" or "commit")`},
		{"https://h/r.git?submodules=x", GitRef{}, `https://h/r.git?submodules=x: invalid submodules value: "x"`},
		{"https://h/r.git?x=y", GitRef{}, `https://h/r.git?x=y: unexpected query "x"`},
		{"https://h/r", GitRef{}, ""},
		{"https://h/r.git/file", GitRef{}, ""},
		{"ftp://h/r.git", GitRef{}, ""},
		{"./git@h:r", GitRef{}, ""},
		{"a@b", GitRef{}, ""},
		{"a b@c:d", GitRef{}, ""},
		{"r.git", GitRef{}, ""},
		{"", GitRef{}, ""},
	} {
		got, ok, err := ParseGit(test.in)
		want := test.want.Remote != "" || test.err != ""
		switch {
		case ok != want:
			t.Errorf("ParseGit(%q): a repository: %v, want %v", test.in, ok, want)
		case test.err != "":
			if err == nil || err.Error() != test.err {
				t.Errorf("ParseGit(%q): %v, want %s", test.in, err, test.err)
			}
		case err != nil:
			t.Errorf("ParseGit(%q): %v", test.in, err)
		case want && describeGit(*got) != describeGit(test.want):
			t.Errorf("ParseGit(%q) = %s, want %s", test.in, describeGit(*got), describeGit(test.want))
		}
	}
}

func describeGit(r GitRef) string {
	flag := func(b *bool) string {
		if b == nil {
			return "-"
		}
		return fmt.Sprint(*b)
	}
	keep, sub := flag(r.KeepGitDir), flag(r.Submodules)
	r.KeepGitDir, r.Submodules = nil, nil
	return fmt.Sprintf("%+v %s %s", r, keep, sub)
}

func TestCheckMode(t *testing.T) {
	for mode, ok := range map[string]bool{
		"": true, "0": true, "644": true, "0644": true, "7777": true, "07777": true, "u=rwX,go=rX": true, "a+x": true, "+x": true,
		"u=rw-x": true, "go=u": true, "g-w,+t": true, "=": true, "u+s": true,
		"10000": false, "8": false, "0o644": false, "-1": false, "u": false, "u+q": false, "a+x,": false, ",a+x": false, "x": false,
	} {
		if err := checkMode(mode); (err == nil) != ok {
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
		"me": true, "1:me": true, "me:1": true, "2147483648": true, ":5": true,
	} {
		if got := byName(s); got != want {
			t.Errorf("byName(%q) = %v", s, got)
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
		if got := join(test.dir, test.name, test.keep); got != test.want {
			t.Errorf("join(%q, %q, %v) = %q, want %q", test.dir, test.name, test.keep, got, test.want)
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
		&Run{Mounts: []Mount{{Mode: &mode}}}, &Run{Mounts: []Mount{{Mode: new(uint32)}}}, &Run{Insecure: true},
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
	for _, test := range []struct{ text, want string }{
		{"ENV A=aaaaaaaaaaaaaaaa\n" + double, "Dockerfile:16: A: a value of 262144 bytes, more than the 128 KiB that a process can be given"},
		{"ARG A=aaaaaaaaaaaaaaaa\n" + strings.ReplaceAll(double, "ENV", "ARG"), "Dockerfile:16: A: a value of 262144 bytes, more than the 128 KiB that a process can be given"},
		{thousand + "LABEL x=${A//a/${A//a/$A}}\n", `Dockerfile:3: "${A//a/${A//a/$A}}" may expand to more than 64 MiB`},
		{thousand + "LABEL x=" + strings.Repeat("${A//a/b}", 50) + "\n", ""},
		{thousand + "LABEL x=${A//a/${A}}\n", ""},
		{thousand + strings.Repeat("LABEL x="+strings.Repeat("$A", 1000)+"\n", 20), "Dockerfile:19: the instructions so far expand to more than 16 MiB"},
		{thousand + "LABEL x=" + strings.Repeat("$A", 1000) + "\n", ""},
		{strings.Repeat("FROM s AS s\nENV A=a\n", 1000), "Dockerfile:1161: the instructions so far expand to more than 16 MiB"},
		{strings.Repeat("FROM s AS s\nENV A=a\n", 400), ""},
		{"ENV A=" + strings.Repeat("a", 60000) + "\nENV B=$A$A\nRUN [\"x\"]\nCOPY a ${B:-/x/y}\n", ""},
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
}
