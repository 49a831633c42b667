package runtime

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/moby/profiles/seccomp"
	"golang.org/x/sys/unix"
)

// A call is what a filter looks at.
type seccompCall struct {
	nr, arch uint32
	args     [6]uint64
}

// interpret runs a filter as the kernel does.
func interpret(t *testing.T, prog []unix.SockFilter, c seccompCall) uint32 {
	t.Helper()
	load := func(off uint32) uint32 {
		switch {
		case off == dataNumber:
			return c.nr
		case off == dataArch:
			return c.arch
		case off >= dataArgs && off < dataArgs+48 && off%4 == 0:
			v := c.args[(off-dataArgs)/8]
			if off%8 == 4 {
				v >>= 32
			}
			return uint32(v)
		}
		t.Fatalf("load of offset %d", off)
		return 0
	}
	var a uint32
	for pc := 0; pc < len(prog); pc++ {
		i := prog[pc]
		taken := false
		switch i.Code {
		case bpfLoad:
			a = load(i.K)
			continue
		case bpfAnd:
			a &= i.K
			continue
		case bpfReturn:
			return i.K
		case bpfJump:
			pc += int(i.K)
			continue
		case bpfEqual:
			taken = a == i.K
		case bpfAbove:
			taken = a > i.K
		case bpfAtLeast:
			taken = a >= i.K
		default:
			t.Fatalf("instruction %#x", i.Code)
		}
		if taken {
			pc += int(i.Jt)
		} else {
			pc += int(i.Jf)
		}
	}
	t.Fatal("the filter ends without an answer")
	return 0
}

// decide is what a filter should answer, straight from the rules.
func (f *filter) decide(c seccompCall) uint32 {
	nosys := unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	rules := &f.native
	switch {
	case c.arch == auditCompat && f.both:
		rules = &f.compat
	case c.arch != auditNative:
		return unix.SECCOMP_RET_KILL_PROCESS
	}
	if x32Bit != 0 && c.nr >= x32Bit {
		return nosys
	}
	if n := c.nr - privateBase; privateBase != 0 && rules == &f.compat && n < privateSyscalls {
		c.nr = maxSyscall + n
	} else if int64(c.nr) > int64(rules.newest) {
		if f.action == unix.SECCOMP_RET_ALLOW || f.action == unix.SECCOMP_RET_LOG {
			return f.action
		}
		return nosys
	}
next:
	for _, r := range rules.rules[c.nr] {
		for _, w := range r.when {
			a, v := c.args[w.index], w.value
			if w.low {
				a, v = a&0xffffffff, v&0xffffffff
			}
			met := map[string]bool{
				"SCMP_CMP_NE": a != v, "SCMP_CMP_LT": a < v, "SCMP_CMP_LE": a <= v, "SCMP_CMP_EQ": a == v,
				"SCMP_CMP_GE": a >= v, "SCMP_CMP_GT": a > v, "SCMP_CMP_MASKED_EQ": a&v == w.two,
			}[w.op]
			if !met {
				continue next
			}
		}
		return r.action
	}
	if rules.decided[c.nr] {
		return rules.action[c.nr]
	}
	return f.action
}

// interesting arguments are around the values rules compare with.
func argument(f *filter) uint64 {
	near := []uint64{0, 1, 8, 38, 39, 40, 41, 0x20000, 0x20008, 0xffffffff, 1 << 32, unix.CLONE_NEWUSER, unix.CLONE_NEWNS}
	v := near[rand.IntN(len(near))]
	if rand.IntN(4) == 0 {
		v |= rand.Uint64() << 32
	}
	return v + uint64(rand.IntN(3)) - 1
}

