package forge

import (
	"context"
	"errors"

	"github.com/opencontainers/go-digest"
	"io"
	"time"

	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/snapshot"
)

var errPending = errors.New("is not there yet")

func (h *Home) squash(ctx context.Context, o BuildOptions, r *executor.Result) error {
	return errPending
}

type FsckReport struct {
	Problems      []string
	Images, Blobs int
}

func (h *Home) Fsck(ctx context.Context, deep, repair bool) (FsckReport, error) {
	return FsckReport{}, errPending
}

type PruneOptions struct {
	All     bool
	Until   time.Duration
	MaxSize int64
}
type PruneReport struct {
	Removed []string
	Bytes   int64
}

func (h *Home) Prune(ctx context.Context, o PruneOptions) (PruneReport, error) {
	return PruneReport{}, errPending
}

type Usage struct {
	Kinds []struct {
		Name               string
		Count              int
		Bytes, Reclaimable int64
	}
	Blobs []struct {
		Digest digest.Digest
		Bytes  int64
		HeldBy []string
	}
}

func (h *Home) DiskUsage(ctx context.Context) (Usage, error) { return Usage{}, errPending }

func exportDir(ctx context.Context, t snapshot.Tree, dir string) error  { return errPending }
func exportTar(ctx context.Context, t snapshot.Tree, w io.Writer) error { return errPending }
