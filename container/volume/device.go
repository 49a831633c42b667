package volume

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// CheckOptions refuses what docker's driver local refuses, in its words.
func CheckOptions(options map[string]string) error {
	for _, key := range slices.Sorted(maps.Keys(options)) {
		if !slices.Contains([]string{"type", "o", "device", "size"}, key) {
			return fmt.Errorf("invalid option: %q", key)
		}
	}
	if size, ok := options["size"]; ok { // which docker takes where its directory is on XFS with quotas
		return errors.New("quota size requested but no quota support: give a device of that size, or a tmpfs with o=size=" + size)
	}
	kind, device := options["type"], options["device"]
	switch {
	case kind == "" && device == "" && options["o"] == "":
		return nil
	case device == "":
		return errors.New(`missing required option: "device"`)
	case isBind(options) && !filepath.IsAbs(device):
		return fmt.Errorf("device %q: must be an absolute path", device)
	case kind == "" && !isBind(options): // docker asks for it in any case
		return errors.New(`missing required option: "type"`)
	case kind == "cifs":
		u, err := url.Parse(device)
		if err != nil {
			return fmt.Errorf("error parsing mount device url: %w", err)
		}
		if u.Port() != "" {
			return errors.New("port not allowed in CIFS device URL, include 'port' in 'o='")
		}
	}
	if isBind(options) {
		if err := checkBind(options["o"]); err != nil {
			return err
		}
	}
	_, err := parseMount(options)
	return err
}

// IsDevice reports whether the volume is a file system that is mounted while somebody uses it, and no directory.
func (r *Record) IsDevice() bool { return r.Options["device"] != "" && !isBind(r.Options) }

// Forgets reports whether the volume is empty again when nobody uses it any more.
func (r *Record) Forgets() bool { return r.IsDevice() && r.Options["type"] == "tmpfs" }

// A mountCall is what mount(2) is called with.
type mountCall struct {
	device, kind, data string
	flags, propagation uintptr
}

// mountFlags are the words of mount(8) that are flags of mount(2). Those that begin with "!" clear one.
func mountFlags() map[string]uintptr {
	return map[string]uintptr{
		"ro": unix.MS_RDONLY, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "noexec": unix.MS_NOEXEC, "sync": unix.MS_SYNCHRONOUS,
		"dirsync": unix.MS_DIRSYNC, "mand": unix.MS_MANDLOCK, "noatime": unix.MS_NOATIME, "nodiratime": unix.MS_NODIRATIME,
		"relatime": unix.MS_RELATIME, "strictatime": unix.MS_STRICTATIME, "nosymfollow": unix.MS_NOSYMFOLLOW, "defaults": 0,
		"!rw": unix.MS_RDONLY, "!suid": unix.MS_NOSUID, "!dev": unix.MS_NODEV, "!exec": unix.MS_NOEXEC, "!async": unix.MS_SYNCHRONOUS,
		"!nomand": unix.MS_MANDLOCK, "!atime": unix.MS_NOATIME, "!diratime": unix.MS_NODIRATIME, "!norelatime": unix.MS_RELATIME,
		"!nostrictatime": unix.MS_STRICTATIME, "!symfollow": unix.MS_NOSYMFOLLOW,
	}
}

// propagations are the words of mount(8) that say how mounts spread.
func propagations() map[string]uintptr {
	return map[string]uintptr{
		"private": unix.MS_PRIVATE, "shared": unix.MS_SHARED, "slave": unix.MS_SLAVE, "unbindable": unix.MS_UNBINDABLE,
		"rprivate": unix.MS_PRIVATE | unix.MS_REC, "rshared": unix.MS_SHARED | unix.MS_REC, "rslave": unix.MS_SLAVE | unix.MS_REC,
		"runbindable": unix.MS_UNBINDABLE | unix.MS_REC,
	}
}

// parseMount reads what is to be mounted. Of o, what is no flag is left to the file system.
func parseMount(options map[string]string) (mountCall, error) {
	m := mountCall{device: options["device"], kind: options["type"]}
	flags, propagation := mountFlags(), propagations()
	var data []string
	for o := range strings.SplitSeq(options["o"], ",") {
		if set, ok := flags[o]; ok {
			m.flags |= set
		} else if clear, ok := flags["!"+o]; ok {
			m.flags &^= clear
		} else if p, ok := propagation[o]; ok {
			m.propagation |= p
		} else if o != "" {
			data = append(data, o)
		}
	}
	m.data = strings.Join(data, ",")
	if len(m.data) >= os.Getpagesize() { // of which the kernel would take the beginning
		return m, fmt.Errorf("mount options of %d bytes: there can be %d at most", len(m.data), os.Getpagesize()-1)
	}
	return m, nil
}

