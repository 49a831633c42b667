package main

import (
	"errors"
	"fmt"
	"os/exec"
	"strings"
)

// containerCases are those of containers that stay. Networks are left out where they are not what is measured.
func containerCases() []benchCase {
	return []benchCase{
		{name: "W10 run --rm IMAGE true", setup: runCase, runs: 15},
		{name: "run -d", setup: detachedCase, runs: 15},
		{name: "exec true", setup: execCase, runs: 15},
		{name: "stop of a process that obeys", setup: stopCase, runs: 15},
		{name: "memory of 100 idle containers", setup: idleCase},
		{name: "200 MB from a container", setup: portCase, runs: 7},
		{name: "1000 new connections", setup: connectionsCase, runs: 3},
		{name: "ps of 500 containers, 50 running", setup: psCase, runs: 15},
		{name: "log of 100 MB", setup: logCase, runs: 3},
	}
}

// quietly runs forge, and says what it said only if it failed.
func (b *bench) quietly(args ...string) error {
	if out, err := exec.Command(b.forge, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("forge %s: %w: %s", strings.Join(args, " "), err, out)
	}
	return nil
}

// obedient is a container's command that ends when it is asked to.
func obedient() []string {
	return []string{"bench/base", "sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1000 & wait; done"}
}

func (b *bench) detached(name string) []string {
	return append([]string{"run", "-d", "--network", "none", "--name", name}, obedient()...)
}

// removed removes a container that may not be there.
func (b *bench) removed(name string) error { return b.quietly("rm", "-f", name) }

func detachedCase(b *bench) ([]contestant, error) {
	floor, err := exec.LookPath("setsid")
	list := []contestant{{
		name: "forge", before: func() error { return b.removed("bench") }, args: append([]string{b.forge}, b.detached("bench")...),
	}}
	if err == nil {
		list = append(list, contestant{name: "setsid", args: []string{floor, "-f", "true"}, floor: true})
	}
	return list, nil
}

func execCase(b *bench) ([]contestant, error) {
	err := errors.Join(b.removed("bench"), b.quietly(b.detached("bench")...))
	return []contestant{
		{name: "forge", args: []string{b.forge, "exec", "bench", "true"}},
		{name: "forge version", args: []string{b.forge, "version"}, floor: true},
	}, err
}

func stopCase(b *bench) ([]contestant, error) {
	before := func() error { return errors.Join(b.removed("bench"), b.quietly(b.detached("bench")...)) }
	return []contestant{
		{name: "forge", before: before, args: []string{b.forge, "stop", "bench"}},
		{name: "forge version", args: []string{b.forge, "version"}, floor: true},
	}, nil
}

func psCase(b *bench) ([]contestant, error) {
	if err := b.endContainers(); err != nil {
		return nil, err
	}
	for i := range 500 {
		name := fmt.Sprintf("many%d", i)
		args := append([]string{"create", "--network", "none", "--name", name}, obedient()...)
		if i%10 == 0 {
			args = b.detached(name)
		}
		if err := b.quietly(args...); err != nil {
			return nil, err
		}
	}
	return []contestant{
		{name: "forge ps -a", args: []string{b.forge, "ps", "-a"}},
		{name: "forge ps", args: []string{b.forge, "ps"}},
		{name: "forge version", args: []string{b.forge, "version"}, floor: true},
	}, nil
}

// logCase is what the log costs: the same command with one and without, in the background.
func logCase(b *bench) ([]contestant, error) {
	const script = `id=$("$0" run -d --network none --log-driver $1 --log-opt max-size=-1 bench/base sh -c \
"yes 0123456789012345678901234567890123456789012345678901234567890123456789 | head -c 100000000") && "$0" wait $id && "$0" rm $id`
	run := func(driver string) []string { return []string{"sh", "-c", script, b.forge, driver} }
	return []contestant{
		{name: "forge, json-file", args: run("json-file")},
		{name: "forge, none", args: []string{"sh", "-c", strings.Replace(script, " --log-opt max-size=-1", "", 1), b.forge, "none"}},
	}, nil
}

// endContainers removes what the cases have left running.
func (b *bench) endContainers() error {
	out, err := exec.Command(b.forge, "ps", "-aq").Output()
	if err != nil || len(out) == 0 {
		return err
	}
	return b.quietly(append([]string{"rm", "-f"}, strings.Fields(string(out))...)...)
}
