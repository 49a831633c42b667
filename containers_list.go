package forge

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	goruntime "runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/inspect"
)

// A ContainerInfo is a container, as a list shows it.
type ContainerInfo struct {
	ID, Name string
	Image    string // as it was named
	ImageID  string
	Command  []string
	Created  time.Time
	Status   state.Status
	Run      state.Run
	Labels   map[string]string
	Written  int64 // bytes of its own files, if they were asked for
	Virtual  int64 // the same, with those of its image

	Mounts   []inspect.Mount
	Networks []string // that it is connected to whenever it runs

	TTY, Interactive, AutoRemove, LogsKept bool

	record *containerRecord // nil if it cannot be read
}

// ListOptions say which containers are listed, newest first. The zero value with Last -1 lists those that run.
type ListOptions struct {
	All     bool
	Last    int      // so many in any state; -1 is no bound
	Size    bool     // how much each has written
	Filters []string // KEY=VALUE, as docker's
}

// Container is the container that a name, an ID or the beginning of one means.
func (h *Home) Container(ref string) (ContainerInfo, error) {
	id, err := h.containers().Find(ref)
	if err != nil {
		return ContainerInfo{}, err
	}
	info, err := h.containerInfo(id)
	if errors.Is(err, fs.ErrNotExist) {
		return info, &state.NotFoundError{Ref: ref}
	}
	return info, err
}

// Containers lists containers, newest first. One whose record cannot be read is listed as dead.
func (h *Home) Containers(ctx context.Context, o ListOptions) ([]ContainerInfo, error) {
	filter, err := h.containerFilter(o.Filters)
	if err != nil {
		return nil, err
	}
	ids, err := h.containers().IDs()
	if err != nil {
		return nil, err
	}
	any := o.All || o.Last >= 0 || filter.anyStatus
	infos, err := h.containerInfos(ctx, ids, any)
	if err != nil {
		return nil, err
	}
	var list []ContainerInfo
	for _, info := range infos {
		if info == nil {
			continue
		}
		if o.Size {
			if err := h.measure(ctx, info); err != nil {
				return nil, err
			}
		}
		if (any || info.listed()) && filter.takes(info) {
			list = append(list, *info)
		}
	}
	slices.SortFunc(list, func(a, b ContainerInfo) int {
		return cmp.Or(b.Created.Compare(a.Created), strings.Compare(a.ID, b.ID))
	})
	if o.Last >= 0 {
		list = list[:min(o.Last, len(list))]
	}
	return list, nil
}

// listed reports whether a container is listed where only those that run are.
func (i *ContainerInfo) listed() bool { return i.Status.Alive() || i.Status == state.Restarting }

// containerInfos reads what is known of containers, each processor a part; nil is one that is gone or, unless any is asked for,
// does not run: of those that do not, only the last run is looked at.
func (h *Home) containerInfos(ctx context.Context, ids []string, any bool) ([]*ContainerInfo, error) {
	infos := make([]*ContainerInfo, len(ids))
	var next atomic.Int64
	var read sync.WaitGroup
	for range min(goruntime.GOMAXPROCS(0), len(ids)) {
		read.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(ids) {
					return
				}
				infos[i] = h.listedInfo(ids[i], any)
			}
		})
	}
	read.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return infos, nil
}

func (h *Home) listedInfo(id string, any bool) *ContainerInfo {
	if !any {
		_, status, err := h.containers().Run(id)
		if err == nil && !(&ContainerInfo{Status: status}).listed() {
			return nil
		}
	}
	info, err := h.containerInfo(id)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil // it is gone
	case err != nil:
		return &ContainerInfo{ID: id, Status: state.Dead, Run: state.Run{Error: err.Error()}}
	}
	return &info
}

// measure finds out how much a container takes.
func (h *Home) measure(ctx context.Context, i *ContainerInfo) error {
	store, err := h.Snapshots()
	if err != nil {
		return err
	}
	var layers []image.Layer
	if r, err := h.containers().Record(i.ID); err == nil {
		if img, err := h.containerImage(ctx, r); err == nil { // it may be damaged, or removed by force
			layers, i.Virtual = img.Layers(), h.imageSize(img)
		}
	}
	i.Written, err = store.Written(ctx, layers, h.rootDir(i.ID))
	i.Virtual += i.Written
	return err
}

