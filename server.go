package forge

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/forge-build/forge/internal/reapi"
)

// ServerOptions say how servers of the Remote Execution API are asked. The zero value asks as nobody in particular.
type ServerOptions struct {
	Headers   []string // NAME=VALUE, of every call
	CA        string   // file of certificates, PEM, that may sign the server's; "" are this machine's
	Cert, Key string   // files of a certificate for this client and its key, PEM; "" is none
	Helper    string   // program that gives credentials, as Bazel has them; "" is none
	Version   string   // of forge, for people who look at the server
}

// IsServer reports whether a name is the address of a server of the Remote Execution API.
func IsServer(name string) bool {
	return strings.HasPrefix(name, "grpc://") || strings.HasPrefix(name, "grpcs://")
}

// server is a client of a server. Those who ask for the same share it; Close closes it.
func (h *Home) server(address string, o ServerOptions) (*reapi.Client, error) {
	options, err := o.client(address)
	if err != nil {
		return nil, err
	}
	id := fmt.Sprintf("%q %q", address, o)
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.servers[id]; c != nil {
		return c, nil
	}
	c, err := reapi.Dial(address, options)
	if err != nil {
		return nil, err
	}
	if h.servers == nil {
		h.servers = map[string]*reapi.Client{}
	}
	h.servers[id] = c
	return c, nil
}

// client is what the options come to.
func (o ServerOptions) client(address string) (c reapi.Options, err error) {
	c = reapi.Options{Headers: map[string]string{}, Version: o.Version, Invocation: newID()[:32]}
	for _, header := range o.Headers {
		name, value, ok := strings.Cut(header, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if !ok || name == "" || strings.ContainsAny(name, " :\r\n") {
			return c, fmt.Errorf("--remote-header %q: must be NAME=VALUE", name)
		}
		c.Headers[name] = value
	}
	if c.TLS, err = o.tls(); err != nil {
		return c, err
	}
	plain := strings.HasPrefix(address, "grpc://")
	if plain && c.TLS != nil {
		return c, fmt.Errorf("%s: is without TLS, and certificates are given: the address is grpcs://", address)
	}
	if o.Helper == "" {
		return c, nil
	}
	u, err := url.Parse(address)
	if err != nil {
		return c, err
	}
	if ip, err := netip.ParseAddr(u.Hostname()); plain && u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback()) {
		return c, fmt.Errorf("%s: credentials of --remote-helper do not go out without TLS: the address is grpcs://", address)
	}
	h := &helper{program: o.Helper, uri: "https://" + u.Host}
	c.Token = h.headers
	return c, nil
}

// tls is nil where this machine's defaults do.
func (o ServerOptions) tls() (*tls.Config, error) {
	if o.CA == "" && o.Cert == "" && o.Key == "" {
		return nil, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12}
	if o.CA != "" {
		text, err := os.ReadFile(o.CA)
		if err != nil {
			return nil, fmt.Errorf("--remote-ca: %w", err)
		}
		c.RootCAs = x509.NewCertPool()
		if !c.RootCAs.AppendCertsFromPEM(text) {
			return nil, fmt.Errorf("--remote-ca %s: holds no certificate", o.CA)
		}
	}
	if (o.Cert == "") != (o.Key == "") {
		return nil, errors.New("--remote-cert and --remote-key go together")
	}
	if o.Cert != "" {
		pair, err := tls.LoadX509KeyPair(o.Cert, o.Key)
		if err != nil {
			return nil, fmt.Errorf("--remote-cert: %w", err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c, nil
}

// A helper is a program that gives credentials: "PROGRAM get" reads {"uri": …} and writes {"headers": {NAME: [VALUE]}, "expires": …}, as
// in https://github.com/EngFlow/credential-helper-spec.
type helper struct {
	program, uri string

	mu      sync.Mutex // guards all below; held while the program runs
	known   map[string]string
	expires time.Time
}

const (
	helperTime   = 30 * time.Second // that the program may take
	helperLasts  = 5 * time.Minute  // that credentials are used for which do not say how long
	helperMargin = 10 * time.Second // before their end, at which new ones are asked for
)

func (h *helper) headers(ctx context.Context) (map[string]string, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.known != nil && time.Until(h.expires) > helperMargin {
		return h.known, nil
	}
	ctx, cancel := context.WithTimeout(ctx, helperTime)
	defer cancel()
	question, err := json.Marshal(map[string]string{"uri": h.uri})
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, h.program, "get")
	var said bytes.Buffer
	cmd.Stdin, cmd.Stderr = bytes.NewReader(question), &said
	cmd.WaitDelay = time.Second // what the program has started may keep its output open
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s get: %w: %s", h.program, err, clipText(said.String()))
	}
	var answer struct {
		Headers map[string][]string `json:"headers"`
		Expires time.Time           `json:"expires"`
	}
	if err := json.Unmarshal(out, &answer); err != nil {
		return nil, fmt.Errorf("%s get: %w", h.program, err)
	}
	h.known, h.expires = map[string]string{}, answer.Expires
	for name, values := range answer.Headers {
		if len(values) > 0 {
			h.known[strings.ToLower(name)] = strings.Join(values, ", ")
		}
	}
	if h.expires.IsZero() {
		h.expires = time.Now().Add(helperLasts)
	}
	return h.known, nil
}

// clipText is the end of what a program says.
func clipText(s string) string {
	const most = 300
	s = strings.TrimSpace(strings.ToValidUTF8(s, "?"))
	return s[max(0, len(s)-most):]
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
