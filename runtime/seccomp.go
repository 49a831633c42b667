package runtime

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/profiles/seccomp"
	"github.com/opencontainers/runtime-spec/specs-go"
	"golang.org/x/sys/unix"
)

// A callRule is what to do with a system call if its arguments meet every condition.
type callRule struct {
	when   []condition
	action uint32
}

// A condition compares an argument with a value.
type condition struct {
	index      uint
	op         string
	value, two uint64
	low        bool // only the low 32 bits count, as the kernel sees an int
}

// maxSyscall is above every number of a system call, but for privateSyscalls that ARM has from privateBase on. Here they
// follow maxSyscall.
const (
	maxSyscall      = 512
	privateSyscalls = 6
)

// A syscallNumber is what a system call is called on each architecture that a process here can use; -1 is not at all.
type syscallNumber struct {
	name           string
	native, compat int16
}

// callRules are what to do with the calls of one architecture, by number. Most are decided without looking at their
// arguments, the others have rules, in the order of the profile.
type callRules struct {
	decided [maxSyscall + privateSyscalls]bool
	action  [maxSyscall + privateSyscalls]uint32
	rules   [maxSyscall + privateSyscalls][]callRule
	newest  int // the last that the profile knows
}

// know notes that the profile knows a call.
func (c *callRules) know(n int16) {
	if n < maxSyscall {
		c.newest = max(c.newest, int(n))
	}
}

// add adds a rule for a call. A rule without conditions leaves nothing to those that follow.
func (c *callRules) add(n int, r callRule) {
	switch {
	case c.decided[n]:
	case len(r.when) > 0:
		c.rules[n] = append(c.rules[n], r)
	default:
		c.decided[n], c.action[n] = true, r.action
		if c.rules[n] != nil {
			c.rules[n] = append(c.rules[n], r)
		}
	}
}

// A filter is a seccomp filter before it is compiled.
type filter struct {
	native callRules
	compat callRules
	both   bool // the 32 bit architecture is allowed, too
	action uint32
	flags  uint
	known  []syscallNumber
	caps   uint64 // of the container
	kernel seccomp.KernelVersion
}

// seccompFilter compiles the filter for a container with the capabilities; nil is none.
func seccompFilter(sec *Security, caps uint64) (prog []unix.SockFilter, flags uint, err error) {
	profile, err := seccompProfile(sec)
	if err != nil {
		return nil, 0, &SetupError{"seccomp profile", err}
	}
	if profile == nil {
		return nil, 0, nil
	}
	f, err := readProfile(profile, caps)
	if err == nil {
		prog, err = f.compile()
	}
	if err != nil {
		return nil, 0, &SetupError{"seccomp profile", err}
	}
	return prog, f.flags, nil
}

// seccompProfile is the profile the caller asks for. Nothing but its own word turns the filter off.
func seccompProfile(sec *Security) (*seccomp.Seccomp, error) {
	switch {
	case sec.Seccomp == "unconfined", sec.Seccomp == "" && sec.Privileged:
		return nil, nil
	case sec.Seccomp == "", sec.Seccomp == "builtin", sec.Seccomp == "default":
		return seccomp.DefaultProfile(), nil
	}
	var p seccomp.Seccomp
	if err := json.Unmarshal([]byte(sec.Seccomp), &p); err != nil {
		return nil, err
	}
	if p.DefaultAction == "" {
		return nil, errors.New("no defaultAction")
	}
	return &p, nil
}

// readProfile picks the rules that hold here.
func readProfile(p *seccomp.Seccomp, caps uint64) (f *filter, err error) {
	f = &filter{known: syscallNumbers(), caps: caps, kernel: kernelVersion()}
	if f.action, err = seccompAction(string(p.DefaultAction), p.DefaultErrnoRet); err != nil {
		return nil, err
	}
	if p.ListenerPath != "" {
		return nil, errors.New("listenerPath is not supported")
	}
	if len(p.Architectures) > 0 && len(p.ArchMap) > 0 {
		return nil, errors.New("architectures and archMap cannot be used together")
	}
	for _, flag := range p.Flags {
		switch string(flag) {
		case "SECCOMP_FILTER_FLAG_LOG":
			f.flags |= unix.SECCOMP_FILTER_FLAG_LOG
		case "SECCOMP_FILTER_FLAG_SPEC_ALLOW":
			f.flags |= unix.SECCOMP_FILTER_FLAG_SPEC_ALLOW
		case "SECCOMP_FILTER_FLAG_TSYNC": // there is but one thread
		default:
			return nil, fmt.Errorf("flag %s is not supported", flag)
		}
	}
	for _, a := range p.Architectures {
		f.both = f.both || string(a) == scmpCompat
	}
	for _, a := range p.ArchMap {
		if string(a.Arch) == scmpNative {
			for _, sub := range a.SubArches {
				f.both = f.both || string(sub) == scmpCompat
			}
		}
	}
	for _, rule := range p.Syscalls {
		names := rule.Names
		if rule.Name != "" { //nolint:staticcheck // the older form, which profiles still have
			names = append(slices.Clone(names), rule.Name) //nolint:staticcheck // as above
		}
		if err := f.add(names, rule); err != nil {
			return nil, err
		}
	}
	return f, nil
}

