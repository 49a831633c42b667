package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// What a container looks like from inside, line by line of the table of defaults in docs/security.md.
func TestDefaults(t *testing.T) {
	root := rootfs(t)
	status := func(field string) string { return "grep ^" + field + ": /proc/self/status | tr -d '\\t'" }
	for _, test := range []struct {
		name, script, want string
		spec               Spec
	}{
		{name: "process 1 is the command", script: "echo $$", want: "1"},
		{name: "no other processes", script: "echo /proc/[0-9]*", want: "/proc/1"}, // the shell itself lists them
		{name: "permitted", script: status("CapPrm"), want: "CapPrm:00000000a80425fb"},
		{name: "effective", script: status("CapEff"), want: "CapEff:00000000a80425fb"},
		{name: "bounding", script: status("CapBnd"), want: "CapBnd:00000000a80425fb"},
		{name: "inheritable", script: status("CapInh"), want: "CapInh:0000000000000000"},
		{name: "ambient", script: status("CapAmb"), want: "CapAmb:0000000000000000"},
		{name: "permitted of a user", script: status("CapPrm"), want: "CapPrm:0000000000000000", spec: Spec{User: User{UID: 1000}}},
		{name: "bounding of a user", script: status("CapBnd"), want: "CapBnd:00000000a80425fb", spec: Spec{User: User{UID: 1000}}},
		{name: "capability dropped", script: status("CapEff"), want: "CapEff:00000000a80425fa", spec: Spec{Security: Security{CapDrop: []string{"chown"}}}},
		{name: "all but one dropped", script: status("CapEff"), want: "CapEff:0000000000000001", spec: Spec{Security: Security{CapDrop: []string{"ALL"}, CapAdd: []string{"CAP_CHOWN"}}}},
		{name: "capability added", script: status("CapEff"), want: "CapEff:00000000a80435fb", spec: Spec{Security: Security{CapAdd: []string{"NET_ADMIN"}}}},
		{name: "user", script: "id", want: "uid=5 gid=6 groups=7,8", spec: Spec{User: User{UID: 5, GID: 6, Groups: []uint32{7, 8}}}},
		{name: "no groups of the caller", script: "id", want: "uid=0 gid=0"},
		{name: "seccomp", script: status("Seccomp"), want: "Seccomp:2"},
		{name: "unconfined", script: status("Seccomp"), want: "Seccomp:0", spec: Spec{Security: Security{Seccomp: "unconfined"}}},
		{name: "setuid works", script: status("NoNewPrivs"), want: "NoNewPrivs:0"},
		{name: "no new privileges", script: status("NoNewPrivs"), want: "NoNewPrivs:1", spec: Spec{Security: Security{NoNewPrivileges: true}}},
		{name: "umask", script: "umask", want: "0022"},
		{name: "session leader", script: "cut -d' ' -f5,6 /proc/1/stat", want: "1 1"},
		{name: "no terminal", script: "tty; exec 2>/dev/null; : </dev/tty || echo none", want: "not a tty"},
		{name: "environment", script: "env | sort", want: "A=b\nPATH=/bin\nPWD=/\nSHLVL=1", spec: Spec{Env: []string{"PATH=/bin", "A=b"}}},
		{name: "descriptors", script: "ls /proc/self/fd", want: "0\n1\n2\n3"}, // 3 is the directory
		{name: "stdin", script: "cat; readlink /proc/self/fd/0", want: "/dev/null"},
		{name: "hostname", script: "hostname", want: "box", spec: Spec{Hostname: "box"}},
		{name: "domain name", script: "hostname; cat /proc/sys/kernel/domainname", want: "box\nd.test", spec: Spec{Hostname: "box", Domainname: "d.test"}},
		{name: "directory", script: "pwd", want: "/work", spec: Spec{Dir: "/work"}},
		{name: "interfaces", script: "ls /sys/class/net", want: "lo"},
		{name: "loopback", script: "ping -c1 -W1 127.0.0.1 | grep -c ' 1 packets received'", want: "1"},
		{name: "device list", script: "ls /dev | tr '\\n' ' '", want: "fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"},
		{name: "devices work", script: "echo lost >/dev/null && head -c2 /dev/zero | wc -c && head -c3 /dev/urandom | wc -c; echo x >/dev/full", want: "2\n3\nsh: write error: No space left on device"},
		{name: "shm", script: "df -m /dev/shm | grep -o ' 64 ' | head -n1", want: " 64 "},
		{name: "shm size", script: "df -m /dev/shm | grep -o ' 5 ' | head -n1", want: " 5 ", spec: Spec{Limits: Limits{ShmSize: 5 << 20}}},
		{name: "cgroup", script: "grep -v ':/$' /proc/self/cgroup; echo end", want: "end"},
		{name: "no writable cgroup", script: "mount | grep cgroup | grep -v '(ro'; echo end", want: "end"},
		{name: "nothing of the host is mounted", script: "grep -c '^[0-9]* [0-9]* [0-9:]* [^ ]* /[^/ ]* ' /proc/self/mountinfo", want: "5"}, // /, empty, /dev, /proc, /sys
		{name: "open files", script: "ulimit -Sn", want: fmt.Sprint(openFiles(t))},
		{name: "limit", script: "ulimit -Sc; ulimit -Hc; ulimit -Sn", want: "0\n0\n99", spec: Spec{Limits: Limits{Ulimits: []Ulimit{{"core", 0, 0}, {"nofile", 99, 100}}}}},
		{name: "kernel settings", script: "echo x 2>&1 >/proc/sys/kernel/domainname", want: "sh: can't create /proc/sys/kernel/domainname: Read-only file system"},
		{name: "sysrq", script: "{ echo h >/proc/sysrq-trigger; } 2>/dev/null && echo written; echo end", want: "end"},
		{name: "memory of the kernel", script: "head -c1 /proc/kcore 2>/dev/null | wc -c", want: "0"},
		{name: "masked file", script: "cat /proc/timer_list /proc/keys", want: ""},
		{name: "masked directory", script: "ls -A /sys/firmware; touch /sys/firmware/x 2>&1", want: "touch: /sys/firmware/x: Read-only file system"},
		{name: "sysfs", script: "grep -o ' /sys ro,nosuid,nodev,noexec' /proc/self/mountinfo", want: " /sys ro,nosuid,nodev,noexec"},
		{name: "read-only root", script: "touch /x 2>&1; touch /dev/shm/x && echo shm", want: "touch: /x: Read-only file system\nshm", spec: Spec{Security: Security{ReadOnlyRoot: true}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			test.spec.Root = openDir(t, root)
			got, _ := run(t, test.spec, test.script)
			if strings.TrimRight(got, "\n ") != strings.TrimRight(test.want, "\n ") {
				t.Errorf("got:\n%s\nwant:\n%s", got, test.want)
			}
		})
	}
}

