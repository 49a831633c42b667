package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// The tests of this file and of those beside it are of programs that others have made and that use forge unchanged; see
// scripts/clients.sh, and make clients.

// clientTime is as long as one call of a client may take before it counts as hanging.
const clientTime = 3 * time.Minute

// clientsDir is where scripts/clients.sh has put the clients; "" if it has not.
func clientsDir() string {
	dir := os.Getenv("FORGE_CLIENTS")
	if _, err := os.Stat(filepath.Join(dir, "have")); dir == "" || err != nil {
		return ""
	}
	return dir
}

// newClientKit makes a kit with the image base, for programs that use forge.
func newClientKit(t *testing.T) *kit {
	t.Helper()
	needs(t, "clients")
	k := newKit(t)
	k.cli = "docker"
	k.env = slices.DeleteFunc(k.env, func(e string) bool { return strings.HasPrefix(e, "DOCKER_") })
	k.base()
	t.Cleanup(func() {
		k.removeContainers()
	})
	return k
}

// removeContainers ends what is left running, so that the test that has failed leaves nothing.
func (k *kit) removeContainers() {
	if ids := strings.Fields(k.must("ps", "-aq")); len(ids) > 0 {
		k.must(append([]string{"rm", "-f", "-v"}, ids...)...)
	}
}

// client prepares a program in the kit's namespaces and a directory of the kit.
func (k *kit) client(dir string, program string, args ...string) *attempt {
	line := slices.Concat([]string{
		"--target", strconv.Itoa(k.holder), "--mount", "--net", "--", "env", "-C", filepath.Join(k.dir, dir), "timeout", "-k", "5",
		strconv.Itoa(int(clientTime.Seconds())), program,
	}, args)
	a := &attempt{Cmd: exec.Command("nsenter", line...)}
	a.Env = append(slices.Clone(k.env), "FORGE_ROOT="+k.root)
	a.Stdout, a.Stderr = &a.out, &a.err
	a.WaitDelay = 5 * time.Second
	return a
}

// mustClient runs a program, which has to end with a status, and returns its standard output. The test ends if it does not.
func (k *kit) mustClient(status int, a *attempt) string {
	k.t.Helper()
	_ = a.Run()
	if a.status() != status {
		k.t.Fatalf("%s: exit status %d, want %d\nstandard output: %s\nstandard error: %s", strings.Join(a.Args[9:], " "), a.status(), status, a.out.String(), a.err.String())
	}
	return a.out.String()
}

// says makes sure that what has been printed has a text in it.
func (k *kit) says(printed, text string) {
	k.t.Helper()
	if !strings.Contains(printed, text) {
		k.t.Errorf("printed %q, which has no %q in it", printed, text)
	}
}

// TestClientDevcontainers has the devcontainers CLI take forge for docker's command: it makes a container of a build file, works
// in it, finds it again, and makes it anew.
func TestClientDevcontainers(t *testing.T) {
	k := newClientKit(t)
	k.write("project/.devcontainer/devcontainer.json", `{"name": "t", "build": {"dockerfile": "Dockerfile", "args": {"K": "v"}},
		"remoteUser": "root", "containerEnv": {"E": "e"}, "postCreateCommand": "echo created >/created"}`)
	k.write("project/.devcontainer/Dockerfile", "FROM base\nARG K\nRUN echo $K >/k\n")
	k.write("project/text", "of the project\n")
	devcontainer := func(verb string, args ...string) *attempt {
		words := []string{filepath.Join(clientsDir(), "node/node_modules/@devcontainers/cli/devcontainer.js"), verb, "--docker-path", "forge", "--workspace-folder", "."}
		return k.client("project", "node", append(words, args...)...)
	}
	up := k.mustClient(0, devcontainer("up"))
	k.says(up, `"outcome":"success"`)
	k.says(k.mustClient(4, devcontainer("exec", "sh", "-c", "cat /k /created text; echo $E; exit 4")), "v\ncreated\nof the project\ne\n")
	first := k.must("ps", "-q")
	k.says(k.mustClient(0, devcontainer("up")), first[:12])
	k.says(k.mustClient(0, devcontainer("up", "--remove-existing-container")), `"outcome":"success"`)
	if second := k.must("ps", "-aq"); second == first || strings.Count(second, "\n") != 1 {
		t.Errorf("containers %q, and before they were made anew %q", second, first)
	}
	k.says(k.mustClient(0, devcontainer("build", "--image-name", "made")), `"outcome":"success"`)
	k.says(strings.Join(k.images(), " "), "made:latest")
}
