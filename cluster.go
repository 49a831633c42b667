package forge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"strings"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/cache/far"
	cacheremote "github.com/forge-build/forge/cache/remote"
	"github.com/forge-build/forge/executor"
	"github.com/forge-build/forge/executor/local"
	"github.com/forge-build/forge/executor/remote"
	"github.com/forge-build/forge/image"
)

// ClusterOptions say which server of the Remote Execution API does steps of a build. The zero value does all here.
type ClusterOptions struct {
	Remote         string        `help:"Server of the Remote Execution API that does steps: grpc[s]://HOST:PORT[/INSTANCE]." env:"FORGE_REMOTE" placeholder:"ADDRESS"`
	RemotePolicy   string        `help:"What goes there: auto (RUN that takes 2 s or more, or nobody knows how long; in trouble all is done here), only (all RUN that can; trouble is an error) or off." enum:",auto,only,off" default:"auto" env:"FORGE_REMOTE_POLICY" placeholder:"WHEN"`
	RemotePlatform []string      `sep:"none" help:"Property that its workers have to have." env:"FORGE_REMOTE_PLATFORM" placeholder:"NAME=VALUE"`
	RemoteNetwork  []string      `sep:"none" help:"Property that gives a step a network there; '' if all have one. Without it, steps with a network stay here." env:"FORGE_REMOTE_NETWORK" placeholder:"NAME=VALUE"`
	RemoteTimeout  time.Duration `help:"How long a step may take there." default:"2h" placeholder:"TIME"` // 0 is two hours
}

// A cluster is a server that does steps of a build, and where it keeps what came of them.
type cluster struct {
	*remote.Cluster
	place *cacheremote.Place
}

// openCluster opens the server that does steps; nil if there is none.
func (h *Home) openCluster(o BuildOptions) (*cluster, error) {
	if o.Remote == "" || o.RemotePolicy == string(remote.Off) || o.Offline {
		return nil, nil
	}
	policy := remote.Policy(o.RemotePolicy)
	switch policy {
	case "":
		policy = remote.Auto
	case remote.Auto, remote.Only:
	default:
		return nil, fmt.Errorf("--remote-policy %q: must be auto, only or off", o.RemotePolicy)
	}
	platform, err := properties("--remote-platform", o.RemotePlatform)
	if err != nil {
		return nil, err
	}
	network, err := properties("--remote-network", o.RemoteNetwork)
	if err != nil {
		return nil, err
	}
	client, err := h.server(o.Remote, o.Servers)
	if err != nil {
		return nil, fmt.Errorf("--remote: %w", err)
	}
	return &cluster{
		Cluster: remote.New(client, remote.Options{
			Policy: policy, Platform: platform, Network: network, Timeout: o.RemoteTimeout, Events: o.Events,
		}),
		place: far.ServerPlace(client, h.staging),
	}, nil
}

// clusterWorkers are workers of this machine, or such as have a cluster do what it can; each for the settings of its own.
func (h *Home) clusterWorkers(b *building, workers []*local.Worker) (executor.Workers, error) {
	images := b.first().src.images
	var all executor.Workers
	for i, w := range workers {
		t := b.first()
		if i < len(b.of) {
			t = b.of[i]
		}
		if images.cluster == nil {
			all = append(all, w)
			continue
		}
		does, err := h.clusterWorker(t.BuildOptions, w, images)
		if err != nil {
			return nil, err
		}
		all = append(all, does)
	}
	return all, nil
}

// clusterInputs resolves what steps read: of layers that a cluster has, it does.
func (h *Home) clusterInputs(b *building, w *local.Worker) (executor.InputResolver, error) {
	t := b.first()
	if t.src.images.cluster == nil {
		return w.Inputs, nil
	}
	there, err := h.clusterWorker(t.BuildOptions, w, t.src.images)
	return remote.Resolver{Worker: there, Here: w.Inputs}, err
}

