package runtime

import (
	"errors"
	"os"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Processes of one user share a user namespace as long as one of them lives: a process may do nothing to a container in
// another. Who is in it holds a lock of a byte of a file, for life. It is a lock of fcntl(2): the kernel tells the number of who holds
// one, and a process keeps it when it executes another program. It would lose it by closing the file, even if it has
// opened that a second time: so nobody closes it.
const (
	memberByte = 0 // locked by all who are in the namespace
	chooseByte = 1 // locked by who is about to enter: shared with others who enter the same, or alone
)

const (
	// usernsMembers is the variable by which the interpreter passes on the number of the descriptor.
	usernsMembers = "FORGE_USERNS_MEMBERS"
	// usernsAlone is the variable by which it says that the members' namespace cannot be entered.
	usernsAlone = "FORGE_USERNS_ALONE"
)

// chooseTime is how long others may take to enter: longer than newuidmap takes that asks a server.
const chooseTime = 10 * time.Second

// BecomeMember has later commands enter the user namespace of this process as long as it lives. members is the file that
// [EnterUserNamespace] was given; a process that has called that, or whose parent has, is to call it itself. The
// descriptor stays open; this program may hand it to another that it executes in its own place, but must not open members again.
func BecomeMember(members string) (fd int, err error) {
	fd, err = openMembers(members)
	if err == nil {
		err = setLock(fd, unix.F_RDLCK, memberByte)
	}
	if err != nil {
		return -1, &os.PathError{Op: "lock", Path: members, Err: err}
	}
	return fd, nil
}

func openMembers(path string) (int, error) {
	return unix.Open(path, unix.O_RDWR|unix.O_CREAT|unix.O_CLOEXEC|unix.O_NOFOLLOW, 0o600)
}

func setLock(fd int, kind int16, at int64) error {
	return unix.FcntlFlock(uintptr(fd), unix.F_SETLK, &unix.Flock_t{Type: kind, Start: at, Len: 1})
}

// keepMembership notes what the interpreter has passed on: this process is a member already.
func keepMembership() {
	text, ok := os.LookupEnv(usernsMembers)
	if !ok {
		return
	}
	os.Unsetenv(usernsMembers)
	if fd, err := strconv.Atoi(text); err == nil {
		unix.CloseOnExec(fd)
	}
}

// chooseNamespace finds a process whose user namespace this one is to enter; nil if it is to make one. Until it has, nobody else
// makes one.
func chooseNamespace(fd int) (pidfd *os.File, err error) {
	for end := time.Now().Add(chooseTime); ; time.Sleep(time.Millisecond) {
		// The second waits for all who are entering, the first only for who makes one.
		for _, kind := range []int16{unix.F_RDLCK, unix.F_WRLCK} {
			err := setLock(fd, kind, chooseByte)
			if err != nil {
				if busy := errors.Is(err, unix.EAGAIN) || errors.Is(err, unix.EACCES); !busy || time.Now().After(end) {
					return nil, err
				}
				continue
			}
			if pidfd, err = member(fd); pidfd != nil || err != nil || kind == unix.F_WRLCK {
				return pidfd, err
			}
			if err := setLock(fd, unix.F_UNLCK, chooseByte); err != nil {
				return nil, err
			}
		}
	}
}

// member opens a process that is in the namespace.
func member(fd int) (*os.File, error) {
	holder := func() (int, error) {
		l := unix.Flock_t{Type: unix.F_WRLCK, Start: memberByte, Len: 1}
		err := unix.FcntlFlock(uintptr(fd), unix.F_GETLK, &l)
		if err != nil || l.Type == unix.F_UNLCK {
			return 0, err
		}
		return int(l.Pid), nil
	}
	for {
		pid, err := holder()
		if err != nil || pid <= 0 { // 0 is one in another pid namespace
			return nil, err
		}
		pidfd, err := unix.PidfdOpen(pid, 0)
		// Who holds the lock still has had that number when it was opened.
		if again, holderErr := holder(); err == nil && holderErr == nil && again == pid {
			return os.NewFile(uintptr(pidfd), "member"), nil
		}
		if err == nil {
			err = unix.Close(pidfd)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return nil, err
		}
	}
}

// joinMember executes the interpreter, to enter a member's user namespace and a mount namespace of its own, and execute the program
// again. It returns only if it cannot.
func joinMember(self string, members int, pidfd *os.File) error {
	p := &program{}
	p.call(unix.SYS_SETNS, num(pidfd.Fd()), num(unix.CLONE_NEWUSER))
	p.call(unix.SYS_UNSHARE, num(unix.CLONE_NEWNS))
	p.privateMounts()
	p.call(unix.SYS_CLOSE, num(pidfd.Fd())).allow(anyError)
	p.becomeMember(members)
	p.execAgain(self, p.strs(membersEnv(members)))
	tail := len(p.ops)
	p.call(unix.SYS_CLOSE, num(pidfd.Fd())).allow(anyError)
	p.call(unix.SYS_CLOSE, num(members)).allow(anyError)
	env := p.strs(os.Environ())
	ended := p.skipIf(arg{n: headerErr, part: inHeader, content: true}, num(unix.ESRCH))
	p.execAgain(self, append(env, p.str(usernsAlone+"=1")))
	p.endSkip(ended)
	p.execAgain(self, env) // to look for another
	return p.become(tail, members, int(pidfd.Fd()))
}

// becomeMember locks the byte of members, and lets others choose.
func (p *program) becomeMember(members int) {
	flock := func(kind, at uint64) arg { return p.words(kind, at, 1, 0) }
	// The kernel lets nobody enter the namespace of a process that has just got more rights, before that executes a program.
	p.call(unix.SYS_PRCTL, num(unix.PR_SET_DUMPABLE), num(1)).allow(anyError)
	p.call(unix.SYS_FCNTL, num(members), num(unix.F_SETLK), flock(unix.F_RDLCK, memberByte)).allow(anyError)
	p.call(unix.SYS_FCNTL, num(members), num(unix.F_SETLK), flock(unix.F_UNLCK, chooseByte)).allow(anyError)
}

func membersEnv(members int) []string {
	return append(os.Environ(), usernsMembers+"="+strconv.Itoa(members))
}

// execAgain executes this program again.
func (p *program) execAgain(self string, env []arg) {
	p.call(unix.SYS_EXECVE, p.str(self), p.pointers(p.strs(os.Args)), p.pointers(env)).allow(anyError)
	p.call(unix.SYS_EXIT_GROUP, num(126))
}

// become executes the interpreter in the place of this program. Some descriptors stay open. It returns only if it cannot.
func (p *program) become(tail int, keep ...int) error {
	file, err := p.executable(tail)
	if err != nil {
		return err
	}
	defer file.Close()
	for _, fd := range keep {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, 0); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
	}
	return os.NewSyscallError("execve", syscall.Exec("/proc/self/fd/"+strconv.Itoa(int(file.Fd())), []string{"forge"}, nil))
}
