package runtime

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// Privileges say who this process is to the kernel, for people: root, root without what containers need, root of a user namespace,
// or none of these.
func Privileges() (rootless bool, why string) {
	if uid := os.Geteuid(); uid != 0 {
		return true, fmt.Sprintf("user %d without a user namespace: builds without RUN work, containers do not", uid)
	}
	if rootless, why := Rootless(); rootless {
		return true, why
	}
	if !hasCapabilities(1 << unix.CAP_SYS_ADMIN) {
		return false, "root without the capability SYS_ADMIN: containers do not work, RUN only by chroot"
	}
	return false, "root of this machine"
}

// Rootless reports whether this process is root of a user namespace only, and what that is like.
func Rootless() (rootless bool, why string) {
	if !inUserNamespace() {
		return false, ""
	}
	m, _ := os.ReadFile("/proc/self/uid_map")
	lines := bytes.Split(bytes.TrimSpace(m), []byte("\n"))
	first := bytes.Fields(lines[0])
	if len(first) != 3 {
		return true, "user namespace without ids"
	}
	if RootOutside() {
		return true, "user namespace with the ids of the one around it: root lacks CAP_SYS_ADMIN or CAP_NET_ADMIN"
	}
	if reason, one := OneID(); one {
		return true, "user namespace with one id: " + reason
	}
	return true, "user namespace with the ids of /etc/subuid"
}

// OneID reports whether this process is in a user namespace of a single ID, and why it has no more.
func OneID() (reason string, one bool) {
	if !inUserNamespace() {
		return "", false
	}
	m, _ := os.ReadFile("/proc/self/uid_map")
	fields := strings.Fields(string(m))
	if len(fields) != 3 || fields[2] != "1" {
		return "", false
	}
	uid, _ := strconv.Atoi(fields[1])
	if ranges, err := subordinateIDs("/etc/subuid", uid); err != nil || len(ranges) == 0 {
		return fmt.Sprintf("/etc/subuid has no range for user %d", uid), true
	}
	if _, err := exec.LookPath("newuidmap"); err != nil {
		return "newuidmap is not installed", true
	}
	return "newuidmap failed", true
}
