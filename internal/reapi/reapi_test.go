package reapi_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/forge-build/forge/internal/grpc"
	"github.com/forge-build/forge/internal/reapi"
	"github.com/forge-build/forge/internal/reapi/reapitest"
)

func must[T any](v T, err error) func(t *testing.T) T {
	return func(t *testing.T) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func noise(n int) []byte {
	data := make([]byte, n)
	r := rand.NewChaCha8([32]byte{})
	_, _ = r.Read(data)
	return data
}

// dial is a client of a server of the kit or, where FORGE_TEST_REMOTE names one, of that.
func dial(t *testing.T, s *reapitest.Server) *reapi.Client {
	t.Helper()
	address := os.Getenv("FORGE_TEST_REMOTE")
	if address == "" {
		address = s.Start(t)
	}
	c := must(reapi.Dial(address, reapi.Options{Version: "1", Headers: []string{"x-key=secret"}}))(t)
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// TestContent holds that content comes back as it went, whatever its size and however it travels.
func TestContent(t *testing.T) {
	t.Parallel()
	for _, s := range []*reapitest.Server{{}, {Zstd: true}, {MaxBatch: 1 << 20}} {
		c := dial(t, s)
		var blobs []reapi.Blob
		var datas [][]byte
		for _, size := range []int{0, 1, 1000, 1<<20 - 1, 1 << 20, 5 << 20} {
			datas = append(datas, noise(size))
			blobs = append(blobs, reapi.BlobOf(datas[len(datas)-1]))
		}
		if err := c.Upload(t.Context(), blobs, nil); err != nil {
			t.Fatal(err)
		}
		for i, data := range datas {
			for _, offset := range []int64{0, 1, int64(len(data) / 2), int64(len(data))} {
				if offset > int64(len(data)) {
					continue
				}
				r := must(c.Read(t.Context(), blobs[i].Digest, offset))(t)
				got := must(io.ReadAll(r))(t)
				if err := r.Close(); err != nil || !bytes.Equal(got, data[offset:]) {
					t.Errorf("zstd %v: %d bytes from %d: got %d, %v", s.Zstd, len(data), offset, len(got), err)
				}
			}
		}
		before := s.Calls("")
		if err := c.Upload(t.Context(), blobs, nil); err != nil || s.Calls("") != before {
			t.Errorf("what is known to be there is asked for again: %v", err)
		}
		if got := s.Header("x-key"); os.Getenv("FORGE_TEST_REMOTE") == "" && got != "secret" {
			t.Errorf("header %q", got)
		}
	}
}

// TestContentFails holds that content that is not there is fs.ErrNotExist, and that other content than was asked for is refused.
func TestContentFails(t *testing.T) {
	t.Parallel()
	s := &reapitest.Server{}
	c := dial(t, s)
	gone := reapi.DigestOf([]byte("gone"))
	if _, err := c.ReadAll(t.Context(), gone, 100); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("what is not there: %v", err)
	}
	s.Set(gone, []byte("fake"))
	if _, err := c.ReadAll(t.Context(), gone, 100); err == nil || !strings.Contains(err.Error(), "other content") {
		t.Errorf("other content: %v", err)
	}
	if _, err := c.ReadAll(t.Context(), gone, 3); err == nil {
		t.Error("more than was allowed is read")
	}
	blob := reapi.BlobOf([]byte("x"))
	blob.Digest = gone
	s.Evict(func(reapi.Digest) bool { return true })
	if err := c.Upload(t.Context(), []reapi.Blob{blob}, nil); err == nil {
		t.Error("other content is sent")
	}
}

// TestTroublePasses holds that what may be called again is called again, and what may not is not.
func TestTroublePasses(t *testing.T) {
	t.Parallel()
	var fails atomic.Int32
	code := grpc.Unavailable
	s := &reapitest.Server{Fault: func(method string) error {
		if method != "GetCapabilities" && fails.Add(-1) >= 0 {
			return grpc.Errorf(code, "trouble")
		}
		return nil
	}}
	c := dial(t, s)
	fails.Store(2)
	if err := c.Upload(t.Context(), []reapi.Blob{reapi.BlobOf(noise(10))}, nil); err != nil {
		t.Error(err)
	}
	fails.Store(1)
	if r, err := c.Result(t.Context(), reapi.DigestOf([]byte("x"))); r != nil || err != nil {
		t.Error(r, err)
	}
	code = grpc.PermissionDenied
	fails.Store(1)
	before := s.Calls("")
	if _, err := c.Result(t.Context(), reapi.DigestOf([]byte("x"))); !errors.Is(err, fs.ErrPermission) || s.Calls("") != before+1 {
		t.Errorf("%v, %d calls", err, s.Calls("")-before)
	}
}

// TestCapabilitiesCanceled holds that a caller who gives up takes the answer from nobody else.
func TestCapabilitiesCanceled(t *testing.T) {
	t.Parallel()
	c := dial(t, &reapitest.Server{})
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := c.Capabilities(canceled); !errors.Is(err, context.Canceled) && grpc.CodeOf(err) != grpc.Canceled {
		t.Errorf("canceled: %v", err)
	}
	if caps, err := c.Capabilities(t.Context()); err != nil || !caps.CanUpdate() {
		t.Errorf("after that: %v", err)
	}
}

// serve is a client of a server with a few methods over a connection in memory.
func serve(t *testing.T, methods map[string]grpc.Handler) *reapi.Client {
	t.Helper()
	methods["/build.bazel.remote.execution.v2.Capabilities/GetCapabilities"] = grpc.Unary(func(*grpc.Stream, *reapi.GetCapabilities) (*reapi.Capabilities, error) {
		return &reapi.Capabilities{Cache: &reapi.CacheCapabilities{}}, nil
	})
	server := &grpc.Server{Methods: methods}
	ours, theirs := net.Pipe()
	go server.ServeConn(t.Context(), theirs)
	rpc := must(grpc.Over(t.Context(), ours, grpc.Options{}))(t)
	t.Cleanup(func() { _ = rpc.Close() })
	return reapi.New(rpc, "grpc://pipe", "")
}

// TestWriteCut holds that a blob whose transfer a server ends before it has all is not taken to be there: it is sent again.
func TestWriteCut(t *testing.T) {
	t.Parallel()
	var writes atomic.Int32
	c := serve(t, map[string]grpc.Handler{"/google.bytestream.ByteStream/Write": func(s *grpc.Stream) error {
		if writes.Add(1) > 1 {
			return grpc.Errorf(grpc.InvalidArgument, "it comes again")
		}
		if err := s.Recv(&reapi.WriteRequest{}); err != nil {
			return err
		}
		return s.Send(reapi.WriteResponse{Committed: 1 << 20}) // most often all that was sent when the client sees it
	}})
	err := c.Store(t.Context(), []reapi.Blob{reapi.BlobOf(noise(4 << 20))}, nil)
	if err == nil || !strings.Contains(err.Error(), "it comes again") {
		t.Errorf("%v, after %d writes", err, writes.Load())
	}
}

// TestBatchBusy holds that a server that has no time for one blob of a batch is asked again.
func TestBatchBusy(t *testing.T) {
	t.Parallel()
	var batches atomic.Int32
	code := grpc.Unavailable
	c := serve(t, map[string]grpc.Handler{"/build.bazel.remote.execution.v2.ContentAddressableStorage/BatchUpdateBlobs": grpc.Unary(
		func(_ *grpc.Stream, in *reapi.BatchUpdate) (*reapi.BatchUpdated, error) {
			out := &reapi.BatchUpdated{}
			for i, b := range in.Blobs {
				status := reapi.BatchStatus{Digest: b.Digest}
				if i == 1 && batches.Add(1) == 1 {
					status.Status = grpc.Errorf(code, "busy")
				}
				out.Blobs = append(out.Blobs, status)
			}
			return out, nil
		})})
	blobs := []reapi.Blob{reapi.BlobOf(noise(10)), reapi.BlobOf(noise(20))}
	if err := c.Store(t.Context(), blobs, nil); err != nil || batches.Load() != 2 {
		t.Errorf("%v, after %d batches", err, batches.Load())
	}
	code = grpc.InvalidArgument
	batches.Store(0)
	if err := c.Store(t.Context(), blobs, nil); err == nil || batches.Load() != 1 {
		t.Errorf("a blob that is refused: %v, after %d batches", err, batches.Load())
	}
}

// An echo is an action of a worker that only seems to work.
func echo(t *testing.T, c *reapi.Client) (reapi.Digest, []reapi.Blob) {
	t.Helper()
	marshal := func(m any) reapi.Blob {
		data, _, err := c.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		return reapi.BlobOf(data)
	}
	file := reapi.BlobOf([]byte("content"))
	command := marshal(reapi.Command{Arguments: []string{"/bin/sh", "-c", "cat in > out; echo said"}, Env: []reapi.Property{{Name: "PATH", Value: "/bin:/usr/bin"}}, Paths: []string{"out"}, Files: []string{"out"}})
	root := marshal(reapi.Directory{Files: []reapi.FileNode{{Name: "in", Digest: &file.Digest}}})
	action := marshal(reapi.Action{Command: &command.Digest, Input: &root.Digest, Timeout: reapi.NewDuration(time.Minute), Salt: []byte("1")})
	return action.Digest, []reapi.Blob{command, root, action, file}
}

// TestExecute holds that a command is executed, that what the server lacks is told, and that the result is known afterwards.
func TestExecute(t *testing.T) {
	t.Parallel()
	s := &reapitest.Server{Execute: reapitest.Process(t.TempDir(), nil)}
	c := dial(t, s)
	action, blobs := echo(t, c)
	if os.Getenv("FORGE_TEST_REMOTE") == "" {
		if r, err := c.Result(t.Context(), action); r != nil || err != nil {
			t.Fatal(r, err)
		}
		_, err := c.Execute(t.Context(), reapi.Execution{Action: action})
		if missing, ok := errors.AsType[*reapi.MissingError](err); !ok || missing.Blobs[0] != action {
			t.Errorf("without the action: %v", err)
		}
	}
	if err := c.Upload(t.Context(), blobs, nil); err != nil {
		t.Fatal(err)
	}
	x := must(c.Execute(t.Context(), reapi.Execution{Action: action, Inline: []string{"out"}}))(t)
	f := x.Result.File("out")
	if f == nil || f.Digest.Hash != reapi.DigestOf([]byte("content")).Hash || x.Result.ExitCode != 0 {
		t.Fatalf("%+v", x.Result)
	}
	if out := must(c.Output(t.Context(), x.Result.Stdout, x.Result.StdoutDigest, 100))(t); string(out) != "said\n" {
		t.Errorf("it has printed %q", out)
	}
	if r := must(c.Result(t.Context(), action))(t); r == nil || r.File("out") == nil {
		t.Errorf("the result is not known: %+v", r)
	}
}

// TestExecuteCut holds that a stream that is cut is taken up again, and that the action is executed once.
func TestExecuteCut(t *testing.T) {
	t.Parallel()
	var cuts atomic.Int32
	cuts.Store(2)
	release := make(chan struct{})
	s := &reapitest.Server{
		Cut: func(string) bool {
			if cuts.Add(-1) >= 0 {
				return true
			}
			close(release)
			return false
		},
		Execute: func(_ context.Context, t *reapitest.Task) (*reapi.ActionResult, error) {
			<-release
			return &reapi.ActionResult{Stdout: []byte("done")}, nil
		},
	}
	c := dial(t, s)
	if os.Getenv("FORGE_TEST_REMOTE") != "" {
		t.Skip("needs a server that cuts")
	}
	action, blobs := echo(t, c)
	if err := c.Upload(t.Context(), blobs, nil); err != nil {
		t.Fatal(err)
	}
	x := must(c.Execute(t.Context(), reapi.Execution{Action: action}))(t)
	if string(x.Result.Stdout) != "done" || s.Executed() != 1 || s.Calls("WaitExecution") != 2 {
		t.Errorf("%q, %d times, %d waits", x.Result.Stdout, s.Executed(), s.Calls("WaitExecution"))
	}
}

// TestExecuteFails holds that an action that takes too long is not tried again, and that one whose worker died is.
func TestExecuteFails(t *testing.T) {
	t.Parallel()
	if os.Getenv("FORGE_TEST_REMOTE") != "" {
		t.Skip("needs a server that fails")
	}
	for _, test := range []struct {
		err   error
		times int
		want  string
	}{
		{grpc.Errorf(grpc.DeadlineExceeded, "too long"), 1, "too long"},
		{grpc.Errorf(grpc.InvalidArgument, "no such property"), 1, "no such property"},
		{reapitest.Kill(), 5, "killed"},
	} {
		t.Run(fmt.Sprint(test.err), func(t *testing.T) {
			t.Parallel()
			s := &reapitest.Server{Execute: func(context.Context, *reapitest.Task) (*reapi.ActionResult, error) { return nil, test.err }}
			c := dial(t, s)
			action, blobs := echo(t, c)
			if err := c.Upload(t.Context(), blobs, nil); err != nil {
				t.Fatal(err)
			}
			_, err := c.Execute(t.Context(), reapi.Execution{Action: action})
			if err == nil || !strings.Contains(err.Error(), test.want) || s.Executed() != test.times {
				t.Errorf("%v after %d times, want %d", err, s.Executed(), test.times)
			}
		})
	}
}

// TestDial holds what is no address.
func TestDial(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"", "host:1", "http://host", "grpc://", "grpc://user@host:1", "grpc://host:1?x=y"} {
		if c, err := reapi.Dial(address, reapi.Options{}); err == nil {
			t.Errorf("%q is an address: %s", address, c)
		}
	}
	if c := must(reapi.Dial("grpcs://host:1/a/b", reapi.Options{}))(t); c.String() != "grpcs://host:1/a/b" {
		t.Error(c)
	}
}

