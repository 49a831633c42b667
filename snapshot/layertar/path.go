package layertar

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/forge-build/forge/snapshot/filetree"
)

// CleanPath makes a path of a tar relative to the root, which it cannot leave. A whiteout's may be longer than a file's, by the prefix.
func CleanPath(name string) (string, error) {
	if name == "" {
		return "", errors.New("name of 0 bytes")
	}
	if strings.IndexByte(name, 0) >= 0 {
		return "", errors.New("name with a zero byte")
	}
	out := make([]byte, 0, len(name))
	for part := range strings.SplitSeq(name, "/") {
		switch part {
		case "", ".":
		case "..":
			out = out[:max(bytes.LastIndexByte(out, '/'), 0)]
		default:
			if len(hidden(part)) > filetree.MaxName {
				return "", fmt.Errorf("name of %d bytes", len(part))
			}
			if len(out) > 0 {
				out = append(out, '/')
			}
			out = append(out, part...)
		}
	}
	if len(out) == 0 {
		return ".", nil
	}
	path := string(out)
	if _, base := filetree.Split(path); len(path)-len(base)+len(hidden(base)) > filetree.MaxPath {
		return "", fmt.Errorf("name of %d bytes", len(name))
	}
	return path, nil
}

// hidden is the name that a whiteout hides; of another file it is its own.
func hidden(base string) string { return strings.TrimPrefix(base, WhiteoutPrefix) }
