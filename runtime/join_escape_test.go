package runtime

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A container that may trace whatever it sees never sees our binary, a descriptor of ours, or a process with more rights than
// it has itself (CVE-2019-5736, CVE-2016-9962, CVE-2024-21626).
func TestJoinIsNotSeen(t *testing.T) {
	root := rootfs(t)
	writeFiles(t, root, map[string]string{"bin/script": "#!/proc/self/exe\n"})
	if err := os.Chmod(filepath.Join(root, "bin/script"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink("/proc/self/exe", filepath.Join(root, "bin/link")), os.Symlink("/proc/self/fd/5", filepath.Join(root, "link"))); err != nil {
		t.Fatal(err)
	}
	const spy = `while :; do for p in /proc/[0-9]*; do case $p in /proc/1|/proc/$$) continue;; esac
		ls -l $p/exe $p/cwd $p/root $p/fd 2>/dev/null; grep -E '^(CapPrm|Seccomp|Uid):' $p/status 2>/dev/null; done; done >/tmp/seen`
	_, target := running(t, Spec{Root: openDir(t, root), Args: []string{"sh", "-c", spy}, Security: Security{CapAdd: []string{"SYS_PTRACE"}}})
	sec := Security{CapAdd: []string{"SYS_PTRACE"}}
	rounds := 100
	if testing.Short() {
		rounds = 10
	}
	for range rounds {
		for _, command := range []string{"true", "/proc/self/exe", "script", "link"} {
			var out bytes.Buffer
			s := Spec{Args: []string{command, "-test.run=^$"}, Env: []string{"PATH=/bin"}, Security: sec}
			p, err := Join(context.Background(), target, s, Stdio{Out: &out})
			if err == nil {
				_, err = p.Wait()
			}
			if out.Len() > 0 || command == "true" && err != nil {
				t.Errorf("%s: %v: %s", command, err, out.String())
			}
			s.Dir = "/link"
			if _, err := Join(context.Background(), target, s, Stdio{}); err == nil {
				t.Error("the working directory was a descriptor of ours")
			}
		}
	}
	seen, err := os.ReadFile(filepath.Join(root, "tmp/seen"))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(string(seen), "\n") {
		_, to, link := strings.Cut(line, " -> ")
		switch {
		case link && (strings.HasPrefix(to, "pipe:") || to == "/" || to == "/dev/null" || to == "/bin/busybox" || strings.HasPrefix(to, "/memfd:forge")):
		case link && strings.HasPrefix(to, "/proc"), link && to == "/tmp/seen": // of the spy's own
		case link:
			t.Errorf("seen: %s", line)
		case strings.HasPrefix(line, "CapPrm:") && line != "CapPrm:\t00000000a80c25fb", strings.HasPrefix(line, "Seccomp:") && line != "Seccomp:\t2":
			t.Errorf("seen: %s", line)
		}
	}
	if !strings.Contains(string(seen), "/memfd:forge") {
		t.Log("the spy was never fast enough to see a process before it became the command")
	}
}
