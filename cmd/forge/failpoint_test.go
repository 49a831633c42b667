//go:build failpoint

package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// failPoints are all names of fail points, and the command that comes to each.
var failPoints = map[string]string{
	"cache.put.before-rename":          "build",
	"executor.publish.after-put":       "build",
	"executor.publish.before-publish":  "build",
	"executor.publish.before-put":      "build",
	"connect.recorded":                 byContainer,
	"durable.write.before-rename":      "first",
	"forge.output.before-rename":       "save",
	"image.create.after-rename":        "first",
	"image.create.before-rename":       "first",
	"image.index.after-rename":         "rmi",
	"image.index.before-rename":        "rmi",
	"image.load.before-name":           "load",
	"image.prune.before-empty":         "prune",
	"image.prune.before-remove":        "prune",
	"image.publish.after-rename":       "build",
	"image.publish.amid-rename":        "build",
	"image.publish.before-rename":      "build",
	"image.publish.before-sync":        "build",
	"image.remember.before-rename":     "push",
	"image.tag.after-rename":           "tag",
	"image.tag.before-rename":          "tag",
	"image.untag.after-remove":         "rmi",
	"image.untag.before-remove":        "rmi",
	"keep.ended":                       byContainer,
	"keep.listening":                   byContainer,
	"keep.monitor":                     byContainer,
	"keep.prepared":                    byContainer,
	"keep.recorded":                    byContainer,
	"keep.started":                     byContainer,
	"local.run.before-commit":          "build",
	"registry.copy.before-manifests":   "pull",
	"registry.copy.before-name":        "pull",
	"registry.download.before-publish": "pull",
	"registry.download.before-release": "pull",
	"registry.download.kept":           "pull",
	"source.stats.before-rename":       "build",
	"remote.before-index":              "share",
	"remote.before-segment":            "share",
	"remote.before-table":              "share",
	"snapshot.prune.before-remove":     "prune",
	"snapshot.settle.before-rename":    "unpack",
	"snapshot.unpack.before-rename":    "unpack",
	"spawn.forked":                     byContainer,
	"spawn.locked":                     byContainer,
	"state.create.named":               "run",
	"state.remove.moved":               "run",
	"state.rename.named":               byContainer,
	"state.rename.renamed":             byContainer,
	"volume.create.made":               "run",
	"volume.fill.copied":               "run",
	"volume.fill.moving":               "run",
	"volume.remove.moved":              "run",
}

// TestFailPointsListed holds the list and the source together.
func TestFailPointsListed(t *testing.T) {
	at := regexp.MustCompile(`failpoint\.At\("([a-z.-]+)"\)`)
	durably := regexp.MustCompile(`writeDurably\("([a-z.]+)"`)
	var found []string
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		text, err := os.ReadFile(path)
		for _, m := range at.FindAllSubmatch(text, -1) {
			found = append(found, string(m[1]))
		}
		for _, m := range durably.FindAllSubmatch(text, -1) {
			found = append(found, string(m[1])+".before-rename", string(m[1])+".after-rename")
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range found {
		if failPoints[name] == "" {
			t.Errorf("fail point %s is not in the list", name)
		}
	}
	for name := range failPoints {
		if !slices.Contains(found, name) {
			t.Errorf("fail point %s is not in the source", name)
		}
	}
}

// TestKillAtFailPoints kills every command at every fail point that it comes to. What is listed then is whole, nothing is
// damaged, the same command succeeds, and after a prune nothing is left.
func TestKillAtFailPoints(t *testing.T) {
	k := newKit(t)
	address, _ := k.serve("registry")
	remote := address + "/app:1"
	k.base()
	k.context("app", twoStages)
	k.must("build", "-q", "-t", "app", "app")
	k.must("save", "-o", "app.tar", "app")
	k.must("tag", "app", remote)
	k.snapshot("full") // before the push: that compresses
	k.must("push", remote)
	k.must("rmi", "app", remote)
	k.must("system", "prune", "-a", "-f")
	k.snapshot("empty")
	k.base()
	k.snapshot("begun")

	commands := []struct {
		name, store string
		args        []string
	}{
		{"first", "", []string{"import", "base.tar", "base"}},
		{"build", "begun", []string{"build", "-t", "app", "app"}},
		{"share", "begun", []string{"build", "--cache-to", "type=local,dest=shared,mode=max", "-t", "app", "app"}},
		{"unpack", "begun", []string{"--snapshotter=overlay", "build", "-t", "app", "app"}},
		{"load", "empty", []string{"load", "-i", "app.tar"}},
		{"import", "empty", []string{"import", "base.tar", "base"}},
		{"pull", "empty", []string{"pull", remote}},
		{"push", "full", []string{"push", remote}},
		{"save", "full", []string{"save", "-o", "again.tar", "app"}},
		{"tag", "full", []string{"tag", "base", "app"}},
		{"rmi", "full", []string{"rmi", "-f", "app"}},
		{"run", "full", []string{"run", "--rm", "-v", "data:/bin", "-v", "/etc", "base", "true"}},
		{"prune", "full", []string{"system", "prune", "-a", "-f"}},
	}
	hits := map[string][]string{}
	kills := 0
	for _, c := range commands {
		for name := range failPoints {
			begin := func() {
				if c.store == "" {
					if err := os.RemoveAll(k.root); err != nil {
						t.Fatal(err)
					}
					return
				}
				k.restore(c.store)
				if c.name == "push" { // to where it is not yet
					c.args[1] = address + "/" + strings.ReplaceAll(name, ".", "-") + ":1"
					k.must("tag", "app", c.args[1])
				}
			}
			begin()
			a := k.command(c.args...)
			a.Env = append(a.Env, "FORGE_FAILPOINT="+name+":kill")
			k.do(a)
			if a.signal() != syscall.SIGKILL {
				if !a.ProcessState.Success() {
					t.Errorf("forge %s: %v: %s", a, a.ProcessState, a.err.String())
				}
				continue
			}
			kills++
			hits[name] = append(hits[name], c.name)
			when := "kill of " + c.name + " at " + name
			k.sound(when)
			k.again(c.name, c.args)
			k.must("system", "fsck", "--deep")
			k.tidy(when)
			if t.Failed() {
				t.FailNow()
			}
		}
	}
	for name, by := range failPoints {
		if by != byContainer && !slices.Contains(hits[name], by) {
			t.Errorf("%s does not come to %s, but %s", by, name, hits[name])
		}
	}
	t.Logf("%d kills", kills)
}

// again does what was killed once more.
func (k *kit) again(name string, args []string) {
	k.t.Helper()
	if name == "rmi" && !slices.Contains(k.images(), "app:latest") {
		return // it was done
	}
	k.must(args...)
	switch images := k.images(); name {
	case "build", "unpack", "load", "save", "tag":
		if !slices.Contains(images, "app:latest") {
			k.t.Errorf("%s: images = %v", name, images)
		}
	case "run":
		if got, want := k.must("run", "--rm", "-v", "data:/x", "base", "ls", "/x"), k.must("run", "--rm", "base", "ls", "/bin"); got != want {
			k.t.Errorf("the volume has %s, the image %s", got, want)
		}
	case "prune":
		if len(images) > 0 {
			k.t.Errorf("%s: images = %v", name, images)
		}
	case "rmi":
		if slices.Contains(images, "app:latest") {
			k.t.Errorf("%s: images = %v", name, images)
		}
	}
}
