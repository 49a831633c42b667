package volume

import (
	"fmt"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// isBind reports whether options name a directory of this machine.
func isBind(options map[string]string) bool {
	return slices.ContainsFunc(strings.Split(options["o"], ","), func(o string) bool { return o == "bind" || o == "rbind" })
}

// checkBind refuses words of o=bind that a directory cannot be mounted with: the kernel would ignore them.
func checkBind(o string) error {
	flags := mountFlags()
	for word := range strings.SplitSeq(o, ",") {
		_, clears := flags["!"+word]
		_, spreads := propagations()[word]
		flag, sets := flags[word]
		switch {
		case flag&(unix.MS_SYNCHRONOUS|unix.MS_DIRSYNC|unix.MS_MANDLOCK) != 0:
			return fmt.Errorf("o=%s: %s is an option of a whole file system: set it where the one is mounted that the directory lies in", o, word)
		case sets, clears, spreads, isForMount(word):
		default:
			return fmt.Errorf("o=%s: a directory cannot be mounted with the option %q: leave it out", o, word)
		}
	}
	return nil
}

// isForMount reports whether a word of o=bind is for mount(8) alone, which it tells when to mount, and no option of the mount.
func isForMount(word string) bool {
	return slices.Contains([]string{"", "bind", "rbind", "auto", "noauto", "nofail", "_netdev"}, word) || strings.HasPrefix(word, "x-") || strings.HasPrefix(word, "comment=")
}

// bound are the flags of mount(2) that a directory of this machine is mounted with; 0 if the volume is none.
func (r *Record) bound() uintptr {
	m, err := parseMount(r.Options)
	if err != nil || !isBind(r.Options) {
		return 0
	}
	return m.flags
}

// ReadOnly reports whether the volume is a directory of this machine in which containers may not write, as o=bind,ro says. A file system is
// mounted as its options say.
func (r *Record) ReadOnly() bool { return r.bound()&unix.MS_RDONLY != 0 }

// Attributes are what mount_setattr(2) sets and clears where a directory of this machine is mounted, beside that it is read-only: what the other
// flags of o=bind ask for. A file system is mounted as its options say.
func (r *Record) Attributes() (set, clear uint64) {
	flags := r.bound()
	for _, f := range []struct {
		flag uintptr
		set  uint64
	}{
		{unix.MS_NOSUID, unix.MOUNT_ATTR_NOSUID},
		{unix.MS_NODEV, unix.MOUNT_ATTR_NODEV},
		{unix.MS_NOEXEC, unix.MOUNT_ATTR_NOEXEC},
		{unix.MS_NODIRATIME, unix.MOUNT_ATTR_NODIRATIME},
		{unix.MS_NOSYMFOLLOW, unix.MOUNT_ATTR_NOSYMFOLLOW},
	} {
		if flags&f.flag != 0 {
			set |= f.set
		}
	}
	// Of these a mount has one. The order is that of mount(2).
	switch {
	case flags&unix.MS_STRICTATIME != 0:
		return set | unix.MOUNT_ATTR_STRICTATIME, unix.MOUNT_ATTR__ATIME
	case flags&unix.MS_NOATIME != 0:
		return set | unix.MOUNT_ATTR_NOATIME, unix.MOUNT_ATTR__ATIME
	case flags&unix.MS_RELATIME != 0:
		return set, unix.MOUNT_ATTR__ATIME
	}
	return set, 0
}
