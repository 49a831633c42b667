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
