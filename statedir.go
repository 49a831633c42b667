package forge

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/forge-build/forge/internal/durable"
)

// storeVersion is what the file "version" of a state directory holds (docs/store.md). In a store of version 1 a command
// was known by the lock that it held for life, and not by a lease: a forge that knows only that may not prune this one.
const (
	storeVersion    = "forge store 2\n"
	oldStoreVersion = "forge store 1\n"
)

// prepareDir makes the state directory, or makes sure that it may be used: it belongs to this user, nobody else may write
// to it, and what is in it is a store. Others may not read it either, from now on.
func prepareDir(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	info, err := os.Stat(dir)
	if err != nil {
		return err
	}
	if !info.IsDir() {
		return &fs.PathError{Op: "open", Path: dir, Err: syscall.ENOTDIR}
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok && int(st.Uid) != os.Geteuid() {
		return fmt.Errorf("%s belongs to user %d and this is user %d: set FORGE_ROOT to a directory of your own", dir, st.Uid, os.Geteuid())
	}
	loose := info.Mode().Perm()&0o022 != 0
	state, err := stateOf(dir)
	if err == nil && loose && state == empty { // what somebody puts there before nobody else may is seen by a second look
		if err = os.Chmod(dir, 0o700); err == nil {
			state, err = stateOf(dir)
		}
		loose = state != empty
	}
	switch {
	case err != nil:
		return err
	case state == foreign:
		return fmt.Errorf("%s is not empty and no store of forge: set FORGE_ROOT to an empty directory, or to one that does not exist", dir)
	case state == ours && loose:
		return fmt.Errorf("others may write to %s (mode %04o), and may have done so: look at what is in it, then chmod 700 it, or remove it",
			dir, info.Mode().Perm())
	case info.Mode().Perm() != 0o700:
		err = os.Chmod(dir, 0o700)
	}
	if errors.Is(err, syscall.EROFS) {
		return nil
	}
	return err
}

// A dirState says what is in a directory.
type dirState int

const (
	empty   dirState = iota
	ours             // a store, or a part of one
	foreign          // something else
)

func stateOf(dir string) (dirState, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return foreign, err
	}
	state := empty
	for _, e := range entries {
		switch name := e.Name(); {
		case name == "version" || name == "images" && isLayout(filepath.Join(dir, name)):
			return ours, nil
		case name == "registry" && isRegistry(filepath.Join(dir, name)):
			state = max(state, ours)
		case name == "lost+found" || name == "lock" || name == membersFile || durable.Temporary(name):
			// of a file system, or of a process that was killed while it made the store
		default:
			state = foreign
		}
	}
	return state, nil
}

func isLayout(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, "oci-layout"))
	return err == nil
}

// isRegistry reports whether a directory is that of forge registry serve, which makes no version.
func isRegistry(dir string) bool {
	_, err := os.Lstat(filepath.Join(dir, "repositories"))
	return err == nil
}

// checkVersion refuses a store that a later forge has made, marks a new one, and brings one of version 1 up to date.
func (h *Home) checkVersion() error {
	name := h.versionFile()
	switch text, err := os.ReadFile(name); {
	case err == nil && string(text) == storeVersion:
		return nil
	case err == nil && string(text) == oldStoreVersion:
		if err := h.upgrade(); err != nil {
			return err
		}
	case err == nil && len(bytes.TrimSpace(text)) == 0: // torn: it says nothing
	case err == nil:
		return fmt.Errorf("store %s has version %q and this forge knows %q: use the forge that made it, or another FORGE_ROOT",
			h.Dir, strings.TrimSpace(string(text)), strings.TrimSpace(storeVersion))
	case !errors.Is(err, fs.ErrNotExist):
		return fmt.Errorf("store: %w", err)
	}
	if h.options.Scratch {
		return durable.ReplaceFile(name, []byte(storeVersion), 0o600)
	}
	return durable.WriteFile(name, []byte(storeVersion), 0o600)
}

// versionFile says of which version the store is. It is as old as the store, or its last upgrade.
func (h *Home) versionFile() string { return filepath.Join(h.Dir, "version") }

// upgrade removes what version 1 left under names that nobody looks for any more.
func (h *Home) upgrade() error {
	errs := []error{os.RemoveAll(filepath.Join(h.Dir, "trash"))}
	for _, pattern := range []string{"cache/.new-*", "contexts/.index-*", "snapshots/probe.*"} {
		files, err := filepath.Glob(filepath.Join(h.Dir, pattern))
		errs = append(errs, err)
		for _, f := range files {
			errs = append(errs, os.Remove(f))
		}
	}
	return errors.Join(errs...)
}
