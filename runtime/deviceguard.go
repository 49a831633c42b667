package runtime

import (
	"encoding/binary"
	"fmt"
	"os"
	goruntime "runtime"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// anyMinor is the minor number of a device rule that holds for all.
const anyMinor = ^uint32(0)

// usableDevices are the devices that a container may use, wherever their nodes are: those of every container's
// /dev, terminals, and what the caller mounts as a device. /dev/console is one of the terminals. Nodes may be made of all.
func usableDevices(spec *Spec) []device {
	list := append(devices(), device{name: "ptmx", major: 5, minor: 2}, device{name: "pts", major: 136, minor: anyMinor})
	for _, m := range spec.Mounts {
		var st unix.Stat_t
		if !m.Devices || m.Source == nil || unix.Fstat(int(m.Source.Fd()), &st) != nil {
			continue
		}
		if kind := st.Mode & unix.S_IFMT; kind == unix.S_IFCHR || kind == unix.S_IFBLK {
			list = append(list, device{m.Target, unix.Major(st.Rdev), unix.Minor(st.Rdev), kind == unix.S_IFBLK})
		}
	}
	return list
}

// deviceRules are usableDevices for devices.allow of version 1 (Documentation/admin-guide/cgroup-v1/devices.rst).
func deviceRules(spec *Spec) []string {
	list := []string{"c *:* m", "b *:* m"}
	for _, d := range usableDevices(spec) {
		minor := "*"
		if d.minor != anyMinor {
			minor = strconv.Itoa(int(d.minor))
		}
		list = append(list, fmt.Sprintf("%s %d:%s rwm", map[bool]string{false: "c", true: "b"}[d.block], d.major, minor))
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
	ebpfJumpOther = 0x55
	ebpfReturn    = 0x95
)

// deviceProgram is what version 2 asks instead of a list: a program of type BPF_PROG_TYPE_CGROUP_DEVICE (Linux 4.15), which
// is given type and access, major and minor number, and returns 1 to allow.
func deviceProgram(list []device) []byte {
	const (
		result, context = 0, 1
		kind, access    = 2, 3
		major, minor    = 4, 5
		onlyMake, allow = unix.BPF_DEVCG_ACC_MKNOD, 1
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
	for _, d := range list {
		one := int32(unix.BPF_DEVCG_DEV_CHAR)
		if d.block {
			one = unix.BPF_DEVCG_DEV_BLOCK
		}
		tests := [][2]int32{{kind, one}, {major, int32(d.major)}, {minor, int32(d.minor)}}
		if d.minor == anyMinor {
			tests = tests[:2]
		}
		for i, test := range tests { // each leads on to the next device
			emit(ebpfJumpOther, byte(test[0]), 0, int16(len(tests)-i+1), test[1])
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
