package reapi

import "github.com/forge-build/forge/internal/grpc"

// GetActionResult asks for what came of an action.
type GetActionResult struct {
	Instance     string   `pb:"1"`
	Action       *Digest  `pb:"2"`
	InlineStdout bool     `pb:"3"`
	InlineFiles  []string `pb:"5"`
	Function     int32    `pb:"6"`
}

// UpdateActionResult says what came of an action.
type UpdateActionResult struct {
	Instance string        `pb:"1"`
	Action   *Digest       `pb:"2"`
	Result   *ActionResult `pb:"3"`
	Function int32         `pb:"5"`
}

// ExecuteRequest asks for an action to be executed.
type ExecuteRequest struct {
	Instance     string    `pb:"1"`
	SkipCache    bool      `pb:"3"`
	Action       *Digest   `pb:"6"`
	Priority     *Priority `pb:"7"`
	Function     int32     `pb:"9"`
	InlineStdout bool      `pb:"10"`
	InlineStderr bool      `pb:"11"`
	InlineFiles  []string  `pb:"12"`
}

// A Priority says which actions go first: those with the lower numbers.
type Priority struct {
	Number int32 `pb:"1"`
}

// WaitRequest asks for an operation to be watched on.
type WaitRequest struct {
	Name string `pb:"1"`
}

// An Operation is how an execution stands (google.longrunning.Operation).
type Operation struct {
	Name     string       `pb:"1"`
	Metadata *grpc.Detail `pb:"2"`
	Done     bool         `pb:"3"`
	Error    *grpc.Error  `pb:"4"`
	Response *grpc.Detail `pb:"5"`
}

// A Stage is how far an execution is.
type Stage int32

// The stages. Many servers leave them unknown.
const (
	Unknown Stage = iota
	CacheCheck
	Queued
	Executing
	Completed
)

// A Progress is what a server says of an execution while it goes on.
type Progress struct {
	Stage  Stage   `pb:"1"`
	Action *Digest `pb:"2"`
	Stdout string  `pb:"3"` // name of a stream; "" if there is none
	Stderr string  `pb:"4"`
}

// ExecuteResponse is how an execution ended.
type ExecuteResponse struct {
	Result  *ActionResult `pb:"1"`
	Cached  bool          `pb:"2"`
	Status  *grpc.Error   `pb:"3"`
	Message string        `pb:"5"`
}

// A PreconditionFailure says what an action lacks (google.rpc.PreconditionFailure).
type PreconditionFailure struct {
	Violations []Violation `pb:"1"`
}

// A Violation is one thing that is lacking.
type Violation struct {
	Type    string `pb:"1"`
	Subject string `pb:"2"`
}

// FindMissing asks which blobs are not there, and is the answer.
type FindMissing struct {
	Instance string   `pb:"1"`
	Blobs    []Digest `pb:"2"`
	Function int32    `pb:"3"`
}

// MissingBlobs is the answer to it.
type MissingBlobs struct {
	Blobs []Digest `pb:"2"`
}

// A BatchUpdate stores small blobs.
type BatchUpdate struct {
	Instance string       `pb:"1"`
	Blobs    []BatchEntry `pb:"2"`
	Function int32        `pb:"5"`
}

// A BatchEntry is one blob of a batch.
type BatchEntry struct {
	Digest *Digest `pb:"1"`
	Data   []byte  `pb:"2"`
}

// A BatchUpdated is the answer to a BatchUpdate.
type BatchUpdated struct {
	Blobs []BatchStatus `pb:"1"`
}

// A BatchStatus says how one blob of a batch fared.
type BatchStatus struct {
	Digest *Digest     `pb:"1"`
	Status *grpc.Error `pb:"2"`
}

// A ReadRequest reads a resource from an offset on (google.bytestream).
type ReadRequest struct {
	Resource string `pb:"1"`
	Offset   int64  `pb:"2"`
}

// ReadResponse is a part of it.
type ReadResponse struct {
	Data []byte `pb:"10"`
}

// A WriteRequest is a part of a resource that is written.
type WriteRequest struct {
	Resource string `pb:"1"` // of the first
	Offset   int64  `pb:"2"`
	Finish   bool   `pb:"3"`
	Data     []byte `pb:"10"`
}

// WriteResponse says how many bytes the server has.
type WriteResponse struct {
	Committed int64 `pb:"1"`
}

// GetCapabilities asks what a server can do.
type GetCapabilities struct {
	Instance string `pb:"1"`
}

// Capabilities are what a server can do.
type Capabilities struct {
	Cache     *CacheCapabilities     `pb:"1"`
	Execution *ExecutionCapabilities `pb:"2"`
}

// CacheCapabilities are those of content and action cache.
type CacheCapabilities struct {
	Functions   []int32      `pb:"1"`
	Update      *UpdateRight `pb:"2"`
	MaxBatch    int64        `pb:"4"` // bytes; 0 is no limit of the server's own
	Compressors []int32      `pb:"6"`
}

// An UpdateRight says whether results may be written.
type UpdateRight struct {
	Enabled bool `pb:"1"`
}

// ExecutionCapabilities are those of execution.
type ExecutionCapabilities struct {
	Function   int32       `pb:"1"`
	Enabled    bool        `pb:"2"`
	Priorities *Priorities `pb:"3"`
}

// Priorities are those that a server knows.
type Priorities struct {
	Ranges []PriorityRange `pb:"1"`
}

// A PriorityRange is some of them.
type PriorityRange struct {
	Min int32 `pb:"1"`
	Max int32 `pb:"2"`
}

// RequestMetadata says to a server what a call is for. Many show it to people.
type RequestMetadata struct {
	Tool       *ToolDetails `pb:"1"`
	Action     string       `pb:"2"`
	Invocation string       `pb:"3"`
	Mnemonic   string       `pb:"5"`
	Target     string       `pb:"6"`
}

// ToolDetails name the client.
type ToolDetails struct {
	Name    string `pb:"1"`
	Version string `pb:"2"`
}

// Numbers of enums.
const (
	functionSHA256 = 1
	compressorZstd = 1
)
