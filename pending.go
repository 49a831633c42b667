package forge

import (
	"context"
	"errors"

	"github.com/forge-build/forge/executor"
)

var errPending = errors.New("is not there yet")

func (h *Home) squash(ctx context.Context, o BuildOptions, r *executor.Result) error {
	return errPending
}
