package main

import (
	"bytes"
	"fmt"
	"os/exec"
	"strings"
)

const (
	benchTargets = 10
	// sharedWork is what the command of the base prints, written so that the instruction itself does not hold it.
	sharedWork = "did the work"
	// sharedRun keeps a processor busy: commands that sleep would overlap, and would not show that there are several.
	sharedRun = "RUN i=0; while [ $i -lt 1000000 ]; do i=$((i+1)); done; echo did 'the' work; echo $i > /sum\n"
)

// targets writes a bake file of targets that share a context of 300 files and a base; each has a COPY of its own. The base has the steps
// given.
func (b *bench) targets(name, steps string) (dir string, err error) {
	var file, bake strings.Builder
	fmt.Fprintf(&file, "FROM bench/base AS base\nCOPY shared* /src/\n%s", steps)
	files := map[string]string{}
	for i := range 300 {
		files[fmt.Sprintf("shared%d", i)] = fmt.Sprintf("%d\n", i)
	}
	for i := range benchTargets {
		fmt.Fprintf(&file, "FROM base AS t%d\nCOPY own%d /\n", i, i)
		fmt.Fprintf(&bake, "target \"t%d\" {\n  target = \"t%d\"\n  tags = [\"bench/%s-t%d\"]\n}\n", i, i, name, i)
		files[fmt.Sprintf("own%d", i)] = fmt.Sprintf("%d\n", i)
	}
	files["docker-bake.hcl"] = bake.String()
	return b.context(name, file.String(), files)
}

// bakes are forge building one of the targets, and all of them.
func (b *bench) bakes(dir string, flags ...string) []contestant {
	args := append([]string{"env", "-C", dir, b.forge, "bake", "--progress=plain"}, flags...)
	return []contestant{
		{name: "forge bake, 1 of 10", args: append(args[:len(args):len(args)], "t0")},
		{name: "forge bake, 10", args: append(args[:len(args):len(args)], "t*")},
	}
}

// targetsNoopCase is about what each further target costs when there is nothing to do.
func targetsNoopCase(b *bench) ([]contestant, error) {
	var steps strings.Builder
	for i := range 4 {
		fmt.Fprintf(&steps, "RUN echo %d > f%d\n", i, i)
	}
	dir, err := b.targets("targets", steps.String())
	return b.bakes(dir), err
}

// targetsColdCase is about what the targets share, which is done once: were it done by each, they would take about five times as long as
// one does on two processors. That the command runs once is counted before anything is measured.
func targetsColdCase(b *bench) ([]contestant, error) {
	dir, err := b.targets("targets-cold", sharedRun)
	if err != nil {
		return nil, err
	}
	list := b.bakes(dir, "--no-cache")
	all := list[len(list)-1].args
	out, err := exec.Command(all[0], all[1:]...).CombinedOutput()
	if err != nil {
		return nil, fmt.Errorf("%w: %s", err, out)
	}
	if n := bytes.Count(out, []byte(sharedWork)); n != 1 {
		return nil, fmt.Errorf("the command that %d targets share has run %d times: %s", benchTargets, n, out)
	}
	return list, nil
}
