#include "textflag.h"

// func interpreterCode() unsafe.Pointer
TEXT ·interpreterCode(SB),NOSPLIT,$0-8
	LEAQ ·interpreter(SB), AX
	MOVQ AX, ret+0(FP)
	RET

// interpreter carries out the program that interpreter.go lays out at programBase. It is never
// called here: its bytes are copied into an executable of their own. So it
// refers to nothing outside itself, and it uses no stack, because a child
// made by CLONE_VM runs it on the same one.
//
// R12 is the header, R13 the instruction, BX its flags.
TEXT ·interpreter(SB),NOSPLIT|NOFRAME,$0-0
	MOVQ $0x20000000, R12
	LEAQ 64(R12), R13

next:
	MOVQ 8(R13), DI
	MOVQ 16(R13), SI
	MOVQ 24(R13), DX
	MOVQ 32(R13), R10
	MOVQ 40(R13), R8
	MOVQ 48(R13), R9
	MOVQ 56(R13), BX
	BTQ  $0, BX
	JCC  arg1
	MOVQ (DI), DI
arg1:
	BTQ  $1, BX
	JCC  arg2
	MOVQ (SI), SI
arg2:
	BTQ  $2, BX
	JCC  arg3
	MOVQ (DX), DX
arg3:
	BTQ  $3, BX
	JCC  arg4
	MOVQ (R10), R10
arg4:
	BTQ  $4, BX
	JCC  arg5
	MOVQ (R8), R8
arg5:
	BTQ  $5, BX
	JCC  args
	MOVQ (R9), R9
args:
	MOVQ 0(R13), AX
	CMPQ AX, $0x10000
	JEQ  equal
	CMPQ AX, $0x10001
	JEQ  expect
	CMPQ AX, $0x10002
	JEQ  store
	CMPQ AX, $0x10003
	JEQ  or
	SYSCALL
	CMPQ AX, $-4095
	JCC  errno
	MOVQ 64(R13), CX
	TESTQ CX, CX
	JEQ  done
	MOVQ AX, (CX)
done:
	ADDQ $88, R13
	JMP  next

errno:
	NEGQ AX
	// openat2 says EAGAIN where it cannot be sure of a ".." because something
	// was renamed meanwhile, anywhere on the machine.
	CMPQ AX, $11
	JNE  keep
	CMPQ 0(R13), $437
	JEQ  next
keep:
	MOVQ 64(R13), CX
	TESTQ CX, CX
	JEQ  tolerate
	MOVQ AX, DX
	NEGQ DX
	MOVQ DX, (CX)
tolerate:
	CMPQ AX, $63
	JHI  fail
	MOVQ 72(R13), DX
	BTQ  AX, DX
	JCC  fail
	ADDQ 80(R13), R13
	JMP  done

fail:
	MOVQ R13, 8(R12)
	MOVQ AX, 16(R12)
	MOVQ 0(R12), R13
	JMP  next

// if DI == SI, skip.
equal:
	CMPQ DI, SI
	JNE  done
	ADDQ 80(R13), R13
	JMP  done

// fail with R10 unless DI&SI == DX.
expect:
	ANDQ SI, DI
	CMPQ DI, DX
	JEQ  done
	MOVQ R10, AX
	JMP  fail

// write SI to the word at DI.
store:
	MOVQ SI, (DI)
	JMP  done

// set the bits of SI in the word at DI.
or:
	ORQ SI, (DI)
	JMP done

	QUAD $0x6567726f66646e65
	QUAD $0x6567726f66646e65
