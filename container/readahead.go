package container

import (
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// headSize is how many bytes of a command are read ahead.
const headSize = 1 << 20

// readAhead has the kernel read the beginning of the command, while the rest of the container is prepared: a file system that
// has just been mounted has nothing in memory. It changes nothing, and says nothing if there is nothing to read.
func (c *Container) readAhead() {
	if len(c.spec.Args) == 0 {
		return
	}
	for _, name := range c.spec.CommandPaths() {
		if !path.IsAbs(name) {
			name = path.Join(c.spec.Dir, name)
		}
		f, err := openBelow(c.spec.Root, name)
		if err != nil {
			return
		}
		if f, ok := f.(*os.File); ok {
			_ = unix.Fadvise(int(f.Fd()), 0, headSize, unix.FADV_WILLNEED)
			_ = f.Close()
			return
		}
	}
}
