package reapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"time"

	"github.com/forge-build/forge/internal/grpc"
)

// Result looks up what came of an action; nil if that is not known. Small files of it come along if they are asked for.
func (c *Client) Result(ctx context.Context, action Digest, inline ...string) (*ActionResult, error) {
	out := &ActionResult{}
	in := GetActionResult{Instance: c.instance, Action: &action, InlineFiles: inline, Function: functionSHA256}
	err := c.invoke(ctx, "ActionCache/GetActionResult", in, out)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("%s: %w", c, err)
	}
	return out, nil
}

// SetResult says what came of an action. Servers may refuse that: fs.ErrPermission.
func (c *Client) SetResult(ctx context.Context, action Digest, r *ActionResult) error {
	var out ActionResult
	in := UpdateActionResult{Instance: c.instance, Action: &action, Result: r, Function: functionSHA256}
	if err := c.invoke(ctx, "ActionCache/UpdateActionResult", in, &out); err != nil {
		return fmt.Errorf("%s: %w", c, err)
	}
	return nil
}

// An Execution is an action to be executed.
type Execution struct {
	Action    Digest
	SkipCache bool     // execute it although its result is known
	Priority  int32    // lower numbers go first
	Inline    []string // small files of the result that are to come along
	Watch     func(Progress)
}

// Execute has an action executed and waits for the end. A stream that breaks off is taken up again. What the server lacks is a
// *MissingError; an action that took too long, and what a server could not do, an *grpc.Error.
func (c *Client) Execute(ctx context.Context, x Execution) (*ExecuteResponse, error) {
	in := ExecuteRequest{
		Instance: c.instance, SkipCache: x.SkipCache, Action: &x.Action, Function: functionSHA256, InlineStdout: true, InlineStderr: true, InlineFiles: x.Inline,
	}
	if x.Priority != 0 {
		in.Priority = &Priority{x.Priority}
	}
	if x.Watch == nil {
		x.Watch = func(Progress) {}
	}
	name, broken, failed, began := "", 0, 0, time.Now()
	for {
		was := name
		r, err := c.watch(ctx, in, &name, x.Watch)
		if err == nil && (r.Status == nil || r.Status.Code == grpc.OK) {
			return r, nil
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		try := &broken
		if err == nil { // it has come to its end, which is not good
			err, name, try = r.Status, "", &failed
		} else if time.Since(began) > steady {
			broken = 0
		}
		began = time.Now()
		if missing := c.missing(grpc.StatusOf(err)); missing != nil {
			return nil, missing
		}
		code := grpc.CodeOf(err)
		if was != "" && (code == grpc.NotFound || code == grpc.Unimplemented) {
			name = "" // the server has forgotten it. Of the same action, a second execution does no harm
		} else if !passes(err) || try == &failed && code == grpc.DeadlineExceeded {
			return nil, fmt.Errorf("%s: %w", c, plain(err))
		}
		if *try++; *try == tries {
			return nil, fmt.Errorf("%s: %w", c, err)
		}
		if err := pause(ctx, *try); err != nil {
			return nil, err
		}
	}
}

// steady is how long a stream has to last for its end to be no trouble.
const steady = 10 * time.Second

// watch follows an operation to its end: that called *name or, if that is "", one that it begins and names.
func (c *Client) watch(ctx context.Context, in ExecuteRequest, name *string, tell func(Progress)) (*ExecuteResponse, error) {
	method, first := "Execution/Execute", any(in)
	if *name != "" {
		method, first = "Execution/WaitExecution", WaitRequest{*name}
	}
	call, err := c.ask(ctx, service+method, first)
	if err != nil {
		return nil, err
	}
	defer call.Close()
	for {
		var op Operation
		if err := call.Recv(&op); err != nil {
			if err == io.EOF {
				err = grpc.Errorf(grpc.Unavailable, "the server has left an execution before its end")
			}
			return nil, err
		}
		if op.Name != "" {
			*name = op.Name
		}
		var p Progress
		if op.Metadata != nil && strings.HasSuffix(op.Metadata.Type, ".ExecuteOperationMetadata") && c.codec.Unmarshal(op.Metadata.Value, &p) == nil {
			tell(p)
		}
		if op.Done {
			return c.ended(&op)
		}
	}
}

// ended is how an operation ended.
func (c *Client) ended(op *Operation) (*ExecuteResponse, error) {
	if op.Error != nil && op.Error.Code != grpc.OK {
		return &ExecuteResponse{Status: op.Error}, nil
	}
	r := &ExecuteResponse{}
	if op.Response == nil || !strings.HasSuffix(op.Response.Type, ".ExecuteResponse") {
		return nil, grpc.Errorf(grpc.DataLoss, "the server has ended an execution without a result")
	}
	if err := c.codec.Unmarshal(op.Response.Value, r); err != nil {
		return nil, grpc.Errorf(grpc.DataLoss, "%v", err)
	}
	if r.Status != nil && r.Status.Code != grpc.OK {
		if r.Message != "" {
			r.Status.Message += ": " + r.Message
		}
		return r, nil
	}
	if r.Result == nil {
		return nil, grpc.Errorf(grpc.DataLoss, "the server has ended an execution without a result")
	}
	return r, nil
}

// Output is what a command has printed: it is in the result, or the server keeps it. Of more than limit bytes an error says so.
func (c *Client) Output(ctx context.Context, raw []byte, d *Digest, limit int64) ([]byte, error) {
	if len(raw) > 0 || d == nil || d.Size == 0 {
		return raw, nil
	}
	return c.ReadAll(ctx, *d, limit)
}
