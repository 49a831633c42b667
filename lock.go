package forge

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"time"
)

// lockStore takes the store's lock. It is a flock(2), so it ends with its process, however that ends. A waiting
// exclusive lock polls, since flock cannot be interrupted by a context.
func lockStore(ctx context.Context, name string, exclusive bool) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE|syscall.O_CLOEXEC, 0o600)
	if errors.Is(err, syscall.EROFS) {
		f, err = os.Open(name) // a store that cannot be written to can be read
	}
	if err != nil {
		return nil, fmt.Errorf("store: %w", err)
	}
	how := syscall.LOCK_SH
	if exclusive {
		how = syscall.LOCK_EX
	}
	for wait := time.Millisecond; ; wait = min(2*wait, 50*time.Millisecond) {
		err := syscall.Flock(int(f.Fd()), how|syscall.LOCK_NB)
		if err == nil {
			return f, nil
		}
		if !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR) {
			return nil, errors.Join(fmt.Errorf("lock %s: %w", name, err), f.Close())
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(fmt.Errorf("lock %s: %w", name, context.Cause(ctx)), f.Close())
		case <-time.After(wait):
		}
	}
}
