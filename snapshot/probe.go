package snapshot

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/snapshot/erofs"
	"github.com/forge-build/forge/snapshot/layertar"
)

// Kind is how layers are stacked, and why. The first call probes, unless Open was told, or an earlier process on the same
// kernel and with the same rights has written down what it found.
func (s *Store) Kind() (Kind, string) {
	s.probed.Do(func() {
		key := s.probeKey()
		if s.kind, s.why = s.readProbe(key); s.kind != "" {
			return
		}
		s.kind, s.why = s.probe()
		// A probe that cannot be written down is made again the next time.
		_ = s.writeProbe(key)
	})
	return s.kind, s.why
}

// probe tries what each kind needs.
func (s *Store) probe() (Kind, string) {
	dir, err := s.session.newDir(s.drafts())
	if err != nil {
		return Copy, err.Error()
	}
	defer s.reaper.do(func() error { return removeTree(dir) })

	overlayErr := s.probeOverlay(dir)
	if overlayErr != nil {
		return Copy, "overlayfs cannot be mounted: " + overlayErr.Error()
	}
	if erofsErr := s.probeEROFS(dir); erofsErr != nil {
		return Overlay, "EROFS cannot be mounted from files: " + erofsErr.Error()
	}
	return EROFS, "EROFS can be mounted from files and stacked by overlayfs"
}

// probeOverlay stacks two directories and deletes a file of the lower one, which needs the right to make whiteouts.
func (s *Store) probeOverlay(dir string) error {
	lower, upper, work := filepath.Join(dir, "lower"), filepath.Join(dir, "upper"), filepath.Join(dir, "work")
	for _, d := range []string{lower, upper, work} {
		if err := os.Mkdir(d, 0o755); err != nil {
			return err
		}
	}
	if err := os.WriteFile(filepath.Join(lower, "file"), nil, 0o644); err != nil {
		return err
	}
	dirs, err := openDirectories(lower, upper, work)
	if err != nil {
		return err
	}
	defer closeAll(dirs)
	o := overlayMount{lowers: []int{int(dirs[0].Fd())}, upper: int(dirs[1].Fd()), work: int(dirs[2].Fd())}
	o.userns, o.volatile = s.rights().userns, true
	fd, err := o.mount()
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.Unlinkat(fd, "file", 0); err != nil {
		return fmt.Errorf("whiteout: %w", err)
	}
	return nil
}

// probeEROFS mounts an image that is nothing but a root directory, with an empty file as the device, below an overlay.
func (s *Store) probeEROFS(dir string) error {
	if s.rights().userns {
		return errors.New("not in a user namespace")
	}
	index, err := os.Create(filepath.Join(dir, "index"))
	if err != nil {
		return err
	}
	defer index.Close()
	tar, err := os.Create(filepath.Join(dir, "tar"))
	if err != nil {
		return err
	}
	defer tar.Close()
	var none [2 * layertar.Block]byte
	if _, err := tar.Write(none[:]); err != nil {
		return err
	}
	if err := erofs.NewBuilder(nil).Encode(index, erofs.Tar{DiffID: sha256.Sum256(none[:]), Size: int64(len(none))}); err != nil {
		return err
	}
	layer, err := mountEROFS(index, tar)
	if err != nil {
		return err
	}
	defer unix.Close(layer)
	other, err := openDirectory(dir)
	if err != nil {
		return err
	}
	defer other.Close()
	o := overlayMount{lowers: []int{int(other.Fd()), layer}, upper: -1}
	fd, err := o.mount()
	if err != nil {
		return err
	}
	return closeFD(fd)
}

// probeKey tells apart what can make a probe come out differently: the kernel, and what this process may do.
func (s *Store) probeKey() string {
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		return ""
	}
	release, version := unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Version[:])
	admin, err := hasCapability(unix.CAP_SYS_ADMIN)
	if err != nil {
		return ""
	}
	return fmt.Sprintf("1 %s %s userns=%t admin=%t", release, version, s.rights().userns, admin)
}

func hasCapability(c int) (bool, error) {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false, os.NewSyscallError("capget", err)
	}
	return data[c/32].Effective&(1<<(c%32)) != 0, nil
}

// readProbe returns what an earlier process found under the same key, or "".
func (s *Store) readProbe(key string) (Kind, string) {
	b, err := os.ReadFile(s.probeFile())
	if err != nil || key == "" {
		return "", ""
	}
	lines := strings.SplitN(string(b), "\n", 3)
	if len(lines) != 3 || lines[0] != key {
		return "", ""
	}
	switch k := Kind(lines[1]); k {
	case EROFS, Overlay, Copy:
		return k, strings.TrimSpace(lines[2])
	}
	return "", ""
}

func (s *Store) writeProbe(key string) error {
	text := key + "\n" + string(s.kind) + "\n" + strings.ReplaceAll(s.why, "\n", " ") + "\n"
	return durable.ReplaceFile(s.probeFile(), []byte(text), 0o600)
}

// forgetProbe makes the next process probe again: what was found does not hold, since a mount was refused.
func (s *Store) forgetProbe() { _ = os.Remove(s.probeFile()) }

func (s *Store) probeFile() string { return filepath.Join(s.dir, "probe") }

func openDirectories(paths ...string) ([]*os.File, error) {
	var files []*os.File
	for _, path := range paths {
		f, err := openDirectory(path)
		if err != nil {
			closeAll(files)
			return nil, err
		}
		files = append(files, f)
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
