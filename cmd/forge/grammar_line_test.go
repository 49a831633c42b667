package main

import (
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/alecthomas/kong"
)

// TestReadLine reads each flag of each command, alone and by its letter, its other names and the environment, with kong and without:
// both understand the same.
func TestReadLine(t *testing.T) {
	read, lines := map[string]int{}, map[string]int{}
	for _, c := range commands() {
		if len(model(t, c.name).Children) > 0 {
			continue // a noun
		}
		whole := reflect.TypeOf(c.flags())
		for i := range whole.NumMethod() {
			if name := whole.Method(i).Name; name != "Run" && name != "Help" && name != "AfterApply" {
				t.Errorf("%s has a method %s, which only kong would call", whole, name)
			}
		}
		count := func(line []string) {
			without, with := sameLine(t, line)
			if with {
				lines[c.name]++
			}
			if without {
				read[c.name]++
			} else if with {
				t.Logf("only kong reads %q", line)
			}
		}
		for _, line := range linesOf(t, c.name) {
			count(line)
		}
		for _, f := range model(t, c.name).Flags {
			for _, name := range f.Envs {
				t.Run(c.name+" "+name, func(t *testing.T) {
					t.Setenv(name, valueFor(f))
					count([]string{c.name})
				})
			}
		}
	}
	for _, name := range []string{"build", "bake", "executor", "run", "create", "exec", "start", "stop", "rm", "ps", "version"} {
		if read[name]*10 < lines[name]*9 {
			t.Errorf("%s: %d of %d lines are read without kong, want nearly all", name, read[name], lines[name])
		}
	}
	if read["build"] < 250 || read["run"] < 250 {
		t.Errorf("%d lines of build and %d of run, want those of all their flags", read["build"], read["run"])
	}
}

// TestReadLineMistakes gives kong and the reader without it lines with mistakes, and such as are nearly mistakes.
func TestReadLineMistakes(t *testing.T) {
	for _, words := range []string{
		"run --nocache x", "run --name", "run --name -x y", "run -z x", "run -itz x", "run -it=false x", "run -i=1 x", "run --rm=maybe x", "run --rm=NO x",
		"run --pull=sometimes x", "run -p=80 x", "run -p80:80 x sh -c y", "run -itp 80 x --name z", "run -- x", "run x -- y", "run --no-sig-proxy=false x",
		"run --stop-timeout=010 x", "run --stop-timeout=x x", "run --entrypoint= x", "run --net host x", "run --no-rm x", "run --version", "run -h x y", "run",
		"run --restart always --restart no x", "run - x", "run --health-interval 5 x", "run --memory= x", "run -e A=1,2 --env=B -eC x",
		"build", "build a b", "build -", "build -t a -t b,c .", "build . --build-arg A=1", "build . --no-cache extra --quiet", "build --pull . ", "build --pull=never .",
		"build --pull=x .", "build --explain json", "build --sbom=false -q .", "build --progress nothing .", "build --platform a,b .", "build --platform= .", "build -- -x",
		"build --cache-key k .", "build --shell=never .", "build -h", "build --help",
		"stop", "stop a b -t 3", "stop -t 3 a b", "stop -t -1 a", "stop -t=-1 a", "stop --time 3 a", "rm -fv a b", "rm a -f b", "exec a", "exec -it a b -c", "exec -e",
		"cp a", "cp a b", "cp a b c", "cp -q a -", "tag a b", "inspect --sbom a", "inspect --sbom --provenance a", "inspect --type image a", "inspect --type x a",
		"history -H a", "history --no-human a", "login", "login a", "login -u u -p p", "completion bash", "completion x", "completion", "__complete -- a", "__complete a -b",
		"--store s ps", "ps --store s", "--snapshotter=x ps", "--snapshotter copy ps -aq", "-- ps", "ps -- x", "ps x", "version -f json", "version x", "-v", "worker j",
		"-f container-prune", "--rm run x", "-f rm x", "-t build .", "- rm", "--name run alpine sh", "-a ps", "-D ps", "ps -z=1", "rm a -z b", "ps --no-x=1", "ps -n",
		"bud -- -t x .", "top a -ef", "logs -fn 3 a", "logs -n3 a", "port a 80", "port a 80 1", "--help ps", "volume ls", "container ls", "nothing", "",
		"run --name -- x", "run -w -x -- y", "inspect -f -{{.Id}} x", "build --platform -a,b .", "ps -qf -x", "ps -n -", "exec -- a b", "exec --nothing a b", "top -- a -e", "top -x a",
	} {
		sameLine(t, strings.Fields(words))
	}
}

