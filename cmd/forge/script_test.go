package main

import (
	"archive/tar"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/forge-build/forge/runtime"
)

func TestMain(m *testing.M) {
	runtime.Main() // containers that the scripts start begin here
	testscript.Main(m, map[string]func(){"forge": func() { os.Exit(run(os.Args[1:], enter(os.Args[1:]))) }})
}

// TestScript tells the stories of testdata/script: one behaviour a file, forge being the program itself. There is one
// command of ours: `base NAME` makes an image of the distribution's static busybox.
func TestScript(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:       "../../testdata/script",
		Setup:     setupScript,
		Condition: func(cond string) (bool, error) { return condition(t, cond) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"base": baseImage,
		},
	})
}

func setupScript(e *testscript.Env) error {
	e.Setenv("FORGE_ROOT", filepath.Join(e.WorkDir, ".forge"))
	e.Setenv("HOME", e.WorkDir)
	e.Setenv("XDG_RUNTIME_DIR", e.WorkDir)
	e.Setenv("SOURCE_DATE_EPOCH", "")
	for _, name := range []string{"FORGE_SNAPSHOTTER", "FORGE_FAILPOINT"} {
		if value, ok := os.LookupEnv(name); ok {
			e.Setenv(name, value)
		}
	}
	return nil
}

// condition tells what this machine can do. FORGE_TEST_MUST names what it has to be able to do.
func condition(t *testing.T, cond string) (bool, error) {
	var ok bool
	switch cond {
	case "root":
		ok = os.Geteuid() == 0
	case "busybox":
		ok = staticBusybox() != ""
	case "skopeo", "umoci", "podman", "docker-registry", "git":
		_, err := exec.LookPath(cond)
		ok = err == nil
	default:
		return false, fmt.Errorf("no such condition: %s", cond)
	}
	if !ok && slices.Contains(strings.Split(os.Getenv("FORGE_TEST_MUST"), ","), cond) {
		t.Errorf("FORGE_TEST_MUST demands %s, which is not here", cond)
	}
	return ok, nil
}

func staticBusybox() string {
	path, err := exec.LookPath("busybox")
	if err != nil {
		return ""
	}
	return path
}

// baseImage imports an image with busybox in it: base NAME.
func baseImage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) != 1 {
		ts.Fatalf("usage: base NAME")
	}
	file := ts.MkAbs(".base.tar")
	ts.Check(os.WriteFile(file, busyboxTar(ts), 0o600))
	ts.Check(ts.Exec("forge", "import", "--change", "ENV PATH=/bin", "--change", `CMD ["sh"]`, file, args[0]))
}

func busyboxTar(ts *testscript.TestScript) []byte {
	program, err := os.ReadFile(staticBusybox())
	ts.Check(err)
	list, err := exec.Command(staticBusybox(), "--list").Output()
	ts.Check(err)

	var b bytes.Buffer
	w := tar.NewWriter(&b)
	add := func(h *tar.Header, content string) {
		h.Size = int64(len(content))
		ts.Check(w.WriteHeader(h))
		_, err := w.Write([]byte(content))
		ts.Check(err)
	}
	for _, dir := range []string{"bin", "dev", "etc", "proc", "root", "sys", "tmp"} {
		mode := int64(0o755)
		if dir == "tmp" {
			mode = 0o1777
		}
		add(&tar.Header{Name: dir + "/", Typeflag: tar.TypeDir, Mode: mode}, "")
	}
	add(&tar.Header{Name: "bin/busybox", Mode: 0o755}, string(program))
	for _, applet := range strings.Fields(string(list)) {
		if applet != "busybox" {
			add(&tar.Header{Name: "bin/" + applet, Typeflag: tar.TypeSymlink, Linkname: "busybox"}, "")
		}
	}
	add(&tar.Header{Name: "etc/passwd", Mode: 0o644}, "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000::/home/app:/bin/sh\n")
	add(&tar.Header{Name: "etc/group", Mode: 0o644}, "root:x:0:\napp:x:1000:\nextra:x:2000:app\n")
	ts.Check(w.Close())
	return b.Bytes()
}
