package executor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"github.com/forge-build/forge/planner"
	"github.com/forge-build/forge/runtime"
)

// A Secret is something that RUN --mount=type=secret may read. It is in no key, layer, log or record.
type Secret struct {
	ID   string
	File string // path of the file that holds it, or
	Env  string // name of the variable that does
}

// maxSecret is how large a secret may be, in bytes, as in the oracle.
const maxSecret = 500 << 10

// read returns the secret, or an error that is fs.ErrNotExist.
func (s Secret) read() ([]byte, error) {
	if s.Env != "" {
		v, ok := os.LookupEnv(s.Env)
		if !ok {
			return nil, fmt.Errorf("variable %s: %w", s.Env, os.ErrNotExist)
		}
		return []byte(v), nil
	}
	f, err := os.Open(s.File)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxSecret+1))
	if err == nil && len(data) > maxSecret {
		err = fmt.Errorf("%s: has more than %d bytes", s.File, maxSecret)
	}
	return data, err
}

// mountSecret shows a secret as a file, a variable or both. One that the caller did not give is left out.
func (c *command) mountSecret(m planner.Mount) error {
	i := slices.IndexFunc(c.local.Grants.Secrets, func(s Secret) bool { return s.ID == m.ID })
	if i < 0 {
		if m.Required {
			return fmt.Errorf("secret %s is required and not given; give it with --secret id=%s,src=FILE", m.ID, m.ID)
		}
		return nil
	}
	value, err := c.local.Grants.Secrets[i].read()
	if err != nil {
		return fmt.Errorf("secret %s: %w", m.ID, err)
	}
	if m.Env != "" {
		c.env = setEnv(c.env, m.Env, string(value))
	}
	if m.Target == "" {
		return nil
	}
	mode := os.FileMode(0o400)
	if m.Mode != nil {
		mode = os.FileMode(*m.Mode & 0o777)
	}
	f, err := c.memoryFile(value, mode, m.UID, m.GID)
	if err != nil {
		return fmt.Errorf("secret %s: %w", m.ID, err)
	}
	return c.mount(m.Target, false, runtime.Mount{Source: f, ReadOnly: true, NoExec: true}, nil)
}

// memoryFile makes a file on a tmpfs. It has a name only until the command has begun, because the kernel mounts no file
// without one, and that in a directory of its own that none but us may enter.
func (c *command) memoryFile(data []byte, mode os.FileMode, uid, gid uint32) (*os.File, error) {
	dir, err := memoryDir()
	if err != nil {
		return nil, err
	}
	remove := func() error { return os.RemoveAll(dir.Name()) }
	c.started = append(c.started, remove)
	c.closing(dir.Close)
	c.closing(remove)
	name := filepath.Join(dir.Name(), "file")
	w, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(data)
	if err = errors.Join(err, own(w.Chown(int(uid), int(gid))), w.Chmod(mode), w.Close()); err != nil {
		return nil, err
	}
	return c.openPath(name)
}

const (
	tmpfsMagic = 0x01021994 // statfs(2)
	openPath   = 0x200000   // O_PATH of open(2): for what cannot be read, such as a socket

	memoryPrefix = ".forge-secret-"
)

// memoryDir makes a directory on a tmpfs and holds its flock. Those that nobody holds are removed: their owners died
// while a command was about to begin.
func memoryDir() (*os.File, error) {
	var tried []error
	for _, base := range []string{os.Getenv("XDG_RUNTIME_DIR"), "/dev/shm", "/run", "/tmp"} {
		var at syscall.Statfs_t
		if base == "" || syscall.Statfs(base, &at) != nil || at.Type != tmpfsMagic {
			continue
		}
		sweepMemory(base)
		for {
			dir, err := newMemoryDir(base)
			if errors.Is(err, errPruned) {
				continue // another's sweep came before the lock
			}
			if err == nil {
				return dir, nil
			}
			tried = append(tried, err)
			break
		}
	}
	return nil, errors.Join(append(tried, errors.New("there is no tmpfs to keep it in"))...)
}

func newMemoryDir(base string) (*os.File, error) {
	name, err := os.MkdirTemp(base, memoryPrefix)
	if err != nil {
		return nil, err
	}
	dir, err := os.Open(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errPruned
	}
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(name))
	}
	err = flock(dir, syscall.LOCK_EX)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		err = errPruned
	}
	if err == nil {
		err = samePlace(dir)
	}
	if err != nil {
		return nil, errors.Join(err, dir.Close())
	}
	return dir, nil
}

func sweepMemory(base string) {
	names, _ := filepath.Glob(filepath.Join(base, memoryPrefix+"*"))
	for _, name := range names {
		dir, err := os.Open(name)
		if err != nil {
			continue // another user's
		}
		if flock(dir, syscall.LOCK_EX) == nil {
			_ = os.RemoveAll(name)
		}
		_ = dir.Close()
	}
}

// openPath opens a file of ours to be mounted, whatever it is and whoever it belongs to.
func (c *command) openPath(name string) (*os.File, error) {
	f, err := os.OpenFile(name, openPath|syscall.O_NOFOLLOW, 0)
	if err != nil {
		return nil, err
	}
	c.closing(f.Close)
	return f, nil
}
