package runtime

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// usernsError is the variable by which the interpreter says why there is no user namespace.
const usernsError = "FORGE_USERNS_ERROR"

// EnterUserNamespace makes this process root of a new user and mount namespace if it is not root, or root without the
// capabilities that mounts and networks take, as in most containers, so that it can mount layers. The process executes the interpreter, which is single-threaded as the kernel demands, enters the namespaces and
// executes the program again: the process id, the terminal, signals and exit code stay what they are. It returns only
// if there is nothing to do (nil) or it could not be done (why), and is to be called before anything else happens.
//
// members is a file, which is made if there is none. While any process lives that has entered a namespace with it, others enter
// the same user namespace. If it is "" the namespace is this process's own.
func EnterUserNamespace(members string) error {
	if !NeedsUserNamespace() {
		keepMembership()
		return nil
	}
	if reason, ok := os.LookupEnv(usernsError); ok {
		os.Unsetenv(usernsError)
		if reason == "" {
			return errors.New("user namespace: unknown reason")
		}
		return fmt.Errorf("user namespace: %w", userNamespaceReason(unix.Errno(reason[0])))
	}
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("user namespace: %w", err)
	}
	if _, err := os.Stat(self); err != nil {
		return fmt.Errorf("user namespace: %w", err)
	}
	if err := enterAny(self, members); err != nil {
		return fmt.Errorf("user namespace: %w", err)
	}
	return nil
}

// NeedsUserNamespace reports whether [EnterUserNamespace] has something to do.
func NeedsUserNamespace() bool {
	return os.Geteuid() != 0 || !hasCapabilities(1<<unix.CAP_SYS_ADMIN|1<<unix.CAP_NET_ADMIN)
}

// enterAny enters the namespace of the members, or a new one. It returns only if it cannot.
func enterAny(self, members string) error {
	shared := -1
	if _, alone := os.LookupEnv(usernsAlone); !alone && members != "" {
		// Where the file cannot be had or locked, as on some file systems of a network, the namespace is not shared.
		if fd, err := openMembers(members); err == nil {
			defer unix.Close(fd) // others wait as long as it is open
			pidfd, err := chooseNamespace(fd)
			if pidfd != nil {
				return joinMember(self, fd, pidfd)
			}
			if err == nil {
				shared = fd
			}
		}
	}
	os.Unsetenv(usernsAlone)
	if err := usernsRestricted(); err != nil {
		return err
	}
	return enter(self, shared)
}

// userNamespaceReason says what an error of unshare means here.
func userNamespaceReason(e unix.Errno) error {
	switch e {
	case unix.ENOSPC:
		return fmt.Errorf("there may be no more of them (sysctl user.max_user_namespaces): %w", e)
	case unix.EPERM:
		return fmt.Errorf("this process may not make them here: %w%s", e, settings())
	}
	return e
}

// usernsRestricted tries in a child whether a user namespace gives capabilities, where AppArmor may see to it that it
// does not: once in, there is no way back.
func usernsRestricted() error {
	b, _ := os.ReadFile("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
	if !bytes.HasPrefix(b, []byte("1")) {
		return nil
	}
	p := &program{}
	p.call(unix.SYS_UNSHARE, num(unix.CLONE_NEWUSER|unix.CLONE_NEWNS))
	p.privateMounts()
	p.call(unix.SYS_EXIT_GROUP, num(0))
	tail := len(p.ops)
	p.call(unix.SYS_EXIT_GROUP, num(1))
	pid, err := p.spawn(tail, nil, 0)
	if err != nil {
		return err
	}
	if status, err := childStatus(pid); err != nil || status != 0 {
		return errors.New("AppArmor gives them no capabilities (sysctl kernel.apparmor_restrict_unprivileged_userns)")
	}
	return nil
}

// childStatus waits for a child and returns its exit status.
func childStatus(pid int) (int, error) {
	var status unix.WaitStatus
	for {
		_, err := unix.Wait4(pid, &status, 0, nil)
		if err != unix.EINTR {
			return status.ExitStatus(), err
		}
	}
}

func (p *program) privateMounts() {
	p.call(unix.SYS_MOUNT, p.str("none"), p.str("/"), num(0), num(unix.MS_REC|unix.MS_PRIVATE))
}

// spawn runs a program of its own, with files from number 4 on, in new namespaces if there are flags of clone(2) for any.
func (p *program) spawn(tail int, files []*os.File, namespaces uintptr) (pid int, err error) {
	file, err := p.executable(tail)
	if err != nil {
		return 0, err
	}
	defer file.Close()
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		return 0, err
	}
	defer null.Close()
	fds := []uintptr{null.Fd(), null.Fd(), null.Fd(), file.Fd()}
	for _, f := range files {
		fds = append(fds, f.Fd())
	}
	return syscall.ForkExec("/proc/self/fd/3", []string{"forge"}, &syscall.ProcAttr{
		Files: fds, Sys: &syscall.SysProcAttr{Cloneflags: namespaces},
	})
}

