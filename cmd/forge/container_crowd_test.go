package main

import (
	"encoding/json"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// TestContainerCrowd: many processes that run, stop, remove, rename, attach to and look at containers of the same few names all end,
// each with a result or with words, and what is left can be removed. FORGE_CROWD says how many processes there are.
func TestContainerCrowd(t *testing.T) {
	k := newKit(t)
	k.base()
	names := []string{"c1", "c2", "c3", "c4"}
	verbs := [][]string{
		{"run", "-d", "--network", "none", "--name", "X", "base", "sleep", "1000"},
		{"run", "-d", "-p", "0:80", "--restart", "always", "--name", "X", "base", "sleep", "0.1"},
		{"run", "--rm", "--network", "none", "--name", "X", "base", "true"},
		{"create", "--name", "X", "base", "sleep", "1000"},
		{"start", "X"},
		{"stop", "-t", "0", "X"},
		{"restart", "-t", "0", "X"},
		{"kill", "X"},
		{"rm", "X"},
		{"rm", "-f", "X"},
		{"rename", "X", "Y"},
		{"attach", "--no-stdin", "X"},
		{"exec", "X", "true"},
		{"exec", "-d", "X", "sleep", "1000"},
		{"pause", "X"},
		{"unpause", "X"},
		{"ps", "-as"},
		{"inspect", "X"},
		{"logs", "X"},
		{"top", "X"},
		{"diff", "X"},
		{"container", "prune", "-f"},
		{"system", "prune", "-f"},
	}
	seed := rand.Uint64()
	choose := rand.New(rand.NewPCG(seed, 1))
	var work sync.WaitGroup
	for range scale(t, "FORGE_CROWD", 24) {
		var list []*attempt
		for range 8 {
			args := slices.Clone(verbs[choose.IntN(len(verbs))])
			for i, a := range args {
				if a == "X" || a == "Y" {
					args[i] = names[choose.IntN(len(names))]
				}
			}
			limit := []string{"timeout", "120"}
			if args[0] == "attach" { // which may wait for ever, and passes SIGTERM on
				limit = []string{"timeout", "-s", "KILL", "0.3"}
			}
			list = append(list, k.through(limit, args...))
		}
		work.Go(func() {
			for _, a := range list {
				k.do(a)
				if a.status() == 124 && !slices.Contains(a.Args, "attach") {
					t.Errorf("seed %d: forge %s hangs", seed, a)
				}
				killed := a.status() == 137 && slices.ContainsFunc(a.Args, func(arg string) bool { return arg == "exec" || arg == "run" }) // by a kill, stop or rm of another
				if a.status() != 0 && a.err.Len() == 0 && a.status() != 124 && !killed && !slices.Contains(a.Args, "attach") {
					t.Errorf("seed %d: forge %s: status %d without a word", seed, a, a.status())
				}
			}
		})
	}
	work.Wait()
	k.must("ps", "-a")
	k.must(append([]string{"rm", "-f"}, names...)...)
	if left := strings.TrimSpace(k.must("ps", "-aq")); left != "" {
		t.Errorf("seed %d: left: %s", seed, left)
	}
	for _, n := range names {
		k.must("create", "--network", "none", "--name", n, "base")
	}
	k.must(append([]string{"rm"}, names...)...)
	k.tidy(fmt.Sprintf("a crowd of seed %d", seed))
}

// TestContainerRounds: rounds of create, start, stop and rm, one after the other and together, leave processes, mounts, cgroups, links,
// rules of the firewall and files as they were. FORGE_ROUNDS says how many there are, FORGE_TOGETHER how many at once.
func TestContainerRounds(t *testing.T) {
	k := newKit(t)
	k.base()
	k.must("network", "create", "--ipv6", "app")
	k.must("volume", "create", "kept")
	round := func(name string) {
		k.must("create", "--name", name, "--network", "app", "-p", "0:80", "-v", "kept:/kept", "-v", "/anonymous", "base", "sleep", "1000")
		k.must("start", name)
		k.watch(name)
		k.must("exec", name, "true")
		k.must("stop", "-t", "0", name)
		k.must("rm", "-v", name)
	}
	round("first") // makes what stays: the bridge and the rules
	before := k.world()
	for i := range scale(t, "FORGE_ROUNDS", 8) {
		round(fmt.Sprint("round", i))
	}
	k.same("rounds", before)
	var work sync.WaitGroup
	for i := range scale(t, "FORGE_TOGETHER", 8) {
		work.Go(func() { round(fmt.Sprint("side", i)) })
	}
	work.Wait()
	k.same("rounds together", before)
	k.must("network", "rm", "app")
	k.must("volume", "rm", "kept")
	k.tidy("rounds")
}

// watch notes the monitor of a container, whose cgroups have its number.
func (k *kit) watch(name string) {
	k.t.Helper()
	id := strings.TrimSpace(k.must("inspect", "-f", "{{.Id}}", name))
	text, err := os.ReadFile(filepath.Join(k.root, "containers", id, "run.json"))
	var run struct{ Monitor int }
	if err == nil {
		err = json.Unmarshal(text, &run)
	}
	if err != nil {
		k.t.Error(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pids = append(k.pids, run.Monitor)
}

// same makes sure that the world is as it was. Monitors end a moment after what they have said.
func (k *kit) same(when string, before []string) {
	k.t.Helper()
	for _, l := range k.soon(func() (changes []string) {
		now := k.world()
		for _, l := range now {
			if !slices.Contains(before, l) {
				changes = append(changes, "more: "+l)
			}
		}
		for _, l := range before {
			// A link may be one of another process, which has ended meanwhile.
			if !slices.Contains(now, l) && !strings.HasPrefix(l, "link ") {
				changes = append(changes, "less: "+l)
			}
		}
		return changes
	}) {
		k.t.Errorf("after %s: %s", when, l)
	}
}

// world is all that containers can leave behind.
func (k *kit) world() []string {
	k.t.Helper()
	k.mu.Lock()
	list := k.left()
	k.mu.Unlock()
	holder := strconv.Itoa(k.holder)
	devices, err := os.ReadFile("/proc/" + holder + "/net/dev")
	if err != nil {
		k.t.Fatal(err)
	}
	for line := range strings.Lines(string(devices)) {
		name, _, _ := strings.Cut(line, ":")
		list = append(list, "link "+strings.TrimSpace(name))
	}
	rules, err := exec.Command("nsenter", "--target", holder, "--net", "nft", "list", "ruleset").Output()
	if err == nil {
		for line := range strings.Lines(string(rules)) {
			list = append(list, "rule "+line)
		}
	}
	for _, dir := range []string{k.root, "/proc/" + holder + "/root/run/forge"} {
		_ = filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
			if name := filepath.Base(path); err == nil && name != "last" && !strings.HasPrefix(name, "events") { // which grow and are rotated
				list = append(list, "file "+path)
			}
			return nil
		})
	}
	return list
}
