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

// maxInstructions of a filter (BPF_MAXINSNS).
const maxInstructions = 4096

// enosys is how a kernel answers that does not know a call.
const enosys = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)

// An assembler makes a filter from its end to its beginning, since jumps only go forward: what they lead to is there
// already. A label is how many instructions there are from it to the end.
type assembler struct {
	code    []unix.SockFilter // the last one first
	answers map[uint32]int    // labels of returns
}

func (a *assembler) emit(i unix.SockFilter) (label int) {
	a.code = append(a.code, i)
	return len(a.code)
}

// near returns a label for target that a conditional jump reaches from one of the next two instructions.
func (a *assembler) near(target int) int {
	if len(a.code)+1-target < 256 {
		return target
	}
	return a.emit(unix.SockFilter{Code: bpfJump, K: uint32(len(a.code) - target)})
}

// branch goes to one label if a comparison of what is loaded holds, and to another if not.
func (a *assembler) branch(jump uint16, k uint32, yes, no int) int {
	yes = a.near(yes)
	no = a.near(no)
	return a.emit(unix.SockFilter{Code: jump, K: k, Jt: uint8(len(a.code) - yes), Jf: uint8(len(a.code) - no)})
}

// answer returns an action. One return serves all that can reach it.
func (a *assembler) answer(action uint32) int {
	if label, ok := a.answers[action]; ok && len(a.code)+2-label < 256 {
		return label
	}
	a.answers[action] = a.emit(unix.SockFilter{Code: bpfReturn, K: action})
	return a.answers[action]
}

// compile makes the kernel's form of the filter: one binary search over the numbers an architecture. The kernel runs a
// filter for every number when it is loaded, so that a list of comparisons costs ten times as much.
func (f *filter) compile() ([]unix.SockFilter, error) {
	a := &assembler{code: make([]unix.SockFilter, 0, 512), answers: map[uint32]int{}}
	other := a.answer(unix.SECCOMP_RET_KILL_PROCESS)
	if f.both {
		compat := f.architecture(a, &f.compat)
		other = a.branch(bpfEqual, auditCompat, compat, other)
	}
	native := f.architecture(a, &f.native)
	a.branch(bpfEqual, auditNative, native, other)
	a.emit(unix.SockFilter{Code: bpfLoad, K: dataArch})
	if len(a.code) > maxInstructions {
		return nil, errors.New("too many rules")
	}
	slices.Reverse(a.code)
	return a.code, nil
}

// A span is a row of calls about which the same is decided: by one action, or by the rules of one call.
type span struct {
	first  uint32
	action uint32
	rules  []callRule
}

// spans are the rows of one architecture's calls, to the last number there is. What the profile is too old to know is
// answered as an old kernel would, so that programs fall back on what it does know.
func (f *filter) spans(calls *callRules) []span {
	newest, unknown := calls.newest, enosys
	if f.action == unix.SECCOMP_RET_ALLOW || f.action == unix.SECCOMP_RET_LOG {
		newest, unknown = maxSyscall-1, f.action
	}
	list := make([]span, 0, 160)
	add := func(first, action uint32, rules []callRule) {
		n := len(list)
		if n == 0 || rules != nil || list[n-1].rules != nil || list[n-1].action != action {
			list = append(list, span{first, action, rules})
		}
	}
	decide := func(number uint32, n int) {
		switch {
		case calls.rules[n] != nil:
			add(number, f.action, calls.rules[n])
		case calls.decided[n]:
			add(number, calls.action[n], nil)
		default:
			add(number, f.action, nil)
		}
	}
	for n := range newest + 1 {
		decide(uint32(n), n)
	}
	add(uint32(newest)+1, unknown, nil)
	if privateBase != 0 && calls == &f.compat {
		for n := range privateSyscalls {
			decide(privateBase+uint32(n), maxSyscall+n)
		}
		add(privateBase+privateSyscalls, unknown, nil)
	}
	if x32Bit != 0 {
		add(x32Bit, enosys, nil)
	}
	return list
}

// architecture decides about one architecture's calls.
func (f *filter) architecture(a *assembler, calls *callRules) int {
	spans := f.spans(calls)
	var search func(lo, hi int) int
	search = func(lo, hi int) int {
		if hi-lo == 1 {
			return a.decide(&spans[lo])
		}
		mid := (lo + hi) / 2
		above, below := search(mid, hi), search(lo, mid)
		return a.branch(bpfAtLeast, spans[mid].first, above, below)
	}
	if root := search(0, len(spans)); root != len(a.code) {
		a.emit(unix.SockFilter{Code: bpfJump, K: uint32(len(a.code) - root)})
	}
	return a.emit(unix.SockFilter{Code: bpfLoad, K: dataNumber})
}

// decide answers for a span: the first rule whose conditions are met counts, the action where none is.
func (a *assembler) decide(s *span) int {
	if s.rules == nil {
		return a.answer(s.action)
	}
	a.emit(ret(s.action))
	for _, r := range slices.Backward(s.rules) {
		for _, i := range slices.Backward(r.code()) {
			a.emit(i)
		}
	}
	return len(a.code)
}

func ret(action uint32) unix.SockFilter { return unix.SockFilter{Code: bpfReturn, K: action} }

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
