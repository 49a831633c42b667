package main

import (
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/forge-build/forge"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"forge": main, "forge-monitor": main, "forge-reap": main, "executor": main, "user": beUser, "stuck": beStuck})
}

// TestScript tells the stories of testdata/script: one behaviour a file, forge being the program itself. Commands
// of ours: `base NAME` makes an image of the distribution's static busybox, and `base NAME user one` does so as an ordinary user;
// those of script_servers_test.go start servers.
func TestScript(t *testing.T) {
	dir, files := "../../testdata/script", []string(nil)
	if testing.Short() {
		for _, name := range []string{"build_run", "cache_copy", "run_exit", "version"} {
			files = append(files, filepath.Join(dir, name+".txtar"))
		}
		dir = ""
	}
	testscript.Run(t, testscript.Params{
		Dir:       dir,
		Files:     files,
		Setup:     setupScript,
		Condition: func(cond string) (bool, error) { return condition(t, cond) },
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"base":            baseImage,
			"registry":        serveForge,
			"docker-registry": serveDistribution,
			"www":             serveFiles,
			"cluster":         serveCluster,
			"port":            freePort,
			"reach":           reach,
			"let":             textIn,
			"status":          exitStatus,
			"recipe":          recipe,
		},
	})
}

func setupScript(e *testscript.Env) error {
	e.Setenv("FORGE_ROOT", filepath.Join(e.WorkDir, ".forge"))
	e.Defer(func() {
		stores, _ := filepath.Glob(filepath.Join(e.WorkDir, ".forge*"))
		for _, dir := range stores {
			endContainers(dir)
		}
	})
	e.Setenv("HOME", e.WorkDir)
	e.Setenv("XDG_RUNTIME_DIR", e.WorkDir)
	e.Setenv("SOURCE_DATE_EPOCH", "")
	examples, err := filepath.Abs("../../examples")
	if err != nil {
		return err
	}
	e.Setenv("EXAMPLES", examples)
	e.Setenv("CI_RECIPES", filepath.Join(filepath.Dir(examples), "ci"))
	e.Setenv("IMAGE_SCRIPT", filepath.Join(filepath.Dir(examples), "scripts/image.sh"))
	registries := filepath.Join(e.WorkDir, "registries.conf") // not the machine's; a story may bring its own
	e.Setenv("CONTAINERS_REGISTRIES_CONF", registries)
	e.Setenv("CONTAINERS_REGISTRIES_CONF_DIR", filepath.Join(e.WorkDir, "registries.conf.d"))
	f, err := os.OpenFile(registries, os.O_CREATE, 0o600)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	for _, name := range []string{"FORGE_SNAPSHOTTER", "FORGE_ISOLATION", "FORGE_FAILPOINT"} {
		if value, ok := os.LookupEnv(name); ok {
			e.Setenv(name, value)
		}
	}
	return nil
}

// endContainers removes what a story that failed has left running.
func endContainers(dir string) {
	if _, err := os.Stat(filepath.Join(dir, "containers")); err != nil {
		return
	}
	ctx := context.Background()
	if err := os.Chown(dir, os.Geteuid(), -1); err != nil { // it may be that of a story's ordinary user
		return
	}
	h, err := forge.Open(ctx, forge.Options{Dir: dir})
	if err != nil {
		return
	}
	defer h.Close()
	list, _ := h.Containers(ctx, forge.ListOptions{All: true, Last: -1})
	for _, c := range list {
		_ = h.RemoveContainer(ctx, c.ID, forge.RemoveContainerOptions{Force: true, Volumes: true})
	}
}

// condition tells what this machine can do. FORGE_TEST_MUST names what it has to be able to do.
func condition(t *testing.T, cond string) (bool, error) {
	var ok bool
	switch cond {
	case "root":
		ok = os.Geteuid() == 0
	case "userns":
		ok = os.Geteuid() == 0 || userNamespaces()
	case "ids":
		ok = os.Geteuid() == 0 || userNamespaces() && subordinateIDs()
	case "subids": // as root, a user is given them
		_, err := exec.LookPath("newuidmap")
		ok = err == nil && (os.Geteuid() == 0 || subordinateIDs())
	case "static": // so that this program runs in a container, too
		ok = isStatic()
	case "busybox":
		ok = staticBusybox() != ""
	case "clients": // of scripts/clients.sh
		ok = clientsDir() != ""
	case "skopeo", "umoci", "pasta", "podman", "docker-registry", "git", "htpasswd", "openssl", "ssh-agent", "setcap", "python3", "mkfs.ext4", "strace":
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

// isStatic reports whether this program needs no other file: it was built with CGO_ENABLED=0.
func isStatic() bool {
	program, err := elf.Open("/proc/self/exe")
	if err != nil {
		return false
	}
	defer program.Close()
	return !slices.ContainsFunc(program.Progs, func(p *elf.Prog) bool { return p.Type == elf.PT_INTERP })
}

// userNamespaces reports whether this user may make one.
func userNamespaces() bool {
	cmd := exec.Command("true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS}
	return cmd.Run() == nil
}

// subordinateIDs reports whether this user has a range of ids, and the program that maps them.
func subordinateIDs() bool {
	_, err := exec.LookPath("newuidmap")
	me, userErr := user.Current()
	ranges, readErr := os.ReadFile("/etc/subuid")
	if errors.Join(err, userErr, readErr) != nil {
		return false
	}
	for line := range strings.Lines(string(ranges)) {
		if name, _, _ := strings.Cut(line, ":"); name == me.Username || name == me.Uid {
			return true
		}
	}
	return false
}

// baseImage imports an image with busybox in it: base NAME [PROGRAM…], the program being one that executes forge.
func baseImage(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: base NAME [PROGRAM…]")
	}
	file := ts.MkAbs(".base.tar")
	content, err := busyboxTar()
	ts.Check(err)
	ts.Check(os.WriteFile(file, content, 0o600))
	command := append(slices.Clone(args[1:]), "forge", "import", "--change", "ENV PATH="+basePath, "--change", `CMD ["sh"]`, file, args[0])
	ts.Check(ts.Exec(command[0], command[1:]...))
}

// exitStatus runs a program, which has to exit with a status: status N PROGRAM [ARG…].
func exitStatus(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: status N PROGRAM [ARG…]")
	}
	code := 0
	err := ts.Exec(args[1], args[2:]...)
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got := strconv.Itoa(code); got != args[0] {
		ts.Fatalf("exit status %s, want %s", got, args[0])
	}
}
