package container

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// parseVolume reads docker's -v: SRC:DST[:OPTIONS].
func parseVolume(s string) (Mount, error) {
	parts := strings.Split(s, ":")
	if len(parts) < 2 || len(parts) > 3 {
		return nil, fmt.Errorf("volume %q: must be SRC:DST[:ro|rw]; volumes without a source are not supported yet", s)
	}
	v := &Bind{Source: parts[0], Target: parts[1], Create: true}
	if !filepath.IsAbs(v.Source) && !strings.HasPrefix(v.Source, ".") {
		return nil, fmt.Errorf("volume %q: the source must be a path, absolute or with ./; volumes with a name are not supported yet", s)
	}
	if err := checkTarget(v.Target); err != nil {
		return nil, fmt.Errorf("volume %q: %w", s, err)
	}
	if len(parts) == 3 {
		for option := range strings.SplitSeq(parts[2], ",") {
			switch option {
			case "ro":
				v.ReadOnly = true
			case "rw", "z", "Z", "rprivate", "private", "cached", "delegated", "consistent":
			default:
				return nil, fmt.Errorf("volume %q: no such option: %q", s, option)
			}
		}
	}
	return v, nil
}

func checkTarget(target string) error {
	if !path.IsAbs(target) || path.Clean(target) == "/" {
		return errors.New("the destination must be an absolute path below /")
	}
	return nil
}

// parseTmpfs reads docker's --tmpfs: DST[:OPTIONS]. Its defaults are docker's: noexec, nosuid, nodev, mode 1777.
func parseTmpfs(s string) (Mount, error) {
	target, options, _ := strings.Cut(s, ":")
	m := &Tmpfs{Target: target, NoExec: true}
	if err := checkTarget(target); err != nil {
		return nil, fmt.Errorf("tmpfs %q: %w", s, err)
	}
	for option := range strings.SplitSeq(options, ",") {
		key, value, _ := strings.Cut(option, "=")
		if err := m.set(key, value); err != nil {
			return nil, fmt.Errorf("tmpfs %q: %w", s, err)
		}
	}
	return m, nil
}

// set sets an option of a mount(8) of tmpfs.
func (m *Tmpfs) set(key, value string) (err error) {
	switch key {
	case "", "rw", "async":
	case "ro":
		m.ReadOnly = true
	case "exec", "noexec":
		m.NoExec = key == "noexec"
	case "suid", "nosuid":
		m.Setuid = key == "suid"
	case "dev", "nodev":
		m.Devices = key == "dev"
	case "size":
		if m.Options.Size, err = ParseSize(value); err != nil {
			err = fmt.Errorf("size %w", err)
		}
	case "mode":
		m.Options.Mode, err = parseMode(value)
	case "uid":
		m.Options.UID, err = parseID(key, value)
	case "gid":
		m.Options.GID, err = parseID(key, value)
	default:
		err = fmt.Errorf("no such option: %q", key)
	}
	return err
}

func parseMode(s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 8, 12)
	if err != nil {
		return 0, fmt.Errorf("mode %q: must be octal", s)
	}
	return uint32(n), nil
}

func parseID(key, s string) (uint32, error) {
	n, err := strconv.ParseUint(s, 10, 31)
	if err != nil {
		return 0, fmt.Errorf("%s %q: must be a number", key, s)
	}
	return uint32(n), nil
}

// parseMount reads docker's --mount: type=bind|tmpfs and fields, separated by commas.
func parseMount(s string) (Mount, error) {
	fields := map[string]string{}
	readOnly := false
	for field := range strings.SplitSeq(s, ",") {
		key, value, ok := strings.Cut(field, "=")
		switch key = strings.ToLower(key); key {
		case "src":
			key = "source"
		case "dst", "destination":
			key = "target"
		case "readonly", "ro":
			readOnly = !ok || value == "true" || value == "1"
			if !readOnly && value != "false" && value != "0" {
				return nil, fmt.Errorf("mount %q: %s %q: must be true or false", s, key, value)
			}
			continue
		}
		if !ok {
			return nil, fmt.Errorf("mount %q: %q must be a key=value pair", s, field)
		}
		fields[key] = value
	}
	kind, source, target := fields["type"], fields["source"], fields["target"]
	for _, known := range []string{"type", "source", "target"} {
		delete(fields, known)
	}
	err := checkTarget(target)
	var m Mount
	switch kind {
	case "bind":
		m = &Bind{Source: source, Target: target, ReadOnly: readOnly}
		if source == "" {
			err = errors.New("a bind mount needs a source")
		}
		delete(fields, "bind-propagation") // is private, as everything in a container
	case "tmpfs":
		t := &Tmpfs{Target: target, ReadOnly: readOnly, NoExec: true}
		m = t
		for _, key := range []string{"tmpfs-size", "tmpfs-mode"} {
			if value, ok := fields[key]; ok {
				err = errors.Join(err, t.set(strings.TrimPrefix(key, "tmpfs-"), value))
				delete(fields, key)
			}
		}
	default:
		err = fmt.Errorf("type %q: must be bind or tmpfs; volumes with a name are not supported yet", kind)
	}
	for key := range fields {
		err = errors.Join(err, fmt.Errorf("unexpected key %q", key))
	}
	if err != nil {
		return nil, fmt.Errorf("mount %q: %w", s, err)
	}
	return m, nil
}

// ParseMounts reads the values of -v, --mount and --tmpfs. No two may have one destination.
func ParseMounts(volumes, mounts, tmpfs []string) (all []Mount, err error) {
	for _, flag := range []struct {
		values []string
		parse  func(string) (Mount, error)
	}{{volumes, parseVolume}, {mounts, parseMount}, {tmpfs, parseTmpfs}} {
		for _, s := range flag.values {
			m, err := flag.parse(s)
			if err != nil {
				return nil, err
			}
			if slices.ContainsFunc(all, func(other Mount) bool { return other.target() == m.target() }) {
				return nil, fmt.Errorf("duplicate mount point: %s", m.target())
			}
			all = append(all, m)
		}
	}
	return all, nil
}
