package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
)

// TestCorpusContainers builds the cases of TestCorpusChroot in containers that leave a builder less and less, as it finds best there: with docker's
// default rights, without a filter of system calls, and with what gVisor has, as of now and of before openat2. This program runs again in each.
func TestCorpusContainers(t *testing.T) {
	const inside = "FORGE_CORPUS_INSIDE"
	if testing.Short() {
		t.Skip("takes a minute")
	}
	for _, need := range []string{"root", "busybox", "static", "git"} {
		if ok, _ := condition(t, need); !ok {
			t.Skip("needs ", need)
		}
	}
	if os.Getenv(inside) != "" {
		newCorpus(t).third(t)
		return
	}
	c := newCorpus(t)
	modes := map[string][]string{"docker": nil, "unconfined": {"--security-opt", "seccomp=unconfined"}}
	if runtime.GOARCH == "amd64" { // which the filter is for
		now := gvisorFilter(t)
		for mode, filter := range map[string]string{"gvisor": now, "old_gvisor": strings.Replace(now, `"vmsplice"`, `"vmsplice", "openat2"`, 1)} {
			file := filepath.Join(c.dir, mode+".json")
			check(t, os.WriteFile(file, []byte(filter), 0o600))
			modes[mode] = []string{"--security-opt", "seccomp=" + file}
		}
	}
	self, err := os.Executable()
	check(t, err)
	top, err := filepath.Abs("../..")
	check(t, err)
	for mode, flags := range modes {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			args := append([]string{"run", "--rm", "--network", "none", "--tmpfs", "/tmp:exec", "-e", inside + "=1", "-e", "PATH=/usr/sbin:/usr/bin:/bin", "-w", "/top/cmd/forge"}, flags...)
			for _, dir := range []string{"/usr", "/bin", "/lib", "/lib64"} { // of git and busybox
				if _, err := os.Stat(dir); err == nil {
					args = append(args, "-v", dir+":"+dir+":ro")
				}
			}
			args = append(args, "-v", top+":/top:ro", "-v", self+":/corpus.test:ro", "base", "/corpus.test", "-test.v", "-test.run=^TestCorpusContainers$")
			cmd := exec.Command("forge", args...)
			cmd.Env = c.environment("HOME=" + c.dir)
			out, err := cmd.CombinedOutput()
			done, left := strings.Count(string(out), "--- PASS: TestCorpusContainers/"), strings.Count(string(out), "--- SKIP")
			if err != nil || done < 40 || left > 0 {
				t.Errorf("%v, %d cases done, %d left out\n%s", err, done, left, out)
			}
		})
	}
}

// gvisorFilter is a filter of system calls that answers what gVisor has not as gVisor does.
func gvisorFilter(t *testing.T) string {
	archive, err := txtar.ParseFile("../../testdata/script/ci_gvisor.txtar")
	check(t, err)
	for _, f := range archive.Files {
		if f.Name == "gvisor.json" {
			return string(f.Data)
		}
	}
	t.Fatal("no filter")
	return ""
}
