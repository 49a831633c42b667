package reapi

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/forge-build/forge/internal/grpc"
)

// Options say how a server is asked, and under which flags. The zero value asks as nobody in particular.
type Options struct {
	Headers []string `name:"remote-header" sep:"none" help:"Header of every call to a grpc[s]:// server, such as a token." env:"FORGE_REMOTE_HEADER" placeholder:"NAME=VALUE"`
	CA      string   `name:"remote-ca" help:"Certificates, PEM, that may sign that of such a server." type:"path" env:"FORGE_REMOTE_CA" placeholder:"FILE"` // "" are this machine's
	Cert    string   `name:"remote-cert" help:"Certificate, PEM, that this client shows such a server." type:"path" env:"FORGE_REMOTE_CERT" placeholder:"FILE"`
	Key     string   `name:"remote-key" help:"Its key, PEM." type:"path" env:"FORGE_REMOTE_KEY" placeholder:"FILE"`
	Helper  string   `name:"remote-helper" help:"Program that gives credentials for such a server, as Bazel has them." env:"FORGE_REMOTE_HELPER" placeholder:"PROGRAM"`
	Version string   `kong:"-"` // of forge, for people who look at the server
}

// headers are those of every call.
func (o *Options) headers() (grpc.Metadata, error) {
	md := grpc.Metadata{}
	for _, header := range o.Headers {
		name, value, ok := strings.Cut(header, "=")
		name = strings.ToLower(strings.TrimSpace(name))
		if !ok || name == "" || strings.ContainsAny(name, " :\r\n") {
			return nil, fmt.Errorf("--remote-header %q: must be NAME=VALUE", name)
		}
		md[name] = []string{value}
	}
	return md, nil
}

// check refuses what would go out without TLS.
func (o *Options) check(u *url.URL) error {
	if u.Scheme == "grpcs" {
		return nil
	}
	if o.CA+o.Cert+o.Key != "" {
		return fmt.Errorf("%s: is without TLS, and certificates are given: the address is grpcs://", u)
	}
	if ip, err := netip.ParseAddr(u.Hostname()); o.Helper != "" && u.Hostname() != "localhost" && (err != nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s: credentials of --remote-helper do not go out without TLS: the address is grpcs://", u)
	}
	return nil
}

// tls is nil where this machine's defaults do.
func (o *Options) tls() (*tls.Config, error) {
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

// newInvocation names what the calls of one client are for.
func newInvocation() string {
	var id [16]byte
	_, _ = rand.Read(id[:]) // never fails
	return hex.EncodeToString(id[:])
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

// headers are what it gives; none without a program.
func (h *helper) headers(ctx context.Context) (map[string]string, error) {
	if h.program == "" {
		return nil, nil
	}
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
