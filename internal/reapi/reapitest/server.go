// Package reapitest is a server of the Remote Execution API in memory: content, action cache and execution, with workers that
// execute commands in directories or only seem to, and with faults on demand.
package reapitest

import (
	"bytes"
	"context"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/grpc"
	"github.com/forge-build/forge/internal/proto"
	"github.com/forge-build/forge/internal/reapi"
	"github.com/forge-build/forge/internal/turn"
)

// A Task is an action that a worker is to execute.
type Task struct {
	Digest  reapi.Digest
	Action  reapi.Action
	Command reapi.Command
	Server  *Server
	Log     io.Writer // live, if the server's Live is set
	dir     string    // of a Process
}

// A Server is a server. Its exported fields are set before the first call and not changed after, but for Fault.
type Server struct {
	Execute     func(ctx context.Context, t *Task) (*reapi.ActionResult, error) // what workers do; nil says that there are none
	Workers     int                                                             // how many there are; 0 is 8
	Zstd        bool                                                            // blobs may travel compressed
	MaxBatch    int64                                                           // that is said, bytes
	ReadOnly    bool                                                            // results are not taken
	Live        bool                                                            // what workers write to Task.Log can be read while they work
	NoInline    bool                                                            // files of results do not come along
	Unordered   bool                                                            // executions have no priorities
	StrangeLack bool                                                            // what an action lacks is not told as the API has it

	// Fault, if it is not nil, is asked before each call whether it fails; method is the last part of its name. After cuts the stream of an
	// execution when it has named its operation.
	Fault func(method string) error
	Cut   func(operation string) bool

	rpc   grpc.Server
	codec proto.Codec

	mu      sync.Mutex // guards all below
	blobs   map[reapi.Digest][]byte
	results map[reapi.Digest]*reapi.ActionResult
	running map[string]*operation // by name
	calls   map[string]int        // by method
	read    int64                 // bytes of blobs that were read
	slots   *turn.Queue
	done    int // actions that were executed
	header  grpc.Metadata
}

const (
	service  = "/build.bazel.remote.execution.v2."
	maxCalls = 8192 // of one connection at once
)

// prepare makes what the fields say.
func (s *Server) prepare() {
	s.blobs, s.results = map[reapi.Digest][]byte{}, map[reapi.Digest]*reapi.ActionResult{}
	s.running, s.calls = map[string]*operation{}, map[string]int{}
	if s.Workers == 0 {
		s.Workers = 8
	}
	s.slots = turn.New(s.Workers)
	s.rpc.MaxCalls = maxCalls
	s.rpc.Methods = map[string]grpc.Handler{
		service + "Capabilities/GetCapabilities":               s.counted(grpc.Unary(s.capabilities)),
		service + "ContentAddressableStorage/FindMissingBlobs": s.counted(grpc.Unary(s.missing)),
		service + "ContentAddressableStorage/BatchUpdateBlobs": s.counted(grpc.Unary(s.update)),
		service + "ActionCache/GetActionResult":                s.counted(grpc.Unary(s.result)),
		service + "ActionCache/UpdateActionResult":             s.counted(grpc.Unary(s.setResult)),
		service + "Execution/Execute":                          s.counted(s.execute),
		service + "Execution/WaitExecution":                    s.counted(s.wait),
		"/google.bytestream.ByteStream/Read":                   s.counted(s.readBlob),
		"/google.bytestream.ByteStream/Write":                  s.counted(s.writeBlob),
	}
}

// Start serves at an address of this machine until the test ends, and returns it.
func (s *Server) Start(t testing.TB) (address string) {
	t.Helper()
	address, shut, err := s.Serve()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(shut)
	return address
}

// Serve serves at an address of this machine until it is shut.
func (s *Server) Serve() (address string, shut func(), err error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	return "grpc://" + l.Addr().String(), s.serve(l), nil
}

// Pipe serves over a connection in memory until the test ends, and returns a client of it: in a bubble of virtual time.
func (s *Server) Pipe(t testing.TB) *reapi.Client {
	t.Helper()
	s.prepare()
	return reapi.New(s.Conn(t), "grpc://pipe", "")
}

// Conn connects once more to a server of which there is a Pipe.
func (s *Server) Conn(t testing.TB) *grpc.Client {
	t.Helper()
	ours, theirs := net.Pipe()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	ended := make(chan struct{})
	go func() { defer close(ended); _ = s.rpc.ServeConn(ctx, ours) }()
	t.Cleanup(func() { cancel(); <-ended })
	rpc, err := grpc.Over(t.Context(), theirs, grpc.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rpc.Close() })
	return rpc
}

