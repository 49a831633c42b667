package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// inside are the namespaces and the processes that a script sees.
const inside = "for n in pid ipc uts cgroup mnt; do readlink /proc/self/ns/$n; done"

func namespacesOf(t *testing.T, s Spec) []string {
	t.Helper()
	out, exit := run(t, s, inside)
	list := strings.Fields(out)
	if exit.Code != 0 || len(list) != 5 {
		t.Fatalf("exit %+v: %s", exit, out)
	}
	return list
}

// The caller's namespaces, and another container's, are shared for the asking, and only those.
func TestSharedNamespaces(t *testing.T) {
	root := rootfs(t)
	p, other := running(t, Spec{Root: openDir(t, root), Hostname: "other", Args: []string{"sh", "-c", "echo kept >/dev/shm/x; exec sleep " + longTime()}})
	await(t, "the other does not run", func() bool {
		out, _ := join(t, other, Spec{}, "cat /dev/shm/x")
		return out == "kept\n"
	})
	var host, its []string
	for _, n := range []string{"pid", "ipc", "uts", "cgroup", "mnt"} {
		own, _ := os.Readlink("/proc/self/ns/" + n)
		theirs, _ := os.Readlink("/proc/" + itoa(p.Pid()) + "/ns/" + n)
		host, its = append(host, own), append(its, theirs)
	}
	atHost, atOther := Namespace{Host: true}, Namespace{Of: other}
	for _, test := range []struct {
		name   string
		shared Namespaces
		from   []string
		same   []bool
	}{
		{"none", Namespaces{}, host, []bool{false, false, false, false, false}},
		{"none of the other", Namespaces{}, its, []bool{false, false, false, false, false}},
		{"host", Namespaces{PID: atHost, IPC: atHost, UTS: atHost, Cgroup: atHost}, host, []bool{true, true, true, true, false}},
		{"ipc", Namespaces{IPC: atHost}, host, []bool{false, true, false, false, false}},
		{"other", Namespaces{PID: atOther, IPC: atOther, UTS: atOther}, its, []bool{true, true, true, false, false}},
		{"pid of the other", Namespaces{PID: atOther}, its, []bool{true, false, false, false, false}},
	} {
		got := namespacesOf(t, Spec{Root: openDir(t, root), Shared: test.shared})
		for i, space := range got {
			if (space == test.from[i]) != test.same[i] {
				t.Errorf("%s: %s, theirs is %s, the same is %v", test.name, space, test.from[i], test.same[i])
			}
		}
	}
	before, _ := os.Hostname()
	out, _ := run(t, Spec{Root: openDir(t, root), Hostname: "changed", Shared: Namespaces{PID: atOther, IPC: atOther, UTS: atOther}},
		"hostname; cat /dev/shm/x; cut -d' ' -f1 /proc/1/comm; ls /; cut -d' ' -f6 /proc/self/stat")
	if !strings.HasPrefix(out, "other\nkept\nsleep\nbin\n") {
		t.Errorf("in those of the other:\n%s", out)
	}
	out, _ = run(t, Spec{Root: openDir(t, root), Hostname: "changed", Shared: Namespaces{PID: atHost, UTS: atHost}}, "hostname; ls -d /proc/"+itoa(os.Getpid()))
	if after, _ := os.Hostname(); after != before || !strings.HasPrefix(out, before+"\n/proc/") {
		t.Errorf("the host's name is %q, was %q: %s", after, before, out)
	}
}

// What has another's pid namespace ends all the same: with its command, and with its caller.
func TestSharedPIDEnds(t *testing.T) {
	root := openDir(t, rootfs(t))
	_, other := running(t, Spec{Root: root})
	for _, shared := range []Namespaces{{PID: Namespace{Of: other}}, {PID: Namespace{Host: true}}} {
		mark := longTime()
		s := Spec{Root: root, Shared: shared, Args: []string{"sh", "-c", "setsid sleep $0 & setsid sleep $0 & sleep 0.05; exit 5", mark}, Env: []string{"PATH=/bin"}}
		p, err := Start(context.Background(), s, Stdio{})
		if err != nil {
			t.Fatal(err)
		}
		if exit, err := p.Wait(); exit.Code != 5 || err != nil {
			t.Errorf("exit %+v, %v", exit, err)
		}
		await(t, "something is left of the container", func() bool { return len(processes(t, mark)) == 0 })
		s.Args = []string{"sh", "-c", "trap '' TERM; sleep $0", mark}
		ctx, cancel := context.WithCancel(context.Background())
		p, err = Start(ctx, s, Stdio{})
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		if exit, err := p.Wait(); exit.Code != 137 || !errors.Is(err, context.Canceled) {
			t.Errorf("exit %+v, %v", exit, err)
		}
		await(t, "something is left of the cancelled", func() bool { return len(processes(t, mark)) == 0 })
		s.Args = []string{"sleep", mark}
		p, err = Start(context.Background(), s, Stdio{})
		if err != nil {
			t.Fatal(err)
		}
		p.sock.Close() // as when the caller is killed
		await(t, "the command outlives its caller", func() bool { return len(processes(t, mark)) == 0 })
		p.Wait() // for its cgroup
	}
	if left := leftCgroups(t, os.Getpid()); left > len(other.Cgroups) {
		t.Errorf("%d cgroups, the other has %d", left, len(other.Cgroups))
	}
	_, tracer := running(t, Spec{Root: root, Security: Security{CapAdd: []string{"SYS_PTRACE"}}})
	_, err := Start(context.Background(), Spec{Root: root, Args: []string{"true"}, Env: []string{"PATH=/bin"}, Shared: Namespaces{PID: Namespace{Of: tracer}}}, Stdio{})
	if err == nil || !strings.Contains(err.Error(), "may trace others") {
		t.Errorf("in the pid namespace of a container that may trace: %v", err)
	}
}

