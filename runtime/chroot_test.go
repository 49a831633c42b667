package runtime

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"
)

// helperChroot runs a command that is isolated by chroot, with a secret at /work/secret, and waits.
func helperChroot() {
	root, err := os.Open(os.Args[1])
	if err != nil {
		panic(err)
	}
	secret, err := os.Open(os.Args[2])
	if err != nil {
		panic(err)
	}
	s := Spec{
		Root: root, Isolation: ByChroot, Network: Network{Mode: "host"}, Env: []string{"PATH=/bin"},
		Mounts: []Mount{{Source: secret, Target: "/work/secret"}},
		Args:   []string{"sh", "-c", `cat /work/secret; mv /work /mnt/moved; ln -s "$0" /work; setsid sleep "$1" & echo ready; sleep "$1"`, os.Args[3], os.Args[4]},
	}
	p, err := Start(context.Background(), s, Stdio{Out: os.Stdout, Err: os.Stdout})
	if err != nil {
		panic(err)
	}
	p.Wait()
}

// When forge is killed, what it has put into a root directory without mounts leaks nothing: processes end, secrets are emptied, wherever
// the command has moved them. What the command has put in their way is not followed: it may lead out of the root directory.
func TestReaperFollowsNothing(t *testing.T) {
	dir := rootfs(t)
	outside := t.TempDir()
	kept, given := filepath.Join(outside, "secret/kept"), filepath.Join(t.TempDir(), "given")
	if err := errors.Join(os.Mkdir(filepath.Dir(kept), 0o755), os.WriteFile(kept, []byte("kept"), 0o644), os.WriteFile(given, []byte("hidden\n"), 0o600)); err != nil {
		t.Fatal(err)
	}
	mark := longTime()
	cmd := helper(t, "chroot", 0, dir, given, outside, mark)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said := make([]byte, len("hidden\nready\n"))
	if _, err := io.ReadFull(out, said); err != nil || string(said) != "hidden\nready\n" {
		t.Fatalf("%q: %v", said, err)
	}
	cmd.Process.Kill()
	cmd.Wait()
	await(t, "the secret is there", func() bool {
		text, err := os.ReadFile(filepath.Join(dir, "mnt/moved/secret"))
		return err == nil && len(text) == 0
	})
	if left := processes(t, mark); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	if text, err := os.ReadFile(kept); err != nil || string(text) != "kept" {
		t.Errorf("what is outside: %q, %v", text, err)
	}
	if text, err := os.ReadFile(given); err != nil || string(text) != "hidden\n" {
		t.Errorf("what was given: %q, %v", text, err)
	}
}
