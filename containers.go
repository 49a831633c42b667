package forge

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/container"
	"github.com/forge-build/forge/container/monitor"
	"github.com/forge-build/forge/container/state"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/snapshot"
)

// ContainerOptions say what container to create. They are plain data, as [RunOptions] are.
type ContainerOptions struct {
	RunOptions
	LifeOptions
}

// LifeOptions say how a container is called and kept.
type LifeOptions struct {
	Name        string   `help:"Name of the container." placeholder:"NAME"` // "" is two words
	AutoRemove  bool     `name:"rm" help:"Remove the container when it ends."`
	Interactive bool     `short:"i" help:"Pass standard input on."` // which is kept open
	StdinOnce   bool     `kong:"-"`                                 // until the first who attaches closes it
	Detached    bool     `kong:"-"`                                 // nobody attaches at the start
	Attach      []string `kong:"-"`                                 // what of stdin, stdout and stderr is to be attached, as inspect shows; empty is all output
	Restart     string   `help:"no, always, unless-stopped or on-failure[:N]." placeholder:"POLICY"`
	StopSignal  string   `help:"Signal that asks the container to end." placeholder:"SIGNAL"`                // "" is the image's, or SIGTERM
	StopTimeout *int     `help:"Seconds until a container that is stopped is killed." placeholder:"SECONDS"` // nil is 10, -1 is never
	Labels      []string `name:"label" short:"l" sep:"none" help:"Label." placeholder:"K[=V]"`
	LabelFiles  []string `name:"label-file" sep:"none" help:"File of labels, one a line." placeholder:"FILE"` // before Labels
	Annotations []string `name:"annotation" sep:"none" help:"Annotation: kept, and shown by inspect." placeholder:"K=V"`
	LogDriver   string   `help:"json-file, local or none." placeholder:"DRIVER"`
	LogOpts     []string `name:"log-opt" sep:"none" help:"Option of the log." placeholder:"NAME=VALUE"`
	ConsoleSize [2]uint  `kong:"-"` // rows and columns of the terminal at the start; zero is not known
	HealthTest  []string `kong:"-"` // as an image has it: CMD and words, CMD-SHELL and a line, or NONE; over the image's, and below HealthOptions
	HealthOptions
	PortOptions
	EndpointOptions
}

// HealthOptions say how a container is asked whether it is well, over what the image says.
type HealthOptions struct {
	HealthCmd           string        `help:"Command that says whether the container is well." placeholder:"COMMAND"` // of a shell; "" is the image's
	HealthInterval      time.Duration `help:"Time between two checks." placeholder:"TIME"`
	HealthTimeout       time.Duration `help:"Longest time of a check." placeholder:"TIME"`
	HealthStartPeriod   time.Duration `help:"Time in which failures do not count." placeholder:"TIME"`
	HealthStartInterval time.Duration `help:"Time between two checks in that." placeholder:"TIME"`
	HealthRetries       int           `help:"Failures in a row that make it unhealthy." placeholder:"N"`
	NoHealthcheck       bool          `help:"Ask never, whatever the image says."`
}

// HealthOptionsOf are the times and the number of a health check, as options have them. The test is not among them.
func HealthOptionsOf(h *image.Healthcheck) HealthOptions {
	return HealthOptions{
		HealthInterval: h.Interval, HealthTimeout: h.Timeout, HealthStartPeriod: h.StartPeriod, HealthStartInterval: h.StartInterval,
		HealthRetries: h.Retries,
	}
}

// A containerConfig is what is kept of a container.
type containerConfig struct {
	ContainerOptions
	Command []string          // the whole command line
	Labels  map[string]string // the image's, and its own
	Exposed []string          // ports that the image and the options expose: "80/tcp"

	Networks    []attachment           // those that it is connected to whenever it runs
	MountPoints []container.MountPoint // of the flags, of other containers and of the image

	Lent *image.Image `json:",omitempty"` // its own, if that is not in the store: its layers are read in the registry
}

type (
	containerStore  = state.Store[containerConfig]
	containerRecord = state.Record[containerConfig]
)

// containers are the containers of the store.
func (h *Home) containers() *containerStore {
	return state.Open[containerConfig](filepath.Join(h.Dir, "containers"))
}

// Check refuses what cannot be created, and makes the options independent of this process, as [RunOptions.Check] does.
func (o *ContainerOptions) Check(ctx context.Context) error {
	var labels []string
	for _, file := range o.LabelFiles {
		text, err := durable.ReadInput(ctx, file, maxLabelFile)
		if err != nil {
			return err
		}
		for line := range strings.Lines(string(text)) {
			if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
				labels = append(labels, line)
			}
		}
	}
	o.Labels, o.LabelFiles = append(labels, o.Labels...), nil
	return errors.Join(o.RunOptions.Check(ctx), o.LifeOptions.check())
}

