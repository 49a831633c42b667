package buildkit

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"strings"
	"testing"

	"golang.org/x/crypto/ssh/agent"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/internal/grpc"
)

// TestSession asks the client for what steps may read.
func TestSession(t *testing.T) {
	c := newClient(t)
	s, err := c.service.session(t.Context(), "s1")
	if err != nil {
		t.Fatal(err)
	}
	ctx := t.Context()
	if b, err := s.secret(ctx, "known"); err != nil || string(b) != "hush" {
		t.Errorf("secret %q, %v", b, err)
	}
	if _, err := s.secret(ctx, "other"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a secret that is not given: %v", err)
	}
	if err := s.hasAgent(ctx, "default"); err != nil {
		t.Error(err)
	}
	if err := s.hasAgent(ctx, "other"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("an agent that is not given: %v", err)
	}
	for host, want := range map[string]forge.Credential{"docker.io": {Username: "u", Password: "p"}, "token.example": {IdentityToken: "t"}, "none.example": {}} {
		if got, err := s.credential(ctx, host); err != nil || got != want {
			t.Errorf("credential of %s: %v, %v, want %v", host, got, err, want)
		}
	}
	conn, err := s.agent(ctx, "default")
	if err != nil {
		t.Fatal(err)
	}
	if keys, err := agent.NewClient(conn).List(); err != nil || len(keys) != 1 || keys[0].Comment != "the key" {
		t.Errorf("keys of the agent: %v, %v", keys, err)
	}
	if err := conn.Close(); err != nil {
		t.Error(err)
	}
	canceled, cancel := context.WithCancel(ctx)
	cancel()
	if _, err := c.service.session(canceled, "gone"); grpc.CodeOf(err) != grpc.Unavailable {
		t.Errorf("a session that is not there: %v", err)
	}
	s.offers = map[string]bool{fileSync: true}
	if _, err := s.secret(ctx, "known"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a client without secrets: %v", err)
	}
}

// TestTunnel opens a session over a stream, as the remote driver does.
func TestTunnel(t *testing.T) {
	c := newClient(t)
	call := c.Start(t.Context(), control+"Session", grpc.Metadata{"x-docker-expose-session-uuid": {"t1"}})
	defer call.Close()
	answers := &grpc.Server{Methods: map[string]grpc.Handler{getSecret: grpc.Unary(c.secret)}}
	go answers.ServeConn(t.Context(), newCallConn(call))
	s, err := c.service.session(t.Context(), "t1")
	if err != nil {
		t.Fatal(err)
	}
	if b, err := s.secret(t.Context(), "known"); err != nil || string(b) != "hush" {
		t.Errorf("secret %q, %v", b, err)
	}
}

// TestRefused is about calls that need what forge has not.
func TestRefused(t *testing.T) {
	c := newClient(t)
	graph := &definition{Def: [][]byte{{1}}}
	for name, test := range map[string]struct {
		method string
		in     any
		want   grpc.Code
	}{
		"graph":     {control + "Solve", &solveRequest{Ref: "a", Session: "s1", Definition: graph}, grpc.Unimplemented},
		"frontend":  {control + "Solve", &solveRequest{Ref: "b", Session: "s1", Frontend: "gateway.v0", FrontendAttrs: map[string]string{"source": "foo/bar"}}, grpc.InvalidArgument},
		"subdir":    {control + "Solve", &solveRequest{Ref: "c", Session: "s1", Frontend: "dockerfile.v0", FrontendAttrs: map[string]string{"contextsubdir": "a"}}, grpc.InvalidArgument},
		"du filter": {control + "DiskUsage", &diskUsageRequest{Filter: []string{"type==regular"}}, grpc.Unimplemented},
		"no ref":    {control + "Solve", &solveRequest{Session: "s1"}, grpc.InvalidArgument},
		"container": {bridge + "NewContainer", &empty{}, grpc.Unimplemented},
		"unknown":   {control + "Odd", &empty{}, grpc.Unimplemented},
	} {
		if err := c.Invoke(t.Context(), test.method, nil, test.in, &empty{}); grpc.CodeOf(err) != test.want {
			t.Errorf("%s: %v, want %v", name, err, test.want)
		}
	}
	ours, theirs := net.Pipe()
	defer ours.Close()
	if err := c.service.Attach(t.Context(), theirs, nil); err == nil {
		t.Error("a session without an ID was taken")
	}
	var workers listWorkersResponse
	if err := c.Invoke(t.Context(), control+"ListWorkers", nil, &empty{}, &workers); err != nil || len(workers.Record) != 1 || len(workers.Record[0].Platforms) == 0 {
		t.Errorf("workers %+v, %v", workers, err)
	}
}

// FuzzOptions reads any attributes of a build.
func FuzzOptions(f *testing.F) {
	f.Add("filename=F\nbuild-arg:A=1\ncontext:x=local:y\nulimit=a,b\nattest:sbom=generator=x")
	f.Add("cache-imports=[{\"Type\":\"registry\"}]\nadd-hosts=a=1\ncontext=http://buildkit-session/x")
	s := New("", nil)
	f.Fuzz(func(t *testing.T, text string) {
		q := question{request: &solveRequest{}, attrs: map[string]string{}}
		for line := range strings.SplitSeq(text, "\n") {
			k, v, _ := strings.Cut(line, "=")
			if k != "context" {
				q.attrs[k] = v
			}
		}
		q.request.Cache = &cacheOptions{Exports: []exporter{{q.attrs["t"], q.attrs}}}
		_, _ = s.buildOptions(t.Context(), &build{}, q, &session{})
		_, _ = outputOf(exporter{q.attrs["t"], q.attrs})
	})
}
