package main

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A kit is a store, and the program run on it as people run it, in a mount and a network namespace of the kit's own: what
// is left in them was left by the kit.
type kit struct {
	t      *testing.T
	dir    string      // scratch
	root   string      // of the store
	nonce  string      // is in the arguments of the commands in containers
	holder int         // process whose namespaces commands enter
	mu     *sync.Mutex // guards pids
	pids   []int       // of all commands there were
	env    []string
	cli    string          // docker's command, in tests of clients
	others map[string]bool // cgroups that were there before
}

// needs skips the test, or fails it if FORGE_TEST_MUST demands it, unless all is here.
func needs(t *testing.T, conditions ...string) {
	t.Helper()
	for _, c := range conditions {
		ok, err := condition(t, c)
		if err != nil {
			t.Fatal(err)
		}
		if !ok {
			t.Skipf("needs %s", c)
		}
	}
}

// newKit makes a kit. The test runs beside others: a kit shares nothing with another.
func newKit(t *testing.T) *kit {
	t.Helper()
	long(t)
	t.Parallel()
	needs(t, "root", "busybox")
	k := &kit{t: t, mu: new(sync.Mutex), dir: t.TempDir(), nonce: fmt.Sprintf("86%d.%d", os.Getpid(), time.Now().UnixNano()%1e9)}
	k.others = map[string]bool{}
	for path := range allCgroups() {
		k.others[path] = true
	}
	k.root = filepath.Join(k.dir, "store")
	k.env = append(os.Environ(), "HOME="+k.dir, "FORGE_FAILPOINT=", "SOURCE_DATE_EPOCH=")
	k.hold()
	tar, err := busyboxTar()
	if err != nil {
		t.Fatal(err)
	}
	k.write("base.tar", string(tar))
	return k
}

// hold makes the namespaces.
func (k *kit) hold() {
	k.t.Helper()
	holder := exec.Command("unshare", "--mount", "--net", "--propagation", "private", "sh", "-c",
		"mount -t tmpfs none /run && busybox ifconfig lo up && echo ready && exec sleep 100000")
	out, err := holder.StdoutPipe()
	if err != nil {
		k.t.Fatal(err)
	}
	if err := holder.Start(); err != nil {
		k.t.Fatal(err)
	}
	k.t.Cleanup(func() {
		_ = holder.Process.Kill()
		_ = holder.Wait()
	})
	line := make([]byte, 6)
	if _, err := out.Read(line); err != nil {
		k.t.Fatal("namespaces: ", err)
	}
	k.holder = holder.Process.Pid
}

func (k *kit) write(name, content string) string {
	k.t.Helper()
	path := filepath.Join(k.dir, name)
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(content), 0o644)); err != nil {
		k.t.Fatal(err)
	}
	return path
}

// base imports the image base.
func (k *kit) base() {
	k.t.Helper()
	k.must("import", "--change", "ENV PATH=/bin", "--change", `CMD ["sh"]`, filepath.Join(k.dir, "base.tar"), "base")
}

// context makes a build context and returns its path. The steps say which kit's they are.
func (k *kit) context(name, dockerfile string) string {
	k.t.Helper()
	k.write(name+"/Dockerfile", strings.ReplaceAll(dockerfile, "NONCE", k.nonce))
	k.write(name+"/file", name+"\n")
	return filepath.Join(k.dir, name)
}

// An attempt is one run of the program.
type attempt struct {
	*exec.Cmd
	out, err bytes.Buffer
}

// command prepares the program. It does not fork on the way, so that what is killed is it.
func (k *kit) command(args ...string) *attempt {
	return k.through(nil, args...)
}

// through prepares the program behind another, such as prlimit, that executes its arguments.
func (k *kit) through(prefix []string, args ...string) *attempt {
	line := slices.Concat([]string{"--target", strconv.Itoa(k.holder), "--mount", "--net", "--", "env", "-C", k.dir}, prefix, []string{"forge"}, args)
	a := &attempt{Cmd: exec.Command("nsenter", line...)}
	a.Env = append(slices.Clone(k.env), "FORGE_ROOT="+k.root)
	a.Stdout, a.Stderr = &a.out, &a.err
	a.WaitDelay = 5 * time.Second // whoever holds the output then was left
	return a
}

