package snapshot

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// maxLowers is how many directories overlayfs stacks (OVL_MAX_STACK).
const maxLowers = 500

// mountEROFS mounts an index with tars as the devices its extents point into. The mount is detached: it
// lives as long as the descriptor that is returned, or what is stacked on it.
func mountEROFS(index *os.File, tars ...*os.File) (int, error) {
	fc, err := unix.Fsopen("erofs", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("mount erofs: %w", err)
	}
	defer unix.Close(fc)

	// By descriptor, as the files may be renamed to their final names at any moment.
	err = unix.FsconfigSetString(fc, "source", procPath(int(index.Fd())))
	for k := 0; err == nil && k < len(tars); k++ {
		err = unix.FsconfigSetString(fc, "device", procPath(int(tars[k].Fd())))
	}
	if err == nil {
		err = unix.FsconfigSetFlag(fc, "ro")
	}
	if err == nil {
		err = unix.FsconfigCreate(fc)
	}
	if err != nil {
		return -1, fmt.Errorf("mount erofs %s: %w", index.Name(), contextError(fc, err))
	}
	fd, err := unix.Fsmount(fc, unix.FSMOUNT_CLOEXEC, unix.MOUNT_ATTR_RDONLY|unix.MOUNT_ATTR_NODEV)
	if err != nil {
		return -1, fmt.Errorf("mount erofs %s: %w", index.Name(), err)
	}
	return fd, nil
}

// An overlayMount is what overlayfs is to stack. All are descriptors, of directories or of detached mounts.
type overlayMount struct {
	lowers   []int // lowest first, at least one, two if there is no upper
	upper    int   // -1 makes a read-only mount
	work     int
	volatile bool // never sync: a crash throws the upper away
	userns   bool // keep overlayfs's xattrs in user.*, as trusted.* belongs to the initial user namespace
}

// mount returns a detached mount of the stack. What a kernel does not know it calls invalid, so the ways to say the same
// are tried from the newest on.
func (o overlayMount) mount() (int, error) {
	if len(o.lowers) > maxLowers {
		return -1, fmt.Errorf("mount overlay: %d layers, overlayfs stacks at most %d", len(o.lowers), maxLowers)
	}
	fd, err := o.mountBy(o.byDescriptor)
	if !errors.Is(err, unix.EINVAL) {
		return fd, err
	}
	for _, way := range []func() (int, error){func() (int, error) { return o.mountBy(o.byName) }, o.mountJoined} {
		if fd, err := way(); err == nil {
			return fd, nil
		}
	}
	return -1, err
}

// mountBy mounts with directories told in one of the ways.
func (o overlayMount) mountBy(setLayers func(fc int) error) (int, error) {
	fc, err := unix.Fsopen("overlay", unix.FSOPEN_CLOEXEC)
	if err != nil {
		return -1, fmt.Errorf("mount overlay: %w", err)
	}
	defer unix.Close(fc)
	err = setLayers(fc)
	if err == nil {
		err = o.configure(fc)
	}
	if err != nil {
		return -1, fmt.Errorf("mount overlay: %w", contextError(fc, err))
	}
	fd, err := unix.Fsmount(fc, unix.FSMOUNT_CLOEXEC, o.attributes())
	if err != nil {
		return -1, fmt.Errorf("mount overlay: %w", err)
	}
	return fd, nil
}

// attributes of the mount: an image's device nodes are data, never a way to a device of the machine.
func (o overlayMount) attributes() int {
	if o.upper < 0 {
		return unix.MOUNT_ATTR_NODEV | unix.MOUNT_ATTR_RDONLY
	}
	return unix.MOUNT_ATTR_NODEV
}

func (o overlayMount) configure(fc int) error {
	for _, option := range o.options() {
		key, value, isString := strings.Cut(option, "=")
		var err error
		if isString {
			err = unix.FsconfigSetString(fc, key, value)
		} else {
			err = unix.FsconfigSetFlag(fc, key)
		}
		if err != nil {
			return fmt.Errorf("option %s: %w", option, err)
		}
	}
	return unix.FsconfigCreate(fc)
}

// options switches off what would make a layer depend on the layers below it, whatever the machine's defaults are.
func (o overlayMount) options() []string {
	options := []string{"redirect_dir=nofollow", "metacopy=off", "index=off", "xino=off"}
	if o.userns {
		options = append(options, "userxattr")
	}
	if o.volatile && o.upper >= 0 {
		options = append(options, "volatile")
	}
	return options
}

// cloneDir returns a detached mount of a directory, with more attributes if any are given, without what is mounted below it. It has the attributes of any other
// root of ours: what the file system around the store is mounted with (noexec, nosuid) stays away where that can be done.
func cloneDir(dir int, attributes uint64) (int, error) {
	fd, err := unix.OpenTree(dir, "", unix.OPEN_TREE_CLONE|unix.OPEN_TREE_CLOEXEC|unix.AT_EMPTY_PATH)
	if err != nil {
		return -1, fmt.Errorf("clone mount: %w", err)
	}
	attr := unix.MountAttr{Attr_set: unix.MOUNT_ATTR_NODEV | attributes, Attr_clr: unix.MOUNT_ATTR_NOEXEC | unix.MOUNT_ATTR_NOSUID}
	err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr)
	if errors.Is(err, unix.EPERM) { // in a user namespace, where what the outer one has set is locked
		attr.Attr_clr = 0
		err = unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &attr)
	}
	if err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("mount attributes: %w", err)
	}
	return fd, nil
}

// contextError adds what the kernel says about a file system context to the errno it gave.
func contextError(fc int, err error) error {
	var said []string
	buf := make([]byte, 512)
	for len(said) < 8 {
		n, readErr := unix.Read(fc, buf)
		if readErr != nil || n <= 0 {
			break
		}
		said = append(said, strings.TrimSpace(string(buf[:n])))
	}
	if len(said) == 0 {
		return err
	}
	return fmt.Errorf("%w (%s)", err, strings.Join(said, "; "))
}

// procPath names a descriptor of this process for calls that take only paths.
func procPath(fd int) string { return "/proc/self/fd/" + strconv.Itoa(fd) }
