package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/forge-build/forge/internal/web"
)

// A Daemon is docker's: images go in and out of it as archives. It is to be closed.
type Daemon struct {
	client *web.Client
	base   *url.URL
	name   string // where it is, for messages
}

// dockerSocket is where docker's daemon listens unless DOCKER_HOST says otherwise.
const dockerSocket = "unix:///var/run/docker.sock"

// ConnectDaemon returns the daemon at an address in the form of DOCKER_HOST, "" being docker's default. It connects to nothing yet.
func ConnectDaemon(address string) (*Daemon, error) {
	if address == "" {
		address = dockerSocket
	}
	o := web.Options{Peer: "docker daemon"}
	scheme, rest, _ := strings.Cut(address, "://")
	switch scheme {
	case "unix":
		if !filepath.IsAbs(rest) {
			return nil, fmt.Errorf("DOCKER_HOST %q: must be unix:///PATH", address)
		}
		o.Socket, rest = rest, "docker"
	case "tcp", "http":
	default:
		return nil, fmt.Errorf("DOCKER_HOST %q: must be unix:///PATH or tcp://HOST:PORT", web.Redact(address))
	}
	base := &url.URL{Scheme: "http", Host: strings.TrimSuffix(rest, "/")}
	return &Daemon{client: web.New(base.Host, o), base: base, name: web.Redact(address)}, nil
}

// Close closes connections that are idle.
func (d *Daemon) Close() error { return d.client.Close() }

// Export returns an image as docker save writes it: a name, or an ID.
func (d *Daemon) Export(ctx context.Context, name string) (io.ReadCloser, error) {
	resp, err := d.send(ctx, &web.Request{Method: http.MethodGet, URL: d.base.JoinPath("images", name, "get")})
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

// Load gives the daemon an archive, which open opens for each try; it has size bytes.
func (d *Daemon) Load(ctx context.Context, size int64, open func() (io.ReadCloser, error)) (err error) {
	u := d.base.JoinPath("images", "load")
	u.RawQuery = "quiet=1"
	resp, err := d.send(ctx, &web.Request{
		Method: http.MethodPost, URL: u, Body: open, Size: size, Header: http.Header{"Content-Type": {"application/x-tar"}},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, resp.Body.Close()) }()
	// It answers with success before it has read everything; what went wrong stands in the messages.
	for messages := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)); ; {
		var m struct{ Error string }
		switch err := messages.Decode(&m); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("docker daemon at %s: %w", d.name, err)
		case m.Error != "":
			return fmt.Errorf("docker daemon at %s: %s", d.name, m.Error)
		}
	}
}

// maxAnswer is how much is read of what the daemon says, in bytes.
const maxAnswer = 4 << 20

// send sends a request and makes an error of an answer that is one.
func (d *Daemon) send(ctx context.Context, req *web.Request) (*http.Response, error) {
	resp, err := d.client.Send(ctx, req, web.NewBudget(web.Limits{}.OrDefaults()))
	if err != nil {
		return nil, fmt.Errorf("docker daemon at %s: %w", d.name, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	var m struct{ Message string }
	decodeErr := json.NewDecoder(io.LimitReader(resp.Body, maxAnswer)).Decode(&m)
	if decodeErr != nil || m.Message == "" {
		m.Message = resp.Status
	}
	return nil, errors.Join(fmt.Errorf("docker daemon at %s: %s", d.name, m.Message), resp.Body.Close())
}
