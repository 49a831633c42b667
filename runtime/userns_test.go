package runtime

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// helperUserns enters a user namespace and tells what it is like there.
func helperUserns() {
	before := os.Getenv("PID")
	if before == "" {
		os.Setenv("PID", itoa(os.Getpid()))
	}
	if err := EnterUserNamespace(os.Getenv("MEMBERS")); err != nil {
		_, marked := os.LookupEnv(usernsError)
		fmt.Println("error", err, marked)
		os.Exit(3)
	}
	rootless, why := Rootless()
	m, _ := os.ReadFile("/proc/self/uid_map")
	mount := unix.Mount("none", "/tmp", "tmpfs", 0, "")
	fmt.Println("same process", before == itoa(os.Getpid()), "euid", os.Geteuid(), "rootless", rootless, "mount", mount)
	fmt.Println(why)
	fmt.Println(strings.Fields(string(m)))
	fmt.Printf("%q\n", os.Args[1:])
	os.Exit(7)
}

// helperSubordinate gives user 65534 subordinate ids in a mount namespace of its own, becomes that user, and is then
// the helper that is its first argument.
func helperSubordinate() {
	file := filepath.Join(filepath.Dir(os.Args[0]), "ids")
	err := os.WriteFile(file, []byte("root:1:1\n65534:100000:1000\n65534:300000:500\n"), 0o644)
	if err == nil {
		err = unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")
	}
	for _, name := range []string{"/etc/subuid", "/etc/subgid"} {
		if err == nil {
			err = unix.Mount(file, name, "", unix.MS_BIND, "")
		}
	}
	if err == nil {
		err = syscall.Setgroups(nil)
	}
	if err == nil {
		err = syscall.Setgid(65534)
	}
	if err == nil {
		err = syscall.Setuid(65534)
	}
	if err == nil {
		os.Setenv("RUNTIME_TEST_HELPER", os.Args[1])
		err = syscall.Exec(os.Args[0], append(os.Args[:1], os.Args[2:]...), os.Environ())
	}
	fmt.Println(err)
	os.Exit(1)
}

