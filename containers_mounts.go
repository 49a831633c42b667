package forge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/container/volume"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/inspect"
	"github.com/forge-build/forge/internal/closers"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
)

// A mountPlan is what a container that is being made will mount. Its volumes are locked until it is closed, so that nobody
// removes them before the container is known to use them.
type mountPlan struct {
	home   *Home
	points []container.MountPoint
	made   []string // volumes that were made for this container alone
	locks  closers.Stack
}

func (p *mountPlan) close() error { return p.locks.Close() }

// volumes are the names of the volumes.
func (p *mountPlan) volumes() (names []string) {
	for _, m := range p.points {
		if m.Type == "volume" && !slices.Contains(names, m.Name) {
			names = append(names, m.Name)
		}
	}
	return names
}

// discard takes back what was made for a container that is not.
func (p *mountPlan) discard() error {
	var errs []error
	for _, name := range p.made {
		errs = append(errs, p.home.destroyVolume(name))
	}
	return errors.Join(append(errs, p.close())...)
}

// planMounts finds out what a container mounts, makes the volumes that there are not, and fills those that are empty.
func (h *Home) planMounts(ctx context.Context, o *ContainerOptions, img *image.Image) (_ *mountPlan, err error) {
	points, err := h.wantedMounts(o, img)
	if err != nil {
		return nil, err
	}
	p := &mountPlan{home: h, points: points}
	if err := p.acquire(ctx); err != nil {
		return nil, errors.Join(err, p.discard())
	}
	if err := p.fill(ctx, img, &o.LifeOptions); err != nil {
		return nil, errors.Join(err, p.discard())
	}
	return p, nil
}

// wantedMounts are the mounts of the flags, of other containers and of the image. The former go before the latter.
func (h *Home) wantedMounts(o *ContainerOptions, img *image.Image) ([]container.MountPoint, error) {
	points, err := container.ParseMounts(o.Volumes, o.Mounts, o.Tmpfs)
	if err != nil {
		return nil, err
	}
	for _, p := range points {
		if p.Type != "bind" || p.Create {
			continue
		}
		if _, err := os.Stat(p.Source); errors.Is(err, fs.ErrNotExist) {
			return nil, words.Invalid("invalid mount config for type \"bind\": bind source path does not exist: %s", p.Source)
		}
	}
	add := func(p container.MountPoint) {
		if !slices.ContainsFunc(points, func(other container.MountPoint) bool { return other.Target == p.Target }) {
			points = append(points, p)
		}
	}
	for _, from := range slices.Backward(o.VolumesFrom) { // of two with one target the last counts
		ref, readOnly, err := container.ParseVolumesFrom(from)
		if err != nil {
			return nil, err
		}
		r, err := h.findContainer(ref)
		if err != nil {
			return nil, err
		}
		for _, p := range r.Config.MountPoints {
			p.ReadOnly, p.NoCopy = p.ReadOnly || readOnly, true
			add(p)
		}
	}
	for _, target := range slices.Sorted(maps.Keys(img.Config.Config.Volumes)) {
		add(container.MountPoint{Type: "volume", Target: path.Join("/", target)})
	}
	return points, checkVolumePlaces(points)
}

// checkVolumePlaces refuses volumes, which an image may ask for, in the place of what every container has.
func checkVolumePlaces(points []container.MountPoint) error {
	for _, p := range points {
		if p.Type != "volume" {
			continue
		}
		if p.Target == "/" {
			return errors.New("invalid volume specification: '/': invalid specification: destination can't be '/'")
		}
		for _, dir := range []string{"/proc", "/sys"} {
			if p.Target == dir || strings.HasPrefix(p.Target, dir+"/") {
				return fmt.Errorf("volume at %s: cannot be mounted because it is inside %s", p.Target, dir)
			}
		}
	}
	return nil
}

