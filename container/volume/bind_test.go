package volume

import (
	"testing"

	"golang.org/x/sys/unix"
)

// TestAttributes: a directory is mounted with what mount(8) would mount it with.
func TestAttributes(t *testing.T) {
	t.Parallel()
	const atime = unix.MOUNT_ATTR__ATIME
	for o, want := range map[string][2]uint64{
		"bind": {}, "bind,ro": {}, "noexec": {}, "bind,noexec,exec": {},
		"bind,nosuid,noexec,nodev": {unix.MOUNT_ATTR_NOSUID | unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NODEV, 0},
		"bind,nodiratime":          {unix.MOUNT_ATTR_NODIRATIME, 0},
		"bind,nosymfollow":         {unix.MOUNT_ATTR_NOSYMFOLLOW, 0},
		"bind,noatime":             {unix.MOUNT_ATTR_NOATIME, atime},
		"bind,relatime":            {0, atime},
		"bind,noatime,strictatime": {unix.MOUNT_ATTR_STRICTATIME, atime},
	} {
		r := Record{Options: map[string]string{"type": "none", "o": o, "device": "/srv"}}
		if set, clear := r.Attributes(); set != want[0] || clear != want[1] {
			t.Errorf("o=%s: %x %x, want %x", o, set, clear, want)
		}
	}
}