func checkFilter(t *testing.T, f *filter) {
	t.Helper()
	prog, err := f.compile()
	if err != nil {
		t.Fatal(err)
	}
	for _, arch := range []uint32{auditNative, auditCompat, unix.AUDIT_ARCH_S390X} {
		for n := range uint32(600) {
			for _, nr := range []uint32{n, n | x32Bit, n | 1<<31, n | privateBase} {
				for range 8 {
					c := seccompCall{nr, arch, [6]uint64{argument(f), argument(f), argument(f), argument(f), argument(f), argument(f)}}
					if got, want := interpret(t, prog, c), f.decide(c); got != want {
						t.Fatalf("filter(%+v) = %#x, want %#x", c, got, want)
					}
				}
			}
		}
	}
}

func TestDefaultFilter(t *testing.T) {
	profile, _ := seccompProfile(&Security{})
	f, err := readProfile(profile, defaultCapabilities)
	if err != nil {
		t.Fatal(err)
	}
	checkFilter(t, f)
	prog, _ := f.compile()
	const (
		allow = unix.SECCOMP_RET_ALLOW
		eperm = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
		nosys = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
	)
	for _, test := range []struct {
		name string
		call seccompCall
		want uint32
	}{
		{"read", seccompCall{nr: unix.SYS_READ, arch: auditNative}, allow},
		{"mount", seccompCall{nr: unix.SYS_MOUNT, arch: auditNative}, eperm},
		{"keyctl", seccompCall{nr: unix.SYS_KEYCTL, arch: auditNative}, eperm},
		{"unshare", seccompCall{nr: unix.SYS_UNSHARE, arch: auditNative}, eperm},
		{"chroot, with the capability", seccompCall{nr: unix.SYS_CHROOT, arch: auditNative}, allow},
		{"clone", seccompCall{nr: unix.SYS_CLONE, arch: auditNative, args: [6]uint64{unix.CLONE_VM}}, allow},
		{"clone user", seccompCall{nr: unix.SYS_CLONE, arch: auditNative, args: [6]uint64{unix.CLONE_NEWUSER}}, eperm},
		{"clone3", seccompCall{nr: unix.SYS_CLONE3, arch: auditNative}, nosys},
		{"inet", seccompCall{nr: unix.SYS_SOCKET, arch: auditNative, args: [6]uint64{unix.AF_INET}}, allow},
		{"alg", seccompCall{nr: unix.SYS_SOCKET, arch: auditNative, args: [6]uint64{unix.AF_ALG}}, eperm},
		{"alg, dressed up", seccompCall{nr: unix.SYS_SOCKET, arch: auditNative, args: [6]uint64{1<<32 | unix.AF_ALG}}, eperm},
		{"vsock", seccompCall{nr: unix.SYS_SOCKET, arch: auditNative, args: [6]uint64{unix.AF_VSOCK}}, eperm},
		{"32 bit mount", seccompCall{nr: 21, arch: auditCompat}, eperm},
		{"32 bit read", seccompCall{nr: 3, arch: auditCompat}, allow},
		{"ARM's set_tls, on its architecture", seccompCall{nr: 0xf0005, arch: unix.AUDIT_ARCH_ARM}, onARM(allow)},
		{"ARM's usr26", seccompCall{nr: 0xf0003, arch: unix.AUDIT_ARCH_ARM}, onARM(eperm)},
		{"ARM's set_tls, elsewhere", seccompCall{nr: 0xf0005, arch: auditNative}, nosys},
		{"the future", seccompCall{nr: 500, arch: auditNative}, nosys},
		{"foreign", seccompCall{nr: 0, arch: unix.AUDIT_ARCH_S390X}, unix.SECCOMP_RET_KILL_PROCESS},
	} {
		if got := interpret(t, prog, test.call); got != test.want {
			t.Errorf("%s = %#x, want %#x", test.name, got, test.want)
		}
	}
	x32 := seccompCall{nr: x32Bit | unix.SYS_READ, arch: auditNative}
	if got := interpret(t, prog, x32); x32Bit != 0 && got != nosys {
		t.Errorf("x32 = %#x, want %#x", got, nosys)
	}
}

