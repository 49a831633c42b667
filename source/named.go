package source

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"io"

	"github.com/forge-build/forge/snapshot/filetree"
)

// DigestNamed is one digest of all files of a tree that patterns name, as COPY --parents would copy them: "**" is any number of
// directories. A pattern without wildcards that names nothing is a [NotFoundError].
func DigestNamed(ctx context.Context, tree filetree.Tree, patterns []string) (string, error) {
	h := sha256.New()
	for _, pattern := range patterns {
		found, err := Select(ctx, tree, Query{Path: "/./" + pattern, Parents: true})
		if err != nil {
			return "", err
		}
		for i := range found {
			sum, err := found[i].digest(ctx)
			if err != nil {
				return "", err
			}
			io.WriteString(h, pattern+"\x00"+sum+"\n")
		}
	}
	return "sha256:" + hex.EncodeToString(h.Sum(nil)), nil
}
