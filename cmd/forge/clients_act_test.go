package main

import (
	"os/exec"
	"path/filepath"
	"testing"
)

// TestClientAct runs a workflow of GitHub's with act, which makes containers, copies files into them and has steps executed there.
func TestClientAct(t *testing.T) {
	k := newClientKit(t)
	k.serveAPI()
	k.recorded()
	if out, err := exec.Command("cp", "-r", "../../testdata/clients/act", k.dir).CombinedOutput(); err != nil {
		t.Fatalf("cp: %v: %s", err, out)
	}
	git := "git init -q . && git -c user.name=n -c user.email=e@example.com commit -q --allow-empty -m m && git add . && git remote add origin https://example.com/o/r"
	k.mustClient(0, k.client("act", "sh", "-c", git))
	act := func(args ...string) *attempt {
		return k.client("act", filepath.Join(clientsDir(), "bin/act"), append([]string{"-P", "ubuntu-latest=base", "--pull=false", "--rm", "--no-cache-server", "--artifact-server-addr", "127.0.0.1"}, args...)...)
	}
	printed := k.mustClient(0, act("push"))
	for _, want := range []string{"the word is within, the file of the repository\n", "and kept\n", "value inner 1\n", "value inner 2\n", "Job succeeded"} {
		k.says(printed, want)
	}
	k.write("act/.github/workflows/story.yaml", "on: push\njobs:\n  bad:\n    runs-on: ubuntu-latest\n    steps: [{run: exit 7, shell: sh}]\n")
	k.says(k.mustClient(1, act("push")), "exitcode '7'")
	if left := k.must("ps", "-aq"); left != "" {
		t.Errorf("containers are left: %s", left)
	}
}
