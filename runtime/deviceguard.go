package runtime

import (
	"encoding/binary"
	"fmt"
	"os"
	goruntime "runtime"
	"unsafe"

	"golang.org/x/sys/unix"
)

// anyMinor is the minor number of a device rule that holds for all.
const anyMinor = ^uint32(0)

// usableDevices are the character devices that a container may use, wherever their nodes are: those of every container's
// /dev, terminals, and what the caller mounts as a device. /dev/console is one of the terminals. Nodes may be made of all.
func usableDevices(spec *Spec) []device {
	list := append(devices(), device{"ptmx", 5, 2}, device{"pts", 136, anyMinor})
	for _, m := range spec.Mounts {
		var st unix.Stat_t
		if !m.Devices || m.Source == nil || unix.Fstat(int(m.Source.Fd()), &st) != nil || st.Mode&unix.S_IFMT != unix.S_IFCHR {
			continue
		}
		list = append(list, device{m.Target, unix.Major(st.Rdev), unix.Minor(st.Rdev)})
	}
	return list
}

// deviceRules are usableDevices for devices.allow of version 1 (Documentation/admin-guide/cgroup-v1/devices.rst).
func deviceRules(spec *Spec) []string {
	list := []string{"c *:* m", "b *:* m"}
	for _, d := range usableDevices(spec) {
		if d.minor == anyMinor {
			list = append(list, fmt.Sprintf("c %d:* rwm", d.major))
		} else {
			list = append(list, fmt.Sprintf("c %d:%d rwm", d.major, d.minor))
		}
	}
	return list
}

// Instructions of eBPF (linux/bpf.h, struct bpf_insn).
const (
	ebpfLoad      = 0x61 // dst = *(u32 *)(src + off)
	ebpfCopy      = 0xbf
	ebpfAnd       = 0x57 // with imm, as all below
	ebpfShift     = 0x77 // to the right
	ebpfSet       = 0xb7
	ebpfJumpEqual = 0x15
	ebpfJumpOther = 0x55
	ebpfReturn    = 0x95
)

// deviceProgram is what version 2 asks instead of a list: a program of type BPF_PROG_TYPE_CGROUP_DEVICE (Linux 4.15), which
// is given type and access, major and minor number, and returns 1 to allow.
func deviceProgram(list []device) []byte {
	const (
		result, context       = 0, 1
		kind, access          = 2, 3
		major, minor          = 4, 5
		onlyMake, char, allow = unix.BPF_DEVCG_ACC_MKNOD, unix.BPF_DEVCG_DEV_CHAR, 1
	)
	var code []byte
	emit := func(op, dst, src byte, off int16, imm int32) {
		code = append(code, op, dst|src<<4)
		code = binary.NativeEndian.AppendUint16(code, uint16(off))
		code = binary.NativeEndian.AppendUint32(code, uint32(imm))
	}
	answer := func(n int32) { // two instructions
		emit(ebpfSet, result, 0, 0, n)
		emit(ebpfReturn, 0, 0, 0, 0)
	}
	emit(ebpfLoad, kind, context, 0, 0)
	emit(ebpfCopy, access, kind, 0, 0)
	emit(ebpfAnd, kind, 0, 0, 0xffff)
	emit(ebpfShift, access, 0, 0, 16)
	emit(ebpfLoad, major, context, 4, 0)
	emit(ebpfLoad, minor, context, 8, 0)
	emit(ebpfJumpOther, access, 0, 2, onlyMake)
	answer(allow)
	emit(ebpfJumpEqual, kind, 0, 2, char)
	answer(0)
	for _, d := range list {
		if d.minor == anyMinor {
			emit(ebpfJumpOther, major, 0, 2, int32(d.major))
		} else {
			emit(ebpfJumpOther, major, 0, 3, int32(d.major))
			emit(ebpfJumpOther, minor, 0, 2, int32(d.minor))
		}
		answer(allow)
	}
	answer(0)
	return code
}

// guardDevices attaches a program to a cgroup of version 2.
func guardDevices(cgroup *os.File, list []device) error {
	code, license := deviceProgram(list), []byte("Apache-2.0\x00")
	load := struct { // the beginning of union bpf_attr for BPF_PROG_LOAD
		kind, instructions uint32
		code, license      uint64
		_                  [24]byte // nothing of the log
	}{
		kind: unix.BPF_PROG_TYPE_CGROUP_DEVICE, instructions: uint32(len(code) / 8),
		code: uint64(uintptr(unsafe.Pointer(&code[0]))), license: uint64(uintptr(unsafe.Pointer(&license[0]))),
	}
	fd, _, errno := unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_LOAD, uintptr(unsafe.Pointer(&load)), unsafe.Sizeof(load))
	goruntime.KeepAlive(code)
	goruntime.KeepAlive(license)
	if errno != 0 {
		return os.NewSyscallError("bpf", errno)
	}
	defer unix.Close(int(fd))
	attach := struct{ target, program, kind, flags uint32 }{
		uint32(cgroup.Fd()), uint32(fd), unix.BPF_CGROUP_DEVICE, unix.BPF_F_ALLOW_MULTI,
	}
	_, _, errno = unix.Syscall(unix.SYS_BPF, unix.BPF_PROG_ATTACH, uintptr(unsafe.Pointer(&attach)), unsafe.Sizeof(attach))
	if errno != 0 {
		return os.NewSyscallError("bpf", errno)
	}
	return nil
}