// TestReadLineDocker holds that lines which docker takes mean here what they mean there.
func TestReadLineDocker(t *testing.T) {
	for line, plain := range map[string]string{
		"run -p=80:80 -e=A=1 -eB=2 -l==x x":         "run --publish=80:80 --env=A=1 --env=B=2 --label==x x",
		"run -it=false x -it=false":                 "run --interactive --tty=false x -it=false",
		"run --memory-swap -1 --pids-limit -1 x -1": "run --memory-swap=-1 --pids-limit=-1 x -1",
		"create -w=/x -m=64m --oom-score-adj -5 x":  "create --workdir=/x --memory=64m --oom-score-adj=-5 x",
		"exec -u=1 a ls -a=b":                       "exec --user=1 a ls -a=b",
		"build -t=a -f=b -qo=c .":                   "build --tag=a --file=b --quiet --output=c .",
		"save a -o=b c":                             "save --output=b a c",
		"logs --since -5m -n -1 a":                  "logs --since=-5m --tail=-1 a",
		"ps -a=false -n -1 -f=name=z":               "ps --all=false --last=-1 --filter=name=z",
		"rm a -f b -- -c":                           "rm -f -- a b -c",
		"stop a -t 1 b --time 2":                    "stop -t 1 --time=2 a b",
		"volume rm a -f b":                          "volume rm --force a b",
		"network create n -o=a=b --internal":        "network create --opt=a=b --internal n",
		"commit -m= a":                              "commit --message= a",
		"cp a b -L":                                 "cp -L a b",
		"ps --format -{{.ID}} -qf -x":               "ps --format=-{{.ID}} --quiet --filter=-x",
		"commit -m -fix --author -me a":             "commit --message=-fix --author=-me a",
		"run --name -x -w -- x -y":                  "run --name=-x --workdir=-- x -y",
		"--store s ps -q":                           "--store=s ps -q",
	} {
		var values []any
		for _, words := range []string{line, plain} {
			sameLine(t, strings.Fields(words))
			k, err := grammar(&cli{}, strings.Fields(words))
			if err != nil {
				t.Fatal(err)
			}
			parsed, err := k.Parse(plainWords(k.Model.Node, strings.Fields(words)))
			if err != nil {
				t.Fatalf("%s: %v", words, err)
			}
			values = append(values, parsed.Selected().Target.Interface())
		}
		if !reflect.DeepEqual(values[0], values[1]) {
			t.Errorf("%s is\n%+v\nwant\n%+v", line, values[0], values[1])
		}
	}
}

// TestReadLineRandom puts lines together of the words of each command, and of words that are nearly mistakes.
func TestReadLineRandom(t *testing.T) {
	odd := strings.Fields("x - -- -1 -x 0x10 07 true TRUE no a,b a\\,b , a, -a,b a=b = ~/x \xff 1s json \"q\" é -é --store --store=q --snapshotter=copy") // and nothing
	r := rand.New(rand.NewPCG(1, 2))
	one := func(of []string) string { return of[r.IntN(len(of))] }
	both := 0
	for _, c := range commands() {
		node := model(t, c.name)
		var words []string
		for _, f := range node.Flags {
			words = append(words, "--"+f.Name, "--no-"+f.Name, "--"+f.Name+"="+valueFor(f))
			if f.Short != 0 {
				words = append(words, "-"+string(f.Short), fmt.Sprintf("-%c=%s", f.Short, valueFor(f)), "-"+string(f.Short)+one(odd))
			}
			for _, alias := range f.Aliases {
				words = append(words, "--"+alias)
			}
		}
		if len(words) == 0 || len(node.Children) > 0 {
			continue
		}
		for range 60 {
			line := []string{c.name}
			for range r.IntN(6) {
				line = append(line, one([]string{one(words), one(words), one(odd), ""}))
			}
			if without, with := sameLine(t, line); without && with {
				both++
			}
		}
	}
	if both < 500 {
		t.Errorf("%d lines are none with a mistake, want more", both)
	}
}

