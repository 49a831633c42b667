package fusefile

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"sync/atomic"
	"testing"

	"golang.org/x/sys/unix"
)

// counted counts what is asked for, and fails from an offset on: from end on by saying that there is no more.
type counted struct {
	*bytes.Reader
	asked    atomic.Int64
	bad, end int64
}

func (c *counted) ReadAt(p []byte, off int64) (int, error) {
	c.asked.Add(int64(len(p)))
	if off >= c.end {
		return 0, io.EOF
	}
	if off >= c.bad {
		return 0, fmt.Errorf("the registry: %w", io.EOF)
	}
	return c.Reader.ReadAt(p, off)
}

func TestOpen(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	data := make([]byte, 3<<20+123)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(data)
	source := &counted{Reader: bytes.NewReader(data), bad: 2 << 20, end: 5 << 19}
	f, err := Open(source, int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if info, err := f.Stat(); err != nil || info.Size() != int64(len(data)) || !info.Mode().IsRegular() {
		t.Errorf("%v, %v", info, err)
	}
	part := make([]byte, 1000)
	if _, err := f.ReadAt(part, 70_001); err != nil || !bytes.Equal(part, data[70_001:][:1000]) {
		t.Errorf("what was read is wrong: %v", err)
	}
	if n := source.asked.Load(); n > 512<<10 {
		t.Errorf("%d bytes were asked for to read 1000", n)
	}
	if _, err := f.ReadAt(part, 2<<20+5); !errors.Is(err, unix.EIO) {
		t.Errorf("where there is nothing: %v, want EIO", err)
	}
	if _, err := f.ReadAt(part, 5<<19+5); !errors.Is(err, unix.EIO) {
		t.Errorf("where it ends too early: %v, want EIO", err)
	}
	whole := sha256.New()
	if _, err := io.Copy(whole, io.NewSectionReader(f, 0, 1<<20)); err != nil {
		t.Error(err)
	}
	if want := sha256.Sum256(data[:1<<20]); !bytes.Equal(whole.Sum(nil), want[:]) {
		t.Error("the first megabyte is not what it should be")
	}
	if err := f.Close(); err != nil {
		t.Error(err)
	}
}
