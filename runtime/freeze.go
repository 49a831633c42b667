package runtime

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The freezer of version 1: its file, and what it is told.
const (
	freezerState = "freezer.state"
	frozen       = "FROZEN"
	thawed       = "THAWED"
)

// errNoFreezer means that a container is in no cgroup that could freeze it.
var errNoFreezer = errors.New("a container can be frozen only in a cgroup of version 2, or in one of the freezer controller of version 1: this one has none")

// Freeze stops every process of the container until [Target.Thaw], and waits until all have stopped. A container that has
// no cgroup cannot be frozen. Cancelling ctx thaws what has been frozen.
func (t *Target) Freeze(ctx context.Context) error {
	file, stop, freezer := fileIn(t.Cgroups, "cgroup.freeze"), "1", ""
	if file == "" {
		var err error
		if freezer, err = t.freezer(); err != nil {
			return err
		}
		file, stop = filepath.Join(freezer, freezerState), frozen
	}
	for wait := time.Duration(0); ; wait = min(2*wait+100*time.Microsecond, 20*time.Millisecond) {
		whole, err := t.gather(freezer)
		if err != nil {
			return errors.Join(err, t.Thaw())
		}
		// Version 1 is told again and again: a process that is just being made escapes it once.
		if err := writeLines(file, []string{stop}); err != nil {
			return t.orDone(err)
		}
		if is, err := t.frozen(); is && whole || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), t.Thaw())
		case <-time.After(wait):
		}
	}
}

// freezer is the container's directory in version 1's hierarchy of that name. A container that nobody counts has none until it is
// frozen for the first time: each hierarchy costs a start some of its milliseconds.
func (t *Target) freezer() (string, error) {
	if file := fileIn(t.Cgroups, freezerState); file != "" {
		return filepath.Dir(file), nil
	}
	i := slices.IndexFunc(t.Cgroups, func(dir string) bool { return strings.HasPrefix(dir, cgroupRoot+"/freezer/") })
	if i < 0 {
		return "", errNoFreezer
	}
	if err := os.Mkdir(t.Cgroups[i], 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return "", t.orDone(err)
	}
	if t.gone(0) { // and whoever takes its cgroups away may have been here already
		_ = unix.Rmdir(t.Cgroups[i])
		return "", os.ErrProcessDone
	}
	return t.Cgroups[i], nil
}

// gather moves the container's processes into a freezer, and reports whether all were in it: a process that is made meanwhile by one
// outside is outside. "" is no freezer, which nobody has to be moved to.
func (t *Target) gather(freezer string) (whole bool, err error) {
	if freezer == "" {
		return true, nil
	}
	pids, err := t.Processes()
	if err != nil {
		return false, err
	}
	whole = true
	for _, pid := range pids {
		of, err := cgroupsOf(strconv.Itoa(pid))
		if err != nil || strings.HasPrefix(filepath.Join(cgroupRoot, "freezer", of["freezer"])+"/", freezer+"/") {
			continue // it has ended, or is in it, perhaps in one of its own
		}
		whole = false
		if err := writeLines(filepath.Join(freezer, "cgroup.procs"), []string{strconv.Itoa(pid)}); err != nil && !errors.Is(err, unix.ESRCH) {
			return false, t.orDone(err)
		}
	}
	return whole, nil
}

// Thaw lets a frozen container go on. It does nothing to one that is not frozen.
func (t *Target) Thaw() error { return t.orDone(thaw(t.Cgroups)) }

func thaw(cgroups []string) error {
	if file := fileIn(cgroups, "cgroup.freeze"); file != "" {
		return writeLines(file, []string{"0"})
	}
	if file := fileIn(cgroups, freezerState); file != "" {
		return writeLines(file, []string{thawed})
	}
	return nil
}

// thawKilled lets processes die that were killed in a freezer of version 1.
func thawKilled(dir string) {
	for _, pid := range members([]string{dir}) {
		status, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
		if wasKilled(status) {
			_ = thaw([]string{dir})
			return
		}
	}
}

// frozen reports whether the container is frozen.
func (t *Target) frozen() (bool, error) {
	for file, text := range map[string]string{"cgroup.events": "\nfrozen 1\n", freezerState: "\n" + frozen + "\n"} {
		if path := fileIn(t.Cgroups, file); path != "" {
			b, err := os.ReadFile(path)
			if err != nil {
				return false, t.orDone(err)
			}
			if bytes.Contains(append([]byte("\n"), b...), []byte(text)) {
				return true, nil
			}
		}
	}
	return false, nil
}

// fileIn is the path of a file of a cgroup: in the first of its directories that has one of that name, "" if none has.
func fileIn(cgroups []string, name string) string {
	for _, dir := range cgroups {
		path := filepath.Join(dir, name)
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// orDone is an error of reading or writing in the cgroup: that of a container that has ended is gone.
func (t *Target) orDone(err error) error {
	if err != nil && t.gone(0) {
		return os.ErrProcessDone
	}
	return err
}
