package runtime

import (
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// capabilities are sets of capabilities, bit by bit.
type capabilities struct {
	bounding uint64 // what the container may have
	own      uint64 // what this process has
}

// capabilityNames in the order of their numbers.
func capabilityNames() []string {
	return []string{
		"CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP",
		"LINUX_IMMUTABLE", "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER",
		"SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE",
		"SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP",
		"MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
		"CHECKPOINT_RESTORE",
	}
}

// defaultCapabilities are Docker's.
const defaultCapabilities = 1<<unix.CAP_CHOWN | 1<<unix.CAP_DAC_OVERRIDE | 1<<unix.CAP_FSETID | 1<<unix.CAP_FOWNER |
	1<<unix.CAP_MKNOD | 1<<unix.CAP_NET_RAW | 1<<unix.CAP_SETGID | 1<<unix.CAP_SETUID | 1<<unix.CAP_SETFCAP |
	1<<unix.CAP_SETPCAP | 1<<unix.CAP_NET_BIND_SERVICE | 1<<unix.CAP_SYS_CHROOT | 1<<unix.CAP_KILL |
	1<<unix.CAP_AUDIT_WRITE

// containerCapabilities are those the process gets, and names those asked for that this process has not itself.
func containerCapabilities(sec *Security) (c capabilities, missing []string, err error) {
	names := capabilityNames()
	all := uint64(1)<<len(names) - 1
	if c.own, err = ownCapabilities(); err != nil {
		return c, nil, &SetupError{"capabilities", err}
	}
	c.bounding = defaultCapabilities
	if sec.Privileged {
		c.bounding = all
	}
	add, err := capabilitySet(sec.CapAdd, all)
	if err != nil {
		return c, nil, err
	}
	drop, err := capabilitySet(sec.CapDrop, all)
	if err != nil {
		return c, nil, err
	}
	if drop == all { // as docker: --cap-drop ALL --cap-add X leaves X
		c.bounding, drop = 0, 0
	}
	c.bounding = (c.bounding | add) &^ drop
	for i, name := range names {
		if add&^c.own&(1<<i) != 0 && add != all {
			missing = append(missing, name)
		}
	}
	c.bounding &= c.own
	return c, missing, nil
}

// ownCapabilities are those this process has.
func ownCapabilities() (uint64, error) {
	head := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&head, &data[0]); err != nil {
		return 0, err
	}
	return uint64(data[0].Permitted) | uint64(data[1].Permitted)<<32, nil
}

// hasCapabilities reports whether this process has all of a set.
func hasCapabilities(set uint64) bool {
	own, err := ownCapabilities()
	return err == nil && own&set == set
}

// capabilitySet reads names.
func capabilitySet(list []string, all uint64) (set uint64, err error) {
	names := capabilityNames()
next:
	for _, s := range list {
		name := strings.TrimPrefix(strings.ToUpper(s), "CAP_")
		if name == "ALL" {
			set |= all
			continue
		}
		for i, n := range names {
			if n == name {
				set |= 1 << i
				continue next
			}
		}
		return 0, &SetupError{"capabilities", fmt.Errorf("there is no capability %q", s)}
	}
	return set, nil
}