// add adds a rule for each name. Names it does not know are of other architectures, or newer than we are; where the
// rule forbids what else is allowed, they are errors.
func (f *filter) add(names []string, rule *seccomp.Syscall) error {
	holds := f.holds(rule.Includes, rule.Excludes)
	action, err := seccompAction(string(rule.Action), rule.ErrnoRet)
	if err != nil {
		return err
	}
	alternatives, err := conditions(rule.Args)
	if err != nil {
		return err
	}
	i := -1
	for _, name := range names {
		if i = f.find(name, i+1); i < 0 {
			if holds && f.action == unix.SECCOMP_RET_ALLOW && action != f.action {
				return fmt.Errorf("unknown system call %q", name)
			}
			continue
		}
		n := &f.known[i]
		f.native.know(n.native)
		f.compat.know(n.compat)
		if !holds {
			continue
		}
		for _, when := range alternatives {
			c := callRule{when, action}
			if name == "socket" {
				// The family is an int: the kernel ignores the upper half, where a process can put what it likes.
				c.when = slices.Clone(when)
				for j := range c.when {
					c.when[j].low = true
				}
			}
			if n.native >= 0 {
				f.native.add(int(n.native), c)
			}
			if n.compat >= 0 {
				f.compat.add(int(n.compat), c)
			}
		}
	}
	return nil
}

// conditions reads what a rule says of the arguments. All conditions are to be met; but if there are several about one
// argument, they are alternatives, each of which is enough, as other runtimes have it.
func conditions(args []specs.LinuxSeccompArg) (alternatives [][]condition, err error) {
	var all []condition
	var seen [6]bool
	repeated := false
	for _, a := range args {
		if a.Index > 5 {
			return nil, fmt.Errorf("system calls have no argument %d", a.Index)
		}
		if !slices.Contains(conditionOps(), string(a.Op)) {
			return nil, fmt.Errorf("unknown operator %q", a.Op)
		}
		repeated = repeated || seen[a.Index]
		seen[a.Index] = true
		all = append(all, condition{a.Index, string(a.Op), a.Value, a.ValueTwo, false})
	}
	if !repeated {
		return [][]condition{all}, nil
	}
	for _, c := range all {
		alternatives = append(alternatives, []condition{c})
	}
	return alternatives, nil
}

// find finds a name in the table, or returns -1. Profiles have names in order, too: mostly it is a little after
// the one before.
func (f *filter) find(name string, near int) int {
	for i := near; i < min(near+6, len(f.known)); i++ {
		if f.known[i].name == name {
			return i
		}
	}
	i, found := slices.BinarySearchFunc(f.known, name, func(n syscallNumber, name string) int {
		return strings.Compare(n.name, name)
	})
	if !found {
		return -1
	}
	return i
}

func conditionOps() []string {
	return []string{
		"SCMP_CMP_NE", "SCMP_CMP_LT", "SCMP_CMP_LE", "SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_MASKED_EQ",
	}
}

// holds reports whether a rule is for a container like this on a machine like this.
func (f *filter) holds(in, ex *seccomp.Filter) bool {
	has := func(name string) bool {
		set, err := capabilitySet([]string{name}, 0)
		return err == nil && set != 0 && f.caps&set == set
	}
	newEnough := func(min *seccomp.KernelVersion) bool {
		return f.kernel.Kernel > min.Kernel || f.kernel.Kernel == min.Kernel && f.kernel.Major >= min.Major
	}
	if ex != nil {
		if slices.Contains(ex.Arches, archName) || slices.ContainsFunc(ex.Caps, has) ||
			ex.MinKernel != nil && newEnough(ex.MinKernel) {
			return false
		}
	}
	if in == nil {
		return true
	}
	for _, c := range in.Caps {
		if !has(c) {
			return false
		}
	}
	return (len(in.Arches) == 0 || slices.Contains(in.Arches, archName)) &&
		(in.MinKernel == nil || newEnough(in.MinKernel))
}

// kernelVersion is the running kernel's.
func kernelVersion() (v seccomp.KernelVersion) {
	var u unix.Utsname
	if unix.Uname(&u) != nil {
		return v
	}
	parts := strings.FieldsFunc(unix.ByteSliceToString(u.Release[:]), func(r rune) bool { return r < '0' || r > '9' })
	if len(parts) > 1 {
		v.Kernel, _ = strconv.ParseUint(parts[0], 10, 32)
		v.Major, _ = strconv.ParseUint(parts[1], 10, 32)
	}
	return v
}

// seccompAction is the kernel's word for an action.
func seccompAction(name string, errno *uint) (uint32, error) {
	data := uint32(unix.EPERM)
	if errno != nil {
		data = uint32(*errno) & 0xffff
	}
	switch name {
	case "SCMP_ACT_ALLOW":
		return unix.SECCOMP_RET_ALLOW, nil
	case "SCMP_ACT_ERRNO":
		return unix.SECCOMP_RET_ERRNO | data, nil
	case "SCMP_ACT_KILL", "SCMP_ACT_KILL_THREAD":
		return unix.SECCOMP_RET_KILL_THREAD, nil
	case "SCMP_ACT_KILL_PROCESS":
		return unix.SECCOMP_RET_KILL_PROCESS, nil
	case "SCMP_ACT_TRAP":
		return unix.SECCOMP_RET_TRAP, nil
	case "SCMP_ACT_TRACE":
		return unix.SECCOMP_RET_TRACE | data, nil
	case "SCMP_ACT_LOG":
		return unix.SECCOMP_RET_LOG, nil
	}
	return 0, fmt.Errorf("unknown action %q", name)
}