// clusterWorker is the worker that has a cluster do what it can, and this machine's the rest.
func (h *Home) clusterWorker(o BuildOptions, w *local.Worker, images *resolver) (*remote.Worker, error) {
	settings, err := json.Marshal(taskSettings{AddHosts: o.AddHosts, Limits: o.LimitOptions, SecurityOpts: o.SecurityOpts})
	if err != nil {
		return nil, err
	}
	if string(settings) == "{}" {
		settings = nil
	}
	return &remote.Worker{
		Cluster: images.cluster.Cluster, Local: w, Inputs: w.Inputs, Layers: h.Layout, Fetch: images.FetchLayers,
		Settings: settings, Stays: o.staysHere(),
	}, nil
}

// staysHere says which option binds RUN to this machine; "" if none does.
func (o *BuildOptions) staysHere() string {
	for _, host := range o.AddHosts {
		_, address, _ := strings.Cut(host, ":")
		if _, err := netip.ParseAddr(strings.Trim(address, "[]")); err != nil {
			return "--add-host " + host + " is an address of this machine"
		}
	}
	switch {
	case o.Network == "host":
		return "--network=host is that of this machine"
	case isolation(o.Isolation) != "auto":
		return "--isolation says how this machine does it"
	}
	return ""
}

// holder is where a layer is that another machine has made; nil if no place is known to have it.
func (r *resolver) holder(l image.Layer) *cacheremote.Place {
	if r.far != nil {
		if p := r.far.Holder(l); p != nil {
			return p
		}
	}
	if r.cluster != nil && r.cluster.Made(l) {
		return r.cluster.place
	}
	return nil
}

// forget makes a miss of what a layer that cannot be had was the answer to.
func (r *resolver) forget(lost *cacheremote.LostError) {
	if r.cluster != nil && lost.Place == r.cluster.place.Name {
		r.cluster.Forget(lost.Layer, lost.Err)
		return
	}
	r.far.Forget(lost)
}

// lost is an error about a layer of a place, as one that may be made again.
func lost(ctx context.Context, l image.Layer, place *cacheremote.Place, err error) error {
	if err == nil || ctx.Err() != nil || errors.Is(err, image.ErrFull) {
		return err
	}
	return &cacheremote.LostError{Layer: l, Place: place.Name, Err: err}
}

// A layerSource makes forms of layers that need not be here: a tar that another machine keeps is compressed while it comes.
type layerSource struct {
	*image.Layout
	images *resolver
}

// CompressTo implements registry.LayerSource.
func (s layerSource) CompressTo(ctx context.Context, w io.Writer, m *image.Meter, l image.Layer, c image.Compression) (d ocispec.Descriptor, err error) {
	place := s.images.holder(l)
	here, err := s.HaveLayer(ctx, l)
	if err != nil {
		return d, err
	}
	if here || place == nil || l.Blob.Digest != l.DiffID {
		return s.Layout.CompressTo(ctx, w, m, l, c)
	}
	out := &written{Writer: w}
	tar, err := place.Read.Fetch(ctx, l.Blob, 0)
	if err == nil {
		d, err = s.CompressFrom(ctx, out, m, image.Tar{Reader: tar, DiffID: l.DiffID, Size: l.Blob.Size}, c)
		err = errors.Join(err, tar.Close())
	}
	if err != nil && out.err == nil {
		err = lost(ctx, l, place, err)
	}
	return d, err
}

// written remembers why a writer takes no more: that is no fault of what is written.
type written struct {
	io.Writer
	err error
}

func (w *written) Write(p []byte) (int, error) {
	n, err := w.Writer.Write(p)
	if err != nil {
		w.err = err
	}
	return n, err
}

// properties reads NAME=VALUE of flags; nil if there are none.
func properties(flag string, list []string) (map[string]string, error) {
	if len(list) == 0 {
		return nil, nil
	}
	m := map[string]string{}
	for _, text := range slices.DeleteFunc(slices.Clone(list), func(s string) bool { return s == "" }) {
		name, value, ok := strings.Cut(text, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("%s %q: must be NAME=VALUE", flag, text)
		}
		m[name] = value
	}
	return m, nil
}
