// Package server is a private registry: it serves the OCI distribution API 1.1 from a directory.
//
// Content is kept once, under its digest, in an [image.Layout], and belongs to the repositories that have a hard link to it;
// what the last one gives up is gone. All is written aside, synced and renamed before it is acknowledged, so that a crash at any moment
// leaves a registry that works. One process at a time serves a directory.
package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/forge-build/forge/event"
	"github.com/forge-build/forge/internal/durable"
	"github.com/forge-build/forge/registry/server/pages"
)

// Options say what to serve and to whom.
type Options struct {
	Root     string     // directory of the store; made if it is not there
	Htpasswd string     // file of user:bcrypt lines that may use the registry; "" is everybody
	CertFile string     // of TLS, PEM; "" is http
	KeyFile  string     // of TLS, PEM
	Pages    bool       // show it to people as well, below /ui/
	Events   event.Sink // takes a note, from any goroutine, of each request that was answered; may be nil
}

// A Server answers the requests of registry clients. Safe for concurrent use.
type Server struct {
	opts    Options
	store   *store
	users   *users
	uploads uploads
	pages   *pages.Handler // nil without
	tls     *tls.Config    // nil without TLS
}

// New opens the store. Close gives it back. A file of the options may be a pipe; ctx ends the wait for it.
func New(ctx context.Context, opts Options) (*Server, error) {
	if (opts.CertFile == "") != (opts.KeyFile == "") {
		return nil, errors.New("registry: TLS needs a certificate and a key")
	}
	s := &Server{opts: opts}
	if opts.Htpasswd != "" {
		var err error
		if s.users, err = readUsers(ctx, opts.Htpasswd); err != nil {
			return nil, err
		}
	}
	var err error
	if s.tls, err = readTLS(ctx, opts.CertFile, opts.KeyFile); err != nil {
		return nil, err
	}
	if s.store, err = openStore(opts.Root); err != nil {
		return nil, err
	}
	if err := s.tidy(context.WithoutCancel(ctx)); err != nil {
		return nil, errors.Join(err, s.store.close())
	}
	s.uploads.open = map[string]*session{}
	if opts.Pages {
		if s.pages, err = pages.New(s.store); err != nil {
			return nil, errors.Join(err, s.store.close())
		}
	}
	return s, nil
}

// tidy removes what nothing names any more before requests come: blobs that have been without a manifest for longer than any push
// takes, and what crashes have left. A repository that is damaged keeps its blobs, and the others are served all the same.
func (s *Server) tidy(ctx context.Context) error {
	repos, err := s.store.repositories("_blobs")
	if err != nil {
		return err
	}
	for _, repo := range repos {
		if err := s.store.pruneRepository(ctx, repo, time.Now().Add(-staleUpload)); err != nil {
			s.opts.Events.Send(event.Event{Kind: event.Warning, Text: fmt.Sprintf("repository %s: blobs that no manifest names stay: %v", repo, err)})
		}
	}
	_, err = s.store.sweep(ctx)
	return err
}

// maxKeyFile is how much of a file of users, certificates or a key is read, in bytes.
const maxKeyFile = 16 << 20

// readTLS reads a certificate and its key; no names are no TLS.
func readTLS(ctx context.Context, certFile, keyFile string) (*tls.Config, error) {
	if certFile == "" {
		return nil, nil
	}
	cert, err := durable.ReadInput(ctx, certFile, maxKeyFile)
	if err != nil {
		return nil, err
	}
	key, err := durable.ReadInput(ctx, keyFile, maxKeyFile)
	if err != nil {
		return nil, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return nil, fmt.Errorf("registry: %s and %s: %w", certFile, keyFile, err)
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

// Close gives the directory back.
func (s *Server) Close() error { return s.store.close() }

// Serve answers requests on l until ctx ends, then lets those under way finish for up to 5 s. It closes l.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	tctx, cancel := context.WithCancel(ctx)
	var wg sync.WaitGroup
	wg.Go(func() { s.dropEachHour(tctx) })
	defer wg.Wait()
	defer cancel()
	hs := &http.Server{
		Handler: s, ReadHeaderTimeout: 30 * time.Second, IdleTimeout: 2 * time.Minute, MaxHeaderBytes: 64 << 10,
		TLSConfig: s.tls,
		ErrorLog:  log.New(io.Discard, "", 0), // it would print what strangers send
	}
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		sctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		err := hs.Shutdown(sctx)
		if errors.Is(err, context.DeadlineExceeded) {
			err = hs.Close()
		}
		stopped <- err
	})
	var err error
	if s.tls != nil {
		err = hs.ServeTLS(l, "", "")
	} else {
		err = hs.Serve(l)
	}
	if !errors.Is(err, http.ErrServerClosed) {
		stop()
		return err
	}
	return <-stopped
}

// dropEachHour removes uploads that nobody finishes until ctx ends.
func (s *Server) dropEachHour(ctx context.Context) {
	hour := time.NewTicker(time.Hour)
	defer hour.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-hour.C:
			if err := s.dropStale(now); err != nil {
				s.opts.Events.Send(event.Event{Kind: event.Warning, Text: fmt.Sprintf("uploads that rest: %v", err)})
			}
		}
	}
}