// Handler makes the server, for whoever serves it in another way.
func (s *Server) Handler() http.Handler {
	s.prepare()
	return &s.rpc
}

func (s *Server) serve(l net.Listener) (shut func()) {
	srv := &http.Server{Handler: s.Handler(), Protocols: new(http.Protocols), HTTP2: &http.HTTP2Config{MaxConcurrentStreams: maxCalls}}
	srv.Protocols.SetUnencryptedHTTP2(true)
	ended := make(chan struct{})
	go func() { defer close(ended); _ = srv.Serve(l) }()
	return func() {
		_ = srv.Close()
		<-ended
	}
}

// counted counts calls, and has them fail where they are to.
func (s *Server) counted(h grpc.Handler) grpc.Handler {
	return func(c *grpc.Stream) error {
		method := c.Method()[strings.LastIndexByte(c.Method(), '/')+1:]
		if strings.Contains(c.Method(), "bytestream") {
			method = "Stream" + method
		}
		s.mu.Lock()
		s.calls[method]++
		s.header = c.Metadata()
		s.mu.Unlock()
		if s.Fault != nil {
			if err := s.Fault(method); err != nil {
				return err
			}
		}
		return h(c)
	}
}

// Calls is how often a method was called; "" is all.
func (s *Server) Calls(method string) (n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, count := range s.calls {
		if method == "" || name == method {
			n += count
		}
	}
	return n
}

// Executed is how many actions were executed.
func (s *Server) Executed() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.done
}

// Read is how many bytes of blobs clients have read.
func (s *Server) Read() int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.read
}

// Header is a value of what came with the last call.
func (s *Server) Header(name string) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.header.Get(name)
}

// Blob is content; nil if it is not there.
func (s *Server) Blob(d reapi.Digest) []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	if d.Size == 0 {
		return []byte{}
	}
	return s.blobs[d]
}

// Put stores content and returns its digest.
func (s *Server) Put(data []byte) reapi.Digest {
	d := reapi.DigestOf(data)
	s.Set(d, data)
	return d
}

// Set stores content under a digest, which need not be its own.
func (s *Server) Set(d reapi.Digest, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.blobs[d] = bytes.Clone(data)
}

// Evict forgets the content for which gone reports true.
func (s *Server) Evict(gone func(d reapi.Digest) bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range s.blobs {
		if gone(d) {
			delete(s.blobs, d)
		}
	}
}

// Forget forgets all content and all results, as a server that was started anew.
func (s *Server) Forget() {
	s.mu.Lock()
	defer s.mu.Unlock()
	clear(s.blobs)
	clear(s.results)
}

// Results are the digests of all actions whose results are known.
func (s *Server) Results() (digests []reapi.Digest) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for d := range s.results {
		digests = append(digests, d)
	}
	return digests
}

// Result is what is known to have come of an action; nil if nothing is.
func (s *Server) Result(d reapi.Digest) *reapi.ActionResult {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.results[d]
}

// Message reads a message out of content.
func (s *Server) Message(d *reapi.Digest, out any) bool {
	if d == nil {
		return false
	}
	data := s.Blob(*d)
	return data != nil && s.codec.Unmarshal(data, out) == nil
}

func (s *Server) capabilities(*grpc.Stream, *reapi.GetCapabilities) (*reapi.Capabilities, error) {
	c := &reapi.Capabilities{
		Cache:     &reapi.CacheCapabilities{Functions: []int32{1}, Update: &reapi.UpdateRight{Enabled: !s.ReadOnly}, MaxBatch: s.MaxBatch},
		Execution: &reapi.ExecutionCapabilities{Function: 1, Enabled: s.Execute != nil, Priorities: s.priorities()},
	}
	if s.Zstd {
		c.Cache.Compressors = []int32{1}
	}
	return c, nil
}

// priorities are those of executions: lower ones go first.
func (s *Server) priorities() *reapi.Priorities {
	if s.Unordered {
		return nil
	}
	return &reapi.Priorities{Ranges: []reapi.PriorityRange{{Min: math.MinInt32, Max: math.MaxInt32}}}
}

