package source

import (
	"path"
	"strings"
	"syscall"

	"github.com/forge-build/forge/snapshot/filetree"
)

// inTree makes an absolute path the name of a file in a tree.
func inTree(p string) string {
	if p = strings.TrimPrefix(path.Join("/", p), "/"); p == "" {
		return "."
	}
	return p
}

func isDir(e *filetree.Entry) bool { return e.Mode&syscall.S_IFMT == syscall.S_IFDIR }