// ServeHTTP answers one request.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	start := time.Now()
	c := &counter{ResponseWriter: w, status: http.StatusOK}
	c.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	c.Header().Set("X-Content-Type-Options", "nosniff")
	err := s.users.allow(r)
	switch {
	case errors.Is(err, errUnauthorized):
		c.Header().Set("WWW-Authenticate", `Basic realm="forge registry"`)
	case errors.Is(err, errBusy):
		c.Header().Set("Retry-After", "1")
	case errors.Is(err, errTooMany):
		c.Header().Set("Retry-After", "60")
	case err == nil:
		err = s.route(c, r)
	}
	if err != nil {
		fail(c, err)
	}
	took := time.Since(start)
	s.opts.Events.Send(event.Event{
		Time: start, Kind: event.Note, Duration: took, Text: fmt.Sprintf("%s %s %q %d %d bytes %s", r.RemoteAddr, r.Method, r.URL.Path, c.status, c.bytes, took),
	})
}

// A counter notes what was answered.
type counter struct {
	http.ResponseWriter
	status int
	bytes  int64
	begun  bool
}

func (c *counter) WriteHeader(status int) {
	c.status, c.begun = status, true
	c.ResponseWriter.WriteHeader(status)
}

func (c *counter) Write(p []byte) (int, error) {
	c.begun = true
	n, err := c.ResponseWriter.Write(p)
	c.bytes += int64(n)
	return n, err
}

// ReadFrom keeps sendfile(2) possible: the connection's own ReadFrom is behind io.Copy.
func (c *counter) ReadFrom(r io.Reader) (int64, error) {
	c.begun = true
	n, err := io.Copy(c.ResponseWriter, r)
	c.bytes += n
	return n, err
}

// Unwrap lets http.ResponseController find the connection.
func (c *counter) Unwrap() http.ResponseWriter { return c.ResponseWriter }

// A target is what a path names.
type target struct {
	repo string
	kind string // tags, manifests, blobs, uploads or referrers
	what string // tag, digest, or the ID of an upload; "" for the collection
}

// parsePath reads /v2/<name>/<kind>/<what>. Names may have parts that look like kinds, so the end of the path decides.
func parsePath(path string) (t target, ok bool) {
	parts := strings.Split(path, "/")
	n := len(parts)
	join := func(k int) string { return strings.Join(parts[:k], "/") }
	switch {
	case n >= 3 && parts[n-2] == "tags" && parts[n-1] == "list":
		t = target{join(n - 2), "tags", ""}
	case n >= 4 && parts[n-3] == "blobs" && parts[n-2] == "uploads":
		t = target{join(n - 3), "uploads", parts[n-1]}
	case n >= 3 && parts[n-2] == "blobs" && parts[n-1] == "uploads":
		t = target{join(n - 2), "uploads", ""}
	case n >= 3 && (parts[n-2] == "manifests" || parts[n-2] == "blobs" || parts[n-2] == "referrers"):
		t = target{join(n - 2), parts[n-2], parts[n-1]}
	default:
		return t, false
	}
	return t, true
}

func (s *Server) route(w http.ResponseWriter, r *http.Request) error {
	path, ok := strings.CutPrefix(r.URL.Path, "/v2")
	if !ok && s.pages != nil {
		s.pages.ServeHTTP(w, r)
		return nil
	}
	if !ok {
		return errNotFound
	}
	switch path {
	case "", "/":
		return answerJSON(w, "application/json", struct{}{})
	case "/_catalog":
		return s.catalog(w, r)
	}
	t, ok := parsePath(strings.TrimPrefix(path, "/"))
	if !ok {
		return errNotFound
	}
	if !validName(t.repo) {
		return errNameInvalid.with(t.repo)
	}
	handler := s.handlers()[t.kind+" "+r.Method]
	if handler == nil {
		return errUnsupported.with(fmt.Sprintf("%s of %s", r.Method, t.kind))
	}
	return handler(w, r, t)
}

type handler func(http.ResponseWriter, *http.Request, target) error

func (s *Server) handlers() map[string]handler {
	return map[string]handler{
		"tags GET":         s.listTags,
		"manifests GET":    s.getManifest,
		"manifests HEAD":   s.getManifest,
		"manifests PUT":    s.putManifest,
		"manifests DELETE": s.deleteManifest,
		"blobs GET":        s.getBlob,
		"blobs HEAD":       s.getBlob,
		"blobs DELETE":     s.deleteBlob,
		"uploads POST":     s.startUpload,
		"uploads GET":      s.statusUpload,
		"uploads PATCH":    s.patchUpload,
		"uploads PUT":      s.putUpload,
		"uploads DELETE":   s.cancelUpload,
		"referrers GET":    s.listReferrers,
	}
}

// validName reports whether a repository may be called so (OCI distribution spec, "Pulling manifests"). A name is a path in
// the store: nothing of it may be empty, begin with a dot or an underscore.
func validName(name string) bool {
	if len(name) > 255 {
		return false
	}
	for part := range strings.SplitSeq(name, "/") {
		if !validPart(part) {
			return false
		}
	}
	return true
}

func validPart(part string) bool {
	alnum := func(c byte) bool { return c >= 'a' && c <= 'z' || c >= '0' && c <= '9' }
	if part == "" || !alnum(part[0]) || !alnum(part[len(part)-1]) {
		return false
	}
	for i := 0; i < len(part); {
		j := i
		for j < len(part) && !alnum(part[j]) {
			j++
		}
		switch sep := part[i:j]; {
		case sep == "", sep == ".", sep == "_", sep == "__", strings.Trim(sep, "-") == "":
		default:
			return false
		}
		i = j + 1
	}
	return true
}

// validTag reports whether a tag may be called so.
func validTag(tag string) bool {
	if tag == "" || len(tag) > 128 || tag[0] == '.' || tag[0] == '-' {
		return false
	}
	for i := range len(tag) {
		c := tag[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '_' && c != '.' && c != '-' {
			return false
		}
	}
	return true
}
