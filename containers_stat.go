package forge

import (
	"context"

	"github.com/forge-build/forge/container/files"
)

// A FileStat is what docker's API says of a file in a container.
type FileStat = files.Stat

// A NoFileError says that a container has no file at a path.
type NoFileError = files.NotFoundError

// StatInContainer looks at a file or directory of a container, running or not. A link is not followed.
func (h *Home) StatInContainer(ctx context.Context, ref, name string) (st FileStat, err error) {
	err = h.withSource(ctx, ref, files.Name{Path: name}, nil, func(s *files.Source) (err error) {
		st, err = s.Stat()
		return err
	})
	return st, err
}
