package buildkit

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/event/solve"
	"github.com/forge-build/forge/internal/grpc"
	"github.com/forge-build/forge/internal/proto"
)

// history asks for builds, and returns what is said of them until the answer ends.
func (c *client) history(in *historyRequest) (events []historyEvent) {
	c.t.Helper()
	call := c.Start(c.t.Context(), control+"ListenBuildHistory", nil)
	defer call.Close()
	if err := call.Send(in); err != nil {
		c.t.Fatal(err)
	}
	call.CloseSend()
	md, err := call.Header()
	if _, bad := time.Parse(time.RFC3339Nano, md.Get(clock)); err != nil || bad != nil {
		c.t.Fatalf("the head of the answer is %v, %v", md, err)
	}
	for {
		var e historyEvent
		if err := call.Recv(&e); err == io.EOF {
			return events
		} else if err != nil {
			c.t.Fatal(err)
		}
		events = append(events, e)
	}
}

// update changes a build of the history.
func (c *client) update(in updateHistoryRequest) error {
	return c.Invoke(c.t.Context(), control+"UpdateBuildHistory", nil, &in, &empty{})
}

// forget has the service know of builds what the store has, as if it had been started anew.
func (c *client) forget() {
	c.service.change(func() {
		clear(c.service.builds)
		clear(c.service.records)
	})
}

// twoBuilds does one that succeeds and one that fails, under the names good1 and bad1.
func (c *client) twoBuilds() (good outcome) {
	c.t.Helper()
	c.dirs["dockerfile"] = map[string]string{"Dockerfile": "FROM scratch AS one\nCOPY a /\nCOPY b /\n", "Bad": "FROM scratch\nCOPY none /\n"}
	c.dirs["context"] = map[string]string{"a": "1", "b": "2"}
	c.attrs = map[string]string{"target": "one", "build-arg:SECRET": "hush"}
	good, err := c.build("good1")
	if err != nil {
		c.t.Fatal(err)
	}
	c.attrs = map[string]string{"filename": "Bad"}
	if _, err := c.build("bad1"); err == nil {
		c.t.Fatal("a COPY of nothing succeeds")
	}
	return good
}

// TestHistory lists builds, says how they went after the server was started anew, and removes them.
func TestHistory(t *testing.T) {
	c := newClient(t)
	good := c.twoBuilds()
	c.forget()
	list := c.history(&historyRequest{EarlyExit: true})
	if len(list) != 2 || list[0].Record.Ref != "bad1" || list[1].Record.Ref != "good1" || list[0].Type != buildComplete {
		t.Fatalf("the builds are %+v", list)
	}
	bad, done := list[0].Record, list[1].Record
	if bad.Error == nil || !strings.Contains(bad.Error.Message, "COPY none") || bad.Attrs["filename"] != "Bad" || bad.CompletedAt == nil {
		t.Errorf("the build that has failed is %+v, %v", bad, bad.Error)
	}
	if done.Error != nil || done.Total != 3 || done.Completed != 3 || done.Attrs["target"] != "one" || done.Attrs["filename"] != "Dockerfile" {
		t.Errorf("the other is %+v", done)
	}
	if text, err := json.Marshal(list); err != nil || bytes.Contains(text, []byte("hush")) {
		t.Errorf("the value of an argument is in the history: %s, %v", text, err)
	}
	if one := c.history(&historyRequest{EarlyExit: true, Ref: "good1"}); len(one) != 1 || one[0].Record.Ref != "good1" {
		t.Errorf("one build: %+v", one)
	}
	for _, in := range []historyRequest{{EarlyExit: true, Ref: "good"}, {EarlyExit: true, Ref: "none"}, {EarlyExit: true, ActiveOnly: true}} {
		if none := c.history(&in); len(none) > 0 {
			t.Errorf("%+v is answered with %+v", in, none)
		}
	}
	if last := c.history(&historyRequest{EarlyExit: true, Limit: 1}); len(last) != 1 || last[0].Record.Ref != "bad1" {
		t.Errorf("the last build: %+v", last)
	}
	var again outcome
	if err := c.watch(t.Context(), "good1", &again); err != nil || !slices.Equal(again.steps, good.steps) {
		t.Errorf("afterwards the steps are %q, %v; want %q", again.steps, err, good.steps)
	}
	if err := c.update(updateHistoryRequest{Ref: "good1", Pinned: true}); grpc.CodeOf(err) != grpc.Unimplemented {
		t.Errorf("a build is pinned: %v", err)
	}
	for _, ref := range []string{"", "good", "none"} {
		if err := c.update(updateHistoryRequest{Ref: ref, Delete: true}); err == nil {
			t.Errorf("build %q is removed", ref)
		}
	}
	if err := c.update(updateHistoryRequest{Ref: "good1", Delete: true}); err != nil {
		t.Error(err)
	}
	if left := c.history(&historyRequest{EarlyExit: true}); len(left) != 1 || left[0].Record.Ref != "bad1" {
		t.Errorf("left is %+v", left)
	}
}

