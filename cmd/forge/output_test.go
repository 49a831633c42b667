package main

import (
	"os"
	"strings"
	"testing"
)

// TestFullOutput writes what commands print where there is no room: that is an error, also of a command that has done its work.
func TestFullOutput(t *testing.T) {
	k := newKit(t)
	k.base()
	k.must("save", "-o", "app.tar", "base")
	k.must("tag", "base", "app")
	k.must("create", "--name", "box", "--network", "none", "base")
	k.must("build", "-t", "built", k.context("c", "FROM base\nRUN echo NONCE\n"))
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer full.Close()
	for _, line := range []string{
		"images", "images -q", "ps -a", "inspect box", "history base", "info", "version", "builds", "builds logs", "container --help", "--help", "run --help", "network", "--version", "context use default", "logout x.example",
		"system fsck", "system df", "load -i app.tar", "import base.tar", "rmi app", "build -q " + k.dir + "/c", "builds prune -f", "image prune -f", "container prune -f", "volume prune -f",
		"system prune -f",
	} {
		a := k.command(strings.Fields(line)...)
		a.Stdout = full
		if k.do(a); a.status() != 1 || !strings.Contains(a.err.String(), "no space left on device") {
			t.Errorf("forge %s: exit status %d, want 1\n%s", line, a.status(), a.err.String())
		}
		if strings.Contains(a.err.String(), "--help") {
			t.Errorf("forge %s: a full disk is no mistake on the command line\n%s", line, a.err.String())
		}
	}
	if got := k.must("ps", "-aq"); got != "" {
		t.Errorf("a prune whose output was lost has left %s", got)
	}
}