// An idMap is how the ids of a user namespace are made.
type idMap struct {
	tool, file string // newuidmap, /proc/self/uid_map
	id         int    // the caller's own, which becomes 0
	ranges     []string
	path       string // of the tool, "" if the ranges cannot be had
	same       string // content of the file that leaves all ids as they are, for root; "" if that is not allowed
}

func idMaps() []*idMap {
	maps := []*idMap{
		{tool: "newgidmap", file: "/proc/self/gid_map", id: os.Getegid()},
		{tool: "newuidmap", file: "/proc/self/uid_map", id: os.Geteuid()},
	}
	if os.Geteuid() == 0 {
		for i, setID := range []uint{unix.CAP_SETGID, unix.CAP_SETUID} {
			if hasCapabilities(1<<setID | 1<<unix.CAP_SETFCAP) {
				for _, r := range idRanges(maps[i].file) {
					maps[i].same += fmt.Sprintf("%d %d %d\n", r[0], r[0], r[1]-r[0])
				}
			}
		}
		return maps
	}
	for i, file := range []string{"/etc/subgid", "/etc/subuid"} {
		ranges, _ := subordinateIDs(file, os.Getuid())
		if path, err := exec.LookPath(maps[i].tool); err == nil && len(ranges) > 0 {
			maps[i].path, maps[i].ranges = path, ranges
		}
	}
	return maps
}

// subordinateIDs are the ranges a user may map, as start and count in turn.
func subordinateIDs(file string, uid int) (ranges []string, err error) {
	number, name := strconv.Itoa(uid), ""
	if f, err := os.Open("/etc/passwd"); err == nil {
		u := User{}
		name, _ = lookupLogin(&u, number, f)
		f.Close()
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	err = eachLine(f, file, func(f []string) bool {
		if len(f) == 3 && (f[0] == number || name != "" && f[0] == name) {
			ranges = append(ranges, f[1], f[2])
		}
		return true
	})
	return ranges, err
}

// mapArgs are the arguments of newuidmap and newgidmap.
func (m *idMap) mapArgs(pid int) []string {
	args := []string{m.tool, strconv.Itoa(pid), "0", strconv.Itoa(m.id), "1"}
	next := 1
	for i := 0; i+1 < len(m.ranges); i += 2 {
		count, _ := strconv.Atoi(m.ranges[i+1])
		args = append(args, strconv.Itoa(next), m.ranges[i], m.ranges[i+1])
		next += count
	}
	return args
}

// enter executes the interpreter, to make a namespace. It returns only if it cannot. members is the descriptor of their file, or
// -1.
func enter(self string, members int) error {
	maps := idMaps()
	pair, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return os.NewSyscallError("socketpair", err)
	}
	ours, theirs := os.NewFile(uintptr(pair[0]), "helper"), os.NewFile(uintptr(pair[1]), "helper")
	defer ours.Close()
	defer theirs.Close()
	program, tail := mapHelper(maps)
	helper, err := program.spawn(tail, []*os.File{theirs}, 0)
	if err != nil {
		return err
	}
	theirs.Close()
	program, tail = enterProgram(self, maps, int(ours.Fd()), helper, members)
	keep := []int{int(ours.Fd())}
	if members >= 0 {
		keep = append(keep, members)
	}
	return program.become(tail, keep...)
}

// mapHelper is the program of a child that stays in the caller's namespace, where newuidmap and newgidmap work, or root
// needs neither. Told that the namespace is there, it runs both at once, and sends back the two statuses.
func mapHelper(maps []*idMap) (p *program, tail int) {
	const sock = 4
	p = &program{}
	got, results := p.word(), p.words(1, 1)
	p.call(unix.SYS_READ, num(sock), p.space(8), num(1)).into(got)
	p.call(opExpect, got, num(1), num(1), num(unix.EPIPE)) // the other end was closed: no namespace
	pids := make([]arg, len(maps))
	for i, m := range maps {
		if m.same != "" {
			p.writeFile(strings.Replace(m.file, "self", strconv.Itoa(os.Getpid()), 1), m.same)
			p.call(opStore, results.plus(8*i), num(0))
		}
		if m.path == "" {
			continue
		}
		pids[i] = p.word()
		args := p.words(unix.CLONE_VM|unix.CLONE_VFORK, 0, 0, 0, uint64(unix.SIGCHLD), 0, 0, 0, 0, 0, 0)
		p.call(unix.SYS_CLONE3, args, num(88)).into(pids[i])
		child := p.skipIf(pids[i], num(0))
		parent := p.jump()
		p.endSkip(child)
		argv := p.pointers(p.strs(m.mapArgs(os.Getpid())))
		p.call(unix.SYS_EXECVE, p.str(m.path), argv, p.pointers(nil)).allow(anyError)
		p.call(unix.SYS_EXIT_GROUP, num(127))
		p.endSkip(parent)
	}
	for i, m := range maps {
		if m.path != "" {
			p.call(unix.SYS_WAIT4, pids[i], results.plus(8*i), num(0), num(0)).allow(anyError)
		}
	}
	p.call(unix.SYS_SENDTO, num(sock), results, num(16), num(unix.MSG_NOSIGNAL), num(0), num(0)).allow(anyError)
	tail = len(p.ops)
	p.call(unix.SYS_EXIT_GROUP, num(0))
	return p, tail
}

