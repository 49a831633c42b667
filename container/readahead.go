package container

import (
	"os"
	"path"

	"golang.org/x/sys/unix"
)

// headSize is how many bytes of a command are read ahead.
const headSize = 1 << 20

// readAhead begins to have the kernel read the beginning of the command, while the rest of the container is prepared: a file system that
// has just been mounted has nothing in memory. It changes nothing, and says nothing if there is nothing to read. Close waits for it.
func (c *Container) readAhead() {
	if len(c.spec.Args) == 0 {
		return
	}
	// The specification is read here: mounts add variables to it meanwhile.
	root, dir, names := c.spec.Root, c.spec.Dir, c.spec.CommandPaths()
	reading := make(chan struct{})
	go func() {
		defer close(reading)
		readHead(root, dir, names)
	}()
	c.open.Push(func() error { <-reading; return nil })
}

// readHead has the kernel read the beginning of the first of these files that is there. Names that are not absolute are of dir.
func readHead(root *os.File, dir string, names []string) {
	for _, name := range names {
		if !path.IsAbs(name) {
			name = path.Join(dir, name)
		}
		f, err := openBelow(root, name)
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