func (k *kit) start(a *attempt) *attempt {
	k.t.Helper()
	if err := a.Start(); err != nil {
		k.t.Fatal(err)
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.pids = append(k.pids, a.Process.Pid)
	return a
}

// do runs the program; its exit status is in the attempt. Neither a panic nor a trace may ever be seen.
func (k *kit) do(a *attempt) *attempt {
	k.t.Helper()
	k.start(a)
	if err := a.Wait(); err != nil && !isExit(err) {
		k.t.Errorf("forge %s: %v", a, err)
	}
	k.inspect(a)
	return a
}

// inspect looks for what no run may ever show.
func (k *kit) inspect(a *attempt) {
	k.t.Helper()
	if text := a.err.String(); strings.Contains(text, "goroutine ") || strings.Contains(text, "panic:") || strings.Contains(text, "fatal error:") {
		k.t.Errorf("forge %s: crashed:\n%s", a, text)
	}
}

func isExit(err error) bool {
	_, ok := errors.AsType[*exec.ExitError](err)
	return ok
}

func (a *attempt) String() string {
	at := slices.Index(a.Args, "forge")
	return strings.Join(a.Args[at+1:], " ")
}

func (a *attempt) status() int { return a.ProcessState.ExitCode() }

// signal is what ended the program, or 0.
func (a *attempt) signal() syscall.Signal {
	if w, ok := a.ProcessState.Sys().(syscall.WaitStatus); ok && w.Signaled() {
		return w.Signal()
	}
	return 0
}

// must runs the program, which has to succeed, and returns its standard output.
func (k *kit) must(args ...string) string {
	k.t.Helper()
	a := k.do(k.command(args...))
	if !a.ProcessState.Success() {
		k.t.Errorf("forge %s: %v\n%s", a, a.ProcessState, a.err.String())
	}
	return a.out.String()
}

// images are the names in the store.
func (k *kit) images() (names []string) {
	k.t.Helper()
	for line := range strings.Lines(k.must("images")) {
		if f := strings.Fields(line); len(f) > 2 && f[0] != "REPOSITORY" {
			if f[0] == "<none>" {
				names = append(names, f[2])
			} else {
				names = append(names, f[0]+":"+f[1])
			}
		}
	}
	return names
}

// sound makes sure that what is listed is whole, and that nothing is damaged.
func (k *kit) sound(when string) {
	k.t.Helper()
	before := k.t.Failed()
	for _, name := range k.images() {
		k.must("save", "-o", filepath.Join(k.dir, "saved"), name)
		k.must("run", "--rm", name, "true")
	}
	k.must("system", "fsck", "--deep")
	if !before && k.t.Failed() {
		k.t.Fatalf("after %s: the store is not sound", when)
	}
}

// tidy prunes, and then looks for whatever killed processes have left.
func (k *kit) tidy(when string) {
	k.t.Helper()
	k.must("system", "prune", "-f")
	k.spotless(when)
	for _, l := range k.soon(k.network) {
		k.t.Errorf("after %s and a prune: left: %s", when, l)
	}
}

// spotless looks for what should have gone.
func (k *kit) spotless(when string) {
	k.t.Helper()
	k.litter(when)
	for _, l := range k.soon(k.left) {
		k.t.Errorf("after %s: left: %s", when, l)
	}
}

// litter looks for what a prune has left in the store.
func (k *kit) litter(when string) {
	k.t.Helper()
	for _, dir := range []string{"ingest", "drafts", "partial", "trash"} {
		if left, _ := filepath.Glob(filepath.Join(k.root, dir, "*")); len(left) > 0 {
			k.t.Errorf("after %s: left in the store: %s", when, left)
		}
	}
	for _, pattern := range []string{".*", "*/.tmp-*", "*/.new-*", "*/.gone-*", "volumes/*/new", "volumes/*/ready", "*/.index-*", "*/.stale"} {
		if left, _ := filepath.Glob(filepath.Join(k.root, pattern)); len(left) > 0 {
			k.t.Errorf("after %s: left in the store: %s", when, left)
		}
	}
}

// soon asks until nothing is left: what was killed takes its time to go.
func (k *kit) soon(ask func() []string) (left []string) {
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		if left = ask(); len(left) == 0 || time.Now().After(deadline) {
			return left
		}
	}
}