// TestSharedPIDEndsBelow: of a container with another's pid namespace ends, too, what is in cgroups that were made below its own.
func TestSharedPIDEndsBelow(t *testing.T) {
	root, mark := openDir(t, rootfs(t)), longTime()
	s := Spec{Root: root, Shared: Namespaces{PID: Namespace{Host: true}}, Args: []string{"sh", "-c", "setsid sleep $0 & sleep $0; exit", mark}, Env: []string{"PATH=/bin"}}
	p, err := Start(t.Context(), s, Stdio{})
	if err != nil {
		t.Fatal(err)
	}
	ref, err := p.Ref()
	need(t, "cgroups", err == nil && len(ref.Cgroups) > 0, Cgroups())
	target, err := Open(ref)
	if err != nil {
		t.Fatal(err)
	}
	defer target.Close()
	await(t, "it has not begun", func() bool { return len(processes(t, mark)) == 3 })
	pids, err := target.Processes()
	if err != nil || len(pids) != 3 {
		t.Fatalf("processes %v, %v", pids, err)
	}
	for _, dir := range ref.Cgroups {
		if _, err := os.Stat(dir); err != nil {
			continue // that of the freezer may not be made
		}
		below := dir + strings.Repeat("/below", 3)
		if err := os.MkdirAll(below, 0o755); err != nil {
			t.Fatal(err)
		}
		for _, file := range []string{"cpuset.cpus", "cpuset.mems"} {
			for at := dir + "/below"; ; at += "/below" {
				if text, err := os.ReadFile(filepath.Join(filepath.Dir(at), file)); err != nil || os.WriteFile(filepath.Join(at, file), text, 0) != nil || at == below {
					break
				}
			}
		}
		for _, pid := range pids {
			if pid != ref.Pid {
				if err := os.WriteFile(filepath.Join(below, "cgroup.procs"), []byte(itoa(pid)), 0); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
	if again, err := target.Processes(); !slices.Equal(again, pids) || err != nil {
		t.Errorf("processes %v, %v, were %v", again, err, pids)
	}
	p.Signal(os.Kill)
	p.Wait()
	await(t, "something is left below", func() bool { return len(processes(t, mark)) == 0 })
	for _, dir := range ref.Cgroups {
		if _, err := os.Stat(dir); !os.IsNotExist(err) {
			t.Errorf("%s is left: %v", dir, err)
		}
	}
}

// Settings of its own namespaces can be made, and no others.
func TestSysctls(t *testing.T) {
	root := rootfs(t)
	before, _ := os.ReadFile("/proc/sys/kernel/shmmni")
	s := Spec{Root: openDir(t, root), Sysctls: map[string]string{
		"net.ipv4.ip_default_ttl": "77", "net/ipv4/conf/lo/forwarding": "1", "kernel.shmmni": "123", "kernel.msgmax": "9000", "fs.mqueue.msg_max": "11",
	}}
	out, _ := run(t, s, "cd /proc/sys; cat net/ipv4/ip_default_ttl net/ipv4/conf/lo/forwarding kernel/shmmni kernel/msgmax fs/mqueue/msg_max; echo 1 2>&1 >kernel/shmmni")
	if out != "77\n1\n123\n9000\n11\nsh: can't create kernel/shmmni: Read-only file system\n" {
		t.Errorf("inside:\n%s", out)
	}
	if after, _ := os.ReadFile("/proc/sys/kernel/shmmni"); string(after) != string(before) {
		t.Errorf("the host's is %s, was %s", after, before)
	}
	for _, test := range []struct {
		spec Spec
		want string
	}{
		{Spec{Sysctls: map[string]string{"kernel.domainname": "x"}}, "sysctl: 'kernel.domainname' is not allowed"},
		{Spec{Sysctls: map[string]string{"kernel/shmmni/../domainname": "x"}}, "sysctl: 'kernel/shmmni/../domainname' is not allowed"},
		{Spec{Sysctls: map[string]string{"net/../kernel/domainname": "x"}}, "sysctl: 'net/../kernel/domainname' is not allowed"},
		{Spec{Sysctls: map[string]string{"net.core.nothing": "x"}}, "sysctl net.core.nothing: no such file or directory"},
		{Spec{Sysctls: map[string]string{"net.ipv4.ip_default_ttl": "x"}}, "sysctl net.ipv4.ip_default_ttl: invalid argument"},
		{Spec{Sysctls: map[string]string{"net.ipv4.ip_default_ttl": "7"}, Network: Network{Mode: "host"}}, "sysctl: net.ipv4.ip_default_ttl not allowed in host network namespace"},
		{Spec{Sysctls: map[string]string{"kernel.sem": "7"}, Shared: Namespaces{IPC: Namespace{Host: true}}}, "sysctl: kernel.sem not allowed in host ipc namespace"},
	} {
		test.spec.Root, test.spec.Args = openDir(t, root), []string{"/bin/true"}
		_, err := Start(context.Background(), test.spec, Stdio{})
		if got := fmt.Sprint(err); got != test.want {
			t.Errorf("%v: %s, want %s", test.spec.Sysctls, got, test.want)
		}
	}
}