// subordinate runs a helper by a user with subordinate ids.
func subordinate(t *testing.T, name string, args ...string) *exec.Cmd {
	t.Helper()
	need(t, "root", os.Geteuid() == 0, "not root")
	_, err := exec.LookPath("newuidmap")
	need(t, "userns", err == nil, "newuidmap is not installed")
	for _, f := range []string{"/etc/subuid", "/etc/subgid"} {
		_, err := os.Stat(f)
		need(t, "userns", err == nil, "no "+f)
	}
	cmd := helper(t, "subordinate", 0, append([]string{name}, args...)...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	return cmd
}

func output(cmd *exec.Cmd) string {
	out, _ := cmd.CombinedOutput()
	return string(out) + cmd.ProcessState.String()
}

func TestEnterUserNamespace(t *testing.T) {
	need(t, "root", os.Geteuid() == 0, "not root")
	if err := EnterUserNamespace(os.Getenv("MEMBERS")); err != nil {
		t.Error("root:", err)
	}
	if rootless, why := Rootless(); rootless || why != "" {
		t.Error("root:", why)
	}
	want := `same process true euid 0 rootless true mount <nil>
user namespace with one id: /etc/subuid has no range for user 65534
[0 65534 1]
["one" "two words" ""]
exit status 7`
	if got := output(helper(t, "userns", 65534, "one", "two words", "")); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestSubordinateIDs(t *testing.T) {
	want := `same process true euid 0 rootless true mount <nil>
user namespace with the ids of /etc/subuid
[0 65534 1 1 100000 1000 1001 300000 500]
["x"]
exit status 7`
	if got := output(subordinate(t, "userns", "x")); got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

// Where there are no user namespaces, the program goes on without and knows why. A container is such a place.
func TestNoUserNamespace(t *testing.T) {
	root := rootfs(t)
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin/helper"), self, 0o755); err != nil {
		t.Fatal(err)
	}
	s := Spec{
		Root: openDir(t, root), Args: []string{"helper"}, User: User{UID: 1000, GID: 1000},
		Env: []string{"PATH=/bin", "RUNTIME_TEST_HELPER=userns"},
	}
	var out bytes.Buffer
	p, err := Start(context.Background(), s, Stdio{Out: &out})
	if errors.Is(err, unix.ENOENT) {
		t.Skip("the test binary is not static")
	}
	if err != nil {
		t.Fatal(err)
	}
	exit, err := p.Wait()
	want := "error user namespace: this process may not make them here: operation not permitted; a seccomp profile is in force: " +
		"docker run --security-opt seccomp=unconfined, or securityContext.seccompProfile.type: Unconfined false\n"
	if err != nil || exit.Code != 3 || out.String() != want {
		t.Errorf("exit %v, %v:\n%s\nwant:\n%s", exit, err, out.String(), want)
	}
}

// helperRun runs a script in a container: root directory and script are its arguments.
func helperRun() {
	if err := EnterUserNamespace(os.Getenv("MEMBERS")); err != nil {
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

// sharedRootfs is a root directory that others may enter.
func sharedRootfs(t *testing.T) string {
	t.Helper()
	dir := rootfs(t)
	for d := dir; d != os.TempDir() && d != "/"; d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestRootless(t *testing.T) {
	long(t)
	root := sharedRootfs(t)
	for _, test := range []struct{ name, script, user, network, want string }{
		{name: "root", script: "id", want: "uid=0 gid=0"},
		{name: "exit", script: "exit 5", want: "exit status 5"},
		{name: "process 1", script: "echo $$", want: "1"},
		{name: "capabilities", script: "grep -c '00000000a80425fb' /proc/self/status", want: "3"},
		{name: "seccomp", script: "grep ^Seccomp: /proc/self/status", want: "Seccomp:\t2"},
		{name: "loopback only", script: "ls /sys/class/net; ping -c1 -W1 127.0.0.1 | grep -c ' 1 packets received'", want: "lo\n1"},
		{name: "host network", script: "ls -A /sys", network: "host", want: ""},
		{name: "devices", script: "echo x >/dev/null; head -c2 /dev/zero | wc -c; ls /dev | tr '\\n' ' '", want: "2\nfd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero "},
		{name: "no nodes", script: "mknod /dev/x c 1 5 2>&1", want: "mknod: /dev/x: Operation not permitted"},
		{name: "masks", script: "cat /proc/timer_list; ls -A /sys/firmware; echo x 2>&1 >/proc/sys/kernel/domainname", want: "sh: can't create /proc/sys/kernel/domainname: Read-only file system"},
		{name: "unmapped user", script: "id", user: "5:6", want: "*runtime.SetupError user 5:6: not in the user namespace with one id: /etc/subuid has no range for user 65534"},
	} {
		t.Run(test.name, func(t *testing.T) {
			cmd := helper(t, "run", 65534, root, test.script)
			cmd.Env = append(cmd.Env, "SPEC_USER="+test.user, "SPEC_NETWORK="+test.network)
			if got := output(cmd); !strings.HasPrefix(got, test.want) {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
	cmd := subordinate(t, "run", root, "id; stat -c %u /proc/self/")
	cmd.Env = append(cmd.Env, "SPEC_USER=5:6")
	if got, want := output(cmd), "uid=5 gid=6\n5\nexit status 0"; got != want {
		t.Errorf("with subordinate ids, got:\n%s\nwant:\n%s", got, want)
	}
}

// helperJoin runs a script in a container that is running already, in a user namespace. Root directory and script are its
// arguments.
func helperJoin() {
	if err := EnterUserNamespace(os.Getenv("MEMBERS")); err != nil {
		panic(err)
	}
	root, err := os.Open(os.Args[1])
	if err != nil {
		panic(err)
	}
	user, err := LookupUser(os.Getenv("SPEC_USER"), nil, nil)
	if err != nil {
		panic(err)
	}
	s := Spec{Root: root, Args: []string{"sleep", "1000"}, Env: []string{"PATH=/bin"}, User: user, Network: Network{Mode: os.Getenv("SPEC_NETWORK")}}
	p, err := Start(context.Background(), s, Stdio{})
	if err != nil {
		panic(err)
	}
	ref, err := p.Ref()
	if err != nil {
		panic(err)
	}
	target, err := Open(ref)
	if err != nil {
		panic(err)
	}
	if os.Getenv("SPEC_REF") != "" { // another process is to join it
		text, err := json.Marshal(ref)
		if err != nil {
			panic(err)
		}
		fmt.Println(string(text))
		p.Wait()
		return
	}
	s.Args = []string{"sh", "-c", os.Args[2]}
	second, err := Join(context.Background(), target, s, Stdio{Out: os.Stdout, Err: os.Stdout})
	if err != nil {
		fmt.Println(err)
		os.Exit(4)
	}
	exit, err := second.Wait()
	if err != nil {
		panic(err)
	}
	os.Exit(exit.Code)
}

// helperOther reaches a container that another process of the same user has started, and runs a script in it. Its
// arguments are the record and the script.
func helperOther() {
	var ref Ref
	if err := json.Unmarshal([]byte(os.Args[1]), &ref); err != nil {
		panic(err)
	}
	enterErr := EnterUserNamespace(os.Getenv("MEMBERS"))
	target, err := Open(ref)
	if err := errors.Join(enterErr, err); err != nil {
		fmt.Println(err)
		os.Exit(4)
	}
	s := Spec{Args: []string{"sh", "-c", os.Args[2]}, Env: []string{"PATH=/bin"}, User: User{UID: 5, GID: 6}}
	p, err := Join(context.Background(), target, s, Stdio{Out: os.Stdout, Err: os.Stdout})
	if err != nil {
		fmt.Println(err)
		os.Exit(4)
	}
	exit, err := p.Wait()
	fmt.Println("kill", target.Signal(os.Kill), err)
	os.Exit(exit.Code)
}

// A process of the same user that did not start the container is in its user namespace, and can do all to it.
func TestEnterUserNamespaceOfContainer(t *testing.T) {
	long(t)
	cmd := subordinate(t, "join", sharedRootfs(t), "")
	members := "MEMBERS=" + membersFile(t)
	cmd.Env = append(cmd.Env, "SPEC_USER=5:6", "SPEC_REF=yes", members)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Kill()
		cmd.Wait()
	})
	ref, err := bufio.NewReader(out).ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	if got, want := output(helper(t, "other", 65534, ref, "")), "the container is in another user namespace than this process"; !strings.HasPrefix(got, want) {
		t.Errorf("from another namespace: %s, want %s", got, want)
	}
	other := helper(t, "other", 65534, ref, "id; cut -d' ' -f1 /proc/1/comm; exit 5")
	other.Env = append(other.Env, members)
	got := output(other)
	if want := "uid=5 gid=6\nsleep\nkill <nil> <nil>\nexit status 5"; got != want {
		t.Errorf("got:\n%s\nwant:\n%s", got, want)
	}
}

func TestJoinRootless(t *testing.T) {
	long(t)
	root := sharedRootfs(t)
	const script = "id; cut -d' ' -f1 /proc/1/comm; grep -c 00000000a80425fb /proc/self/status; ls /sys/class/net; exit 5"
	for network, want := range map[string]string{"": "uid=0 gid=0\nsleep\n3\nlo\nexit status 5", "host": "uid=0 gid=0\nsleep\n3\n"} {
		cmd := helper(t, "join", 65534, root, script)
		cmd.Env = append(cmd.Env, "SPEC_NETWORK="+network)
		if got := output(cmd); !strings.HasPrefix(got, want) {
			t.Errorf("network %q, got:\n%s\nwant:\n%s", network, got, want)
		}
	}
	cmd := subordinate(t, "join", root, "id; stat -c %u /proc/1/ /proc/self/; echo x >/dev/stdout")
	cmd.Env = append(cmd.Env, "SPEC_USER=5:6")
	if got, want := output(cmd), "uid=5 gid=6\n5\n5\nx\nexit status 0"; got != want {
		t.Errorf("with subordinate ids, got:\n%s\nwant:\n%s", got, want)
	}
}