// TestReadLineBytes: the name of a file need not be UTF-8.
func TestReadLineBytes(t *testing.T) {
	t.Setenv("FORGE_CACHE_KEY", "/\xff")
	for _, words := range []string{"build .", "run --env=\xfe x", "save -o\xfd a"} {
		if without, with := sameLine(t, strings.Fields(words)); !without || !with {
			t.Errorf("%q: read without kong: %v, with it: %v", words, without, with)
		}
	}
}

// model is the whole grammar's node of a command.
func model(t *testing.T, name string) *kong.Node {
	t.Helper()
	k, err := grammar(&cli{}, []string{name})
	if err != nil {
		t.Fatal(err)
	}
	return k.Model.Children[0]
}

// linesOf are command lines of a command.
func linesOf(t *testing.T, command string) (lines [][]string) {
	t.Helper()
	node := model(t, command)
	var args []string
	for range node.Positional {
		args = append(args, "x")
	}
	all := []string{command}
	for _, f := range node.Flags {
		words := []string{"--" + f.Name + "=" + valueFor(f)}
		if f.Short != 0 && !f.IsBool() {
			words = append(words, fmt.Sprintf("-%c%s", f.Short, valueFor(f)), fmt.Sprintf("-%c=%s", f.Short, valueFor(f)))
		} else if f.Short != 0 {
			words = append(words, fmt.Sprintf("-%c", f.Short))
		}
		if f.Tag.Negatable != "" {
			words = append(words, "--no-"+f.Name)
		}
		for _, alias := range f.Aliases {
			words = append(words, strings.Repeat("-", min(2, len(alias)))+alias+"="+valueFor(f))
		}
		for _, word := range words {
			lines = append(lines, slices.Concat([]string{command, word}, args), slices.Concat([]string{command}, args, []string{word}))
		}
		if !f.IsBool() {
			lines = append(lines, slices.Concat([]string{command, "--" + f.Name, valueFor(f)}, args))
		}
		all = append(all, words[0])
	}
	return append(lines, []string{command}, slices.Concat(all, args), slices.Concat([]string{command}, args, args),
		[]string{command, "x", "--", "-a", "--name"}, slices.Concat([]string{"--store", "s", command}, args))
}

// valueFor is a value that a flag takes.
func valueFor(f *kong.Flag) string {
	if f.Enum != "" {
		return strings.Trim(strings.Split(strings.Trim(f.Enum, ","), ",")[0], " ")
	}
	for kind, value := range map[reflect.Kind]string{reflect.Bool: "true", reflect.Int: "7", reflect.Int64: "7", reflect.Pointer: "7", reflect.Float64: "7"} {
		if f.Target.Kind() == kind {
			if strings.HasSuffix(f.Target.Type().String(), "Duration") {
				return "7s"
			}
			return value
		}
	}
	return "true"
}

// sameLine reads a line without kong and with it, and reports which could.
func sameLine(t *testing.T, words []string) (without, with bool) {
	t.Helper()
	var few, all cli
	got, without := readLine(&few, words)
	k, err := grammar(&all, words)
	if err != nil {
		t.Fatal(err)
	}
	helped := false
	k.Exit, k.Stdout = func(int) { helped = true }, io.Discard
	parsed, err := k.Parse(plainWords(k.Model.Node, words))
	if with = err == nil && !helped; !with || !without {
		if without {
			t.Errorf("%q is read without kong: %v", words, err)
		}
		return without, with
	}
	flags, want := reflect.ValueOf(got.flags).Elem().Interface(), parsed.Selected().Target.Interface()
	if name, _, _ := strings.Cut(parsed.Command(), " <"); !reflect.DeepEqual(flags, want) || few != all || got.command != name {
		t.Errorf("%q without kong:\n%+v\n%+v %s\nwant\n%+v\n%+v %s", words, flags, few, got.command, want, all, name)
	}
	return without, with
}