// left are processes, mounts and cgroups.
func (k *kit) left() (left []string) {
	procs, _ := filepath.Glob("/proc/[0-9]*")
	for _, p := range procs {
		line, _ := os.ReadFile(p + "/cmdline")
		env, _ := os.ReadFile(p + "/environ")
		if bytes.Contains(line, []byte(k.nonce)) || bytes.Contains(env, []byte("FORGE_ROOT="+k.root+"\x00")) {
			left = append(left, fmt.Sprintf("process %s: %q", filepath.Base(p), line))
		}
	}
	ours := fmt.Sprintf("/proc/%d/", k.holder)
	mounts, _ := os.ReadFile(ours + "mountinfo")
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, k.root+"/") || strings.Contains(line, " /run/forge") {
			left = append(left, "mount "+line)
		}
	}
	return append(left, k.cgroups()...)
}

// network is what only a prune takes away: the bridge stays for the next container.
func (k *kit) network() (left []string) {
	ours := fmt.Sprintf("/proc/%d/", k.holder)
	interfaces, _ := os.ReadFile(ours + "net/dev")
	for line := range strings.Lines(string(interfaces)) {
		if strings.Contains(line, "forge") {
			left = append(left, "interface "+line)
		}
	}
	if rules, err := exec.Command("nsenter", "--target", strconv.Itoa(k.holder), "--net", "nft", "list", "ruleset").Output(); err == nil && len(rules) > 0 {
		left = append(left, "rules "+string(rules))
	}
	return left
}

// cgroups are those of this kit's processes; who had the same numbers before may have left some.
func (k *kit) cgroups() (left []string) {
	for path, pid := range allCgroups() {
		if slices.Contains(k.pids, pid) && !k.others[path] {
			left = append(left, "cgroup "+path)
		}
	}
	return left
}

// allCgroups are the cgroups of containers on this machine, and the process that made each.
func allCgroups() map[string]int {
	all := map[string]int{}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return nil //nolint:nilerr // gone meanwhile
		}
		rest, ok := strings.CutPrefix(d.Name(), "forge-")
		pid, _, _ := strings.Cut(rest, "-")
		if n, err := strconv.Atoi(pid); ok && err == nil {
			all[path] = n
		}
		return nil
	})
	return all
}

// snapshot copies the store, so that a test can begin with it again and again.
func (k *kit) snapshot(name string) {
	k.t.Helper()
	k.copyTree(k.root, filepath.Join(k.dir, name))
}

// restore begins again with a copy.
func (k *kit) restore(name string) {
	k.t.Helper()
	k.copyTree(filepath.Join(k.dir, name), k.root)
}

func (k *kit) copyTree(from, to string) {
	k.t.Helper()
	if err := os.RemoveAll(to); err != nil {
		k.t.Fatal(err)
	}
	if out, err := exec.Command("cp", "-a", "--reflink=auto", from, to).CombinedOutput(); err != nil {
		k.t.Fatalf("cp: %v: %s", err, out)
	}
}

// serve starts a registry and returns its address. Its log is in registry.log.
func (k *kit) serve(name string, flags ...string) (address string, stop func()) {
	k.t.Helper()
	log, err := os.OpenFile(filepath.Join(k.dir, name+".log"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
	if err != nil {
		k.t.Fatal(err)
	}
	a := k.command(append([]string{"registry", "serve", "--addr", "127.0.0.1:0", "--root", filepath.Join(k.dir, name)}, flags...)...)
	a.Stdout, a.Stderr = log, log
	a.Env = append(a.Env, "FORGE_ROOT="+filepath.Join(k.dir, "other"))
	k.start(a)
	stop = func() {
		_ = a.Process.Signal(os.Interrupt)
		_ = a.Wait()
		_ = log.Close()
	}
	k.t.Cleanup(stop)
	for range 6000 {
		text, _ := os.ReadFile(log.Name())
		if _, after, ok := strings.Cut(string(text), "listening on "); ok {
			if address, _, ok = strings.Cut(after, ","); ok {
				return address, stop
			}
		}
		time.Sleep(10 * time.Millisecond)
	}
	k.t.Fatal("the registry does not start")
	return "", nil
}

// scale is how often something is done: n, or what the environment says, for a longer look.
func scale(t *testing.T, name string, n int) int {
	t.Helper()
	text, ok := os.LookupEnv(name)
	if !ok {
		return n
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n
}

// long is for tests that take more than a moment: go test -short leaves them out.
func long(t testing.TB) {
	t.Helper()
	if testing.Short() {
		t.Skip("takes long")
	}
}