// MeasureContainer says in the inspection of a container how much it has written, and how much that is with its image, in bytes.
func (h *Home) MeasureContainer(ctx context.Context, c *inspect.Container) error {
	i := ContainerInfo{ID: c.ID}
	if err := h.measure(ctx, &i); err != nil {
		return err
	}
	c.SizeRw, c.SizeRootFs = &i.Written, &i.Virtual
	return nil
}

func (h *Home) containerInfo(id string) (ContainerInfo, error) {
	r, err := h.containers().Record(id)
	if err != nil {
		return ContainerInfo{}, err
	}
	run, status, err := h.containers().Run(id)
	if err != nil {
		return ContainerInfo{}, err
	}
	var networks []string
	for _, a := range r.Config.Networks {
		networks = append(networks, a.Network)
	}
	if mode := r.Config.Network; len(networks) == 0 && (mode == "none" || mode == "host") {
		networks = []string{mode}
	}
	return ContainerInfo{
		ID: id, Name: r.Name, Image: r.Image, ImageID: string(r.ImageID), Command: r.Config.Command,
		Created: r.Created, Status: status, Run: *run, Labels: r.Config.Labels, Mounts: h.inspectMounts(r), Networks: networks,
		TTY: r.Config.TTY, Interactive: r.Config.Interactive, AutoRemove: r.Config.AutoRemove, LogsKept: r.Config.LogDriver != "none", record: r,
	}, nil
}

// A ContainerView is a container in docker's words.
type ContainerView struct {
	ID, Image, Command, RunningFor, Status, Ports, Size, Labels, Mounts, Networks, LocalVolumes string
}

// How much a list shows of a command, and of the name of a mount.
const (
	commandWidth = 20
	mountWidth   = 15
)

// Short is the view with its long texts shortened.
func (v ContainerView) Short() ContainerView {
	v.ID, v.Command = v.ID[:12], words.Shorten(v.Command, commandWidth)
	mounts := strings.Split(v.Mounts, ",")
	for i, m := range mounts {
		mounts[i] = words.Shorten(m, mountWidth)
	}
	v.Mounts = strings.Join(mounts, ",")
	return v
}

// View says in docker's words what a container is and does, now.
func (i *ContainerInfo) View(now time.Time) ContainerView {
	v := ContainerView{ID: i.ID, Image: i.Image}
	if !i.Created.IsZero() { // the record can be read
		v.RunningFor = words.Ago(now, i.Created)
	}
	if len(i.Command) > 0 {
		v.Command = words.Command(i.Command[0], i.Command[1:])
	}
	st := words.State{Status: string(i.Status), ExitCode: i.Run.ExitCode, Started: i.Run.Started, Finished: i.Run.Finished}
	if i.Run.Health != nil {
		st.Health = i.Run.Health.Status
	}
	v.Status = st.Line(now)
	v.Ports = words.Ports(i.ports())
	v.Size = words.Size(i.Written, i.Virtual)
	var labels []string
	for _, k := range slices.Sorted(maps.Keys(i.Labels)) {
		labels = append(labels, k+"="+i.Labels[k])
	}
	v.Labels = strings.Join(labels, ",")
	var mounts []string
	volumes := 0
	for _, m := range i.Mounts {
		if mounts = append(mounts, cmp.Or(m.Name, m.Source)); m.Type == "volume" {
			volumes++
		}
	}
	v.Mounts, v.LocalVolumes = strings.Join(mounts, ","), strconv.Itoa(volumes)
	v.Networks = strings.Join(slices.Sorted(slices.Values(i.Networks)), ",")
	return v
}

// A containerFilter is docker's --filter of containers.
type containerFilter struct {
	filters
	anyStatus bool // containers that do not run are meant, too
	before    time.Time
	since     time.Time
}

