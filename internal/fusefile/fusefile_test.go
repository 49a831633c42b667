package fusefile

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

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

const killed = "FORGE_TEST_FUSEFILE_KILLED"

// TestMain lets this program be killed while it serves a file that it has open.
func TestMain(m *testing.M) {
	if os.Getenv(killed) != "" {
		beKilled()
	}
	os.Exit(m.Run())
}

// beKilled has a file open that it serves, by a lower number than the device, and kills itself: the kernel closes the file first.
func beKilled() {
	low, err := unix.Open("/dev/null", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		panic(err)
	}
	f, err := Open(bytes.NewReader(make([]byte, 4096)), 4096)
	if err != nil {
		panic(err)
	}
	if err := errors.Join(unix.Dup3(int(f.Fd()), low, unix.O_CLOEXEC), unix.Kill(os.Getpid(), unix.SIGKILL)); err != nil {
		panic(err)
	}
	select {}
}

// TestKilled: a process that is killed while it serves a file that it has open is gone then.
func TestKilled(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), killed+"=1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- cmd.Wait() }()
	select {
	case err := <-ended:
		if exit, ok := errors.AsType[*exec.ExitError](err); !ok || !exit.Sys().(syscall.WaitStatus).Signaled() {
			t.Errorf("it ended with %v", err)
		}
	case <-time.After(time.Minute):
		t.Errorf("process %d waits for its own answer; end it by the file abort of its connection in fusectl", cmd.Process.Pid)
	}
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
