package local

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strconv"
	"strings"
	"syscall"

	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/source"
)

// maxUserFile is how large /etc/passwd and /etc/group may be.
const maxUserFile = 10 << 20

// owner looks names up in the passwd and group files of root, which may be nil. An unknown name is 0, and so is all of a
// file system without these files: BuildKit's rule.
func owner(c planner.Chown, root snapshot.Tree) (source.Owner, error) {
	var o source.Owner
	switch {
	case c.User.ID != nil:
		o.UID, o.GID = *c.User.ID, *c.User.ID
	case c.User.Name != "":
		line, err := lookupName(root, "etc/passwd", c.User.Name, 4)
		if err != nil {
			return o, err
		}
		if line != nil {
			o.UID, o.GID = lenientID(line[2]), lenientID(line[3])
		}
	}
	switch {
	case c.Group.Name == "":
	case c.Group.ID != nil:
		o.GID = *c.Group.ID
	default:
		line, err := lookupName(root, "etc/group", c.Group.Name, 3)
		if err != nil {
			return o, err
		}
		if line != nil {
			o.GID = lenientID(line[2])
		}
	}
	return o, nil
}

// lenientID is 0 for what is no number.
func lenientID(s string) uint32 {
	n, err := strconv.ParseUint(s, 10, 32)
	if err != nil {
		return 0
	}
	return uint32(n)
}

// lookupName finds the first line of a passwd-like file that begins with name, and has at least fields fields. Nil if
// there is none, or no file.
func lookupName(root snapshot.Tree, file, name string, fields int) ([]string, error) {
	if root == nil {
		return nil, nil
	}
	p, err := filetree.Resolve(root.Lstat, file, true)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ENOTDIR) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	e, err := root.Lstat(p)
	if err != nil {
		return nil, err
	}
	if e.Mode&syscall.S_IFMT != syscall.S_IFREG {
		return nil, fmt.Errorf("/%s: not a regular file", file)
	}
	if e.Size > maxUserFile {
		return nil, fmt.Errorf("/%s exceeds %d bytes", file, maxUserFile)
	}
	f, err := root.Open(p)
	if err != nil {
		return nil, err
	}
	defer f.Close() //nolint:errcheck // read only
	lines := bufio.NewScanner(io.LimitReader(f, maxUserFile))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.Split(strings.TrimSpace(lines.Text()), ":")
		if line[0] == name && len(line) >= fields {
			return line, nil
		}
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("/%s: %w", file, err)
	}
	return nil, nil
}
