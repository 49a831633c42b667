package forge_test

import (
	"fmt"
	"net/http"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/registry/registrytest"
)

// rounds counts how many requests of a registry had to wait for each other. It answers late, so that those that are sent together are
// seen together.
type rounds struct {
	mu      sync.Mutex // guards all below
	ended   int        // the largest number of a round that has ended
	largest int
}

func (c *rounds) late(w http.ResponseWriter, r *http.Request, next http.Handler) {
	c.mu.Lock()
	round := c.ended + 1
	c.largest = max(c.largest, round)
	c.mu.Unlock()
	time.Sleep(30 * time.Millisecond)
	next.ServeHTTP(w, r)
	c.mu.Lock()
	c.ended = max(c.ended, round)
	c.mu.Unlock()
}

// TestSharedCacheRounds: a build of 12 steps that another machine has done takes at most 8 round trips, push and base image included, and
// no layer's bytes.
func TestSharedCacheRounds(t *testing.T) {
	t.Parallel()
	s := newSharing(t)
	base := registrytest.NewMemory()
	registrytest.Push(t, s.r.Ref(t, "base:1"), base, base.AddImage(t, 1, ocispec.Platform{OS: "linux", Architecture: runtime.GOARCH}, false, 200_000, 1000))
	var text strings.Builder
	fmt.Fprintf(&text, "FROM %s AS build\n", s.r.Ref(t, "base:1"))
	for i := range 9 {
		write(t, filepath.Join(s.dir, fmt.Sprint(i)), strings.Repeat(fmt.Sprint(i), 1000))
		if i == 6 {
			fmt.Fprintf(&text, "FROM %s\n", s.r.Ref(t, "base:1"))
		}
		fmt.Fprintf(&text, "COPY %d /%d\n", i, i)
	}
	text.WriteString("COPY --from=build /1 /x\nCOPY --from=build /2 /3 /y/\nCOPY --from=build /4 /z\n")
	write(t, s.dir+"/Dockerfile", text.String())
	byDefault := func(o *forge.BuildOptions) {
		pushing(s)(o)
		o.Cache, o.Scope = "", "main"
	}
	s.build(byDefault)
	s.r.Reset()
	var c rounds
	s.r.Fault(registrytest.Fault{Do: c.late})
	_, told, r := s.build(func(o *forge.BuildOptions) {
		byDefault(o)
		o.Tags = []string{s.r.Host() + "/app:2"}
	})
	if r.Done != 0 || r.Reused != 12 || told != "" {
		t.Errorf("%d steps were done and %d reused, want 0 and 12; told %q", r.Done, r.Reused, told)
	}
	for _, q := range s.r.Requests("GET", "/blobs/") {
		if !strings.HasPrefix(q.Path, "/v2/base/") {
			t.Errorf("%s %s: nothing but the configuration of the base is wanted", q.Method, q.Path)
		}
	}
	if n := len(s.r.Requests("GET", "/blobs/")); n > 1 {
		t.Errorf("%d blobs were fetched, want the configuration of the base image", n)
	}
	t.Logf("%d rounds, %d requests", c.largest, len(s.r.Requests("", "")))
	if c.largest > 8 {
		for _, q := range s.r.Requests("", "") {
			t.Log(q.Method, q.Path, q.Query)
		}
		t.Errorf("%d round trips, want at most 8", c.largest)
	}
}
