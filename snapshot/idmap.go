package snapshot

import (
	"bufio"
	"fmt"
	"os"
)

// An idMap tells which user and group IDs this process's user namespace can express. Files of an image may belong to
// others: they are unpacked as root's, and a Draft's Commit takes the owner of such a file from below.
type idMap struct{ users, groups []idRange }

type idRange struct{ first, count uint32 }

// rights are what this process may do, as far as it makes a difference to how files are kept.
type rights struct {
	userns bool // in a user namespace of its own
	ids    idMap
}

func readRights() rights {
	if !inUserNamespace() {
		all := []idRange{{0, 1<<32 - 1}}
		return rights{ids: idMap{all, all}}
	}
	return rights{true, idMap{users: readRanges("/proc/self/uid_map"), groups: readRanges("/proc/self/gid_map")}}
}

// overlayPrefix begins the names of overlayfs's own attributes.
func (r rights) overlayPrefix() string {
	if r.userns {
		return "user.overlay."
	}
	return "trusted.overlay."
}

// inUserNamespace reports whether this process is in a user namespace other than the first one, whose inode number is part
// of the kernel's interface (PROC_USER_INIT_INO).
func inUserNamespace() bool {
	target, err := os.Readlink("/proc/self/ns/user")
	return err == nil && target != "user:[4026531837]"
}

// readRanges reads the first and third column. A file that cannot be read restricts nothing: chown will tell.
func readRanges(path string) []idRange {
	all := []idRange{{0, 1<<32 - 1}}
	f, err := os.Open(path)
	if err != nil {
		return all
	}
	defer f.Close()
	var ranges []idRange
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var r idRange
		var outside uint32
		if _, err := fmt.Sscan(lines.Text(), &r.first, &outside, &r.count); err != nil {
			return all
		}
		ranges = append(ranges, r)
	}
	return ranges
}

func contains(ranges []idRange, id uint32) bool {
	for _, r := range ranges {
		if id >= r.first && id-r.first < r.count {
			return true
		}
	}
	return false
}

// owner returns the IDs as a file can have them here.
func (m idMap) owner(e *Entry) (uid, gid int) {
	if contains(m.users, e.UID) {
		uid = int(e.UID)
	}
	if contains(m.groups, e.GID) {
		gid = int(e.GID)
	}
	return uid, gid
}

// restore gives e, a file of a draft, the IDs of what lies below it where those cannot be expressed here and root's stand
// for them.
func (m idMap) restore(e, below *Entry) {
	if e.UID == 0 && !contains(m.users, below.UID) {
		e.UID = below.UID
	}
	if e.GID == 0 && !contains(m.groups, below.GID) {
		e.GID = below.GID
	}
}