// openFiles is the soft limit a container should have.
func openFiles(t *testing.T) uint64 {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		t.Fatal(err)
	}
	return min(l.Max, 1<<20)
}

// Nodes can be made, since images expect it. Where a devices cgroup guards, those of every container's /dev can be used, wherever
// they are, and no others; where none does, none can.
func TestDeviceNodes(t *testing.T) {
	parent, err := findCgroups()
	if err != nil {
		need(t, "cgroups", false, err.Error())
	}
	const places = "/ /tmp /dev /mnt"
	script := `for d in ` + places + ` /dev/shm /dev/mqueue /work; do
		mknod $d/zero2 c 1 5 2>/dev/null && { head -c1 $d/zero2 >/dev/null 2>&1 && echo zero in $d; }
		mknod $d/kmsg2 c 1 11 2>/dev/null && { (: <$d/kmsg2) 2>/dev/null && echo kmsg in $d; }
		rm -f $d/zero2 $d/kmsg2; done; echo end`
	guarded := "zero in " + strings.ReplaceAll(places, " ", "\nzero in ") + "\nend\n"
	for _, test := range []struct {
		name, want string
		privileged bool
	}{
		{"privileged", guarded, true},
		{"guarded", guarded, false},
	} {
		if parent.dir["devices"] == "" && !test.privileged {
			test.want = "end\n"
		}
		s := Spec{Root: openDir(t, rootfs(t)), Mounts: []Mount{{Target: "/mnt", Source: openDir(t, t.TempDir())}, {Target: "/work"}}}
		s.Security.Privileged = test.privileged
		out, _ := run(t, s, script)
		if test.privileged { // whether it may use those of the machine, the machine says
			out = strings.ReplaceAll(out, "kmsg in ", "")
			for _, place := range strings.Fields(places) {
				out = strings.ReplaceAll(out, "\n"+place+"\n", "\n")
			}
		}
		if out != test.want {
			t.Errorf("%s: %s, want %s", test.name, out, test.want)
		}
	}
}