// acquire makes and locks the volumes, in the order of their names, so that two containers never wait for each other.
func (p *mountPlan) acquire(ctx context.Context) error {
	var volumes []*container.MountPoint
	for i := range p.points {
		m := &p.points[i]
		if m.Type != "volume" {
			continue
		}
		if m.Name == "" {
			m.Name, m.Anonymous = newID(), true
			m.Labels = maps.Clone(m.Labels)
			if m.Labels == nil {
				m.Labels = map[string]string{}
			}
			m.Labels[volume.AnonymousLabel] = ""
		}
		volumes = append(volumes, m)
	}
	slices.SortStableFunc(volumes, func(a, b *container.MountPoint) int { return cmp.Compare(a.Name, b.Name) })
	for i, m := range volumes {
		if i > 0 && m.Name == volumes[i-1].Name {
			continue
		}
		lock, made, err := p.home.volumes().Acquire(ctx, volume.Record{Name: m.Name, Labels: m.Labels, Options: m.Options})
		if err != nil {
			return err
		}
		p.locks.Push(lock.Close)
		if made {
			p.home.volumeEvent(m.Name, "create")
		}
		if made && m.Anonymous {
			p.made = append(p.made, m.Name)
		}
	}
	return nil
}

// fill gives the volumes that are empty what the image has at their places.
func (p *mountPlan) fill(ctx context.Context, img *image.Image, o *LifeOptions) (err error) {
	var view *snapshot.View
	defer func() {
		if view != nil {
			err = errors.Join(err, view.Close())
		}
	}()
	for i := range p.points {
		m := &p.points[i]
		if m.Type != "volume" || m.NoCopy || m.Subpath != "" {
			continue
		}
		err := p.home.volumes().Fill(ctx, m.Name, func(dir *os.File) error {
			if view == nil {
				if view, err = p.home.view(ctx, img.Layers()); err != nil {
					return err
				}
			}
			if err := p.home.copyUp(ctx, view, m.Target, dir); err != nil || o.AutoRemove && m.Anonymous {
				return err
			}
			return durable.SyncFS(dir)
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// copyUp copies what an image has at a path into the directory of a new volume.
func (h *Home) copyUp(ctx context.Context, view *snapshot.View, target string, dir *os.File) error {
	store, err := h.Snapshots()
	if err != nil {
		return err
	}
	from, err := filetree.Resolve(view.Lstat, strings.TrimPrefix(target, "/"))
	if errors.Is(err, fs.ErrNotExist) {
		return volume.ErrNothing
	}
	if err != nil {
		return err
	}
	if err := store.CopyDir(ctx, view, from, dir); errors.Is(err, syscall.ENOTDIR) {
		return fmt.Errorf("cannot mount volume over existing file, file exists %s", target)
	} else if err != nil {
		return fmt.Errorf("copy of %s of the image: %w", target, err)
	}
	return nil
}

// mountPoints are what a container mounts. A volume is mounted as its options say, such as read-only, whatever the container asks for.
func (h *Home) mountPoints(r *containerRecord) []container.MountPoint {
	points := slices.Clone(r.Config.MountPoints)
	for i := range points {
		p := &points[i]
		if p.Type != "volume" {
			continue
		}
		if v, err := h.volumes().Record(p.Name); err == nil { // else who opens it is told
			p.ReadOnly = p.ReadOnly || v.ReadOnly()
			p.Attributes.Set, p.Attributes.Clear = v.Attributes()
		}
	}
	return points
}

// openMounts opens what a container mounts. What is opened is given back by open; kept is what has to stay open while the container runs.
func (h *Home) openMounts(ctx context.Context, r *containerRecord, open *closers.Stack) (mounts []container.Mount, kept []*os.File, err error) {
	points := h.mountPoints(r)
	for i := range points {
		p := &points[i]
		var data *os.File
		if p.Type == "volume" {
			if data, err = h.openVolume(ctx, r.ID, p); err != nil {
				return nil, nil, err
			}
			open.Push(h.released(ctx, p.Name))
			open.Push(data.Close)
			kept = append(kept, data)
			about := []string{"container", r.ID, "destination", p.Target, "driver", volumeDriver, "propagation", "", "read/write", fmt.Sprint(!p.ReadOnly)}
			h.volumeEvent(p.Name, "mount", about...)
			open.Push(h.unmounted(r.ID, p.Name))
		}
		m, err := p.Mount(data)
		if err != nil {
			return nil, nil, err
		}
		mounts = append(mounts, m)
	}
	return mounts, kept, nil
}

// openVolume opens what a container mounts of a volume. Without root every process has mounts of its own, so that no two containers can share
// a file system that is nowhere but in memory.
func (h *Home) openVolume(ctx context.Context, id string, p *container.MountPoint) (*os.File, error) {
	if r, err := h.volumes().Record(p.Name); err == nil && r.Forgets() && Rootless() {
		users, err := h.volumeUsers()
		if err != nil {
			return nil, err
		}
		for _, other := range users[p.Name] {
			if _, status, err := h.containers().Run(other); err == nil && status.Alive() && other != id {
				return nil, fmt.Errorf("volume %s: is in the memory of container %s, and without root two containers cannot share it: stop that one, or use a volume on disk", p.Name, other[:12])
			}
		}
	}
	return h.volumes().OpenData(ctx, p.Name, p.Subpath)
}

// unmounted tells that a container uses a volume no more, when it has ended.
func (h *Home) unmounted(id, volume string) func() error {
	return func() error { h.volumeEvent(volume, "unmount", "container", id, "driver", volumeDriver); return nil }
}

// released unmounts what is mounted for a volume, when nobody uses it any more.
func (h *Home) released(ctx context.Context, name string) func() error {
	return func() error { return h.volumes().Release(context.WithoutCancel(ctx), name) }
}

// openMountDir opens the directory of a volume or bind mount of a container that does not run.
func (h *Home) openMountDir(ctx context.Context, p *container.MountPoint) (*os.File, error) {
	if p.Type == "bind" {
		return os.OpenFile(p.Source, os.O_RDONLY|syscall.O_DIRECTORY, 0)
	}
	f, err := h.volumes().OpenData(ctx, p.Name, p.Subpath)
	if err != nil {
		return nil, err
	}
	if info, err := f.Stat(); err != nil || !info.IsDir() {
		return nil, errors.Join(cmp.Or(err, error(syscall.ENOTDIR)), f.Close())
	}
	return f, nil
}

// releaseVolumes unmounts what the monitor of a container has left that was killed.
func (h *Home) releaseVolumes(ctx context.Context, r *containerRecord) error {
	var errs []error
	for _, p := range r.Config.MountPoints {
		if p.Type == "volume" {
			errs = append(errs, h.volumes().Release(ctx, p.Name))
		}
	}
	return errors.Join(errs...)
}

// dropVolumes removes the volumes that were made for a container that is gone, but for those that others have got from it.
func (h *Home) dropVolumes(ctx context.Context, r *containerRecord) error {
	var errs []error
	for _, p := range r.Config.MountPoints {
		if p.Type != "volume" || !p.Anonymous {
			continue
		}
		err := h.RemoveVolume(ctx, p.Name)
		_, used := errors.AsType[*VolumeInUseError](err)
		_, gone := errors.AsType[*NoVolumeError](err)
		if !used && !gone {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// inspectMounts are the mounts of a container as docker's inspect shows them, which leaves out those of --tmpfs.
func (h *Home) inspectMounts(r *containerRecord) []inspect.Mount {
	views := []inspect.Mount{}
	for _, p := range r.Config.MountPoints {
		v := inspect.Mount{Type: p.Type, Name: p.Name, Source: p.Source, Destination: p.Target, Mode: p.Mode, RW: !p.ReadOnly}
		switch p.Type {
		case "tmpfs":
			flag := func(s string) bool { target, _, _ := strings.Cut(s, ":"); return path.Clean(target) == p.Target }
			if slices.ContainsFunc(r.Config.Tmpfs, flag) {
				continue
			}
		case "bind":
			v.Propagation = cmp.Or(p.Propagation, "rprivate")
		case "volume":
			v.Source, v.Driver = h.volumes().DataPath(p.Name), volumeDriver
			if v.Mode == "" && !p.Anonymous {
				v.Mode = "z" // as docker has it, where there is no SELinux either
			}
		}
		views = append(views, v)
	}
	return views
}

// volumeFlags are the values of -v that name a source, and the places of those that do not.
func (o *ContainerOptions) volumeFlags(image map[string]struct{}) (binds []string, places map[string]struct{}) {
	places = maps.Clone(image)
	for _, v := range o.Volumes {
		if strings.Contains(v, ":") {
			binds = append(binds, v)
			continue
		}
		if places == nil {
			places = map[string]struct{}{}
		}
		places[v] = struct{}{}
	}
	return binds, places
}
