package planner

import (
	"errors"
	"fmt"
	"path"
	"strconv"

	"github.com/moby/buildkit/frontend/dockerfile/instructions"
)

// mounts makes the mounts of a RUN; sources are the stages that they name, by position.
func (w *walker) mounts(t *instructions.RunCommand, sources []*stage, reads *[]*Step) ([]Mount, error) {
	var list []Mount
	sockets := 0
	for i, m := range instructions.GetMounts(t) {
		if from := sources[i]; from != nil {
			if ready, err := w.p.ready(from); err != nil {
				return nil, err
			} else if !ready {
				return nil, fmt.Errorf("cannot mount from stage %q to %q, stage needs to be defined before current command", m.From, m.Target)
			}
		}
		var mount Mount
		var err error
		switch m.Type {
		case instructions.MountTypeSecret:
			mount, err = w.secret(m)
		case instructions.MountTypeSSH:
			mount, err = w.ssh(m, sockets)
			sockets++
		default:
			mount, err = w.directory(m, sources[i], reads)
		}
		if err != nil {
			return nil, err
		}
		list = append(list, mount)
	}
	return list, nil
}

// directory makes a bind, cache or tmpfs mount.
func (w *walker) directory(m *instructions.Mount, from *stage, reads *[]*Step) (Mount, error) {
	mount := Mount{Type: MountType(m.Type), ReadOnly: m.ReadOnly}
	switch mount.Target = w.absolute(m.Target); {
	case mount.Target == "/":
		return mount, fmt.Errorf("invalid mount target %q", mount.Target)
	case m.Type == instructions.MountTypeTmpfs:
		mount.Size = m.SizeLimit
		return mount, nil
	}
	source := path.Join("/", m.Source)
	if m.Type == instructions.MountTypeBind {
		mount.Source = source
		context := w.p.outside("")
		mount.From = &context
		if from != nil {
			input := w.p.read(reads, from)
			mount.From = &input
		}
		return mount, nil
	}
	mount.Sharing = string(m.CacheSharing)
	if mount.Sharing == "" {
		mount.Sharing = "shared"
	}
	if mount.ID = m.CacheID; mount.ID == "" {
		mount.ID = path.Clean(m.Target)
	}
	if space := w.p.opt.BuildArgs["BUILDKIT_CACHE_MOUNT_NS"]; space != "" {
		mount.ID = space + "/" + mount.ID
	}
	if source == "/" && (m.UID != nil || m.GID != nil || m.Mode != nil) {
		mount.Access = access(m, 0o755) // an empty directory with an owner; what it would begin with does not matter
		return mount, nil
	}
	mount.Source = source
	if from != nil && from.state.fs != (tree{}) {
		input := w.p.read(reads, from)
		mount.From = &input
	}
	return mount, nil
}

// absolute is a path in the container, from the working directory.
func (w *walker) absolute(name string) string {
	if path.IsAbs(name) {
		return path.Clean(name)
	}
	return path.Join(w.stage.workingDir(), name)
}

// access is the owner and the mode, given if any of them is. The mode is mode unless another is given.
func access(m *instructions.Mount, mode uint32) (a Access) {
	if m.UID == nil && m.GID == nil && m.Mode == nil {
		return a
	}
	if m.Mode != nil {
		mode = uint32(*m.Mode)
	}
	a.Mode = &mode
	if m.UID != nil {
		a.UID = uint32(*m.UID)
	}
	if m.GID != nil {
		a.GID = uint32(*m.GID)
	}
	return a
}

// secret makes a secret mount: a file, a variable, or both.
func (w *walker) secret(m *instructions.Mount) (Mount, error) {
	mount := Mount{Type: Secret, ID: m.CacheID, Required: m.Required, ReadOnly: true}
	if m.Source != "" {
		mount.ID = m.Source
	}
	if mount.ID == "" {
		if m.Target == "" {
			return mount, errors.New("one of source, target required")
		}
		mount.ID = path.Base(m.Target)
	}
	switch {
	case m.Target != "":
		mount.Target = w.absolute(m.Target)
	case m.Env == nil:
		mount.Target = "/run/secrets/" + path.Base(mount.ID)
	}
	if mount.Target == "/" {
		return mount, fmt.Errorf("invalid mount target %q", mount.Target)
	}
	if m.Env != nil {
		if mount.Env = *m.Env; mount.Env == "" {
			return mount, errors.New("secret mount: env has no name")
		}
	}
	mount.Access = access(m, 0o400)
	askOnce(w.state.outline.secrets, Parameter{Name: mount.ID, Required: m.Required, Location: Location(w.at)})
	return mount, nil
}

// ssh makes a mount of an agent's socket, the n'th of its RUN.
func (w *walker) ssh(m *instructions.Mount, n int) (Mount, error) {
	if m.Source != "" {
		return Mount{}, errors.New("ssh does not support source")
	}
	mount := Mount{Type: SSH, ID: m.CacheID, Required: m.Required, Target: "/run/buildkit/ssh_agent." + strconv.Itoa(n)}
	if mount.ID == "" {
		mount.ID = "default"
	}
	if m.Target != "" {
		mount.Target = w.absolute(m.Target)
	}
	if mount.Target == "/" {
		return mount, fmt.Errorf("invalid mount target %q", mount.Target)
	}
	mount.Access = access(m, 0o600)
	askOnce(w.state.outline.ssh, Parameter{Name: mount.ID, Required: m.Required, Location: Location(w.at)})
	return mount, nil
}