// TestUnprivileged: what docker lets every user do in a network namespace of the container's own.
func TestUnprivileged(t *testing.T) {
	s := Spec{Root: openDir(t, rootfs(t)), User: User{UID: 5, GID: 6}}
	const script = "cat /proc/sys/net/ipv4/ip_unprivileged_port_start /proc/sys/net/ipv4/ping_group_range"
	if out, _ := run(t, s, script); strings.Join(strings.Fields(out), " ") != "0 0 2147483647" {
		t.Errorf("got %q", out)
	}
}

// TestStandardStreams: a user that is not root can open its streams anew, whatever the caller gave, and no process without a
// terminal gets the caller's.
func TestStandardStreams(t *testing.T) {
	file := filepath.Join(t.TempDir(), "out")
	for _, uid := range []uint32{0, 5} {
		out, err := os.Create(file) // of root
		if err != nil {
			t.Fatal(err)
		}
		s := Spec{Root: openDir(t, rootfs(t)), User: User{UID: uid}, Env: []string{"PATH=/bin"}}
		s.Args = []string{"sh", "-c", "echo out >>/dev/stdout; echo err >>/dev/stderr; cat /dev/stdin"}
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		err = errors.Join(r.Chown(9, 9), func() error { _, err := w.WriteString("in\n"); return err }(), w.Close())
		if err != nil {
			t.Fatal(err)
		}
		p, err := Start(context.Background(), s, Stdio{In: r, Out: out, Err: out})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := p.Wait(); err != nil {
			t.Error(err)
		}
		r.Close()
		out.Close()
		if got, _ := os.ReadFile(file); string(got) != "out\nerr\nin\n" {
			t.Errorf("user %d wrote %q", uid, got)
		}
	}
}

