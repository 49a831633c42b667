#include "textflag.h"

// func interpreterCode() unsafe.Pointer
TEXT ·interpreterCode(SB),NOSPLIT,$0-8
	MOVD $·interpreter(SB), R0
	MOVD R0, ret+0(FP)
	RET

// interpreter carries out the program that interpreter.go lays out at programBase. It is never
// called here: its bytes are copied into an executable of their own. So it
// refers to nothing outside itself, and it uses no stack, because a child
// made by CLONE_VM runs it on the same one.
//
// R19 is the header, R20 the instruction, R21 its flags. A system call keeps
// all registers but R0.
TEXT ·interpreter(SB),NOSPLIT|NOFRAME,$0-0
	MOVD $0x20000000, R19
	ADD  $64, R19, R20

next:
	LDP  8(R20), (R0, R1)
	LDP  24(R20), (R2, R3)
	LDP  40(R20), (R4, R5)
	MOVD 56(R20), R21
	TBZ  $0, R21, arg1
	MOVD (R0), R0
arg1:
	TBZ  $1, R21, arg2
	MOVD (R1), R1
arg2:
	TBZ  $2, R21, arg3
	MOVD (R2), R2
arg3:
	TBZ  $3, R21, arg4
	MOVD (R3), R3
arg4:
	TBZ  $4, R21, arg5
	MOVD (R4), R4
arg5:
	TBZ  $5, R21, args
	MOVD (R5), R5
args:
	MOVD 0(R20), R8
	SUB  $0x10000, R8, R9
	CBZ  R9, equal
	CMP  $1, R9
	BEQ  expect
	CMP  $2, R9
	BEQ  store
	CMP  $3, R9
	BEQ  or
	SVC
	CMN  $4095, R0
	BHS  errno
	MOVD 64(R20), R9
	CBZ  R9, done
	MOVD R0, (R9)
done:
	ADD $88, R20
	B   next

errno:
	NEG R0, R0
	// openat2 says EAGAIN where it cannot be sure of a ".." because something
	// was renamed meanwhile, anywhere on the machine.
	CMP $11, R0
	BNE keep
	CMP $437, R8
	BEQ next
keep:
	MOVD 64(R20), R9
	CBZ  R9, tolerate
	NEG  R0, R10
	MOVD R10, (R9)
tolerate:
	CMP  $63, R0
	BHI  fail
	MOVD 72(R20), R9
	LSR  R0, R9, R9
	TBZ  $0, R9, fail
skip:
	MOVD 80(R20), R9
	ADD  R9, R20
	B    done

fail:
	MOVD R20, 8(R19)
	MOVD R0, 16(R19)
	MOVD 0(R19), R20
	B    next

// if R0 == R1, skip.
equal:
	CMP R0, R1
	BEQ skip
	B   done

// fail with R3 unless R0&R1 == R2.
expect:
	AND  R1, R0
	CMP  R0, R2
	BEQ  done
	MOVD R3, R0
	B    fail

// write R1 to the word at R0.
store:
	MOVD R1, (R0)
	B    done

// set the bits of R1 in the word at R0.
or:
	MOVD (R0), R2
	ORR  R1, R2
	MOVD R2, (R0)
	B    done

	DWORD $0x6567726f66646e65
	DWORD $0x6567726f66646e65
