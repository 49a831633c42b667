package bake_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"golang.org/x/tools/txtar"

	"github.com/forge-build/forge/bake"
)

var (
	update = flag.Bool("update", false, "write what is printed")
	oracle = flag.String("oracle", "", "a buildx of docker, whose bake --print has to be the same")
)

// TestPrint holds what bake --print shows. With -oracle it is held against buildx's own.
func TestPrint(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatal(err, "no test files")
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txtar"), func(t *testing.T) {
			archive, err := txtar.ParseFile(name)
			if err != nil {
				t.Fatal(err)
			}
			name, err := filepath.Abs(name)
			if err != nil {
				t.Fatal(err)
			}
			t.Chdir(t.TempDir())
			want, args := -1, []string{}
			for i, f := range archive.Files {
				switch f.Name {
				case "want.json":
					want = i
				case "args":
					args = strings.Fields(string(f.Data))
				default:
					if err := os.WriteFile(f.Name, f.Data, 0o600); err != nil {
						t.Fatal(err)
					}
				}
			}
			got := printed(t, args)
			if *oracle != "" {
				compare(t, got, args)
			}
			switch {
			case *update && want < 0:
				archive.Files = append(archive.Files, txtar.File{Name: "want.json", Data: got})
			case *update:
				archive.Files[want].Data = got
			case want < 0:
				t.Fatal("the file has no want.json: run with -update, and look at it")
			case !bytes.Equal(archive.Files[want].Data, got):
				t.Errorf("printed\n%s\nwant\n%s", got, archive.Files[want].Data)
			}
			if *update {
				if err := os.WriteFile(name, txtar.Format(archive), 0o600); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

// printed is what arguments of bake select.
func printed(t *testing.T, args []string) []byte {
	t.Helper()
	o := bake.Options{Vars: map[string]string{}, Platform: "linux/amd64", Getenv: func(string) (string, bool) { return "", false }}
	var names, set []string
	for i := 0; i < len(args); i++ {
		switch args[i] {
		case "-f", "--var", "--set":
			value := args[i+1]
			if args[i] == "-f" {
				o.Files = append(o.Files, value)
			} else if name, v, _ := strings.Cut(value, "="); args[i] == "--var" {
				o.Vars[name] = v
			} else {
				set = append(set, value)
			}
			i++
		case "--push":
			set = append(set, "*.push=true")
		default:
			names = append(names, args[i])
		}
	}
	f, err := bake.Read(o)
	if err != nil {
		t.Fatal(err)
	}
	s, err := f.Select(names, set)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := s.Print(&b); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// compare holds what is printed against buildx's.
func compare(t *testing.T, got []byte, args []string) {
	t.Helper()
	for _, secret := range []string{"f", "tokfile"} {
		if err := os.WriteFile(secret, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(*oracle, append([]string{"bake", "--print"}, args...)...)
	cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "SSH_AUTH_SOCK=" + os.Getenv("SSH_AUTH_SOCK"), "SEC=x", "E=x", "TOK=x"}
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("buildx: %v\n%s", err, stderr.Bytes())
	}
	var theirs, ours map[string]any
	if err := json.Unmarshal(out, &theirs); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(got, &ours); err != nil {
		t.Fatal(err)
	}
	differ(t, "", theirs, ours)
}

func differ(t *testing.T, at string, want, got any) {
	t.Helper()
	w, ok := want.(map[string]any)
	g, same := got.(map[string]any)
	if !ok || !same {
		if !reflect.DeepEqual(want, got) {
			t.Errorf("%s is %v, and buildx has %v", at, got, want)
		}
		return
	}
	for k := range w {
		differ(t, at+"."+k, w[k], g[k])
	}
	for k := range g {
		if _, ok := w[k]; !ok {
			t.Errorf("%s.%s is %v, and buildx has none", at, k, g[k])
		}
	}
}

// TestMistakes holds what is refused, and where.
func TestMistakes(t *testing.T) {
	for _, test := range []struct{ name, text, want string }{
		{"a.hcl", "target \"a\" {\n  args = {\n    X = 1 +\n  }\n}", "a.hcl:3: expected an expression"},
		{"a.hcl", "target \"a\" { tags = [] dockerfile = \"x\" }", "a.hcl:1: expected the end of the line"},
		{"a.hcl", "target \"a\" {\n  tags = \"x\"\n}", "a.hcl:2: tags: must be a list, and is a string"},
		{"a.hcl", "target \"a\" {\n  nosuch = 1\n}", "a.hcl:2: a target has no attribute \"nosuch\""},
		{"a.hcl", "target \"a\" {\n  policy = []\n}", "policy: forge does not do that"},
		{"a.hcl", "variable \"V\" {\n  default = W\n}\nvariable \"W\" {\n  default = V\n}", "variable cycle not allowed for"},
		{"a.hcl", "variable \"V\" {\n  default = 3\n  validation {\n    condition = V < 2\n    error_message = \"too large\"\n  }\n}", "a.hcl:4: the variable V is not valid: too large"},
		{"a.hcl", "target \"a\" {\n  args = { A = target.b.args.B }\n}\ntarget \"b\" {\n  args = { B = target.a.args.A }\n}", "reference cycle not allowed for"},
		{"a.hcl", "function \"f\" {\n  params = [n]\n  result = f(n)\n}\nv = f(1)\ntarget \"a\" {\n  tags = [v]\n}", "function cycle not allowed for f"},
		{"a.hcl", "target \"a\" {\n  matrix = { v = [1, 2] }\n}", "makes two targets that are called \"a\""},
		{"a.hcl", "target \"a.b\" {}", "has only the characters"},
		{"a.hcl", "x = \"abc", "a.hcl:1: a string has no end"},
		{"a.hcl", "x = <<EOT\nabc", "the heredoc <<EOT has no end"},
		{"a.hcl", "target \"a\" {\n  tags = [\"${upper(1, 2)}\"]\n}", "upper: takes at most 1 arguments, and is given 2"},
		{"a.hcl", "target \"a\" {\n  tags = [for a in range(1000) : [for b in range(1000) : b]]\n}", "more than 131072 times"},
		{"a.json", "{\"target\": {\"a\": {\"tags\": [\"${\"]}}}", "a.json:1: an expression is missing"},
		{"a.json", "{\"target\": ", "a.json:1: EOF"},
		{"a.yaml", "services:\n  a:\n    build:\n      nosuch: 1\n", "service a: build.nosuch: is no attribute of build"},
		{"a.yaml", "services:\n  a:\n    build: ${X:?needed}\n", "required variable X is missing a value: needed"},
		{"a.yaml", "services:\n  a:\n    extends: a\n    build: .\n", "extends itself"},
		{"a.yaml", "include: a.yaml\n", "name each other more than"},
	} {
		t.Chdir(t.TempDir())
		if err := os.WriteFile(test.name, []byte(test.text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := bake.Read(bake.Options{Files: []string{test.name}})
		if err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%s\nis refused with %v, want %q", test.text, err, test.want)
		}
	}
}