// What is denied, by the call itself.
func TestDeniedCalls(t *testing.T) {
	root := rootfs(t)
	for _, test := range []struct {
		name string
		nr   uintptr
		args []arg
		want unix.Errno
	}{
		{"getpid", unix.SYS_GETPID, nil, 0},
		{"mount", unix.SYS_MOUNT, []arg{num(0), num(0), num(0), num(0), num(0)}, unix.EPERM},
		{"fsopen", unix.SYS_FSOPEN, []arg{num(0), num(0)}, unix.EPERM},
		{"unshare", unix.SYS_UNSHARE, []arg{num(unix.CLONE_NEWNS)}, unix.EPERM},
		{"unshare user", unix.SYS_UNSHARE, []arg{num(unix.CLONE_NEWUSER)}, unix.EPERM},
		{"clone user", unix.SYS_CLONE, []arg{num(unix.CLONE_NEWUSER)}, unix.EPERM},
		{"clone3", unix.SYS_CLONE3, []arg{num(0), num(88)}, unix.ENOSYS},
		{"setns", unix.SYS_SETNS, []arg{num(0), num(0)}, unix.EPERM},
		{"pivot_root", unix.SYS_PIVOT_ROOT, []arg{num(0), num(0)}, unix.EPERM},
		{"keyctl", unix.SYS_KEYCTL, []arg{num(0), num(0)}, unix.EPERM},
		{"add_key", unix.SYS_ADD_KEY, []arg{num(0)}, unix.EPERM},
		{"bpf", unix.SYS_BPF, []arg{num(0)}, unix.EPERM},
		{"perf", unix.SYS_PERF_EVENT_OPEN, []arg{num(0)}, unix.EPERM},
		{"open by handle", unix.SYS_OPEN_BY_HANDLE_AT, []arg{num(0)}, unix.EPERM},
		{"module", unix.SYS_INIT_MODULE, []arg{num(0)}, unix.EPERM},
		{"kexec", unix.SYS_KEXEC_LOAD, []arg{num(0)}, unix.EPERM},
		{"reboot", unix.SYS_REBOOT, []arg{num(0)}, unix.EPERM},
		{"userfaultfd", unix.SYS_USERFAULTFD, []arg{num(0)}, unix.EPERM},
		{"socket inet", unix.SYS_SOCKET, []arg{num(unix.AF_INET), num(unix.SOCK_STREAM)}, 0},
		{"socket alg", unix.SYS_SOCKET, []arg{num(unix.AF_ALG), num(unix.SOCK_SEQPACKET)}, unix.EPERM},
		{"socket vsock", unix.SYS_SOCKET, []arg{num(unix.AF_VSOCK), num(unix.SOCK_STREAM)}, unix.EPERM},
		{"socket alg, dressed up", unix.SYS_SOCKET, []arg{num(uint64(1<<32 | unix.AF_ALG)), num(unix.SOCK_SEQPACKET)}, unix.EPERM},
		{"x32", unix.SYS_GETPID | x32Bit, nil, unix.ENOSYS},
		{"newer than the profile", 2000, nil, unix.ENOSYS},
		{"sethostname", unix.SYS_SETHOSTNAME, []arg{num(0), num(0)}, unix.EPERM},
		{"settime", unix.SYS_CLOCK_SETTIME, []arg{num(0), num(0)}, unix.EPERM},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.name == "x32" && x32Bit == 0 {
				t.Skip("not on this architecture")
			}
			path := filepath.Join(root, "bin/call")
			syscallProgram(t, path, test.nr, test.args...)
			_, exit := runArgs(t, Spec{Root: openDir(t, root), Args: []string{"/bin/call"}})
			if got := unix.Errno(exit.Code); got != test.want || exit.Signal != 0 {
				t.Errorf("%s = %v (%+v), want %v", test.name, got, exit, test.want)
			}
		})
	}
}

// The session keyring is not the caller's.
func TestSessionKeyring(t *testing.T) {
	own, err := unix.KeyctlGetKeyringID(unix.KEY_SPEC_SESSION_KEYRING, true)
	if err != nil {
		t.Skip("no keyrings: ", err)
	}
	root := rootfs(t)
	p := &program{}
	id := p.word()
	p.call(unix.SYS_KEYCTL, num(unix.KEYCTL_GET_KEYRING_ID), num(uint32(0xfffffffd)), num(1)).into(id)
	p.call(unix.SYS_WRITE, num(1), id.addr(), num(4))
	p.call(unix.SYS_EXIT_GROUP, num(0))
	tail := len(p.ops)
	p.call(unix.SYS_EXIT_GROUP, num(1))
	writeProgram(t, filepath.Join(root, "bin/keyring"), p, tail)
	out, exit := runArgs(t, Spec{Root: openDir(t, root), Args: []string{"keyring"}, Security: Security{Seccomp: "unconfined"}})
	if exit.Code != 0 || len(out) != 4 {
		t.Fatalf("exit %v, %q", exit, out)
	}
	theirs := int(uint32(out[0]) | uint32(out[1])<<8 | uint32(out[2])<<16 | uint32(out[3])<<24)
	if theirs == own {
		t.Errorf("session keyring %x is the caller's", own)
	}
}

// Nothing the container does to its stdin touches the host's /dev/null.
func TestNullIsItsOwn(t *testing.T) {
	mode := func() os.FileMode {
		info, err := os.Stat("/dev/null")
		if err != nil {
			t.Fatal(err)
		}
		return info.Mode()
	}
	before := mode()
	out, exit := run(t, Spec{}, "chmod 600 /proc/self/fd/0 /dev/null /proc/timer_list && stat -c %a /dev/null")
	if exit.Code != 0 || out != "600\n" {
		t.Errorf("exit %v: %s", exit, out)
	}
	if mode() != before {
		t.Errorf("the host's /dev/null is %v, was %v", mode(), before)
	}
}
