package runtime

import (
	"errors"
	"slices"

	"golang.org/x/sys/unix"
)

// Offsets in struct seccomp_data.
const (
	dataNumber = 0
	dataArch   = 4
	dataArgs   = 16
)

const (
	bpfLoad    = unix.BPF_LD | unix.BPF_W | unix.BPF_ABS
	bpfEqual   = unix.BPF_JMP | unix.BPF_JEQ | unix.BPF_K
	bpfAbove   = unix.BPF_JMP | unix.BPF_JGT | unix.BPF_K
	bpfAtLeast = unix.BPF_JMP | unix.BPF_JGE | unix.BPF_K
	bpfJump    = unix.BPF_JMP | unix.BPF_JA
	bpfAnd     = unix.BPF_ALU | unix.BPF_AND | unix.BPF_K
	bpfReturn  = unix.BPF_RET | unix.BPF_K
)

// compile makes the kernel's form of the filter: one binary search over the numbers an architecture. The kernel runs a
// filter for every number when it is loaded, so that a list of comparisons costs ten times as much.
func (f *filter) compile() ([]unix.SockFilter, error) {
	native := f.architecture(&f.native, f.newest[0])
	prog := []unix.SockFilter{{Code: bpfLoad, K: dataArch}}
	prog = append(prog, unless(bpfEqual, auditNative, native)...)
	if f.both {
		prog = append(prog, unless(bpfEqual, auditCompat, f.architecture(&f.compat, f.newest[1]))...)
	}
	prog = append(prog, ret(unix.SECCOMP_RET_KILL_PROCESS))
	if len(prog) > 4096 { // BPF_MAXINSNS
		return nil, errors.New("too many rules")
	}
	return prog, nil
}

func ret(action uint32) unix.SockFilter { return unix.SockFilter{Code: bpfReturn, K: action} }

// unless is code that skips block where a comparison of what is loaded does not hold.
func unless(jump uint16, k uint32, block []unix.SockFilter) []unix.SockFilter {
	return append(branch(jump, k, len(block)), block...)
}

// branch goes on after itself where the comparison holds, and n instructions further on where it does not.
func branch(jump uint16, k uint32, n int) []unix.SockFilter {
	if n < 256 {
		return []unix.SockFilter{{Code: jump, K: k, Jf: uint8(n)}}
	}
	// Conditional jumps reach 255 instructions.
	return []unix.SockFilter{{Code: jump, K: k, Jt: 1}, {Code: bpfJump, K: uint32(n)}}
}

// architecture decides about one architecture's calls. What the profile is too old to know is answered as an old kernel
// would, so that programs fall back on what it does know.
func (f *filter) architecture(rules *callRules, newest int) []unix.SockFilter {
	unknown := uint32(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS))
	if f.action == unix.SECCOMP_RET_ALLOW || f.action == unix.SECCOMP_RET_LOG {
		newest, unknown = len(rules)-1, f.action
	}
	type span struct {
		first uint32
		code  []unix.SockFilter
	}
	var spans []span
	for n := range newest + 1 {
		code := f.call(rules[n])
		if len(spans) == 0 || !slices.Equal(spans[len(spans)-1].code, code) {
			spans = append(spans, span{uint32(n), code})
		}
	}
	spans = append(spans, span{uint32(newest) + 1, []unix.SockFilter{ret(unknown)}})
	if x32Bit != 0 {
		spans = append(spans, span{x32Bit, []unix.SockFilter{ret(unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS))}})
	}
	var search func(lo, hi int) []unix.SockFilter
	search = func(lo, hi int) []unix.SockFilter {
		if hi-lo == 1 {
			return spans[lo].code
		}
		mid := (lo + hi) / 2
		return append(unless(bpfAtLeast, spans[mid].first, search(mid, hi)), search(lo, mid)...)
	}
	return append([]unix.SockFilter{{Code: bpfLoad, K: dataNumber}}, search(0, len(spans))...)
}

// call decides about one call: the first rule whose conditions are met counts.
func (f *filter) call(rules []callRule) []unix.SockFilter {
	var code []unix.SockFilter
	for _, r := range rules {
		code = append(code, r.code()...)
		if len(r.when) == 0 {
			return code
		}
	}
	return append(code, ret(f.action))
}

// code returns the action where all conditions are met, and goes on after itself where one is not.
func (r callRule) code() []unix.SockFilter {
	block := []unix.SockFilter{ret(r.action)}
	for _, c := range slices.Backward(r.when) {
		block = append(c.code(len(block)), block...)
	}
	return block
}

// code goes on after itself where the condition is met, and n instructions further on where it is not.
func (c condition) code(n int) []unix.SockFilter {
	high, low := uint32(c.value>>32), uint32(c.value)
	at := uint32(dataArgs + 8*c.index)
	loadLow := unix.SockFilter{Code: bpfLoad, K: at}
	loadHigh := unix.SockFilter{Code: bpfLoad, K: at + 4}
	step := func(code uint16, k uint32, yes, no int) unix.SockFilter {
		return unix.SockFilter{Code: code, K: k, Jt: uint8(yes), Jf: uint8(no)}
	}
	switch c.op {
	case "SCMP_CMP_EQ", "SCMP_CMP_NE":
		yes, no := 0, n
		if c.op == "SCMP_CMP_NE" {
			yes, no = n, 0
		}
		if c.low {
			return []unix.SockFilter{loadLow, step(bpfEqual, low, yes, no)}
		}
		return []unix.SockFilter{loadHigh, step(bpfEqual, high, 0, no+2), loadLow, step(bpfEqual, low, yes, no)}
	case "SCMP_CMP_GT":
		return c.compare(bpfAbove, bpfAbove, 0, n)
	case "SCMP_CMP_GE":
		return c.compare(bpfAbove, bpfAtLeast, 0, n)
	case "SCMP_CMP_LE": // not above
		return c.compare(bpfAbove, bpfAbove, n, 0)
	case "SCMP_CMP_LT": // not at least
		return c.compare(bpfAbove, bpfAtLeast, n, 0)
	}
	// SCMP_CMP_MASKED_EQ: value is the mask, two what is left of the argument
	mask := func(half uint32) unix.SockFilter { return unix.SockFilter{Code: bpfAnd, K: half} }
	test := []unix.SockFilter{loadLow, mask(low), step(bpfEqual, uint32(c.two), 0, n)}
	if c.low {
		return test
	}
	return append([]unix.SockFilter{loadHigh, mask(high), step(bpfEqual, uint32(c.two>>32), 0, n+3)}, test...)
}

// compare is code for an order: yes and no are how far to go on where the argument is above (the high half's jump, or
// the low one's where the high halves are equal), and where it is not.
func (c condition) compare(above, orLow uint16, yes, no int) []unix.SockFilter {
	high, low := uint32(c.value>>32), uint32(c.value)
	at := uint32(dataArgs + 8*c.index)
	last := []unix.SockFilter{
		{Code: bpfLoad, K: at},
		{Code: orLow, K: low, Jt: uint8(yes), Jf: uint8(no)},
	}
	if c.low {
		return last
	}
	return append([]unix.SockFilter{
		{Code: bpfLoad, K: at + 4},
		{Code: above, K: high, Jt: uint8(yes + 3), Jf: 0},
		{Code: bpfEqual, K: high, Jt: 0, Jf: uint8(no + 2)},
	}, last...)
}