// The table is searched by halves.
func TestSyscallNumbers(t *testing.T) {
	known := syscallNumbers()
	if !slices.IsSortedFunc(known, func(a, b syscallNumber) int { return strings.Compare(a.name, b.name) }) {
		t.Error("not sorted")
	}
	f := &filter{known: known}
	for name, want := range map[string]int16{
		"read": unix.SYS_READ, "openat": unix.SYS_OPENAT, "clone3": unix.SYS_CLONE3, "execve": unix.SYS_EXECVE,
		"newfstatat": unix.SYS_NEWFSTATAT, "ppoll": unix.SYS_PPOLL, "rseq_slice_yield": unix.SYS_RSEQ_SLICE_YIELD,
	} {
		if i := f.find(name, 0); i < 0 || known[i].native != want {
			t.Errorf("%s is at %d of the table, want the number %d", name, i, want)
		}
	}
	seen := map[int16]string{}
	for _, n := range known {
		if n.native >= 0 && seen[n.native] != "" {
			t.Errorf("%s and %s are both %d", seen[n.native], n.name, n.native)
		}
		seen[n.native] = n.name
	}
}

// onARM is the action where ARM is allowed beside the native architecture.
func onARM(action uint32) uint32 {
	if auditCompat == unix.AUDIT_ARCH_ARM {
		return action
	}
	return unix.SECCOMP_RET_KILL_PROCESS
}

// Capabilities bring the calls that go with them, also where a filter was compiled before for others.
func TestFilterCapabilities(t *testing.T) {
	host := &Host{}
	for _, test := range []struct {
		caps uint64
		want uint32
	}{
		{defaultCapabilities, unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
		{defaultCapabilities | 1<<unix.CAP_SYS_ADMIN, unix.SECCOMP_RET_ALLOW},
		{defaultCapabilities, unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)},
	} {
		c, err := host.seccompFilter(&Security{}, test.caps)
		if err != nil {
			t.Fatal(err)
		}
		if got := interpret(t, c.prog, seccompCall{nr: unix.SYS_MOUNT, arch: auditNative}); got != test.want {
			t.Errorf("mount with capabilities %#x = %#x, want %#x", test.caps, got, test.want)
		}
	}
	c, err := host.seccompFilter(&Security{Seccomp: `{"defaultAction":"SCMP_ACT_ALLOW"}`}, defaultCapabilities)
	if err != nil {
		t.Fatal(err)
	}
	if got := interpret(t, c.prog, seccompCall{nr: unix.SYS_MOUNT, arch: auditNative}); got != unix.SECCOMP_RET_ALLOW {
		t.Errorf("mount by a profile that allows it = %#x", got)
	}
}

