package snapshot

import (
	"errors"
	"io/fs"
	"path/filepath"
	"syscall"
)

// Written is how many bytes the regular files have that were written to the draft that dir keeps, each file counted once: as
// docker counts, so that directories, and mount points that were made, are none. It may be written to meanwhile.
func Written(dir string) (bytes int64, err error) {
	seen := map[uint64]bool{} // inodes with several names
	ours := filepath.Join(dir, mountpointsFile)
	err = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // gone meanwhile
		}
		if err != nil || !d.Type().IsRegular() || path == ours {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return nil //nolint:nilerr // gone meanwhile
		}
		if st, ok := info.Sys().(*syscall.Stat_t); ok && st.Nlink > 1 {
			if seen[st.Ino] {
				return nil
			}
			seen[st.Ino] = true
		}
		bytes += info.Size()
		return nil
	})
	return bytes, err
}
