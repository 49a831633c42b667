//go:build failpoint

package main

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// byContainer is in failPoints what comes to those of containers: TestKillContainersAtFailPoints.
const byContainer = "container"

// TestKillContainersAtFailPoints kills a command or the monitor of a container at every step of a container's life. What is
// said of the container then is true, it can be removed, its name is free, and nothing is left.
func TestKillContainersAtFailPoints(t *testing.T) {
	k := newKit(t)
	k.base()
	k.must("network", "create", "app")
	run := []string{"run", "-d", "--name", "c1", "--network", "none", "base", "sleep", "1000"}
	create := []string{"create", "--name", "c1", "--network", "none", "base", "sleep", "1000"}
	commands := [][][]string{ // the last is killed, or its monitor
		{create},
		{create, {"start", "c1"}},
		{create, {"rename", "c1", "d1"}},
		{create, {"rm", "c1"}},
		{create, {"container", "prune", "-f"}},
		{run},
		{run, {"restart", "-t", "0", "c1"}},
		{run, {"rm", "-f", "c1"}},
		{{"run", "-d", "--rm", "--name", "c1", "--network", "none", "base", "true"}},
		{{"run", "--rm", "--name", "c1", "--network", "none", "base", "true"}},
		{{"run", "--name", "c1", "base", "true"}},
		{{"create", "--name", "c1", "base", "sleep", "1000"}, {"network", "connect", "app", "c1"}},
		{{"run", "-d", "--name", "c1", "base", "sleep", "1000"}, {"network", "connect", "app", "c1"}},
	}
	kills := map[string]int{}
	for _, list := range commands {
		for point, by := range failPoints {
			if by != byContainer && !strings.HasPrefix(point, "state.") {
				continue
			}
			for i, args := range list {
				a := k.command(args...)
				if i == len(list)-1 {
					a.Env = append(a.Env, "FORGE_FAILPOINT="+point+":kill")
				}
				k.do(a)
				if i == len(list)-1 && !a.ProcessState.Success() {
					kills[point]++
				}
			}
			k.removable("kill of forge " + strings.Join(list[len(list)-1], " ") + " at " + point)
			k.do(k.command("network", "create", "app")) // system prune has removed it
			if t.Failed() {
				t.FailNow()
			}
		}
	}
	for point, by := range failPoints {
		if by == byContainer && kills[point] == 0 && point != "keep.ended" { // which is after the command
			t.Errorf("nothing is killed at %s", point)
		}
	}
	k.must("network", "rm", "app")
	k.tidy("all kills")
}

// removable makes sure that containers c and d, if they are there, are what they are said to be, and can be removed.
func (k *kit) removable(when string) {
	k.t.Helper()
	limited := func(args ...string) *attempt {
		a := k.do(k.through([]string{"timeout", "60"}, args...))
		if a.status() == 124 {
			k.t.Errorf("after %s: forge %s hangs", when, strings.Join(args, " "))
		}
		return a
	}
	wrong := func() (wrong []string) { // it may start or end meanwhile
		for line := range strings.Lines(limited("ps", "-a", "--format", "{{.Names}} {{.State}}").out.String()) {
			name, is, _ := strings.Cut(strings.TrimSpace(line), " ")
			if got := limited("exec", name, "true"); (got.status() == 0) != (is == "running") {
				wrong = append(wrong, fmt.Sprintf("container %s is said to be %s; exec: %s", name, is, got.err.String()))
			}
		}
		return wrong
	}
	for _, w := range k.soon(wrong) {
		k.t.Errorf("after %s: %s", when, w)
	}
	for _, args := range [][]string{
		{"rm", "-f", "c1", "d1"},
		{"create", "--name", "c1", "--network", "none", "base"},
		{"create", "--name", "d1", "--network", "none", "base"},
		{"rm", "c1", "d1"},
		{"system", "fsck"},
		{"system", "prune", "-f"},
	} {
		if a := limited(args...); a.status() != 0 {
			k.t.Errorf("after %s: forge %s: %s", when, strings.Join(args, " "), a.err.String())
		}
	}
	entries, err := os.ReadDir(filepath.Join(k.root, "containers"))
	if err != nil {
		k.t.Fatal(err)
	}
	for _, e := range entries {
		if !slices.Contains([]string{"names", "names.lock"}, e.Name()) {
			k.t.Errorf("after %s: left: containers/%s", when, e.Name())
		}
	}
	if left, _ := filepath.Glob(filepath.Join(k.root, "containers/names/*")); len(left) > 0 {
		k.t.Errorf("after %s: left: %s", when, left)
	}
	k.spotless(when)
}
