package buildkit

import (
	"cmp"
	"context"
	"io"
	"maps"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/forge-build/forge/event/solve"
	"github.com/forge-build/forge/internal/grpc"
)

// An outcome is what a build came to.
type outcome struct {
	exported map[string]string
	result   *result
	steps    []string // names of vertexes that were completed, with what became of them
	warnings []string
}

// build has something built as buildx does: Status and Solve side by side, then Ping, Solve and Return over the bridge.
func (c *client) build(ref string, exporters ...exporter) (o outcome, err error) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	status := make(chan error, 1)
	go func() { status <- c.watch(ctx, ref, &o) }()
	solved := make(chan error, 1)
	var response solveResponse
	go func() {
		solved <- c.Invoke(ctx, control+"Solve", nil, &solveRequest{Ref: ref, Session: "s1", Exporters: exporters}, &response)
	}()
	md := grpc.Metadata{"buildkit-controlapi-buildid": {ref}}
	var pong pongResponse
	if err := c.Invoke(ctx, bridge+"Ping", md, &empty{}, &pong); err != nil || len(pong.Frontend) == 0 || len(pong.LLB) == 0 {
		c.t.Fatalf("ping: %d and %d capabilities, %v", len(pong.Frontend), len(pong.LLB), err)
	}
	var answer bridgeSolveResponse
	ret := &returnRequest{}
	attrs := maps.Clone(c.attrs)
	delete(attrs, "tree")
	failed := c.Invoke(ctx, bridge+"Solve", md, &bridgeSolveRequest{Frontend: "dockerfile.v0", FrontendOpt: attrs, Evaluate: true}, &answer)
	if failed != nil {
		ret.Error = grpc.StatusOf(failed)
	}
	ret.Result = answer.Result
	if err := c.Invoke(ctx, bridge+"Return", md, ret, &empty{}); err != nil {
		c.t.Fatal(err)
	}
	if err := <-solved; (err == nil) != (failed == nil) || err != nil && err.Error() != failed.Error() {
		c.t.Errorf("the build is answered with %v, and over the bridge with %v", err, failed)
	}
	if err := <-status; err != nil {
		c.t.Errorf("status: %v", err)
	}
	o.exported, o.result = response.ExporterResponse, answer.Result
	return o, failed
}

// watch takes the news of a build.
func (c *client) watch(ctx context.Context, ref string, o *outcome) error {
	call := c.Start(ctx, control+"Status", nil)
	defer call.Close()
	if err := call.Send(&refMessage{Ref: ref}); err != nil {
		return err
	}
	call.CloseSend()
	for {
		var s solve.Status
		if err := call.Recv(&s); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		for _, v := range s.Vertexes {
			if v.Completed != nil {
				how := map[bool]string{true: "cached", false: "done"}[v.Cached]
				if v.Error != "" {
					how = v.Error
				}
				o.steps = append(o.steps, v.Name+": "+how)
			}
		}
		for _, w := range s.Warnings {
			o.warnings = append(o.warnings, string(w.Short))
		}
	}
}

// took returns the names of the files that the service has asked for since it was called last, sorted.
func (c *client) took() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	names := slices.Clone(c.sent)
	c.sent = nil
	slices.SortFunc(names, func(a, b string) int { return cmp.Compare(path.Base(a), path.Base(b)) })
	return strings.Join(names, " ")
}
