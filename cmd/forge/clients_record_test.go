package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// goldenAnswers is what docker's engine has answered to clients: blocks of a request with its status, the content type, and the keys that
// all such answers had.
const goldenAnswers = "../../testdata/clients/answers.txt"

// A recordedAnswer is what is known of the answers to one kind of request that had one status.
type recordedAnswer struct {
	kind  string // content type
	times int
	keys  map[string]int // how often each was there
}

// A recorder stands between clients and an engine, and notes what it answers.
type recorder struct {
	mu      sync.Mutex // guards answers
	answers map[string]*recordedAnswer
}

// serve answers at a socket as the engine at another does.
func (r *recorder) serve(t *testing.T, socket, engine string) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", engine)
	}, DisableCompression: true}
	proxy := &httputil.ReverseProxy{
		Rewrite: func(p *httputil.ProxyRequest) {
			p.Out.URL.Scheme, p.Out.URL.Host, p.Out.Host = "http", "docker", "docker"
		},
		Transport: transport, FlushInterval: -1, ModifyResponse: r.note,
		ErrorHandler: func(w http.ResponseWriter, _ *http.Request, _ error) { w.WriteHeader(http.StatusBadGateway) }, // one of the two has gone
	}
	server := &http.Server{Handler: proxy} //nolint:gosec // of a test
	go func() { _ = server.Serve(l) }()
	t.Cleanup(func() {
		_ = server.Close()
		transport.CloseIdleConnections()
	})
}

// note notes an answer, when it has been read.
func (r *recorder) note(res *http.Response) error {
	if res.StatusCode == http.StatusSwitchingProtocols {
		r.add(res, nil)
		return nil
	}
	res.Body = &noted{ReadCloser: res.Body, res: res, recorder: r}
	return nil
}

// noted is the body of an answer.
type noted struct {
	io.ReadCloser

	res      *http.Response
	recorder *recorder
	text     bytes.Buffer
}

// mostNoted bounds what is kept of a body.
const mostNoted = 1 << 20

func (n *noted) Read(p []byte) (int, error) {
	got, err := n.ReadCloser.Read(p)
	if n.text.Len() < mostNoted {
		n.text.Write(p[:got])
	}
	return got, err
}

func (n *noted) Close() error {
	n.recorder.add(n.res, n.text.Bytes())
	return n.ReadCloser.Close()
}

// requestName is a request without what differs from one to the next.
func requestName(r *http.Request) string {
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	if strings.HasPrefix(parts[0], "v1.") {
		parts = parts[1:]
	}
	if len(parts) > 1 && slices.Contains([]string{"containers", "exec", "networks", "volumes"}, parts[0]) && !slices.Contains([]string{"json", "create", "prune"}, parts[1]) {
		parts[1] = "{}"
	}
	if len(parts) > 2 && parts[0] == "images" || r.Method == http.MethodDelete && parts[0] == "images" {
		parts = []string{"images", "{}", parts[len(parts)-1]}
		if r.Method == http.MethodDelete {
			parts = parts[:2]
		}
	}
	return r.Method + " " + strings.Join(parts, "/")
}

func (r *recorder) add(res *http.Response, body []byte) {
	kind, _, _ := strings.Cut(cmp.Or(res.Header.Get("Content-Type"), "none"), ";")
	keys := map[string]bool{}
	if kind == "application/json" {
		for dec := json.NewDecoder(bytes.NewReader(body)); ; {
			var v any
			if dec.Decode(&v) != nil {
				break
			}
			noteKeys(v, "", keys)
		}
	}
	name := requestName(res.Request) + " " + strconv.Itoa(res.StatusCode)
	r.mu.Lock()
	defer r.mu.Unlock()
	a := r.answers[name]
	if a == nil {
		a = &recordedAnswer{kind: kind, keys: map[string]int{}}
		r.answers[name] = a
	}
	a.times++
	for k := range keys {
		a.keys[k]++
	}
}

// noteKeys notes the keys of a value. Below some, keys are names that users have chosen, or of a network's or a port's.
func noteKeys(v any, at string, found map[string]bool) {
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			noteKeys(one, at+"[]", found)
		}
	case map[string]any:
		named := slices.Contains([]string{"Networks", "Containers", "Ports", "PortBindings", "networks"}, at[strings.LastIndexByte(at, '.')+1:])
		for k, one := range v {
			if named {
				k = "*"
			}
			name := strings.TrimPrefix(at+"."+k, ".")
			found[name] = true
			if !slices.Contains([]string{"Labels", "Options", "Data", "Attributes", "Volumes", "ExposedPorts", "Runtimes", "Config.Labels"}, k) || strings.HasSuffix(at, "[]") && k != "Labels" {
				noteKeys(one, name, found)
			}
		}
	}
}

// TestClientRecord is no test: it stands between clients that somebody starts by hand and docker's engine, until there is a file
// SOCKET.end, and writes down what the engine answers. FORGE_RECORD is SOCKET=ENGINE.
func TestClientRecord(t *testing.T) {
	socket, engine, ok := strings.Cut(os.Getenv("FORGE_RECORD"), "=")
	if !ok {
		t.Skip("FORGE_RECORD is not set")
	}
	r := &recorder{answers: map[string]*recordedAnswer{}}
	r.serve(t, socket, engine)
	for { // until the file that says so is there
		if _, err := os.Stat(socket + ".end"); err == nil {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(r.answers)) {
		a := r.answers[name]
		fmt.Fprintf(&b, "%s\n%s\n", name, a.kind)
		for _, k := range slices.Sorted(maps.Keys(a.keys)) {
			if a.keys[k] == a.times {
				fmt.Fprintln(&b, k)
			}
		}
		fmt.Fprintln(&b)
	}
	if err := errors.Join(os.MkdirAll(filepath.Dir(goldenAnswers), 0o755), os.WriteFile(goldenAnswers, []byte(b.String()), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// recorded has clients reach the API through a recorder, which holds each answer against those of docker's engine when the test ends.
func (k *kit) recorded() {
	k.t.Helper()
	raw, err := os.ReadFile(goldenAnswers)
	if err != nil {
		k.t.Fatal(err)
	}
	r := &recorder{answers: map[string]*recordedAnswer{}}
	r.serve(k.t, filepath.Join(k.dir, "recorded.sock"), filepath.Join(k.dir, "docker.sock"))
	k.env = append(k.env, "DOCKER_HOST=unix://"+filepath.Join(k.dir, "recorded.sock"))
	k.t.Cleanup(func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		known := 0
		for block := range strings.SplitSeq(strings.TrimSpace(string(raw)), "\n\n") {
			lines := strings.Split(block, "\n")
			a := r.answers[lines[0]]
			if a == nil {
				continue
			}
			known++
			if a.kind != lines[1] {
				k.t.Errorf("%s: content type %q, want %q", lines[0], a.kind, lines[1])
			}
			for _, key := range lines[2:] {
				if a.keys[key] == 0 {
					k.t.Errorf("%s: no answer has the key %s", lines[0], key)
				}
			}
		}
		if known == 0 {
			k.t.Error("none of the requests is among those of docker's engine")
		}
	})
}
