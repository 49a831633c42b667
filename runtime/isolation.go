package runtime

import (
	"errors"
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// An Isolation is how the surroundings of a process are made.
type Isolation string

const (
	// ByNamespaces gives a process its own of all that the kernel has namespaces for. It is what "" means.
	ByNamespaces Isolation = "namespaces"
	// ByChroot gives it a root directory, and what can be put into that: see docs/security.md.
	ByChroot Isolation = "chroot"
)

// FindIsolation is how processes are isolated here if the caller wishes "auto", "namespaces" or "chroot", and why so. Auto is
// chroot only where namespaces cannot be made and this process is in a container already. An error says what keeps it from the
// wish, and which settings would change that.
func FindIsolation(wish Isolation) (found Isolation, why string, err error) {
	switch wish {
	case "auto", ByNamespaces:
	case ByChroot:
		return ByChroot, "asked for", chrootMissing()
	default:
		return "", "", fmt.Errorf("isolation %q: must be auto, namespaces or chroot", wish)
	}
	proc, err := probeNamespaces()
	if err == nil {
		why = "root of this machine"
		if rootless, userns := Rootless(); rootless {
			why = userns
		}
		return ByNamespaces, why + proc, nil
	}
	refused := fmt.Errorf("namespaces cannot be made here: %w%s", err, settings())
	if wish == ByNamespaces || !InContainer() {
		return "", "", refused
	}
	if missing := chrootMissing(); missing != nil {
		return "", "", fmt.Errorf("%w; nor can it be done by chroot: %w", refused, missing)
	}
	return ByChroot, "in a container where namespaces cannot be made: " + err.Error(), nil
}

// probeNamespaces makes what a container has: namespaces and mounts. It says, in words behind a comma, whether there is no fresh
// procfs.
func probeNamespaces() (proc string, err error) {
	const outer = 200 // no error number
	p := &program{}
	p.privateMounts()
	mount := p.newMount("tmpfs", noSuidExec)
	p.attributes(mount, unix.MOUNT_ATTR_NODEV)
	p.call(unix.SYS_CLOSE, mount)
	p.newMount("proc", noSuidExec)
	refused := p.ops[len(p.ops)-2]
	if InContainer() {
		refused.allow(errnos(unix.EPERM))
	}
	p.call(unix.SYS_EXIT_GROUP, num(0))
	p.endSkip(refused)
	p.call(unix.SYS_EXIT_GROUP, num(outer))
	tail := len(p.ops)
	p.call(unix.SYS_EXIT_GROUP, arg{n: headerErr, part: inHeader, content: true})
	const all = unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS | unix.CLONE_NEWNET | unix.CLONE_NEWCGROUP
	pid, err := p.spawn(tail, nil, all)
	if err != nil {
		return "", fmt.Errorf("clone: %w", err)
	}
	switch status, err := childStatus(pid); {
	case err != nil:
		return "", os.NewSyscallError("wait4", err)
	case status == outer:
		return ", with the /proc of the container around, which hides parts of it", nil
	case unix.Errno(status) == unix.ENOSYS:
		return "", fmt.Errorf("mount: %w: it takes system calls that Linux has since 5.12, and gVisor has not all of", unix.ENOSYS)
	case status != 0:
		return "", fmt.Errorf("mount: %w", unix.Errno(status))
	}
	return "", nil
}

// chrootMissing says what keeps this process from isolating others by chroot.
func chrootMissing() error {
	var names []string
	for _, c := range []uint{unix.CAP_SYS_CHROOT, unix.CAP_CHOWN, unix.CAP_DAC_OVERRIDE, unix.CAP_FOWNER, unix.CAP_SETUID, unix.CAP_SETGID} {
		if !hasCapabilities(1 << c) {
			names = append(names, capabilityNames()[c])
		}
	}
	if os.Geteuid() != 0 {
		return errors.New("only root can: start the container as root (docker run --user 0; securityContext.runAsUser: 0)")
	}
	if len(names) > 0 {
		list := strings.Join(names, ", ")
		return fmt.Errorf("it takes capabilities that this process lacks: %s (docker run --cap-add; securityContext.capabilities.add: [%s])", list, list)
	}
	return nil
}

// InContainer reports whether this process is in a container: in a pid namespace that is not the machine's first, whose inode
// number is part of the kernel's interface (PROC_PID_INIT_INO), or where the environment says so. Files such as /.dockerenv say
// nothing: virtual machines are made of images, too.
func InContainer() bool {
	if target, err := os.Readlink("/proc/self/ns/pid"); err == nil && target != "pid:[4026531836]" {
		return true
	}
	return os.Getenv("container") != "" || os.Getenv("KUBERNETES_SERVICE_HOST") != ""
}

// settings names, in words behind a semicolon, what would let this process make namespaces; "" if nothing is known.
func settings() string {
	var list []string
	for _, sysctl := range []struct{ name, bad string }{
		{"user.max_user_namespaces", "0"}, {"kernel.unprivileged_userns_clone", "0"}, {"kernel.apparmor_restrict_unprivileged_userns", "1"},
	} {
		b, err := os.ReadFile("/proc/sys/" + strings.ReplaceAll(sysctl.name, ".", "/"))
		if err == nil && strings.TrimSpace(string(b)) == sysctl.bad {
			list = append(list, "the machine's sysctl "+sysctl.name+" is "+sysctl.bad)
		}
	}
	status, _ := os.ReadFile("/proc/self/status")
	if strings.Contains(string(status), "\nSeccomp:\t2") {
		list = append(list, "a seccomp profile is in force: docker run --security-opt seccomp=unconfined, or securityContext.seccompProfile.type: Unconfined")
	}
	if profile, _ := os.ReadFile("/proc/self/attr/current"); strings.Contains(string(profile), "(enforce)") {
		name, _, _ := strings.Cut(string(profile), " ")
		list = append(list, "the AppArmor profile "+name+" is in force: docker run --security-opt apparmor=unconfined, or securityContext.appArmorProfile.type: Unconfined")
	}
	if len(list) == 0 {
		return ""
	}
	return "; " + strings.Join(list, "; ")
}
