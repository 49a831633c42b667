package container

import (
	"fmt"
	"os"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/runtime"
)

// A MountPoint is what -v, --mount, --volumes-from or an image wants to have mounted. It is plain data.
type MountPoint struct {
	Type        string // "bind", "volume" or "tmpfs"
	Name        string `json:",omitempty"` // of a volume; "" is one that is made for the container
	Source      string `json:",omitempty"` // of a bind: a directory or file of this machine
	Target      string // absolute and clean
	ReadOnly    bool   `json:",omitempty"`
	Mode        string `json:",omitempty"` // options of -v, as they were written
	Propagation string `json:",omitempty"` // of a bind; "" is "rprivate"
	Create      bool   `json:",omitempty"` // of a bind: make a directory if there is no source, as docker's -v does
	Memory      string `json:",omitempty"` // of a tmpfs: options, as those of --tmpfs
	VolumeOptions

	Attributes runtime.Attributes `json:"-"` // that the volume asks for
}

// VolumeOptions say which volume is mounted, and how a new one is made.
type VolumeOptions struct {
	Anonymous bool              `json:",omitempty"` // it was made for a container, and goes with the last that has it
	NoCopy    bool              `json:",omitempty"` // a new one stays empty
	Subpath   string            `json:",omitempty"` // what is mounted of it
	Labels    map[string]string `json:",omitempty"`
	Options   map[string]string `json:",omitempty"`
}

// TmpfsSize is the size in bytes and the mode of a tmpfs; 0 was not said.
func (p *MountPoint) TmpfsSize() (size int64, mode uint32) {
	t, err := p.tmpfs()
	if err != nil {
		return 0, 0
	}
	return t.Options.Size, t.Options.Mode
}

// Mount makes a mount of it. The data are those of a volume, open; they are not closed.
func (p *MountPoint) Mount(data *os.File) (Mount, error) {
	if p.Type == "tmpfs" {
		return p.tmpfs()
	}
	return &Bind{
		Source: p.Source, File: data, Target: p.Target, ReadOnly: p.ReadOnly, Create: p.Create, Propagation: p.Propagation, Attributes: p.Attributes,
	}, nil
}

// propagation is the flag of mount_setattr(2) for a word. It fails if what is to be bound cannot have that relation, in docker's
// words.
func propagation(f *os.File, word string) (uint64, error) {
	word = strings.TrimPrefix(word, "r") // all below is treated alike
	if word == "" || word == "private" {
		return unix.MS_PRIVATE, nil
	}
	at, groups, err := mountOf(f)
	switch {
	case err != nil:
		return 0, err
	case strings.Contains(groups, "shared:") && word == "shared":
		return unix.MS_SHARED, nil
	case word == "shared":
		return 0, fmt.Errorf("path %s is mounted on %s but it is not a shared mount", f.Name(), at)
	case strings.Contains(groups, "shared:"), strings.Contains(groups, "master:"):
		return unix.MS_SLAVE, nil
	}
	return 0, fmt.Errorf("path %s is mounted on %s but it is not a shared or slave mount", f.Name(), at)
}

// mountOf says where the mount is that a file lies in, and which groups of mounts that belongs to.
func mountOf(f *os.File) (at, groups string, err error) {
	info, err := os.ReadFile("/proc/self/fdinfo/" + strconv.Itoa(int(f.Fd())))
	if err != nil {
		return "", "", err
	}
	_, id, _ := strings.Cut(string(info), "mnt_id:")
	id, _, _ = strings.Cut(strings.TrimSpace(id), "\n")
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return "", "", err
	}
	for line := range strings.Lines(string(mounts)) {
		// proc_pid_mountinfo(5): the optional fields are the seventh and those behind it, up to "-".
		fields := strings.Fields(line)
		if len(fields) < 7 || fields[0] != id {
			continue
		}
		groups, _, _ := strings.Cut(strings.Join(fields[6:], " "), "-")
		return fields[4], groups, nil
	}
	return "", "", fmt.Errorf("%s is in no mount of this process", f.Name())
}