// enterProgram enters the namespaces, has the ids mapped, or maps the one that needs no help, and executes the program
// again; with the reason in its environment if that failed.
func enterProgram(self string, maps []*idMap, sock, helper, members int) (p *program, tail int) {
	p = &program{}
	helperDone := func() {
		p.call(unix.SYS_CLOSE, num(sock)).allow(anyError)
		p.call(unix.SYS_WAIT4, num(helper), num(0), num(0), num(0)).allow(anyError)
	}
	p.call(unix.SYS_UNSHARE, num(unix.CLONE_NEWUSER|unix.CLONE_NEWNS))
	results := p.words(1, 1)
	p.call(unix.SYS_WRITE, num(sock), p.str("x"), num(1)).allow(anyError)
	p.call(unix.SYS_READ, num(sock), results, num(16)).allow(anyError)
	for i, m := range maps {
		mapped := p.skipIf(results.plus(8*i).ref(), num(0))
		if m.tool == "newgidmap" {
			p.writeFile("/proc/self/setgroups", "deny")
		}
		p.writeFile(m.file, fmt.Sprintf("0 %d 1", m.id))
		p.endSkip(mapped)
	}
	p.privateMounts()
	helperDone()
	env := os.Environ()
	if members >= 0 {
		p.becomeMember(members)
		env = membersEnv(members)
	}
	p.execAgain(self, p.strs(env))

	tail = len(p.ops)
	failed := append(p.strs(os.Environ()), p.reason())
	helperDone()
	p.call(unix.SYS_CLOSE, num(members)).allow(anyError)
	p.execAgain(self, failed)
	return p, tail
}

// reason makes the variable by which the program that is executed again learns of a failure: its value is the error number,
// which fits in a byte.
func (p *program) reason() arg {
	variable := p.bytes(append([]byte(usernsError+"="), make([]byte, 8)...))
	p.call(opStore, variable.plus(len(usernsError)+1), arg{n: headerErr, part: inHeader, content: true})
	return variable
}

// writeFile writes a small file in one go.
func (p *program) writeFile(path, content string) {
	fd := p.word()
	p.call(unix.SYS_OPENAT, num(unix.AT_FDCWD), p.str(path), num(unix.O_WRONLY|unix.O_CLOEXEC), num(0)).into(fd)
	p.call(unix.SYS_WRITE, fd, p.str(content), num(len(content)))
	p.call(unix.SYS_CLOSE, fd)
}

// inUserNamespace reports whether this process is in a user namespace other than the first, whose inode number is part
// of the kernel's interface (PROC_USER_INIT_INO). Its map says nothing: another one may have all ids, too.
func inUserNamespace() bool {
	target, err := os.Readlink("/proc/self/ns/user")
	return err == nil && target != "user:[4026531837]"
}

// mapped reports whether the map of a user namespace has a number.
func mapped(file string, number uint32) bool {
	id := uint64(number)
	return slices.ContainsFunc(idRanges(file), func(r [2]uint64) bool { return r[0] <= id && id < r[1] })
}

// idRanges are the numbers that the map of a user namespace has: each the first, and the one after the last.
func idRanges(file string) (ranges [][2]uint64) {
	m, _ := os.ReadFile(file)
	for line := range bytes.Lines(m) {
		f := bytes.Fields(line)
		if len(f) != 3 {
			continue
		}
		first, _ := strconv.ParseUint(string(f[0]), 10, 32)
		count, _ := strconv.ParseUint(string(f[2]), 10, 33)
		ranges = append(ranges, [2]uint64{first, first + count})
	}
	return ranges
}

// RootOutside reports whether root of this process's user namespace is root of the one around it, too.
func RootOutside() bool {
	m, err := os.ReadFile("/proc/self/uid_map")
	fields := bytes.Fields(m)
	return err == nil && len(fields) > 1 && string(fields[0]) == "0" && string(fields[1]) == "0"
}

// setgroupsAllowed reports whether supplementary groups may be set. A namespace of one id has them as they were.
func setgroupsAllowed() bool {
	m, err := os.ReadFile("/proc/self/setgroups")
	return err != nil || bytes.HasPrefix(m, []byte("allow"))
}
