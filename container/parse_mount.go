package container

import (
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/forge-build/forge/container/words"
)

// parseVolume reads docker's -v: [SOURCE:]TARGET[:OPTIONS], in docker's words. A source that is a path, absolute or with a
// point before it, is a directory or file of this machine; another one is a volume's name.
func parseVolume(s string) (MountPoint, error) {
	parts := strings.Split(s, ":")
	p := MountPoint{Type: "volume", Target: parts[len(parts)-1]}
	switch {
	case parts[0] == "" || len(parts) > 3, len(parts) == 2 && validMode(parts[1]):
		return p, fmt.Errorf("invalid volume specification: '%s'", s)
	case len(parts) == 3:
		p.Target, p.Mode = parts[1], parts[2]
	}
	if len(parts) > 1 {
		p.Name = parts[0]
	}
	if p.Name != "" && (filepath.IsAbs(p.Name) || p.Name[0] == '.') {
		p.Type, p.Name, p.Source, p.Create = "bind", "", p.Name, true
	}
	if err := checkTarget(&p.Target); err != nil {
		return p, fmt.Errorf("invalid volume specification: '%s': invalid mount config for type %q: %w", s, p.Type, err)
	}
	if len(parts) == 3 && !validMode(p.Mode) || !p.setMode() {
		return p, fmt.Errorf("invalid mode: %s", p.Mode)
	}
	return p, nil
}

// setMode takes over what the options of -v say. It reports whether the mount can have them.
func (p *MountPoint) setMode() bool {
	for option := range strings.SplitSeq(p.Mode, ",") {
		switch modeKind(option) {
		case "access":
			p.ReadOnly = option == "ro"
		case "copy":
			p.NoCopy = true
		case "propagation":
			p.Propagation = option
		}
	}
	if p.Type == "bind" {
		return !p.NoCopy
	}
	return p.Propagation == ""
}

// modeKind is what an option of -v is about, of which each mount may have one; "" if there is no such option.
func modeKind(option string) string {
	switch option {
	case "ro", "rw":
		return "access"
	case "z", "Z":
		return "label"
	case "nocopy":
		return "copy"
	case "consistent", "cached", "delegated", "default":
		return "consistency"
	case "private", "rprivate", "shared", "rshared", "slave", "rslave":
		return "propagation"
	}
	return ""
}

// validMode reports whether the words are options of -v, of each kind one.
func validMode(mode string) bool {
	var seen []string
	for option := range strings.SplitSeq(mode, ",") {
		kind := modeKind(option)
		if kind == "" || slices.Contains(seen, kind) {
			return false
		}
		seen = append(seen, kind)
	}
	return true
}

// ParseVolumesFrom reads docker's --volumes-from: CONTAINER[:OPTIONS].
func ParseVolumesFrom(s string) (container string, readOnly bool, err error) {
	container, mode, ok := strings.Cut(s, ":")
	if container == "" {
		return "", false, fmt.Errorf("invalid volume specification: '%s'", s)
	}
	p := MountPoint{Type: "volume", Mode: mode}
	if ok && !validMode(mode) || !p.setMode() || p.NoCopy {
		return "", false, fmt.Errorf("invalid mode: %s", mode)
	}
	return container, p.ReadOnly, nil
}

// checkTarget makes a path in a container clean, or refuses it.
func checkTarget(target *string) error {
	switch {
	case *target == "":
		return errors.New("field Target must not be empty")
	case !path.IsAbs(*target):
		return fmt.Errorf("invalid mount path: '%s' mount path must be absolute", *target)
	case path.Clean(*target) == "/":
		return errors.New("invalid specification: destination can't be '/'")
	}
	*target = path.Clean(*target)
	return nil
}

// parseTmpfs reads docker's --tmpfs: DST[:OPTIONS].
func parseTmpfs(s string) (p MountPoint, err error) {
	p.Type = "tmpfs"
	p.Target, p.Memory, _ = strings.Cut(s, ":")
	err = checkTarget(&p.Target)
	if err == nil {
		_, err = p.tmpfs()
	}
	if err != nil {
		return p, fmt.Errorf("tmpfs %q: %w", s, err)
	}
	return p, nil
}

