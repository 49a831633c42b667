package main

import (
	"encoding/binary"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// beStuck is the program stuck DIR: it mounts a file system (FUSE) there whose root directory has attributes, and in which whoever looks a
// file up waits in the kernel, where no signal ends him, for as long as this program lives. It prints a line for each.
func beStuck() {
	if err := stick(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "stuck:", err)
		os.Exit(1)
	}
}

// Requests of linux/fuse.h.
const (
	fuseLookup      = 1
	fuseForget      = 2
	fuseGetattr     = 3
	fuseInit        = 26
	fuseInterrupt   = 36
	fuseBatchForget = 42
)

func stick(dir string) error {
	fd, err := unix.Open("/dev/fuse", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return err
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=0,group_id=0,allow_other", fd)
	if err := unix.Mount("stuck", dir, "fuse", 0, options); err != nil {
		return err
	}
	order := binary.NativeEndian
	for buf := make([]byte, 1<<20); ; {
		n, err := unix.Read(fd, buf)
		if err == unix.EINTR || err == unix.ENOENT {
			continue
		}
		if err != nil || n < 40 {
			return err
		}
		unique := order.Uint64(buf[8:])
		body, result := []byte(nil), int32(0)
		switch order.Uint32(buf[4:]) {
		case fuseLookup:
			fmt.Println("somebody waits")
			continue
		case fuseForget, fuseInterrupt, fuseBatchForget:
			continue
		case fuseInit:
			body = make([]byte, 64)
			order.PutUint32(body, 7)
			order.PutUint32(body[4:], 31)
			order.PutUint32(body[20:], 1<<16) // bytes of a write
		case fuseGetattr:
			body = make([]byte, 104)
			order.PutUint64(body, 3600)   // seconds for which it holds
			order.PutUint64(body[16:], 1) // inode
			order.PutUint32(body[76:], unix.S_IFDIR|0o755)
			order.PutUint32(body[80:], 2) // links
		default:
			result = -int32(unix.ENOSYS)
		}
		answer := order.AppendUint32(nil, uint32(16+len(body)))
		answer = order.AppendUint32(answer, uint32(result))
		answer = append(order.AppendUint64(answer, unique), body...)
		if _, err := unix.Write(fd, answer); err != nil {
			return err
		}
	}
}
