package snapshot

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

// mountpointsFile lists, in the directory of a kept draft, the mount points that were made in it, a line of JSON for each:
// they stay, and the process that reads what was written is another than the one that made them.
const mountpointsFile = "mountpoints"

// A madeMountpoint is a line of mountpointsFile.
type madeMountpoint struct {
	Path          string // as in a tree
	Mode          uint32
	UID, GID      uint32
	ModTime       time.Time
	Before, After time.Time // of its directory
}

// noteMountpoints writes down what was made in the draft that dir keeps.
func noteMountpoints(dir string, made []mountpoint) (err error) {
	if len(made) == 0 {
		return nil
	}
	f, err := os.OpenFile(filepath.Join(dir, mountpointsFile), os.O_WRONLY|os.O_APPEND|os.O_CREATE|unix.O_NOFOLLOW, 0o600)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	lines := json.NewEncoder(f)
	for _, m := range made {
		at, err := os.Readlink(procPath(m.parent))
		if err != nil {
			return err
		}
		err = lines.Encode(madeMountpoint{
			Path: strings.TrimPrefix(path.Join(at, m.name), "/"), Mode: m.self.Mode, UID: m.self.Uid, GID: m.self.Gid,
			ModTime: time.Unix(m.self.Mtim.Unix()).UTC(), Before: time.Unix(m.before.Mtim.Unix()).UTC(), After: time.Unix(m.after.Mtim.Unix()).UTC(),
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// madeMountpoints are those that were made in a kept draft.
type madeMountpoints struct {
	files map[string]madeMountpoint
	dirs  map[string]madeMountpoint // by the directory: Before is of the first that was made in it, After of the last
}

func readMountpoints(dir string) (*madeMountpoints, error) {
	f, err := os.Open(filepath.Join(dir, mountpointsFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer f.Close()
	made := &madeMountpoints{map[string]madeMountpoint{}, map[string]madeMountpoint{}}
	for lines := json.NewDecoder(f); ; {
		var m madeMountpoint
		if err := lines.Decode(&m); err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) { // the last one is being written
			return made, nil
		} else if err != nil {
			return nil, &fs.PathError{Op: "read", Path: f.Name(), Err: err}
		}
		made.files[m.Path] = m
		in, _ := filetree.Split(m.Path)
		if first, ok := made.dirs[in]; ok && first.After.Equal(m.Before) {
			m.Before = first.Before
		}
		made.dirs[in] = m
	}
}

// is reports whether what is at a path is a mount point as it was made. What is in a directory may have changed.
func (m *madeMountpoints) is(path string, st *unix.Stat_t) bool {
	if m == nil {
		return false
	}
	made, ok := m.files[path]
	if !ok || st.Mode != made.Mode || st.Uid != made.UID || st.Gid != made.GID {
		return false
	}
	return st.Mode&unix.S_IFMT == unix.S_IFDIR || st.Size == 0 && st.Nlink == 1 && made.ModTime.Equal(time.Unix(st.Mtim.Unix()))
}

// hide gives a directory the time that it had before mount points were made in it, unless something else has happened in it.
func (m *madeMountpoints) hide(path string, e *Entry) {
	if m == nil || e.Mode&unix.S_IFMT != unix.S_IFDIR {
		return
	}
	if made, ok := m.dirs[path]; ok && made.After.Equal(e.ModTime) {
		e.ModTime = made.Before
	}
}