// TestHistoryFollowed tells a client that waits of a build that begins, ends and is removed.
func TestHistoryFollowed(t *testing.T) {
	c := newClient(t)
	call := c.Start(t.Context(), control+"ListenBuildHistory", nil)
	defer call.Close()
	if err := call.Send(&historyRequest{}); err != nil {
		t.Fatal(err)
	}
	c.twoBuilds()
	done := map[string]bool{}
	next := func() (e historyEvent) {
		if err := call.Recv(&e); err != nil {
			t.Fatal(err)
		}
		return e
	}
	for len(done) < 2 {
		if e := next(); e.Type == buildComplete {
			done[e.Record.Ref] = true
		}
	}
	if err := c.update(updateHistoryRequest{Ref: "bad1", Delete: true}); err != nil {
		t.Fatal(err)
	}
	if e := next(); e.Type != buildDeleted || e.Record.Ref != "bad1" {
		t.Errorf("after the removal comes %+v", e)
	}
}

// blobOf reads a blob of the service, from an offset and as many bytes as size says; 0 is all.
func (c *client) blobOf(d string, offset, size int64) ([]byte, error) {
	call := c.Start(c.t.Context(), contentService+"Read", nil)
	defer call.Close()
	if err := call.Send(&contentReadRequest{Digest: d, Offset: offset, Size: size}); err != nil {
		return nil, err
	}
	call.CloseSend()
	var all []byte
	for {
		var m contentReadResponse
		if err := call.Recv(&m); err == io.EOF {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		if m.Offset != offset+int64(len(all)) {
			c.t.Errorf("a piece is of %d, want %d", m.Offset, offset+int64(len(all)))
		}
		all = append(all, m.Data...)
	}
}

// TestHistoryBlobs reads the log, the trace and the provenance of a build.
func TestHistoryBlobs(t *testing.T) {
	c := newClient(t)
	good := c.twoBuilds()
	if err := c.update(updateHistoryRequest{Ref: "good1", Finalize: true}); err != nil {
		t.Fatal(err)
	}
	c.forget() // what a listing says again
	r := c.history(&historyRequest{EarlyExit: true, Ref: "good1"})[0].Record
	if r.Logs == nil || r.Trace == nil || r.Result == nil || len(r.Result.Attestations) != 1 {
		t.Fatalf("the record is %+v", r)
	}
	origin := &r.Result.Attestations[0]
	for _, d := range []*descriptor{r.Logs, r.Trace, origin} {
		var info contentInfoResponse
		if err := c.Invoke(t.Context(), contentService+"Info", nil, &contentInfoRequest{Digest: d.Digest}, &info); err != nil || info.Info.Size != d.Size {
			t.Errorf("%+v is %+v, %v", d, info.Info, err)
		}
		all, err := c.blobOf(d.Digest, 0, 0)
		if err != nil || digest.FromBytes(all).String() != d.Digest || int64(len(all)) != d.Size {
			t.Errorf("%+v has %d bytes, %v", d, len(all), err)
		}
		if part, err := c.blobOf(d.Digest, 7, 9); err != nil || !bytes.Equal(part, all[7:16]) {
			t.Errorf("9 bytes of %+v: %q, %v; want %q", d, part, err, all[7:16])
		}
		if end, err := c.blobOf(d.Digest, d.Size, 0); err != nil || len(end) > 0 {
			t.Errorf("after the end of %+v: %q, %v", d, end, err)
		}
		for _, bad := range [][2]int64{{-1, 0}, {d.Size + 1, 0}, {0, -1}} {
			if _, err := c.blobOf(d.Digest, bad[0], bad[1]); grpc.CodeOf(err) != grpc.OutOfRange {
				t.Errorf("%v of %+v: %v", bad, d, err)
			}
		}
	}
	var steps []string
	log, _ := c.blobOf(r.Logs.Digest, 0, 0)
	for len(log) > 0 {
		size := binary.LittleEndian.Uint32(log)
		var s solve.Status
		var codec proto.Codec
		if err := codec.Unmarshal(log[4:4+size], &s); err != nil {
			t.Fatal(err)
		}
		for _, v := range s.Vertexes {
			if v.Completed != nil {
				steps = append(steps, v.Name+": done")
			}
		}
		log = log[4+size:]
	}
	if !slices.Equal(steps, good.steps) {
		t.Errorf("the log has the steps %q, want %q", steps, good.steps)
	}
	spans, _ := c.blobOf(r.Trace.Digest, 0, 0)
	if n := bytes.Count(spans, []byte("\n")); n != 4 || !bytes.Contains(spans, []byte(`"COPY a /"`)) {
		t.Errorf("the trace has %d spans: %s", n, spans)
	}
	from, _ := c.blobOf(origin.Digest, 0, 0)
	var predicate struct {
		BuildDefinition struct {
			ExternalParameters struct{ ConfigSource struct{ Path string } }
		}
	}
	if err := json.Unmarshal(from, &predicate); err != nil || predicate.BuildDefinition.ExternalParameters.ConfigSource.Path != "Dockerfile" ||
		origin.Annotations[predicateType] != "https://slsa.dev/provenance/v1" || bytes.Contains(from, []byte("hush")) {
		t.Errorf("the provenance %+v is %s, %v", origin, from, err)
	}
	if bad := c.history(&historyRequest{EarlyExit: true, Ref: "bad1"})[0].Record; bad.Result != nil || bad.Results != nil {
		t.Errorf("a build that has failed has results: %+v", bad)
	}
	if _, err := c.blobOf(digest.FromString("none").String(), 0, 0); grpc.CodeOf(err) != grpc.NotFound {
		t.Errorf("a blob that is none: %v", err)
	}
	if err := c.update(updateHistoryRequest{Ref: "good1", Delete: true}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.blobOf(r.Logs.Digest, 0, 0); grpc.CodeOf(err) != grpc.NotFound {
		t.Errorf("the log of a build that was removed: %v", err)
	}
}

// TestHistoryPlatforms names the provenance of each platform's image.
func TestHistoryPlatforms(t *testing.T) {
	c := newClient(t)
	c.dirs["dockerfile"] = map[string]string{"Dockerfile": "FROM scratch\nCOPY a /\n"}
	c.dirs["context"] = map[string]string{"a": "1"}
	c.attrs = map[string]string{"platform": "linux/amd64,linux/arm64"}
	if _, err := c.build("both1"); err != nil {
		t.Fatal(err)
	}
	r := c.history(&historyRequest{EarlyExit: true, Ref: "both1"})[0].Record
	if r.Result != nil || len(r.Results) != 2 {
		t.Fatalf("the record is %+v", r)
	}
	for platform, of := range r.Results {
		text, err := c.blobOf(of.Attestations[0].Digest, 0, 0)
		if err != nil || !bytes.Contains(text, []byte(`"platform": "`+platform+`"`)) {
			t.Errorf("the provenance of %s is %s, %v", platform, text, err)
		}
	}
}
