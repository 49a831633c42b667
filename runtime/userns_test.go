package runtime

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// helperUserns enters a user namespace and tells what it is like there.
func helperUserns() {
	before := os.Getenv("PID")
	if before == "" {
		os.Setenv("PID", fmt.Sprint(os.Getpid()))
	}
	if err := EnterUserNamespace(); err != nil {
		fmt.Println("error", err)
		os.Exit(3)
	}
	rootless, why := Rootless()
	m, _ := os.ReadFile("/proc/self/uid_map")
	fmt.Println("same pid", before == fmt.Sprint(os.Getpid()), "euid", os.Geteuid(), "rootless", rootless, why, strings.Fields(string(m)))
	fmt.Println(os.Args[1:])
	os.Exit(7)
}

func TestEnterUserNamespace(t *testing.T) {
	need(t, "root", os.Geteuid() == 0, "not root")
	out, err := helper(t, "userns", 65534, "one", "two words").CombinedOutput()
	t.Log(string(out), err)
}

// helperRun runs a script in a container: root directory and script are its arguments.
func helperRun() {
	if err := EnterUserNamespace(); err != nil {
		fmt.Println("error", err)
		os.Exit(3)
	}
	root, err := os.Open(os.Args[1])
	if err != nil {
		panic(err)
	}
	s := Spec{Root: root, Args: []string{"sh", "-c", os.Args[2]}, Env: []string{"PATH=/bin"}}
	if v := os.Getenv("SPEC_USER"); v != "" {
		s.User, _ = LookupUser(v, nil, nil)
	}
	s.Network.Mode = os.Getenv("SPEC_NETWORK")
	p, err := Start(context.Background(), s, Stdio{Out: os.Stdout, Err: os.Stdout})
	if err != nil {
		fmt.Printf("%T %v\n", err, err)
		os.Exit(4)
	}
	exit, err := p.Wait()
	if err != nil {
		panic(err)
	}
	os.Exit(exit.Code)
}

func TestRootlessSmoke(t *testing.T) {
	dir := rootfs(t)
	os.Chmod(filepath.Dir(filepath.Dir(dir)), 0o755)
	os.Chmod(filepath.Dir(dir), 0o755)
	cmd := helper(t, "run", 65534, dir, "id; mount; ls -l /dev; cat /proc/self/status | grep -i 'cap\\|secc'; ifconfig lo; echo hello > /dev/null; head -c 3 /dev/urandom | wc -c; exit 5")
	out, err := cmd.CombinedOutput()
	t.Log(string(out), err)
}
