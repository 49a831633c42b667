package runtime

import (
	"bufio"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// membersFile is a file that the members of a user namespace can make.
func membersFile(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "forge-runtime-test")
	if err == nil {
		err = os.Chown(dir, 65534, 65534)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	return filepath.Join(dir, "userns")
}

// helperMember enters a namespace, tells which, and stays until its input ends. Its argument is the file of the members. With "child"
// another process, which it has started, stays in its place.
func helperMember() {
	before := os.Getuid()
	if err := EnterUserNamespace(os.Args[1]); err != nil {
		fmt.Println(err)
		os.Exit(3)
	}
	if before == 0 && len(os.Args) > 3 { // the child
		if _, err := BecomeMember(os.Args[1]); err != nil {
			fmt.Println(err)
			os.Exit(3)
		}
	}
	ns, _ := os.Readlink("/proc/self/ns/user")
	mnt, _ := os.Readlink("/proc/self/ns/mnt")
	_, left := os.LookupEnv(usernsMembers)
	if len(os.Args) == 3 {
		cmd := exec.Command("/proc/self/exe", append(os.Args[1:], "child")...)
		cmd.Env = append(os.Environ(), "RUNTIME_TEST_HELPER=member")
		cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stdout
		if err := cmd.Start(); err != nil {
			fmt.Println(err)
		}
		return
	}
	fmt.Println(ns, mnt, os.Geteuid(), left)
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// A memberProcess is a process that has entered a namespace with others.
type memberProcess struct {
	*exec.Cmd
	in          io.Closer
	user, mount string // its namespaces
}

func startMember(t *testing.T, args ...string) *memberProcess {
	t.Helper()
	m := &memberProcess{Cmd: helper(t, "member", 65534, args...)}
	m.start(t)
	return m
}

func (m *memberProcess) start(t *testing.T) {
	t.Helper()
	in, err := m.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	m.in = in
	out, err := m.StdoutPipe()
	if err == nil {
		err = m.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(m.end)
	line, err := bufio.NewReader(out).ReadString('\n')
	fields := strings.Fields(line)
	if err != nil || len(fields) != 4 || fields[2] != "0" || fields[3] != "false" {
		t.Fatalf("member: %q, %v", line, err)
	}
	m.user, m.mount = fields[0], fields[1]
}

func (m *memberProcess) end() {
	_ = m.in.Close()
	_ = m.Wait()
}

// TestShareUserNamespace: as long as a process lives that is in the namespace, also one that is not the first, others enter it.
func TestShareUserNamespace(t *testing.T) {
	long(t)
	need(t, "root", os.Geteuid() == 0, "not root")
	file := membersFile(t)
	first := startMember(t, file)
	second := startMember(t, file)
	if first.user != second.user || first.mount == second.mount {
		t.Errorf("namespaces %s and %s of users, %s and %s of mounts", first.user, second.user, first.mount, second.mount)
	}
	first.end()
	third := startMember(t, file)
	if third.user != second.user {
		t.Error("the namespace of a member was not entered when the first was gone")
	}
	if other := startMember(t, membersFile(t)); other.user == third.user {
		t.Error("one file, another namespace")
	}
	if alone := startMember(t, ""); alone.user == third.user {
		t.Error("a process without a file is not alone")
	}
	second.end()
	third.end()
	child := startMember(t, file, "parent") // the process that was started has ended
	last := startMember(t, file)
	if last.user != child.user {
		t.Error("the namespace of a member's child was not entered")
	}
}

// TestShareUserNamespaceCrowd: of many that come at once, and of which some go at once, one makes the namespace of those that stay.
func TestShareUserNamespaceCrowd(t *testing.T) {
	long(t)
	need(t, "root", os.Geteuid() == 0, "not root")
	file := membersFile(t)
	var mu sync.Mutex
	seen := map[string]bool{}
	var wg sync.WaitGroup
	var members []*memberProcess
	var short []*exec.Cmd
	for range 12 { // written before any is started, which would keep the file open for a moment
		members = append(members, &memberProcess{Cmd: helper(t, "member", 65534, file)})
		short = append(short, helper(t, "member", 65534, file))
	}
	began := time.Now()
	for _, cmd := range short {
		wg.Go(func() {
			if out, err := cmd.Output(); err != nil {
				t.Errorf("%s, %v", out, err)
			}
		})
	}
	for _, m := range members {
		wg.Go(func() {
			m.start(t)
			mu.Lock()
			seen[m.user] = true
			mu.Unlock()
		})
	}
	wg.Wait()
	if len(seen) != 1 || time.Since(began) > chooseTime {
		t.Errorf("%d namespaces in %v: %v", len(seen), time.Since(began), seen)
	}
}

// TestShareUserNamespaceNot: who cannot enter the namespace of a member has one of its own.
func TestShareUserNamespaceNot(t *testing.T) {
	long(t)
	need(t, "root", os.Geteuid() == 0, "not root")
	file := membersFile(t)
	first := startMember(t, file)
	kept, err := os.Open(fmt.Sprintf("/proc/%d/ns/user", first.Process.Pid)) // no other gets its number meanwhile
	if err != nil {
		t.Fatal(err)
	}
	defer kept.Close()
	first.end()
	if _, err := BecomeMember(file); err != nil { // root, in no namespace that a user can enter
		t.Fatal(err)
	}
	if other := startMember(t, file); other.user == first.user {
		t.Error("the namespace is that of a process that has ended")
	}
}
