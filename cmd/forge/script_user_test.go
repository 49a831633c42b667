package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

const (
	ordinaryUser = 65534
	userRanges   = "65534:100000:65536\n"
	userTime     = "60" // seconds that a program of theirs may take
)

// beUser is the program "user": it executes a program as an ordinary user, and ends it when it takes too long. With "one" the
// user has no other ids than his own, with "many" those of a range; an ordinary user is who he is. He may use
// the network devices that everybody may use on most machines.
func beUser() {
	if len(os.Args) < 3 || os.Args[1] != "one" && os.Args[1] != "many" {
		fmt.Fprintln(os.Stderr, "usage: user one|many PROGRAM [ARG…]")
		os.Exit(2)
	}
	runtime.LockOSThread() // which has the mounts of its own
	var err error
	if os.Geteuid() == 0 {
		err = becomeUser(os.Getenv("WORK"), os.Args[1])
	}
	timeout, lookErr := exec.LookPath("timeout")
	if err = errors.Join(err, lookErr); err == nil {
		err = syscall.Exec(timeout, append([]string{"timeout", "-k", "5", userTime}, os.Args[2:]...), os.Environ())
	}
	fmt.Fprintln(os.Stderr, "user:", err)
	os.Exit(2)
}

func becomeUser(work, ids string) error {
	forge, err := exec.LookPath("forge")
	if err := errors.Join(err, openTo(filepath.Dir(forge)), openTo(work), own(work)); err != nil {
		return err
	}
	// The namespace is that of a thread until that executes a program, which makes it that of the process.
	if err := errors.Join(unix.Unshare(unix.CLONE_NEWNS), unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "")); err != nil {
		return err
	}
	tun := filepath.Join(work, ".tun")
	err = unix.Mknod(tun, unix.S_IFCHR, int(unix.Mkdev(10, 200)))
	if err == nil || errors.Is(err, fs.ErrExist) {
		err = errors.Join(os.Chmod(tun, 0o666), unix.Mount(tun, "/dev/net/tun", "", unix.MS_BIND, ""))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "no tun device:", err) // then there is no network
	}
	if ids == "many" {
		ranges := filepath.Join(work, ".ids")
		if old, _ := os.ReadFile(ranges); string(old) != userRanges { // others have it mounted, and may be reading it
			if err := os.WriteFile(ranges, []byte(userRanges), 0o644); err != nil {
				return err
			}
		}
		for _, file := range []string{"/etc/subuid", "/etc/subgid"} {
			if err := unix.Mount(ranges, file, "", unix.MS_BIND, ""); err != nil {
				return fmt.Errorf("%s: %w", file, err)
			}
		}
	}
	return errors.Join(syscall.Setgroups(nil), syscall.Setgid(ordinaryUser), syscall.Setuid(ordinaryUser))
}

// openTo lets others enter a directory that is below the one of temporary files.
func openTo(dir string) error {
	for ; strings.HasPrefix(dir, os.TempDir()+"/") || strings.HasPrefix(dir, "/tmp/"); dir = filepath.Dir(dir) {
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// own gives a story's directory to the user, once: what containers own later stays theirs.
func own(work string) error {
	var st unix.Stat_t
	if err := unix.Stat(work, &st); err != nil || st.Uid == ordinaryUser {
		return err
	}
	return filepath.WalkDir(work, func(path string, _ fs.DirEntry, err error) error {
		return errors.Join(err, os.Lchown(path, ordinaryUser, ordinaryUser))
	})
}