// tmpfs is the mount that the options say. Their defaults are docker's: noexec, nosuid, nodev, mode 1777.
func (p *MountPoint) tmpfs() (*Tmpfs, error) {
	m := &Tmpfs{Target: p.Target, ReadOnly: p.ReadOnly, NoExec: true}
	for option := range strings.SplitSeq(p.Memory, ",") {
		key, value, _ := strings.Cut(option, "=")
		if err := m.set(key, value); err != nil {
			return nil, err
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

// parseMount reads docker's --mount: type=volume|bind|tmpfs and other fields, in docker's words.
func parseMount(s string) (MountPoint, error) {
	p := MountPoint{Type: "volume"}
	fields, err := words.Fields(s)
	for _, field := range fields {
		if err == nil {
			err = p.setField(field)
		}
	}
	if err == nil {
		err = p.checkFields()
	}
	if err != nil {
		return p, fmt.Errorf("invalid argument %q for \"--mount\" flag: %w", s, err)
	}
	if err := p.check(); err != nil {
		return p, fmt.Errorf("invalid mount config for type %q: %w", p.Type, err)
	}
	return p, nil
}

// setField sets what a field of --mount says. The source of a volume, which is its name, is p.Source, too.
func (p *MountPoint) setField(field string) (err error) {
	key, value, ok := strings.Cut(field, "=")
	key = strings.ToLower(key)
	if !ok {
		if !slices.Contains([]string{"readonly", "ro", "volume-nocopy", "bind-create-src"}, key) {
			return fmt.Errorf("invalid field '%s' must be a key=value pair", field)
		}
		value = "true"
	}
	switch key {
	case "type":
		p.Type = strings.ToLower(value)
	case "source", "src":
		p.Source = value
	case "target", "dst", "destination":
		p.Target = value
	case "readonly", "ro":
		p.ReadOnly, err = strconv.ParseBool(value)
	case "consistency":
	case "bind-create-src":
		p.Create, err = strconv.ParseBool(value)
	case "bind-propagation":
		p.Propagation = strings.ToLower(value)
	case "volume-nocopy":
		p.NoCopy, err = strconv.ParseBool(value)
	case "volume-subpath":
		p.Subpath = value
	case "volume-label":
		setWord(&p.Labels, value)
	case "volume-opt":
		setWord(&p.Options, value)
	case "volume-driver":
		if value != "local" {
			return fmt.Errorf("error looking up volume plugin %s: plugin %q not found", value, value)
		}
	case "tmpfs-size", "tmpfs-mode":
		err = p.setTmpfs(strings.TrimPrefix(key, "tmpfs-") + "=" + value)
	default:
		return fmt.Errorf("unexpected key '%s' in '%s'", key, field)
	}
	if err != nil {
		return fmt.Errorf("invalid value for %s: %s", key, value)
	}
	return nil
}

// setTmpfs adds an option of a tmpfs.
func (p *MountPoint) setTmpfs(option string) error {
	p.Memory = strings.TrimPrefix(p.Memory+","+option, ",")
	_, err := p.tmpfs()
	return err
}

// setWord adds K=V to a map.
func setWord(m *map[string]string, word string) {
	if *m == nil {
		*m = map[string]string{}
	}
	k, v, _ := strings.Cut(word, "=")
	(*m)[k] = v
}

// checkFields refuses fields that do not go together.
func (p *MountPoint) checkFields() error {
	v := &p.VolumeOptions
	for _, kind := range []struct {
		name  string
		given bool
	}{
		{"volume", v.NoCopy || v.Subpath != "" || v.Labels != nil || v.Options != nil},
		{"bind", p.Propagation != "" || p.Create},
		{"tmpfs", p.Memory != ""},
	} {
		if kind.given && p.Type != kind.name {
			return fmt.Errorf("cannot mix '%s-*' options with mount type '%s'", kind.name, p.Type)
		}
	}
	if p.Target == "" {
		return errors.New("target is required")
	}
	return nil
}

// check refuses what cannot be mounted, and makes a volume's source its name.
func (p *MountPoint) check() error {
	err := checkTarget(&p.Target)
	switch {
	case err != nil:
		return err
	case p.Type == "bind" && p.Source == "":
		return errors.New("field Source must not be empty")
	case p.Type == "bind" && !filepath.IsAbs(p.Source) && p.Source[0] != '.':
		return fmt.Errorf("invalid mount path: '%s' mount path must be absolute", p.Source)
	case p.Propagation != "" && modeKind(p.Propagation) != "propagation":
		return fmt.Errorf("invalid propagation mode: %s", p.Propagation)
	case p.Type == "volume" && p.Subpath != "" && p.Source == "":
		return errors.New("must not set Subpath when using anonymous volumes")
	case p.Subpath != "" && !filepath.IsLocal(p.Subpath):
		return fmt.Errorf("subpath %q must be a relative path within the volume", p.Subpath)
	case p.Type == "volume":
		p.Name, p.Source = p.Source, ""
	case p.Type == "tmpfs" && p.Source != "":
		return errors.New("field Source must not be specified")
	case p.Type != "bind" && p.Type != "tmpfs":
		return errors.New("mount type unknown: must be bind, volume or tmpfs")
	}
	return nil
}

// ParseMounts reads the values of -v, --mount and --tmpfs. No two may have one destination.
func ParseMounts(volumes, mounts, tmpfs []string) (all []MountPoint, err error) {
	for _, flag := range []struct {
		values []string
		parse  func(string) (MountPoint, error)
	}{{volumes, parseVolume}, {mounts, parseMount}, {tmpfs, parseTmpfs}} {
		for _, s := range flag.values {
			p, err := flag.parse(s)
			if err != nil {
				return nil, err
			}
			if slices.ContainsFunc(all, func(other MountPoint) bool { return other.Target == p.Target }) {
				return nil, fmt.Errorf("duplicate mount point: %s", p.Target)
			}
			all = append(all, p)
		}
	}
	return all, nil
}
