package image

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
)

// Borrow puts the tar of a layer, a file of somebody else, where the layout has its own, without copying it if it lies in the same file
// system. What is in the file is not looked at.
func (l *Layout) Borrow(ctx context.Context, path string, layer Layer) error {
	if here, err := l.HaveLayer(ctx, layer); here || err != nil {
		return err
	}
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() || info.Size() != layer.Blob.Size {
		return fmt.Errorf("%s: is no file of %d bytes", path, layer.Blob.Size)
	}
	f, err := os.CreateTemp(l.root, "lent-")
	if err != nil {
		return err
	}
	defer os.Remove(f.Name())
	defer f.Close()
	link := f.Name() + ".link"
	if err := os.Link(path, link); err == nil {
		return l.PushFile(ctx, layer.DiffID, link)
	}
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	if _, err := io.Copy(f, in); err != nil {
		return err
	}
	return l.PushFile(ctx, layer.DiffID, f.Name())
}

// GiveTar writes the tar of a layer to a file, without copying it if nobody else has it and it lies in the same file system.
func (l *Layout) GiveTar(ctx context.Context, layer Layer, path string) (err error) {
	if err := os.Remove(path); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	if staged, err := l.staging.Lookup(l.BlobPath(layer.DiffID)); err == nil && onlyName(staged) {
		if err := os.Link(staged, path); err == nil {
			return os.Chmod(path, 0o644)
		}
	}
	in, err := l.OpenTar(ctx, layer)
	if err != nil {
		return err
	}
	defer in.Close()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	_, err = io.Copy(f, in)
	return err
}

// onlyName reports whether a file has no other name: what was lent is not this process's to give on.
func onlyName(path string) bool {
	info, err := os.Lstat(path)
	if err != nil {
		return false
	}
	st, ok := info.Sys().(*syscall.Stat_t)
	return ok && st.Nlink == 1
}
