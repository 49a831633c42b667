package snapshot

import (
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// setLayers hands each directory of the stack on, the topmost lower one first, as overlayfs wants it.
func (o overlayMount) setLayers(hand func(key string, dir int) error) error {
	for i := len(o.lowers) - 1; i >= 0; i-- {
		if err := hand("lowerdir+", o.lowers[i]); err != nil {
			return fmt.Errorf("lowerdir: %w", err)
		}
	}
	if o.upper < 0 {
		return nil
	}
	if err := hand("upperdir", o.upper); err != nil {
		return fmt.Errorf("upperdir: %w", err)
	}
	if err := hand("workdir", o.work); err != nil {
		return fmt.Errorf("workdir: %w", err)
	}
	return nil
}

// byDescriptor is for Linux 6.13 and later.
func (o overlayMount) byDescriptor(fc int) error {
	return o.setLayers(func(key string, dir int) error { return unix.FsconfigSetFd(fc, key, dir) })
}

// byName is for Linux 6.5 and later.
func (o overlayMount) byName(fc int) error {
	return o.setLayers(func(key string, dir int) error { return unix.FsconfigSetString(fc, key, procPath(dir)) })
}

// joined is for older kernels. They take all lower directories in one string, of 255 bytes at most: enough for some 60,
// if they are called by their numbers and the calling thread stands in /proc/self/fd.
func (o overlayMount) joined(fc int) error {
	var lowers []string
	return o.setLayers(func(key string, dir int) error {
		if key == "lowerdir+" {
			if lowers = append(lowers, strconv.Itoa(dir)); len(lowers) < len(o.lowers) {
				return nil
			}
			return unix.FsconfigSetString(fc, "lowerdir", strings.Join(lowers, ":"))
		}
		return unix.FsconfigSetString(fc, key, strconv.Itoa(dir))
	})
}

// mountJoined mounts on a thread that has a working directory of its own, and ends with it.
func (o overlayMount) mountJoined() (fd int, err error) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // and never unlocked
		if err = os.NewSyscallError("unshare", unix.Unshare(unix.CLONE_FS)); err != nil {
			return
		}
		if err = os.NewSyscallError("chdir", unix.Chdir("/proc/self/fd")); err != nil {
			return
		}
		fd, err = o.mountBy(o.joined)
	}()
	<-done
	return fd, err
}
