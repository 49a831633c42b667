package forge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/server"
)

// What is done with registries alone needs no state directory.

// InspectRemote asks a registry for an image: of an index it is the one for a platform, "" being this machine's. No layer is
// fetched.
func InspectRemote(ctx context.Context, name, platform string, o RemoteOptions) (Inspection, error) {
	p, err := parsePlatform(platform)
	if err != nil {
		return Inspection{}, err
	}
	ref, err := image.ParseReference(name)
	if err != nil {
		return Inspection{}, err
	}
	client := o.client()
	defer client.Close() //nolint:errcheck // of idle connections
	repo, err := client.Connect(ref)
	if err != nil {
		return Inspection{}, err
	}
	d, err := repo.Resolve(ctx, ref)
	if err != nil {
		return Inspection{}, err
	}
	img, err := image.Read(ctx, repo, d, p)
	if err != nil {
		return Inspection{}, fmt.Errorf("%s: %w", ref, err)
	}
	i := Inspection{Image: img, Names: []image.Reference{ref}}
	i.Remotes = []image.Reference{{Domain: ref.Domain, Path: ref.Path, Digest: d.Digest}}
	for _, l := range img.Manifest.Layers {
		i.Size += l.Size // what a pull downloads: more is not known of a registry
	}
	return i, nil
}

// DescribeRemote asks a registry what a name stands for, and for which platforms that is.
func DescribeRemote(ctx context.Context, name string, o RemoteOptions) (d ocispec.Descriptor, list []ocispec.Platform, err error) {
	ref, err := image.ParseReference(name)
	if err != nil {
		return d, nil, err
	}
	client := o.client()
	defer client.Close() //nolint:errcheck // of idle connections
	repo, err := client.Connect(ref)
	if err != nil {
		return d, nil, err
	}
	if d, err = repo.Resolve(ctx, ref); err != nil {
		return d, nil, err
	}
	doc, _, err := image.ReadDocument(ctx, repo, d)
	if err != nil {
		return d, nil, fmt.Errorf("%s: %w", ref, err)
	}
	if !doc.IsIndex() {
		img, err := image.Read(ctx, repo, d, nil)
		if err != nil {
			return d, nil, fmt.Errorf("%s: %w", ref, err)
		}
		return d, []ocispec.Platform{img.Config.Platform}, nil
	}
	for _, one := range doc.Images() {
		if one.Platform != nil {
			list = append(list, *one.Platform)
		}
	}
	return d, list, nil
}

// RegistryOf is the registry of an image that is called name. It refuses what is no name of an image.
func RegistryOf(name string) (string, error) {
	ref, err := image.ParseReference(name)
	return ref.Domain, err
}

// RegistryHost is a registry as people type it, without scheme and path; docker's has one name.
func RegistryHost(s string) string {
	s = strings.TrimPrefix(strings.TrimPrefix(s, "https://"), "http://")
	host, _, _ := strings.Cut(s, "/")
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		return "docker.io"
	}
	return host
}

// Login asks a registry whether it knows a user and, if so, keeps name and password where docker does. It returns the file
// that has the password in clear, "" if a credential helper keeps it.
func Login(ctx context.Context, host, user, password string, o RemoteOptions) (file string, err error) {
	client := o.client()
	defer client.Close() //nolint:errcheck // of idle connections
	return client.Login(ctx, RegistryHost(host), registry.Credential{Username: user, Password: password})
}

// VerifyLogin asks a registry whether it knows a credential, and keeps nothing. It returns the identity token that is to be used instead
// of the password; "" if there is none. An error is fs.ErrPermission if the registry does not know the credential.
func VerifyLogin(ctx context.Context, host string, cred Credential, o RemoteOptions) (identity string, err error) {
	client := o.client()
	defer client.Close() //nolint:errcheck // of idle connections
	return client.Verify(ctx, RegistryHost(host), cred)
}

// Logout forgets what is kept of a registry, and reports whether anything was.
func Logout(ctx context.Context, host string) (bool, error) {
	client := RemoteOptions{}.client()
	defer client.Close() //nolint:errcheck // of idle connections
	return client.Logout(ctx, RegistryHost(host))
}

// ServeOptions say how a registry is served. Addr is needed.
type ServeOptions struct {
	Addr              string // HOST:PORT
	Dir               string // of its store; "" is registry in defaultDir
	Store             string // the state directory, whose registry/ is used if Dir is ""; "" is defaultDir()
	Htpasswd          string // file of user:bcrypt lines that may use it; "" lets everybody
	CertFile, KeyFile string // PEM; "" serves http
	Pages             bool   // show it to people as well, below /ui/

	Events event.Sink // takes a note for each request, one at a time; may be nil
}

// dir is the directory of the registry's store.
func (o ServeOptions) dir() (_ string, err error) {
	if o.Dir != "" {
		return o.Dir, nil
	}
	if o.Store == "" {
		if o.Store, err = defaultDir(); err != nil {
			return "", err
		}
	}
	if err := prepareDir(o.Store); err != nil {
		return "", fmt.Errorf("store: %w", err)
	}
	return filepath.Join(o.Store, "registry"), nil
}

// PruneRegistry removes from a registry that is not served the blobs that no manifest names. Of o it takes Dir and Store.
func PruneRegistry(ctx context.Context, o ServeOptions) (image.Pruned, error) {
	dir, err := o.dir()
	if err != nil {
		return image.Pruned{}, err
	}
	return server.Prune(ctx, dir)
}

// warnReachable says what others can do with a registry that they reach.
func (o ServeOptions) warnReachable(at net.Addr) {
	if tcp, ok := at.(*net.TCPAddr); !ok || tcp.IP.IsLoopback() {
		return
	}
	if o.Htpasswd == "" {
		o.Events.Send(event.Event{Kind: event.Warning, Text: fmt.Sprintf("%s is not this machine alone: whoever reaches it may pull, push and delete; --htpasswd says who may", at)})
	}
	if o.CertFile == "" {
		o.Events.Send(event.Event{Kind: event.Warning, Text: fmt.Sprintf("%s is not this machine alone, and without TLS others on the way read and change what is sent, passwords too; see --tls-cert", at)})
	}
}

// ServeRegistry is a registry until ctx ends. The event Started says that it takes requests, and where.
func ServeRegistry(ctx context.Context, o ServeOptions) (err error) {
	if o.Dir, err = o.dir(); err != nil {
		return err
	}
	defer queue(&o.Events)()
	srv, err := server.New(ctx, server.Options{
		Root: o.Dir, Htpasswd: o.Htpasswd, CertFile: o.CertFile, KeyFile: o.KeyFile,
		Pages: o.Pages, Events: o.Events,
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, srv.Close()) }()
	l, err := (&net.ListenConfig{}).Listen(ctx, "tcp", o.Addr)
	if err != nil {
		return fmt.Errorf("registry: %w", err)
	}
	o.Events.Send(event.Event{Kind: event.Started, Text: fmt.Sprintf("listening on %s, store %s", l.Addr(), o.Dir)})
	o.warnReachable(l.Addr())
	if err := srv.Serve(ctx, l); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}