func (s *Server) missing(_ *grpc.Stream, in *reapi.FindMissing) (*reapi.MissingBlobs, error) {
	out := &reapi.MissingBlobs{}
	for _, d := range in.Blobs {
		if s.Blob(d) == nil {
			out.Blobs = append(out.Blobs, d)
		}
	}
	return out, nil
}

func (s *Server) update(_ *grpc.Stream, in *reapi.BatchUpdate) (*reapi.BatchUpdated, error) {
	out := &reapi.BatchUpdated{}
	for _, b := range in.Blobs {
		entry := reapi.BatchStatus{Digest: b.Digest}
		if b.Digest == nil || reapi.DigestOf(b.Data) != *b.Digest {
			entry.Status = grpc.Errorf(grpc.InvalidArgument, "the content is another")
		} else {
			s.Put(b.Data)
		}
		out.Blobs = append(out.Blobs, entry)
	}
	return out, nil
}

func (s *Server) result(_ *grpc.Stream, in *reapi.GetActionResult) (*reapi.ActionResult, error) {
	r := s.Result(*in.Action)
	if r == nil {
		return nil, grpc.Errorf(grpc.NotFound, "no result of %s", in.Action)
	}
	return s.inlined(r, in.InlineFiles), nil
}

// inlined is a result with the contents of some of its files.
func (s *Server) inlined(r *reapi.ActionResult, files []string) *reapi.ActionResult {
	out := *r
	out.Files = append([]reapi.OutputFile(nil), r.Files...)
	for i := range out.Files {
		for _, name := range files {
			if f := &out.Files[i]; f.Path == name && !s.NoInline {
				f.Contents = s.Blob(*f.Digest)
			}
		}
	}
	return &out
}

func (s *Server) setResult(_ *grpc.Stream, in *reapi.UpdateActionResult) (*reapi.ActionResult, error) {
	if s.ReadOnly {
		return nil, grpc.Errorf(grpc.PermissionDenied, "results are not taken")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.results[*in.Action] = in.Result
	return in.Result, nil
}

func (s *Server) readBlob(c *grpc.Stream) error {
	var in reapi.ReadRequest
	if err := c.Recv(&in); err != nil {
		return err
	}
	if name, ok := strings.CutPrefix(in.Resource, "log/"); ok {
		return s.readLog(c, name)
	}
	d, ok := reapi.ParseResource(in.Resource)
	data := s.Blob(d)
	if !ok || data == nil || in.Offset > int64(len(data)) {
		return grpc.Errorf(grpc.NotFound, "no %s", in.Resource)
	}
	data = data[in.Offset:]
	s.mu.Lock()
	s.read += int64(len(data))
	s.mu.Unlock()
	if strings.Contains(in.Resource, "compressed-blobs/zstd/") {
		var b bytes.Buffer
		if err := (image.Compression{Algorithm: image.Zstd}).Deflate(c.Context(), &b, bytes.NewReader(data)); err != nil {
			return err
		}
		data = b.Bytes()
	}
	for len(data) > 0 {
		n := min(len(data), 64<<10)
		if err := c.Send(reapi.ReadResponse{Data: data[:n]}); err != nil {
			return err
		}
		data = data[n:]
	}
	return nil
}

func (s *Server) writeBlob(c *grpc.Stream) error {
	var b bytes.Buffer
	resource := ""
	for {
		var in reapi.WriteRequest
		err := c.Recv(&in)
		if err == io.EOF {
			break
		}
		if err != nil {
			return err
		}
		if in.Resource != "" {
			resource = in.Resource
		}
		if in.Offset != int64(b.Len()) {
			return grpc.Errorf(grpc.InvalidArgument, "offset %d after %d bytes", in.Offset, b.Len())
		}
		b.Write(in.Data)
		if in.Finish {
			break
		}
	}
	committed, data := int64(b.Len()), b.Bytes()
	if strings.Contains(resource, "compressed-blobs/zstd/") {
		r, _, err := image.Inflate(&b)
		if err == nil {
			data, err = io.ReadAll(r)
		}
		if err != nil {
			return grpc.Errorf(grpc.InvalidArgument, "%v", err)
		}
	}
	d, ok := reapi.ParseResource(resource)
	if !ok || reapi.DigestOf(data) != d {
		return grpc.Errorf(grpc.InvalidArgument, "%s: the content is another", resource)
	}
	s.Put(data)
	return c.Send(reapi.WriteResponse{Committed: committed})
}