// containerFilter reads filters.
func (h *Home) containerFilter(list []string) (f containerFilter, err error) {
	f.filters = filters{}
	for _, text := range list {
		key, value, err := cutFilter(text)
		if err != nil {
			return f, err
		}
		switch key {
		case "id", "name", "label", "ancestor", "health", "volume", "network", "publish", "expose":
		case "status":
			f.anyStatus = true
			if !slices.Contains([]string{"created", "restarting", "running", "removing", "paused", "exited", "dead"}, value) {
				return f, words.Invalid("invalid filter 'status=%s'", value)
			}
		case "exited":
			f.anyStatus = true
			if _, err := strconv.Atoi(value); err != nil {
				return f, words.Invalid("invalid filter 'exited=%s'", value)
			}
		case "before", "since":
			r, err := h.findContainer(value)
			if err != nil {
				return f, err
			}
			f.anyStatus = true
			*map[string]*time.Time{"before": &f.before, "since": &f.since}[key] = r.Created
		default:
			return f, words.Invalid("invalid filter '%s'", key)
		}
		f.filters[key] = append(f.filters[key], value)
	}
	return f, nil
}

// takes reports whether a container passes.
func (f *containerFilter) takes(i *ContainerInfo) bool {
	if !f.before.IsZero() && !i.Created.Before(f.before) || !f.since.IsZero() && !i.Created.After(f.since) {
		return false
	}
	return f.take(i.matches)
}

func (i *ContainerInfo) matches(key, value string) bool {
	switch key {
	case "id":
		return strings.HasPrefix(i.ID, value)
	case "name":
		return matchName(value, i.Name)
	case "label":
		return hasLabel(i.Labels, value)
	case "status":
		return string(i.Status) == value
	case "exited":
		return i.Status == state.Exited && strconv.Itoa(i.Run.ExitCode) == value
	case "ancestor":
		_, hex, _ := strings.Cut(i.ImageID, ":")
		return i.Image == value || strings.TrimSuffix(i.Image, ":latest") == value || i.ImageID == value ||
			len(value) >= 4 && strings.HasPrefix(hex, value)
	case "health":
		return i.Run.Health != nil && i.Run.Health.Status == value || i.Run.Health == nil && value == "none"
	case "volume":
		return slices.ContainsFunc(i.Mounts, func(m inspect.Mount) bool { return value == cmp.Or(m.Name, m.Source) || value == m.Destination })
	case "network":
		return slices.Contains(i.Networks, value)
	case "publish":
		return slices.ContainsFunc(i.Run.Ports, func(p words.Port) bool { return isPort(value, p.Host, p.Protocol) })
	case "expose":
		return slices.ContainsFunc(i.Run.Ports, func(p words.Port) bool { return isPort(value, p.Port, p.Protocol) })
	}
	return true // before and since are looked at elsewhere
}

// isPort reports whether "80", "80/udp" or "80-90" means a port.
func isPort(text string, port uint16, protocol string) bool {
	number, proto, ok := strings.Cut(text, "/")
	if ok && proto != protocol {
		return false
	}
	first, last, ranged := strings.Cut(number, "-")
	if !ranged {
		last = first
	}
	a, errA := strconv.Atoi(first)
	b, errB := strconv.Atoi(last)
	return errA == nil && errB == nil && a <= int(port) && int(port) <= b
}

// matchName reports whether docker's regular expression matches a name, which docker keeps with a slash before it.
func matchName(pattern, name string) bool {
	re, err := regexp.Compile(pattern)
	return err == nil && (re.MatchString(name) || re.MatchString("/"+name))
}

// ContainerPorts lists the addresses of this machine at which a container's ports are published, or one of them, such as "80" or
// "53/udp", in docker's words.
func (h *Home) ContainerPorts(ref, port string) ([]string, error) {
	info, err := h.Container(ref)
	if err != nil {
		return nil, err
	}
	lines, err := words.Published(info.Run.Ports, port)
	if err == nil && port != "" && len(lines) == 0 {
		err = fmt.Errorf("No public port '%s' published for %s", port, ref) //nolint:staticcheck // docker's words
	}
	return lines, err
}