func TestFilterProfiles(t *testing.T) {
	const arches = `"archMap":[{"architecture":"` + scmpNative + `","subArchitectures":["` + scmpCompat + `"]}],`
	for _, test := range []struct {
		name, profile string
		nr            uint32
		args          [6]uint64
		want          string
	}{
		{"allow all", `{"defaultAction":"SCMP_ACT_ALLOW"}`, 600, [6]uint64{}, "0x7fff0000"},
		{"deny one", `{"defaultAction":"SCMP_ACT_ALLOW",` + arches + `"syscalls":[{"names":["mkdirat"],"action":"SCMP_ACT_ERRNO","errnoRet":5}]}`, unix.SYS_MKDIRAT, [6]uint64{}, "0x50005"},
		{"old name", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"name":"mkdirat","action":"SCMP_ACT_ERRNO"}]}`, unix.SYS_MKDIRAT, [6]uint64{}, "0x50001"},
		{"wide compare", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdirat"],"action":"SCMP_ACT_KILL_PROCESS","args":[{"index":1,"value":4294967296,"op":"SCMP_CMP_GE"}]}]}`, unix.SYS_MKDIRAT, [6]uint64{0, 1 << 33}, "0x80000000"},
		{"alternatives", `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["mkdirat"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":3,"op":"SCMP_CMP_EQ"},{"index":1,"value":5,"op":"SCMP_CMP_EQ"}]}]}`, unix.SYS_MKDIRAT, [6]uint64{0, 5}, "0x7fff0000"},
		{"both conditions", `{"defaultAction":"SCMP_ACT_ERRNO","syscalls":[{"names":["mkdirat"],"action":"SCMP_ACT_ALLOW","args":[{"index":0,"value":3,"op":"SCMP_CMP_EQ"},{"index":1,"value":5,"op":"SCMP_CMP_EQ"}]}]}`, unix.SYS_MKDIRAT, [6]uint64{0, 5}, "0x50001"},
		{"new kernel only", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdirat"],"action":"SCMP_ACT_ERRNO","includes":{"minKernel":"99.1"}}]}`, unix.SYS_MKDIRAT, [6]uint64{}, "0x7fff0000"},
		{"no action", `{}`, 0, [6]uint64{}, "no defaultAction"},
		{"odd action", `{"defaultAction":"SCMP_ACT_PERHAPS"}`, 0, [6]uint64{}, "unknown action"},
		{"odd operator", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdirat"],"action":"SCMP_ACT_ERRNO","args":[{"index":1,"op":"~"}]}]}`, 0, [6]uint64{}, "unknown operator"},
		{"unknown call denied", `{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["mkdiratt"],"action":"SCMP_ACT_ERRNO"}]}`, 0, [6]uint64{}, "unknown system call"},
		{"not JSON", `nonsense`, 0, [6]uint64{}, "invalid character"},
	} {
		prog, _, err := seccompFilter(&Security{Seccomp: test.profile}, 0)
		got := ""
		if err != nil {
			got = err.Error()
		} else {
			got = fmt.Sprintf("%#x", interpret(t, prog, seccompCall{nr: test.nr, arch: auditNative, args: test.args}))
		}
		if !strings.Contains(got, test.want) {
			t.Errorf("%s: %s, want %s", test.name, got, test.want)
		}
	}
	for _, odd := range []string{"Unconfined", "none", "off", "no"} {
		if _, _, err := seccompFilter(&Security{Seccomp: odd}, 0); err == nil {
			t.Errorf("seccomp=%s is no error", odd)
		}
	}
}

// Whatever a profile says, its filter does, or there is an error.
func FuzzProfile(f *testing.F) {
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ERRNO","archMap":[{"architecture":"SCMP_ARCH_X86_64","subArchitectures":["SCMP_ARCH_X86"]}],"syscalls":[{"names":["mkdir","clone"],"action":"SCMP_ACT_ALLOW","args":[{"index":1,"value":4294967297,"valueTwo":1,"op":"SCMP_CMP_MASKED_EQ"},{"index":2,"value":7,"op":"SCMP_CMP_NE"}]},{"names":["mkdir"],"action":"SCMP_ACT_KILL"}]}`))
	f.Add([]byte(`{"defaultAction":"SCMP_ACT_ALLOW","syscalls":[{"names":["socket"],"action":"SCMP_ACT_LOG","args":[{"index":0,"value":40,"op":"SCMP_CMP_LE"}],"excludes":{"caps":["CAP_CHOWN"],"minKernel":"4.8"}}]}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		var p seccomp.Seccomp
		if json.Unmarshal(text, &p) != nil {
			return
		}
		filter, err := readProfile(&p, 0)
		if err != nil {
			return
		}
		prog, err := filter.compile()
		if err != nil {
			return
		}
		for _, arch := range []uint32{auditNative, auditCompat, unix.AUDIT_ARCH_S390X} {
			for nr := range uint32(500) {
				c := seccompCall{nr, arch, [6]uint64{argument(filter), argument(filter), argument(filter), argument(filter)}}
				if got, want := interpret(t, prog, c), filter.decide(c); got != want {
					t.Fatalf("filter(%+v) = %#x, want %#x", c, got, want)
				}
			}
		}
	})
}

func BenchmarkSeccompFilter(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		prog, _, err := seccompFilter(&Security{}, defaultCapabilities)
		if err != nil {
			b.Fatal(err)
		}
		b.ReportMetric(float64(len(prog)), "instructions")
	}
}
