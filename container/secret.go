package container

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"syscall"

	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/internal/flock"
	"github.com/forge-build/forge/runtime"
)

// A Secret is something that RUN --mount=type=secret may read. It is in no key, layer, log or record.
type Secret struct {
	ID   string
	File string // path of the file that holds it, or
	Env  string // name of the variable that does
}

// maxSecret is how large a secret may be, in bytes, as in BuildKit.
const maxSecret = 500 << 10

// read returns the secret, or an error that is fs.ErrNotExist. It does not wait for a pipe longer than ctx lasts.
func (s Secret) read(ctx context.Context) ([]byte, error) {
	if s.Env != "" {
		v, ok := os.LookupEnv(s.Env)
		if !ok {
			return nil, fmt.Errorf("variable %s: %w", s.Env, os.ErrNotExist)
		}
		return []byte(v), nil
	}
	return durable.ReadInput(ctx, s.File, maxSecret)
}

// A SecretMount shows a secret of the Factory as a file, a variable or both. One that the caller did not give is left out.
type SecretMount struct {
	ID       string
	Target   string // absolute; "" is no file
	Env      string // name of the variable; "" is none
	Required bool
	Access   Access // the default mode is 0400
}

// Access is who may use a file, and how.
type Access struct {
	UID, GID uint32
	Mode     *uint32 // permission bits of stat(2); nil is the default
}

// mode is the permission bits, or what they are by default.
func (a Access) mode(otherwise os.FileMode) os.FileMode {
	if a.Mode == nil {
		return otherwise
	}
	return fileMode(*a.Mode)
}

func (m *SecretMount) kind() string { return "secret" }

func (m *SecretMount) target() string {
	if m.Target == "" {
		return ""
	}
	return path.Clean(m.Target)
}

func (m *SecretMount) mount(ctx context.Context, c *Container) error {
	value, err := c.factory.secret(ctx, m.ID)
	if errors.Is(err, errNotGiven) {
		if m.Required {
			return fmt.Errorf("secret %s is required and not given; give it with --secret id=%s,src=FILE", m.ID, m.ID)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("secret %s: %w", m.ID, err)
	}
	if m.Env != "" {
		c.spec.Env = setEnv(c.spec.Env, m.Env, string(value))
	}
	if m.Target == "" {
		return nil
	}
	f, err := c.memoryFile(value, m.Access)
	if err != nil {
		return fmt.Errorf("secret %s: %w", m.ID, err)
	}
	at := len(c.spec.Mounts)
	c.renew = append(c.renew, func() (err error) {
		c.spec.Mounts[at].Source, err = c.memoryFile(value, m.Access)
		return err
	})
	return c.attach(m.target(), runtime.Mount{Source: f, ReadOnly: true, NoExec: true}, nil)
}

// memoryFile makes a file on a tmpfs. It has a name only until the command has begun, because the kernel mounts no file
// without one, and that in a directory of its own that none but us may enter.
func (c *Container) memoryFile(data []byte, a Access) (*os.File, error) {
	dir, err := memoryDir()
	if err != nil {
		return nil, err
	}
	remove := func() error { return os.RemoveAll(dir.Name()) }
	c.started = append(c.started, remove)
	c.open.Push(dir.Close)
	c.open.Push(remove)
	name := filepath.Join(dir.Name(), "file")
	w, err := os.OpenFile(name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	_, err = w.Write(data)
	if err = errors.Join(err, ignoreUnmappedID(w.Chown(int(a.UID), int(a.GID))), w.Chmod(a.mode(0o400).Perm()), w.Close()); err != nil {
		return nil, err
	}
	return c.openPath(name)
}

const (
	tmpfsMagic   = 0x01021994 // statfs(2)
	memoryPrefix = ".forge-secret-"
)

// memoryDir makes a directory on a tmpfs, which belongs to this process. Those whose owners died while a command was about
// to begin are removed.
func memoryDir() (*os.File, error) {
	var tried []error
	for _, base := range []string{os.Getenv("XDG_RUNTIME_DIR"), "/dev/shm", "/run", "/tmp"} {
		var at syscall.Statfs_t
		if base == "" || syscall.Statfs(base, &at) != nil || at.Type != tmpfsMagic {
			continue
		}
		_ = flock.Sweep(base, memoryPrefix, os.RemoveAll) // what cannot be removed is another's to remove
		dir, err := flock.NewDir(base, memoryPrefix)
		if err == nil {
			return dir, nil
		}
		tried = append(tried, err)
	}
	return nil, errors.Join(append(tried, errors.New("there is no tmpfs to keep it in"))...)
}
