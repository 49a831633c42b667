package forge

import (
	"cmp"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"os"
	"slices"

	"github.com/containerd/platforms"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/runtime"
)

// Stdio is what a process reads and writes; nil is /dev/null.
type Stdio = runtime.Stdio

// A CommandError means that the command of a container could not be executed. Its code is docker's: 126, or 127 if there is no
// such command.
type CommandError = container.CommandError

// complete adds what the image says, and what follows from the container's ID.
func (o *RunOptions) complete(c *container.Options, img *image.Image, id string) (err error) {
	config := &img.Config.Config
	p := &c.Process
	p.Dir, p.User = cmp.Or(p.Dir, config.WorkingDir), cmp.Or(p.User, config.User)
	p.Platform = platforms.Format(img.Config.Platform)
	switch {
	case c.Hostname != "":
	case c.Network == "host":
		if c.Hostname, err = os.Hostname(); err != nil {
			return err
		}
	default:
		c.Hostname = id[:12]
	}
	env := []string{"PATH=" + runtime.DefaultPath, "HOSTNAME=" + c.Hostname}
	if p.Terminal {
		env = append(env, "TERM=xterm")
	}
	p.Env = slices.Concat(env, config.Env, o.Env)
	p.Args, err = o.command(config.Entrypoint, config.Cmd)
	return err
}

// command is the whole command line, as docker puts it together.
func (o *RunOptions) command(entry, cmd []string) ([]string, error) {
	args := o.Args
	switch {
	case len(o.Entrypoint) == 1 && o.Entrypoint[0] == "":
		entry = nil
	case len(o.Entrypoint) > 0:
		entry = o.Entrypoint
	case len(args) == 0:
		args = cmd
	}
	all := slices.Concat(entry, args)
	if len(all) == 0 {
		return nil, fmt.Errorf("image %s names no command: say which to run", o.Image)
	}
	return all, nil
}

// newID is a new container's: 64 hex digits.
func newID() string {
	var id [32]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
}
