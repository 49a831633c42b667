package forge

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/forge-build/forge/container/volume"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/event/journal"
	"github.com/forge-build/forge/inspect"
	"github.com/forge-build/forge/internal/flock"
	"github.com/forge-build/forge/snapshot"
)

// volumeDriver is the only driver of volumes that there is.
const volumeDriver = "local"

// volumes are the volumes of the store.
func (h *Home) volumes() *volume.Store {
	return volume.Open(filepath.Join(h.Dir, "volumes"), snapshot.RemoveTree)
}

// volumeEvent tells who follows events that something has happened to a volume. Attributes come in pairs.
func (h *Home) volumeEvent(name, action string, attributes ...string) {
	about := map[string]string{"driver": volumeDriver}
	for i := 0; i+1 < len(attributes); i += 2 {
		about[attributes[i]] = attributes[i+1]
	}
	_ = h.journal().Record(context.Background(), journal.Of(journal.Volume, action, name, about))
}

// A NoVolumeError says that there is no volume of a name.
type NoVolumeError = volume.NotFoundError

// A VolumeInUseError says that a volume cannot be removed.
type VolumeInUseError struct {
	Name       string
	Containers []string // IDs
}

// Error is docker's text.
func (e *VolumeInUseError) Error() string {
	return fmt.Sprintf("remove %s: volume is in use - [%s]", e.Name, strings.Join(e.Containers, ", "))
}

// A VolumeInfo is a volume as docker's inspect shows it.
type VolumeInfo struct {
	CreatedAt  inspect.Timestamp // in whole seconds
	Driver     string
	Labels     map[string]string
	Mountpoint string
	Name       string
	Options    map[string]string
	Scope      string
	UsageData  *VolumeUsage `json:",omitempty"` // of MeasuredVolumes
}

// A VolumeUsage is what a volume takes and how many containers have it.
type VolumeUsage struct {
	RefCount int
	Size     int64 // bytes on the disk
}

// VolumeOptions say what volume to make.
type VolumeOptions struct {
	Name    string   // "" is 64 hexadecimal digits
	Driver  string   // local
	Labels  []string // K=V
	Options []string // K=V, as docker's driver local has them: o=bind with a device, which is a directory of this machine
}

// CreateVolume makes a volume, unless there is one of that name, and returns the name.
func (h *Home) CreateVolume(ctx context.Context, o VolumeOptions) (string, error) {
	r := volume.Record{Name: o.Name, Labels: pairs(o.Labels), Options: pairs(o.Options)}
	if o.Driver != "" && o.Driver != volumeDriver {
		return "", fmt.Errorf("create %s: error looking up volume plugin %s: plugin %q not found", o.Name, o.Driver, o.Driver)
	}
	if r.Name == "" {
		r.Name = newID()
		r.Labels = pairs(append(o.Labels, volume.AnonymousLabel))
	}
	lock, made, err := h.volumes().Acquire(ctx, r)
	if err != nil {
		return "", err
	}
	if made {
		h.volumeEvent(r.Name, "create")
	}
	return r.Name, lock.Close()
}

// Volume describes a volume.
func (h *Home) Volume(name string) (VolumeInfo, error) {
	r, err := h.volumes().Record(name)
	if err != nil {
		return VolumeInfo{}, err
	}
	return VolumeInfo{
		CreatedAt: inspect.Timestamp{Time: r.Created.Truncate(time.Second)}, Driver: volumeDriver, Labels: r.Labels, Mountpoint: h.volumes().DataPath(name),
		Name: name, Options: r.Options, Scope: volumeDriver,
	}, nil
}

// Volumes lists the volumes that filters choose, by name. One whose record cannot be read is listed without what it says.
func (h *Home) Volumes(filters []string) ([]VolumeInfo, error) {
	f, err := parseVolumeFilter(filters, "dangling", "label", "name", "driver")
	if err != nil {
		return nil, err
	}
	names, err := h.volumes().Names()
	if err != nil {
		return nil, err
	}
	var users map[string][]string
	if f["dangling"] != nil {
		if users, err = h.volumeUsers(); err != nil {
			return nil, err
		}
	}
	var list []VolumeInfo
	for _, name := range names {
		info, err := h.Volume(name)
		if _, gone := errors.AsType[*NoVolumeError](err); gone {
			continue
		}
		if err != nil {
			info = VolumeInfo{Name: name, Driver: volumeDriver, Scope: volumeDriver, Mountpoint: h.volumes().DataPath(name)}
		}
		if info.passes(f, users[name]) {
			list = append(list, info)
		}
	}
	return list, nil
}

