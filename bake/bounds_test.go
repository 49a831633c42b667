package bake_test

import (
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/forge-build/forge/bake"
)

// TestShared holds that what is reached on many ways is met once: on two ways at each of forty levels, nobody would see the end otherwise.
func TestShared(t *testing.T) {
	var b strings.Builder
	for i := range 40 {
		for _, side := range []string{"a", "b"} {
			fmt.Fprintf(&b, "target \"%s%d\" {\n  inherits = [\"a%d\", \"b%d\"]\n  contexts = { x = \"target:c%d\", y = \"target:d%d\" }\n}\n", side, i, i+1, i+1, i, i)
		}
		for _, side := range []string{"c", "d"} {
			fmt.Fprintf(&b, "target \"%s%d\" {\n  contexts = { x = \"target:c%d\", y = \"target:d%d\" }\n}\n", side, i, i+1, i+1)
			fmt.Fprintf(&b, "group \"g%s%d\" {\n  targets = [\"gc%d\", \"gd%d\"]\n}\n", side, i, i+1, i+1)
		}
	}
	b.WriteString("target \"a40\" {\n  args = { A = \"a\" }\n}\ntarget \"b40\" {}\ntarget \"c40\" {\n  entitlements = [\"network.host\"]\n}\ntarget \"d40\" {}\n")
	b.WriteString("group \"gc40\" {\n  targets = [\"a0\"]\n}\ngroup \"gd40\" {\n  targets = [\"a0\"]\n}\ngroup \"default\" {\n  targets = [\"gc0\", \"gd0\"]\n}\n")
	f, err := bake.Read(bake.Options{Files: []string{"-"}, Stdin: strings.NewReader(b.String())})
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Select(nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	a := s.Targets["a0"]
	if a == nil || a.Texts("args")["A"] != "a" || !slices.Equal(a.List("entitlements"), []string{"network.host"}) || len(s.Targets) != 83 {
		t.Errorf("selected are %v, and a0 is %+v", slices.Sorted(maps.Keys(s.Targets)), a)
	}
}

// TestBounds holds that a file takes neither all memory nor all time.
func TestBounds(t *testing.T) {
	long := "b = format(\"%99999d\", 1)\na = replace(join(\"\", [for i in range(10) : b]), \" \", \"x\")\ntarget \"a\" {\n  tags = [v]\n}\n" // a million times x
	use := "target \"a\" {\n  tags = [v]\n}\n"
	tree, within := "t0 = [\"x\"]\n", "\"x\""
	for i := range 35 {
		tree += fmt.Sprintf("t%d = [t%d, t%[2]d]\n", i+1, i)
		within = fmt.Sprintf("[for x%d in [%s] : [x%[1]d, x%[1]d]][0]", i, within)
	}
	for _, test := range []struct{ name, text, want string }{
		{"a.hcl", strings.Repeat("target \"a\" {}\n", 20000), "more than 16384 targets and groups"},
		{"a.hcl", "a = 1e9999\nv = a" + strings.Repeat("*a", 100) + "\ntarget \"a\" {\n  tags = [v]\n}", "too many digits"},
		{"a.hcl", "target \"a\" {\n  tags = [\"1p400000000\" * 1]\n}", "must be a number"},
		{"a.hcl", "target \"a\" {\n  tags = [pow(2, 65000) * pow(2, 65000)]\n}", "too many digits"},
		{
			"a.hcl", "a = format(\"%1000d\", 1)\nb = join(\"\", [for i in range(1000) : a])\ntarget \"a\" {\n  tags = [for i in range(1000) : \"${b}${i}\"]\n}",
			"functions and templates are given and make more than",
		},
		{"a.json", "{\"target\": {}}}", "more follows the object"},
		{"a.hcl", long + "v = replace(a, \"x\", a)\n", "makes a string of more than"},
		{"a.hcl", long + "v = replace(a, \"\", a)\n", "makes a string of more than"},
		{"a.hcl", long + "v = regex_replace(a, \"x\", a)\n", "makes a string of more than"},
		{"a.hcl", long + "v = regex_replace(a, \".*\", replace(a, \"x\", \"$0\"))\n", "makes a string of more than"},
		{"a.hcl", use + "v = indent(1000, replace(format(\"%99999d\", 1), \" \", \"\\n\"))\n", "makes a string of more than"},
		{"a.hcl", long + "v = join(a, range(1000))\n", "makes a string of more than"},
		{"a.hcl", long + "v = formatlist(replace(a, \"x\", \"%99999[1]d\"), 1)\n", "makes a string of more than"},
		{"a.hcl", long + "v = formatlist(\"%d%s%[2]s%[2]s%[2]s%[2]s\", range(1000), a)\n", "makes more than"},
		{"a.hcl", long + "v = split(\"\", join(\"\", [for i in range(2) : a]))\n", "makes a list of more than"},
		{"a.hcl", long + "v = regexall(\"(x)(x)\", join(\"\", [for i in range(2) : a]))\n", "matches more than"},
		{"a.hcl", tree + use + "v = t35 == t35\n", "functions and templates are given and make more than"},
		{"a.hcl", tree + use + "v = jsonencode(t35)\n", "functions and templates are given and make more than"},
		{"a.hcl", tree + "target \"a\" {\n  tags = t35\n}\n", "functions and templates are given and make more than"},
		{"a.hcl", tree + "variable \"v\" {\n  default = t35\n}\n", "functions and templates are given and make more than"},
		{"a.hcl", use + "v = jsonencode(" + within + ")\n", "functions and templates are given and make more than"},
		{"a.hcl", use + "v = " + within + " == 1\n", "functions and templates are given and make more than"},
		{"a.hcl", use + "v = convert(" + within + ", list(any))\n", "functions and templates are given and make more than"},
		{"a.hcl", long + "v = jsonencode([for i in range(1000) : a])\n", "functions and templates are given and make more than"},
		{"a.yaml", "include: [" + strings.Repeat("b.yaml, ", 1000) + "]\n", "name more than 1000 others"},
	} {
		t.Chdir(t.TempDir())
		for name, text := range map[string]string{test.name: test.text, "b.yaml": "services: {}\n"} {
			if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		_, err := bake.Read(bake.Options{Files: []string{test.name}})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%.100s\nis refused with %v, want %q", test.text, err, test.want)
		}
	}
}

// TestCopied holds that many targets, services and groups that have what others have take no more than the sum of it.
func TestCopied(t *testing.T) {
	var chain, groups, wide, many strings.Builder
	for i := range 6000 {
		fmt.Fprintf(&chain, "target \"t%d\" {\n  inherits = [\"t%d\"]\n  args = { A%[1]d = \"\" }\n}\n", i+1, i)
		fmt.Fprintf(&groups, "group \"g%d\" {\n  targets = [\"g%d\", \"t%[1]d\"]\n}\ntarget \"t%[1]d\" {}\n", i+1, i)
		fmt.Fprintf(&wide, "  s%d: {extends: base, build: {args: [X%[1]d]}}\n", i)
		fmt.Fprintf(&many, "A%d, ", i)
	}
	for _, test := range []struct{ name, text, ask, want string }{
		{"a.hcl", "target \"t0\" {}\n" + chain.String(), "t6000", "targets have more than 4194304 values of others"},
		{"a.hcl", "target \"t0\" {}\n" + chain.String(), "t1000", ""},
		{"a.hcl", "target \"g0\" {}\n" + groups.String(), "g6000", ""},
		{"a.yaml", "services:\n  base: {build: {args: [" + many.String() + "]}}\n" + wide.String(), "base", "services have more than 4194304 values of those that they extend"},
		{"a.yaml", "services:\n  a: {build: \"" + strings.Repeat("${a:-", 201) + strings.Repeat("}", 201) + "\"}\n", "a", "braces are nested more than 200 deep"},
		{"a.yaml", "services:\n  a: {build: \"" + strings.Repeat("${a:-", 200) + strings.Repeat("}", 200) + "\"}\n", "a", ""},
	} {
		f, err := read(t, test.name, test.text)
		if err == nil {
			_, err = f.Select([]string{test.ask}, nil)
		}
		if got := fmt.Sprint(err); !strings.Contains(got, test.want) || (err != nil) != (test.want != "") {
			t.Errorf("%.100s\nis refused with %v, want %q", test.text, err, test.want)
		}
	}
}

// read reads a bake file.
func read(t *testing.T, name, text string) (*bake.File, error) {
	t.Helper()
	t.Chdir(t.TempDir())
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return bake.Read(bake.Options{Files: []string{name}})
}

// TestMerged holds that the lists of two compose files are merged with a look at each element.
func TestMerged(t *testing.T) {
	var tags strings.Builder
	for i := range 30_000 {
		fmt.Fprintf(&tags, "tag%d, ", i)
	}
	t.Chdir(t.TempDir())
	for name, last := range map[string]string{"a.yaml": "a", "b.yaml": "b"} {
		if err := os.WriteFile(name, []byte("services:\n  a: {build: {tags: ["+tags.String()+last+"]}}\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	f, err := bake.Read(bake.Options{Files: []string{"a.yaml", "b.yaml"}})
	if err != nil {
		t.Fatal(err)
	}
	if got := f.Targets[0].List("tags"); len(got) != 30_002 || got[30_000] != "a" || got[30_001] != "b" {
		t.Errorf("there are %d tags, the last %v", len(got), got[max(0, len(got)-2):])
	}
}

// TestEnvFile holds that a .env file that cannot be read is an error, and that one of a few lines does not take all memory.
func TestEnvFile(t *testing.T) {
	t.Chdir(t.TempDir())
	if err := os.WriteFile(".env", []byte("A=aaaaaaaaaaaaaaaa\n"+strings.Repeat("A=$A$A\n", 60)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := bake.Read(bake.Options{Files: []string{"-"}, Stdin: strings.NewReader("services:\n  a:\n    build: .\n")}); err == nil || !strings.Contains(err.Error(), "the variables come to more than 64 MiB") {
		t.Errorf("error = %v, want one about the variables", err)
	}
	if err := os.Remove(".env"); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(".env", 0o700); err != nil {
		t.Fatal(err)
	}
	_, err := bake.Read(bake.Options{Files: []string{"-"}, Stdin: strings.NewReader("services:\n  a:\n    build: .\n")})
	if err == nil || !strings.Contains(err.Error(), ".env") {
		t.Errorf("error = %v, want one about .env", err)
	}
}
