package forge

import (
	"io/fs"
	"syscall"
)

// allocated is how many bytes of the disk a file takes; a file with several names is counted once.
func allocated(info fs.FileInfo, seen map[uint64]bool) int64 {
	st, ok := info.Sys().(*syscall.Stat_t)
	if !ok {
		return info.Size()
	}
	if st.Nlink > 1 && !info.IsDir() {
		if seen[st.Ino] {
			return 0
		}
		seen[st.Ino] = true
	}
	return st.Blocks * 512
}
