package runtime

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// A program is a list of system calls and the bytes they point to. The interpreter carries it out, in a process that has
// nothing of ours in it but these calls: no Go runtime, no open files, no memory of the caller.
type program struct {
	ops  []*op
	data []byte
	fix  [][2]arg // words of the data, and the addresses that they hold once all is laid out
	step string   // of the calls that are added next, for errors
}

// An op is a system call, or one of the four words the interpreter knows besides.
type op struct {
	nr   uintptr
	args [6]arg
	save arg    // word that gets the result, or the negative error number
	pass uint64 // set of error numbers (below 64) that do not end the program
	skip int    // how many ops to leave out after such an error, or when equal
	step string
	at   int // its number
}

// An arg is a number, an address in one of the parts of the program, or what is at one when the call is made.
type arg struct {
	n       uint64
	part    part
	content bool
}

// A part of a program is what addresses count from.
type part uint8

const (
	inNothing part = iota // a number
	inData
	inHeader
	inOps // by the number of the op
)

const (
	opEqual  = 0x10000 + iota // skip if args 0 and 1 are equal
	opExpect                  // fail with args[3] unless args[0]&args[1] == args[2]
	opStore                   // write args[1] to the word at args[0]
	opOr                      // set the bits of args[1] in the word at args[0]
)

// Where things are in the image of a program: a header of words that say what to do on failure and what failed, the
// ops, the data.
const (
	headerSize = 64
	opSize     = 88
	headerFail = 0  // address of the op to go on with after a failure
	headerOp   = 8  // address of the op that failed
	headerErr  = 16 // its error number
)

// anyError is every error number a pass set can hold.
const anyError = ^uint64(0)

func errnos(list ...unix.Errno) (set uint64) {
	for _, e := range list {
		set |= 1 << e
	}
	return set
}

func num[T ~int | ~int32 | ~int64 | ~uint | ~uint32 | ~uint64 | ~uintptr](n T) arg {
	return arg{n: uint64(n)}
}

// call adds a system call.
func (p *program) call(nr uintptr, args ...arg) *op {
	o := &op{nr: nr, step: p.step, at: len(p.ops)}
	copy(o.args[:], args)
	p.ops = append(p.ops, o)
	return o
}

// allow names errors that are passed over.
func (o *op) allow(set uint64) *op { o.pass |= set; return o }

// into saves the result in a word.
func (o *op) into(word arg) *op { o.save = word.addr(); return o }

// bytes adds b to the data, aligned for anything, and returns its address.
func (p *program) bytes(b []byte) arg {
	for len(p.data)%8 != 0 {
		p.data = append(p.data, 0)
	}
	at := len(p.data)
	p.data = append(p.data, b...)
	return arg{n: uint64(at), part: inData}
}

// space reserves n zero bytes.
func (p *program) space(n int) arg { return p.bytes(make([]byte, n)) }

// str adds s with a zero byte after it.
func (p *program) str(s string) arg {
	at := len(p.data)
	p.data = append(append(p.data, s...), 0)
	return arg{n: uint64(at), part: inData}
}

// words adds 64 bit words.
func (p *program) words(w ...uint64) arg {
	b := make([]byte, 0, 8*len(w))
	for _, n := range w {
		b = binary.NativeEndian.AppendUint64(b, n)
	}
	return p.bytes(b)
}

// word is a word of its own; its content is the result that a call saves there.
func (p *program) word() arg { return p.words(0).ref() }

// plus is the address off bytes further on.
func (a arg) plus(off int) arg { a.n += uint64(off); return a }

// addr is the address of a word, ref the content of the word at an address.
func (a arg) addr() arg { a.content = false; return a }
func (a arg) ref() arg  { a.content = true; return a }

// strs adds strings.
func (p *program) strs(list []string) []arg {
	addrs := make([]arg, len(list))
	for i, s := range list {
		addrs[i] = p.str(s)
	}
	return addrs
}

// pointers adds a table of addresses, ended by a zero word, as execve wants it.
func (p *program) pointers(addrs []arg) arg {
	table := p.space(8 * (len(addrs) + 1))
	for i, a := range addrs {
		p.put(table.plus(8*i), a)
	}
	return table
}

// put writes an address or number into the word at a place in the data.
func (p *program) put(at, a arg) {
	p.fix = append(p.fix, [2]arg{at, a})
}

// skipIf leaves out ops, up to where the result lands, if two arguments are equal; jump always does.
func (p *program) skipIf(a, b arg) *op { return p.call(opEqual, a, b) }
func (p *program) jump() *op           { return p.call(opEqual) }

// endSkip makes the skip of o end here.
func (p *program) endSkip(o *op) {
	o.skip = len(p.ops) - o.at - 1
}

// image lays the program out for the address base. A failure goes on with op number tail.
func (p *program) image(base uint64, tail int) []byte {
	dataAt := uint64(headerSize + opSize*len(p.ops))
	value := func(a arg) uint64 {
		switch a.part {
		case inData:
			return base + dataAt + a.n
		case inHeader:
			return base + a.n
		case inOps:
			return base + headerSize + opSize*a.n
		}
		return a.n
	}
	b := make([]byte, dataAt, dataAt+uint64(len(p.data)))
	order := binary.NativeEndian
	order.PutUint64(b[headerFail:], base+headerSize+opSize*uint64(tail))
	for i, o := range p.ops {
		w := b[headerSize+opSize*i:]
		order.PutUint64(w, uint64(o.nr))
		var flags uint64
		for j, a := range o.args {
			order.PutUint64(w[8+8*j:], value(a))
			if a.content {
				flags |= 1 << j
			}
		}
		order.PutUint64(w[56:], flags)
		if o.save.part != inNothing {
			order.PutUint64(w[64:], value(o.save))
		}
		order.PutUint64(w[72:], o.pass)
		order.PutUint64(w[80:], uint64(opSize*o.skip))
	}
	b = append(b, p.data...)
	for _, f := range p.fix {
		order.PutUint64(b[dataAt+f[0].n:], value(f[1]))
	}
	return b
}