// Verify refuses what cannot be created, as Check does, and takes nothing of this process: it is for options that come from elsewhere.
func (o *ContainerOptions) Verify() error {
	_, err := o.parse()
	return errors.Join(err, o.LifeOptions.check())
}

// maxLabelFile is how much of a file of labels is read, in bytes.
const maxLabelFile = 1 << 20

// CreateContainer makes a container, which does not run yet, and returns its ID. The options have been through Check.
func (h *Home) CreateContainer(ctx context.Context, o ContainerOptions, events event.Sink) (string, error) {
	if o.Pull == PullLazy {
		return "", errLazyHere
	}
	r, _, err := h.create(ctx, o, events, func(*image.Image) {})
	if err != nil {
		return "", err
	}
	return r.ID, nil
}

// create is CreateContainer, and returns the container's record and image. found is told the image before the record is written.
func (h *Home) create(
	ctx context.Context, o ContainerOptions, events event.Sink, found func(*image.Image),
) (*containerRecord, *image.Image, error) {
	if err := o.LifeOptions.check(); err != nil {
		return nil, nil, err
	}
	if err := h.sharedNames(&o); err != nil {
		return nil, nil, err
	}
	options, err := o.parse()
	if err != nil {
		return nil, nil, err
	}
	img, lent, err := h.imageToRun(ctx, o.RunOptions, events)
	if err != nil {
		return nil, nil, err
	}
	found(img)
	r := &containerRecord{
		ID: state.NewID(), Name: strings.TrimPrefix(o.Name, "/"), Created: time.Now().UTC(),
		Image: o.Image, ImageID: img.ID(), Manifest: img.Descriptor,
	}
	if err := o.complete(&options, img, r.ID); err != nil {
		return nil, nil, err
	}
	labels, err := o.labels(img)
	if err != nil {
		return nil, nil, err
	}
	r.Config = containerConfig{ContainerOptions: o, Command: options.Process.Args, Labels: labels}
	if lent {
		r.Config.Lent = img
	}
	if r.Config.Networks, err = h.attachments(&o); err != nil {
		return nil, nil, err
	}
	if _, err := o.ports(img); err != nil {
		return nil, nil, err
	}
	exposed, err := o.exposedBy(img.Config.Config.ExposedPorts)
	if err != nil {
		return nil, nil, err
	}
	r.Config.Exposed = slices.Sorted(maps.Keys(exposed))
	mounts, err := h.planMounts(ctx, &o, img)
	if err != nil {
		return nil, nil, err
	}
	r.Config.MountPoints, r.Volumes = mounts.points, mounts.volumes()
	if err := h.placeContainer(ctx, r); err != nil {
		return nil, nil, errors.Join(err, mounts.discard())
	}
	if err := errors.Join(mounts.close(), h.keepImage(ctx, r, img)); err != nil {
		return nil, nil, err
	}
	h.containerEvent(r, "create")
	return r, img, nil
}

// placeContainer writes the record of a new container. One of its name that was to go when it ended, and whose monitor was killed
// before it could see to that, goes now.
func (h *Home) placeContainer(ctx context.Context, r *containerRecord) error {
	place := func() error {
		return h.containers().Create(ctx, r, func() string { return words.Name(h.nameTaken) })
	}
	err := place()
	taken, ok := errors.AsType[*state.NameTakenError](err)
	if !ok {
		return err
	}
	left, leftErr := h.containers().Record(taken.ID)
	_, status, runErr := h.containers().Run(taken.ID)
	if leftErr != nil || runErr != nil || !left.Config.AutoRemove || status != state.Exited {
		return err
	}
	if err := h.RemoveContainer(ctx, taken.ID, RemoveContainerOptions{Force: true, Volumes: true}); err != nil {
		return err
	}
	return place()
}

// nameTaken reports whether a container may have a name.
func (h *Home) nameTaken(name string) bool {
	_, err := h.containers().Find(name)
	return err == nil
}

// labels are the image's and those of the options.
func (o *LifeOptions) labels(img *image.Image) (map[string]string, error) {
	all := map[string]string{}
	for k, v := range img.Config.Config.Labels {
		all[k] = v
	}
	for _, l := range o.Labels {
		k, v, _ := strings.Cut(l, "=")
		if k == "" {
			return nil, fmt.Errorf("invalid label %q: the name is empty", l)
		}
		all[k] = v
	}
	return all, nil
}