// MeasuredVolumes lists all volumes with what they take.
func (h *Home) MeasuredVolumes() ([]VolumeInfo, error) {
	list, err := h.Volumes(nil)
	if err != nil || len(list) == 0 {
		return list, err
	}
	users, err := h.volumeUsers()
	if err != nil {
		return nil, err
	}
	for i := range list {
		k, err := treeUsage(list[i].Mountpoint)
		if err != nil {
			return nil, err
		}
		list[i].UsageData = &VolumeUsage{RefCount: len(users[list[i].Name]), Size: k.Bytes}
	}
	return list, nil
}

// volumeUsers are the IDs of the containers that use each volume.
func (h *Home) volumeUsers() (map[string][]string, error) {
	ids, err := h.containers().IDs()
	if err != nil {
		return nil, err
	}
	slices.Sort(ids)
	users := map[string][]string{}
	for _, id := range ids {
		names, err := h.containers().Volumes(id)
		if err != nil {
			return nil, fmt.Errorf("nobody knows which volumes container %s uses, which forge rm %[1]s would end: %w", id[:12], err)
		}
		for _, name := range names {
			users[name] = append(users[name], id)
		}
	}
	return users, nil
}

// RemoveVolume deletes a volume and all that is in it. It fails with a *VolumeInUseError if a container has it, whether that
// runs or not, and with a *NoVolumeError if there is none.
func (h *Home) RemoveVolume(ctx context.Context, name string) error {
	lock, err := h.volumes().Lock(ctx, name)
	if err != nil {
		return err
	}
	users, err := h.volumeUsers()
	switch {
	case err != nil:
	case users[name] != nil:
		err = &VolumeInUseError{name, users[name]}
	default:
		err = h.destroyVolume(name)
	}
	return errors.Join(err, lock.Close())
}

// destroyVolume deletes a volume whose lock the caller holds, and tells that it is gone.
func (h *Home) destroyVolume(name string) error {
	if err := h.volumes().Remove(name); err != nil {
		return err
	}
	h.volumeEvent(name, "destroy")
	return nil
}

// PruneVolumesOptions say which of the volumes that no container uses go: those without a name, or All.
type PruneVolumesOptions struct {
	All     bool
	Filters []string // label=K[=V], label!=K[=V] or all=true
}

// Check refuses filters that do not exist.
func (o *PruneVolumesOptions) Check() error {
	f, err := parseVolumeFilter(o.Filters, "label", "label!", "all")
	if err != nil {
		return err
	}
	for _, v := range f["all"] {
		if o.All, err = strconv.ParseBool(v); err != nil {
			return words.Invalid("invalid filter 'all=%s'", v)
		}
	}
	return nil
}

// PruneVolumes removes volumes that no container uses. A volume that is in use at that moment stays; one that cannot be removed is in the
// error, and the others go.
func (h *Home) PruneVolumes(ctx context.Context, o PruneVolumesOptions) (removed []string, bytes int64, err error) {
	if err := o.Check(); err != nil {
		return nil, 0, err
	}
	f, _ := parseVolumeFilter(o.Filters, "label", "label!", "all")
	names, err := h.volumes().Names()
	if err != nil {
		return nil, 0, err
	}
	if _, err := h.volumeUsers(); err != nil { // else each of them would say so
		return nil, 0, err
	}
	var errs []error
	for _, name := range names {
		if ctx.Err() != nil {
			return removed, bytes, errors.Join(append(errs, context.Cause(ctx))...)
		}
		n, err := h.pruneVolume(name, o, f)
		errs = append(errs, err)
		if n >= 0 {
			removed, bytes = append(removed, name), bytes+n
		}
	}
	h.pruneEvent(journal.Volume, bytes)
	return removed, bytes, errors.Join(append(errs, h.volumes().Sweep())...)
}

