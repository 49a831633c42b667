package layertar

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"github.com/forge-build/forge/snapshot/filetree"
)

// CleanPath makes a path of a tar relative to the root, which it cannot leave.
func CleanPath(name string) (string, error) {
	if name == "" || len(name) > filetree.MaxPath {
		return "", fmt.Errorf("name of %d bytes", len(name))
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
			if len(part) > filetree.MaxName {
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
	return string(out), nil
}