// check refuses what contradicts itself.
func (o *LifeOptions) check() error {
	p, err := monitor.ParsePolicy(o.Restart)
	if err != nil {
		return err
	}
	if o.Name != "" {
		if err := words.CheckName(strings.TrimPrefix(o.Name, "/")); err != nil {
			return err
		}
	}
	if o.AutoRemove && p.Name != "" && p.Name != "no" {
		return errors.New("conflicting options: cannot specify both --restart and --rm")
	}
	if h := o.HealthOptions; o.NoHealthcheck && h != (HealthOptions{NoHealthcheck: true}) {
		return errors.New("--no-healthcheck conflicts with --health-* options")
	}
	if t := o.HealthTest; len(t) > 0 && (t[0] != "NONE" && t[0] != "CMD" && t[0] != "CMD-SHELL" || t[0] != "NONE" && len(t) < 2) {
		return fmt.Errorf("unknown type %q in healthcheck (try 'CMD'), or nothing behind it", t[0])
	}
	if o.StopSignal != "" {
		_, err = ParseSignal(o.StopSignal)
	}
	return err
}

// stopSignal is the signal that asks a container to end.
func (o *LifeOptions) stopSignal(img *image.Image) string {
	if o.StopSignal != "" {
		return o.StopSignal
	}
	if s := img.Config.Config.StopSignal; s != "" {
		return s
	}
	return "SIGTERM"
}

// findContainer returns the record of the container that a name, an ID or the beginning of one means.
func (h *Home) findContainer(ref string) (*containerRecord, error) {
	id, err := h.containers().Find(ref)
	if err != nil {
		return nil, err
	}
	r, err := h.containers().Record(id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &state.NotFoundError{Ref: ref}
	}
	return r, err
}

// findRun finds a container as findContainer does, and says how its last run goes.
func (h *Home) findRun(ref string) (*containerRecord, *state.Run, state.Status, error) {
	r, err := h.findContainer(ref)
	if err != nil {
		return nil, nil, "", err
	}
	run, status, err := h.containers().Run(r.ID)
	if errors.Is(err, fs.ErrNotExist) {
		err = &state.NotFoundError{Ref: ref}
	}
	return r, run, status, err
}

// containerImage is the image that a container was made from.
func (h *Home) containerImage(ctx context.Context, r *containerRecord) (*image.Image, error) {
	if r.Config.Lent != nil {
		return r.Config.Lent, nil
	}
	img, err := h.Layout.Image(ctx, r.Manifest, r.Manifest.Platform)
	if err != nil {
		return nil, fmt.Errorf("image of container %s: %w", r.Name, err)
	}
	return img, nil
}

// imageUsers are the containers that there are, which use the images that they were made from.
type imageUsers []*containerRecord

func (h *Home) imageUsers() (imageUsers, error) {
	ids, err := h.containers().IDs()
	if err != nil {
		return nil, err
	}
	var users imageUsers
	for _, id := range ids {
		if r, err := h.containers().Record(id); err == nil {
			users = append(users, r)
		}
	}
	return users, nil
}

// of is a container that uses an image, nil if none does.
func (u imageUsers) of(n image.Named) *containerRecord {
	for _, r := range u {
		ref, err := image.ParseReference(r.Image)
		if r.Manifest.Digest == n.Descriptor.Digest || err == nil && ref == n.Reference {
			return r
		}
	}
	return nil
}

// userOf is a container that uses an image or, of an index, one of its images; nil if none does.
func (h *Home) userOf(ctx context.Context, users imageUsers, n image.Named) *containerRecord {
	if user := users.of(n); user != nil || len(users) == 0 || !image.IsIndex(n.Descriptor.MediaType) {
		return user
	}
	doc, _, err := image.ReadDocument(ctx, h.Layout, n.Descriptor)
	if err != nil {
		return nil // of what cannot be read nothing can be run
	}
	for _, child := range doc.Images() {
		if user := users.of(image.Named{Descriptor: child}); user != nil {
			return user
		}
	}
	return nil
}

// manifests are what must stay in the store.
func (u imageUsers) manifests() (list []ocispec.Descriptor) {
	for _, r := range u {
		list = append(list, r.Manifest)
	}
	return list
}

// inUse is docker's refusal to remove an image that a container uses; nil if it may be removed.
func (o RemoveOptions) inUse(name string, n image.Named, user *containerRecord) error {
	id := user.ImageID.Encoded()[:12]
	switch {
	case byName(name, n) && o.Force:
		return nil
	case byName(name, n):
		return words.Refused("conflict: unable to remove repository reference %q (must force) - container %s is using its referenced image %s",
			name, user.ID[:12], id)
	}
	return words.Refused("conflict: unable to delete %s (cannot be forced) - image is being used by container %s", id, user.ID[:12])
}

// rootDir keeps what a container writes to its root file system.
func (h *Home) rootDir(id string) string { return filepath.Join(h.containers().Dir(id), "root") }

// draftOf opens the root file system of a container.
func (h *Home) draftOf(ctx context.Context, r *containerRecord, img *image.Image) (*snapshot.Draft, error) {
	store, err := h.Snapshots()
	if err != nil {
		return nil, err
	}
	return store.Draft(ctx, img.Layers(), snapshot.DraftOptions{Dir: h.rootDir(r.ID), Volatile: r.Config.AutoRemove})
}