// do mounts it at a path.
func (m mountCall) do(ctx context.Context, path string) error {
	if err := m.resolve(ctx); err != nil {
		return err
	}
	err := unix.Mount(m.device, path, m.kind, m.flags, m.data)
	if err == nil && m.propagation != 0 {
		if err = unix.Mount("", path, "", m.propagation, ""); err != nil {
			err = errors.Join(err, unix.Unmount(path, unix.MNT_DETACH))
		}
	}
	if err == nil {
		return nil
	}
	said := "mount " + m.device + ":" + path
	if m.flags != 0 {
		said += fmt.Sprintf(", flags: 0x%x", m.flags)
	}
	if m.data != "" {
		said += ", data: " + m.shownData()
	}
	err = fmt.Errorf("failed to mount local volume: %s: %w", said, err)
	switch {
	case errors.Is(err, unix.EPERM) && os.Getuid() != 0 || errors.Is(err, unix.EPERM) && m.kind != "tmpfs":
		err = fmt.Errorf("%w; only root can mount a %s: mount it as root and give its directory to -v", err, m.kind)
	case errors.Is(err, unix.ENODEV):
		err = fmt.Errorf("%w; the kernel has no file system %q: cat /proc/filesystems", err, m.kind)
	}
	return err
}

// shownData are the options as errors show them: without passwords.
func (m mountCall) shownData() string {
	list := strings.Split(m.data, ",")
	for i, o := range list {
		if name, _, ok := strings.Cut(o, "="); ok && strings.HasPrefix(strings.ToLower(name), "pass") {
			list[i] = name + "=********" // as docker writes it
		}
	}
	return strings.Join(list, ",")
}

// resolve finds the addresses of servers, which the kernel does not ask for.
func (m *mountCall) resolve(ctx context.Context) error {
	lookup := func(host string) (string, error) {
		found, err := net.DefaultResolver.LookupIPAddr(ctx, host)
		if err != nil {
			return "", fmt.Errorf("error resolving passed in network volume address: %w", err)
		}
		return found[0].String(), nil
	}
	switch m.kind {
	case "nfs", "nfs4", "cifs":
		list := strings.Split(m.data, ",")
		for i, o := range list {
			host, ok := strings.CutPrefix(o, "addr=")
			if !ok || net.ParseIP(host) != nil {
				continue
			}
			ip, err := lookup(host)
			if err != nil {
				return err
			}
			list[i] = "addr=" + ip
			m.data = strings.Join(list, ",")
			return nil
		}
	}
	if u, err := url.Parse(m.device); m.kind == "cifs" && err == nil && u.Host != "" && net.ParseIP(u.Host) == nil {
		ip, err := lookup(u.Host)
		if err != nil {
			return err
		}
		m.device = strings.Replace(m.device, "//"+u.Host, "//"+ip, 1)
	}
	return nil
}

// isMounted reports whether something is mounted at a path.
func isMounted(path string) (bool, error) {
	var st unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, path, unix.AT_SYMLINK_NOFOLLOW|unix.AT_NO_AUTOMOUNT, 0, &st)
	if errors.Is(err, unix.ESTALE) || errors.Is(err, unix.EIO) || errors.Is(err, unix.EHOSTDOWN) || errors.Is(err, unix.ENOTCONN) {
		return true, nil // its server is gone
	}
	if err != nil {
		return false, &fs.PathError{Op: "statx", Path: path, Err: err}
	}
	return st.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, nil
}

// mountLocked mounts the file system of a volume at the place of its files, unless it is.
func (s *Store) mountLocked(ctx context.Context, r *Record) error {
	path := s.DataPath(r.Name)
	mounted, err := isMounted(path)
	if err != nil || mounted {
		return err
	}
	m, err := parseMount(r.Options)
	if err != nil {
		return err
	}
	if err := m.do(ctx, path); err != nil {
		return fmt.Errorf("error while mounting volume '%s': %w", path, err)
	}
	return nil
}

// errBusy is docker's for a volume that somebody uses.
var errBusy = errors.New("volume has active mounts")

// unmountLocked takes away what is mounted at the place of a volume's files. It fails with errBusy if somebody has it open.
func (s *Store) unmountLocked(name string) error {
	path := s.DataPath(name)
	for {
		mounted, err := isMounted(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil || !mounted {
			return err
		}
		err = unix.Unmount(path, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EBUSY) {
			return errBusy
		}
		if err != nil {
			return &fs.PathError{Op: "umount", Path: path, Err: err}
		}
	}
}

// openDevice opens the root of the file system that a volume is, which stays mounted while the file is open.
func (s *Store) openDevice(ctx context.Context, r *Record) (_ *os.File, err error) {
	lock, err := s.Lock(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	if err := s.mountLocked(ctx, r); err != nil {
		return nil, err
	}
	return openDir(s.DataPath(r.Name), unix.O_NOFOLLOW)
}

// Release unmounts what is mounted for a volume, if nobody has it open any more: neither what [Store.OpenData] has returned, nor a file in
// it. Whoever has closed what OpenData returned calls it.
func (s *Store) Release(ctx context.Context, name string) error {
	return s.release(name, func() (*os.File, error) { return s.Lock(ctx, name) })
}

func (s *Store) release(name string, lock func() (*os.File, error)) error {
	r, err := s.Record(name)
	if err != nil || !r.IsDevice() {
		return nil //nolint:nilerr // then nothing is mounted, or nobody can say what
	}
	held, err := lock()
	if gone := (*NotFoundError)(nil); errors.As(err, &gone) {
		return nil
	}
	if err != nil {
		return err
	}
	if err = s.unmountLocked(name); errors.Is(err, errBusy) {
		err = nil
	}
	return errors.Join(err, held.Close())
}