// FuzzResource holds that what a server says of a blob is either a digest or none.
func FuzzResource(f *testing.F) {
	f.Add("blobs/" + strings.Repeat("a", 64) + "/3")
	f.Add("x/compressed-blobs/zstd/" + strings.Repeat("0", 64) + "/-1")
	f.Fuzz(func(t *testing.T, s string) {
		if d, ok := reapi.ParseResource(s); ok && (d.Size < 0 || d.Name().Validate() != nil) {
			t.Errorf("%q is %v", s, d)
		}
	})
}

// TestPriority holds that the most urgent has the default priority or the first that a server knows, and that nothing goes before others' work.
func TestPriority(t *testing.T) {
	t.Parallel()
	ranges := func(all ...reapi.PriorityRange) *reapi.Capabilities {
		return &reapi.Capabilities{Execution: &reapi.ExecutionCapabilities{Priorities: &reapi.Priorities{Ranges: all}}}
	}
	for _, test := range []struct {
		caps              *reapi.Capabilities
		first, half, last int32
	}{
		{&reapi.Capabilities{}, 0, 0, 0},
		{&reapi.Capabilities{Execution: &reapi.ExecutionCapabilities{}}, 0, 0, 0},
		{ranges(), 0, 0, 0},
		{ranges(reapi.PriorityRange{}), 0, 0, 0},
		{ranges(reapi.PriorityRange{Min: -10}), 0, 0, 0},
		{ranges(reapi.PriorityRange{Min: -10, Max: 10}), 0, 5, 10},
		{ranges(reapi.PriorityRange{Min: math.MinInt32, Max: math.MaxInt32}), 0, 500, 1000},
		{ranges(reapi.PriorityRange{Min: -5, Max: -1}, reapi.PriorityRange{Min: 5, Max: 7}), 5, 6, 7},
		{ranges(reapi.PriorityRange{Min: math.MaxInt32 - 2, Max: math.MaxInt32}), math.MaxInt32 - 2, math.MaxInt32 - 1, math.MaxInt32},
	} {
		if first, half, last := test.caps.Priority(1), test.caps.Priority(0.5), test.caps.Priority(0); first != test.first || half != test.half || last != test.last {
			t.Errorf("%+v: %d, %d and %d, want %d, %d and %d", test.caps.Execution, first, half, last, test.first, test.half, test.last)
		}
		if beyond, below := test.caps.Priority(7), test.caps.Priority(-7); beyond != test.first || below != test.last {
			t.Errorf("%+v: beyond: %d and %d", test.caps.Execution, beyond, below)
		}
	}
}
