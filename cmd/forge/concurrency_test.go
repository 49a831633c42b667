package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// together runs commands at once, all of which have to succeed.
func (k *kit) together(all [][]string) []*attempt {
	k.t.Helper()
	var attempts []*attempt
	for _, args := range all {
		attempts = append(attempts, k.start(k.command(args...)))
	}
	for _, a := range attempts {
		if err := a.Wait(); err != nil {
			k.t.Errorf("forge %s: %v\n%s", a, err, a.err.String())
		}
		k.inspect(a)
	}
	return attempts
}

// manyBuilds makes contexts of n different builds and returns their command lines.
func (k *kit) manyBuilds(n int) (all [][]string) {
	for i := range n {
		name := fmt.Sprintf("app%d", i)
		k.context(name, fmt.Sprintf("FROM base\nCOPY file /\nRUN echo %d > /n && cat /file >> /n\nCMD [\"cat\", \"/n\"]\n", i))
		all = append(all, []string{"build", "-q", "-t", name, name})
	}
	return all
}

func TestConcurrentBuilds(t *testing.T) {
	k := newKit(t)
	n := scale(t, "FORGE_TEST_BUILDS", 8)
	all := k.manyBuilds(n)
	k.base()
	k.together(all)
	for i := range n {
		name := fmt.Sprintf("app%d", i)
		if got, want := k.must("run", "--rm", name), fmt.Sprintf("%d\n%s\n", i, name); got != want {
			t.Errorf("image %s says %q, want %q", name, got, want)
		}
	}
	k.sound("different builds")

	k.context("same", twoStages)
	var same [][]string
	for i := range 8 {
		same = append(same, []string{"build", "-q", "-t", fmt.Sprintf("same%d", i), "same"})
	}
	k.together(same)
	k.together(same)
	k.sound("equal builds")
	k.tidy("builds")
}

// TestConcurrentStores has many processes make the same store.
func TestConcurrentStores(t *testing.T) {
	k := newKit(t)
	for range scale(t, "FORGE_TEST_STORES", 5) {
		if err := os.RemoveAll(k.root); err != nil {
			t.Fatal(err)
		}
		var all [][]string
		for i := range 8 {
			all = append(all, []string{"import", "base.tar", fmt.Sprintf("base%d", i%3)})
		}
		k.together(all)
		named := slices.DeleteFunc(k.images(), func(name string) bool { return !strings.Contains(name, ":") }) // the others have lost theirs
		slices.Sort(named)
		if !slices.Equal(named, []string{"base0:latest", "base1:latest", "base2:latest"}) {
			t.Errorf("images with a name = %v", named)
		}
	}
	k.must("system", "fsck", "--deep")
	k.tidy("imports")
}

var blobRequest = regexp.MustCompile(`GET "/v2/app/blobs/(sha256:[0-9a-f]+)" 20`)

// TestConcurrentPulls pulls the same image many times at once: every blob comes once.
func TestConcurrentPulls(t *testing.T) {
	k := newKit(t)
	address, _ := k.serve("registry")
	remote := address + "/app:1"
	k.base()
	k.context("app", "FROM base\nCOPY file /\nCOPY big /\nRUN echo NONCE > /n\n")
	k.write("app/big", string(rubbish(16<<20)))
	k.must("build", "-q", "-t", remote, "app")
	k.must("push", remote)
	if err := os.RemoveAll(k.root); err != nil {
		t.Fatal(err)
	}
	pull := []string{"pull", "-q", remote}
	k.together([][]string{pull, pull, pull, pull, pull, pull, pull, pull})
	log, err := os.ReadFile(filepath.Join(k.dir, "registry.log"))
	if err != nil {
		t.Fatal(err)
	}
	times := map[string]int{}
	for _, m := range blobRequest.FindAllSubmatch(log, -1) {
		times[string(m[1])]++
	}
	layers := 0
	for digest, n := range times {
		if layers++; n != 1 {
			t.Errorf("blob %s was downloaded %d times", digest, n)
		}
	}
	if layers < 4 {
		t.Errorf("the registry has seen downloads of %d blobs\n%s", layers, log)
	}
	k.sound("pulls")
	k.tidy("pulls")
}