// pruneVolume removes a volume that is to go, and returns how many bytes it had; -1 if it stays.
func (h *Home) pruneVolume(name string, o PruneVolumesOptions, f filters) (int64, error) {
	lock, err := h.volumes().TryLock(name)
	_, gone := errors.AsType[*NoVolumeError](err)
	if gone || errors.Is(err, flock.ErrHeld) {
		return -1, nil
	}
	if err != nil {
		return -1, err
	}
	bytes := int64(-1)
	// Asked under the lock: who makes a container has it until the container is known.
	users, err := h.volumeUsers()
	if err == nil && users[name] == nil {
		r, recordErr := h.volumes().Record(name)
		if recordErr == nil && (o.All || r.Anonymous()) && (&VolumeInfo{Name: name, Labels: r.Labels}).passes(f, nil) {
			k, _ := treeUsage(h.volumes().DataPath(name)) // what cannot be measured can be removed
			if err = h.destroyVolume(name); err == nil {
				bytes = k.Bytes
			}
		}
	}
	return bytes, errors.Join(err, lock.Close())
}

// parseVolumeFilter reads filters with one of the keys.
func parseVolumeFilter(list []string, keys ...string) (filters, error) {
	f := filters{}
	for _, text := range list {
		key, value, err := cutFilter(text)
		if err != nil {
			return f, err
		}
		if !slices.Contains(keys, key) {
			return f, words.Invalid("invalid filter '%s'", key)
		}
		if _, err := strconv.ParseBool(value); key == "dangling" && err != nil {
			return f, words.Invalid("invalid filter 'dangling=%s'", value)
		}
		f[key] = append(f[key], value)
	}
	return f, nil
}

// passes reports whether a volume that these containers use passes.
func (v *VolumeInfo) passes(f filters, users []string) bool {
	return f.take(func(key, value string) bool { return v.matches(key, value, users) })
}

func (v *VolumeInfo) matches(key, value string, users []string) bool {
	switch key {
	case "label", "label!":
		return hasLabel(v.Labels, value) == (key == "label")
	case "name":
		re, err := regexp.Compile(value)
		return strings.Contains(v.Name, value) || err == nil && re.MatchString(v.Name)
	case "driver":
		return v.Driver == value
	case "dangling":
		dangling, _ := strconv.ParseBool(value)
		return dangling == (len(users) == 0)
	}
	return true // all
}

// volumeUsage is the row of volumes in `forge system df`.
func (h *Home) volumeUsage() (KindUsage, error) {
	k := KindUsage{Name: "Local Volumes"}
	names, err := h.volumes().Names()
	if err != nil || len(names) == 0 {
		return k, err
	}
	users, usersErr := h.volumeUsers()
	for _, name := range names {
		one, err := treeUsage(h.volumes().DataPath(name))
		if err != nil {
			return k, err
		}
		k.Count, k.Bytes = k.Count+1, k.Bytes+one.Bytes
		switch {
		case usersErr == nil && users[name] == nil:
			k.Reclaimable += one.Bytes
		case usersErr == nil:
			k.Active++
		}
	}
	return k, nil
}

// checkVolumes names the volumes that cannot be used as they are, and containers whose volumes are gone. A repair makes what is
// missing, but never removes what is there.
func (h *Home) checkVolumes(o FsckOptions) (problems []string, err error) {
	names, err := h.volumes().Names()
	if err != nil {
		return nil, err
	}
	users, err := h.volumeUsers()
	if err != nil {
		return nil, err
	}
	for name := range users {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range slices.Compact(names) {
		if err := h.volumes().Check(name); err != nil {
			line := fmt.Sprintf("volumes/%s: %v", name, err)
			if ids := users[name]; len(ids) > 0 {
				line += "; containers: " + strings.Join(ids, " ")
			}
			problems = append(problems, line)
		}
		if o.Repair {
			if err := h.volumes().Repair(name); err != nil {
				return problems, err
			}
		}
	}
	return problems, nil
}