// TestConcurrentTags has names move and go while they are listed.
func TestConcurrentTags(t *testing.T) {
	k := newKit(t)
	k.base()
	k.context("app", "FROM base\nCOPY file /\n")
	k.must("build", "-q", "-t", "app", "app")
	n := scale(t, "FORGE_TEST_TAGS", 40)
	var all [][]string
	for i := range n {
		switch source := []string{"base", "app"}[i%2]; i % 5 {
		case 0, 1, 2:
			all = append(all, []string{"tag", source, "moving"})
		case 3:
			all = append(all, []string{"images"})
		case 4:
			all = append(all, []string{"tag", source, fmt.Sprintf("other%d", i)})
		}
	}
	for len(all) > 0 {
		some := all[:min(len(all), 10)]
		all = all[len(some):]
		k.together(some)
	}
	if got := k.images(); len(got) != 3+n/5 {
		t.Errorf("images = %v", got)
	}
	k.sound("tags")
	k.tidy("tags")
}

// TestConcurrentPrune prunes all the time while images are built and run.
func TestConcurrentPrune(t *testing.T) {
	k := newKit(t)
	k.base()
	builds := k.manyBuilds(scale(t, "FORGE_TEST_BUILDS", 6))
	run := []string{"run", "--rm", "base", "sh", "-c", "for i in 1 2 3; do cat /etc/passwd; sleep 0.1; done > /x; : " + k.nonce}
	stop := make(chan struct{})
	var pruning sync.WaitGroup
	prunes := 0
	pruner := *k // its attempts are its own
	pruning.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
				args := []string{"system", "prune", "-f"}
				if prunes%2 == 1 {
					args = append(args, "--max-size", "1b")
				}
				a := pruner.command(args...)
				if err := a.Run(); err != nil {
					t.Errorf("prune: %v\n%s", err, a.err.String())
				}
				prunes++
			}
		}
	})
	for range scale(t, "FORGE_TEST_ROUNDS", 1) {
		k.together(append(slices.Clone(builds), run, run, run, run))
	}
	close(stop)
	pruning.Wait()
	if prunes == 0 {
		t.Error("there was no prune")
	}
	t.Logf("%d prunes", prunes)
	k.sound("prunes beside builds")
	k.tidy("prunes beside builds")
}

// TestConcurrentVolumes: of many containers that use a new volume at once one fills it, and each finds it whole. Who removes it
// meanwhile removes it before or after, but never under a container.
func TestConcurrentVolumes(t *testing.T) {
	k := newKit(t)
	k.base()
	k.context("app", "FROM base\nRUN mkdir /data && for i in $(seq 200); do echo $i >/data/$i; done\n")
	k.must("build", "-q", "-t", "app", "app")
	var all [][]string
	for range 20 {
		all = append(all, []string{"run", "--rm", "-v", "data:/data", "-v", "/data2", "app", "sh", "-c", "cat /data/* | wc -l"})
	}
	for _, a := range k.together(all) {
		if got := a.out.String(); got != "200\n" {
			t.Errorf("a container found %q files, want 200", got)
		}
	}
	if got := k.must("volume", "ls", "-q"); got != "data\n" {
		t.Errorf("volumes: %s", got)
	}
	var attempts []*attempt
	for i := range 16 {
		args := all[0]
		if i%2 == 1 {
			args = []string{"volume", "rm", "-f", "data"}
		}
		attempts = append(attempts, k.start(k.command(args...)))
	}
	for _, a := range attempts {
		err := a.Wait()
		text := a.err.String()
		switch {
		case a.Args[1] == "volume" && err != nil && !strings.Contains(text, "volume is in use"), a.Args[1] == "run" && err != nil:
			t.Errorf("forge %s: %v: %s", a, err, text)
		case a.Args[1] == "run" && a.out.String() != "200\n":
			t.Errorf("forge %s: found %q files while the volume was removed, want 200", a, a.out.String())
		}
		k.inspect(a)
	}
	k.must("volume", "rm", "-f", "data")
	k.tidy("crowd of volumes")
}
