// Package reapi speaks the Remote Execution API: it stores content where its digest names it, looks up what came of actions, and
// has actions executed, on any server that serves version 2 of it.
//
// What may be asked twice is asked again when a server is not available, with pauses that grow. Digests are those of SHA-256, which
// images have, too. The API is described in
// https://github.com/bazelbuild/remote-apis/blob/main/build/bazel/remote/execution/v2/remote_execution.proto.
package reapi

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/rand/v2"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/forge-build/forge/internal/grpc"
	"github.com/forge-build/forge/internal/proto"
)

// A Client speaks to one instance of one server. It connects when it is first used. Safe for concurrent use.
type Client struct {
	codec    proto.Codec
	rpc      *grpc.Client
	address  string // for people, without what may be secret
	instance string

	version    string // of forge
	invocation string // that belongs together: a build
	helper     helper

	asking chan struct{} // holds a token while caps and err, which it guards, are read, and while the server is asked for them
	caps   *Capabilities // nil before the first answer
	err    error         // what speaks against the server, if it has answered

	present present
}

const (
	tries      = 5
	firstPause = 100 * time.Millisecond
	patience   = 30 * time.Second // of a call that is answered at once
)

// Dial returns a client of grpc[s]://HOST[:PORT][/INSTANCE]. It connects to nothing yet.
func Dial(address string, o Options) (*Client, error) {
	u, err := url.Parse(address)
	if err != nil || u.Host == "" || u.Scheme != "grpc" && u.Scheme != "grpcs" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, fmt.Errorf("%.200q is no address of a server: it is grpc://HOST:PORT[/INSTANCE], or grpcs:// with TLS", address)
	}
	if err := o.check(u); err != nil {
		return nil, err
	}
	md, err := o.headers()
	if err != nil {
		return nil, err
	}
	config, err := o.tls()
	if err != nil {
		return nil, err
	}
	server := u.Scheme + "://" + u.Host
	rpc, err := grpc.Dial(server, grpc.Options{Metadata: md, TLS: config, UserAgent: "forge/" + o.Version, MaxMessage: maxMessage})
	if err != nil {
		return nil, err
	}
	c := New(rpc, server, strings.Trim(u.Path, "/"))
	c.version, c.invocation = o.Version, newInvocation()
	c.helper.program, c.helper.uri = o.Helper, "https://"+u.Host
	return c, nil
}

// New returns a client that makes calls by another. The address is for people; the instance may be "".
func New(rpc *grpc.Client, address, instance string) *Client {
	c := &Client{rpc: rpc, address: address, instance: instance, asking: make(chan struct{}, 1)}
	if c.instance != "" {
		c.address += "/" + c.instance
	}
	return c
}

// String is the address.
func (c *Client) String() string { return c.address }

// Close closes what connections are idle.
func (c *Client) Close() error { return c.rpc.Close() }

// Capabilities asks the server what it can do, until it has answered. One that does not know SHA-256 is an error.
func (c *Client) Capabilities(ctx context.Context) (*Capabilities, error) {
	select {
	case c.asking <- struct{}{}:
		defer func() { <-c.asking }()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	if c.caps != nil || c.err != nil {
		return c.caps, c.err
	}
	caps := &Capabilities{}
	err := c.invoke(ctx, "Capabilities/GetCapabilities", GetCapabilities{c.instance}, caps)
	cc := caps.Cache
	switch {
	case err != nil && ctx.Err() != nil: // this says nothing of the server: the next caller asks it again
		return nil, fmt.Errorf("%s: %w", c, err)
	case err != nil:
		c.err = fmt.Errorf("%s: %w", c, err)
	case cc == nil:
		c.err = fmt.Errorf("%s: keeps no content: it is no server of the Remote Execution API", c)
	case len(cc.Functions) > 0 && !slices.Contains(cc.Functions, functionSHA256):
		c.err = fmt.Errorf("%s: does not name content by SHA-256", c)
	default:
		c.caps = caps
	}
	return c.caps, c.err
}

// CanExecute reports whether a server executes actions.
func (c *Capabilities) CanExecute() bool { return c.Execution != nil && c.Execution.Enabled }

// priorities is how many priorities of a server are told apart.
const priorities = 1000

// Priority is the number of a priority of a server, of an urgency from 0 to 1; 0, the server's default, if it knows no priorities. The most urgent has
// the default, and no number is before that: what others have the server do does not wait for this.
func (c *Capabilities) Priority(urgency float64) int32 {
	if c.Execution == nil || c.Execution.Priorities == nil {
		return 0
	}
	for _, r := range c.Execution.Priorities.Ranges {
		if first, last := int64(max(r.Min, 0)), int64(r.Max); first < last {
			last = min(last, first+priorities)
			return int32(first + int64(math.Round((1-min(max(urgency, 0), 1))*float64(last-first))))
		}
	}
	return 0
}

// CanUpdate reports whether a server takes results of actions.
func (c *Capabilities) CanUpdate() bool {
	return c.Cache != nil && c.Cache.Update != nil && c.Cache.Update.Enabled
}

// Marshal is a message as it travels, and its digest.
func (c *Client) Marshal(message any) ([]byte, Digest, error) {
	data, err := c.codec.Marshal(message)
	return data, DigestOf(data), err
}

const service = "/build.bazel.remote.execution.v2."

// invoke calls a method of the API that may be called again.
func (c *Client) invoke(ctx context.Context, method string, in, out any) error {
	return c.again(ctx, func() error { return c.invokeOnce(ctx, method, in, out) })
}

func (c *Client) invokeOnce(ctx context.Context, method string, in, out any) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	md, err := c.metadata(ctx)
	if err != nil {
		return err
	}
	return c.rpc.Invoke(ctx, service+method, md, in, out)
}

// again does what may be done again until it succeeds, or fails in a way that does not pass.
func (c *Client) again(ctx context.Context, do func() error) error {
	for try := 1; ; try++ {
		err := do()
		if err == nil || try == tries || ctx.Err() != nil || !passes(err) {
			return plain(err)
		}
		if err := pause(ctx, try); err != nil {
			return err
		}
	}
}

// pause waits before what has failed for so many times is tried again.
func pause(ctx context.Context, try int) error {
	wait := firstPause << min(try-1, 6)
	select {
	case <-time.After(wait/2 + rand.N(wait)):
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// passes reports whether an error may be gone the next time.
func passes(err error) bool {
	switch grpc.CodeOf(err) {
	case grpc.Unavailable, grpc.ResourceExhausted, grpc.Aborted, grpc.DeadlineExceeded, grpc.Internal:
		return true
	}
	return false
}

// plain makes fs.ErrNotExist of what is not there, and fs.ErrPermission of what is not allowed.
func plain(err error) error {
	switch grpc.CodeOf(err) {
	case grpc.NotFound:
		return &plainError{err, fs.ErrNotExist}
	case grpc.PermissionDenied, grpc.Unauthenticated:
		return &plainError{err, fs.ErrPermission}
	case grpc.Unimplemented:
		return &plainError{err, errors.ErrUnsupported}
	}
	return err
}

// A plainError is an error of a call that is one of package fs, too.
type plainError struct {
	error
	is error
}

func (e *plainError) Unwrap() []error { return []error{e.error, e.is} }

// A Label says what calls are for. Servers show it to people.
type Label struct {
	Mnemonic string // such as RUN
	Target   string // such as stage/step
	Action   Digest
}

// labelKey is the key of a Label in a context.
type labelKey struct{}

// WithLabel has the calls of a context say what they are for.
func WithLabel(ctx context.Context, l Label) context.Context {
	return context.WithValue(ctx, labelKey{}, l)
}

// requestMetadata is the header that says what a call is for.
const requestMetadata = "build.bazel.remote.execution.v2.requestmetadata-bin"

// metadata is what goes with a call.
func (c *Client) metadata(ctx context.Context) (grpc.Metadata, error) {
	label, _ := ctx.Value(labelKey{}).(Label)
	raw, err := c.codec.Marshal(RequestMetadata{
		Tool: &ToolDetails{"forge", c.version}, Invocation: c.invocation,
		Action: label.Action.Hash, Mnemonic: label.Mnemonic, Target: label.Target,
	})
	if err != nil {
		return nil, err
	}
	md := grpc.Metadata{requestMetadata: {string(raw)}}
	headers, err := c.helper.headers(ctx)
	if err != nil {
		return nil, fmt.Errorf("credentials for %s: %w", c, err)
	}
	for name, value := range headers {
		md[strings.ToLower(name)] = []string{value}
	}
	return md, nil
}

// ErrMissing means that an action needs content that the server has not: a *MissingError.
var ErrMissing = errors.New("the server lacks content that the action needs")

// A MissingError says what is lacking.
type MissingError struct {
	Blobs []Digest
}

func (e *MissingError) Error() string { return fmt.Sprintf("%v: %v", ErrMissing, e.Blobs) }

// Is makes it ErrMissing.
func (e *MissingError) Is(target error) bool { return target == ErrMissing }

// missing is what a failed precondition says is lacking; nil if it is something else.
func (c *Client) missing(status *grpc.Error) *MissingError {
	if status == nil || status.Code != grpc.FailedPrecondition {
		return nil
	}
	e := &MissingError{}
	for _, d := range status.Details {
		var f PreconditionFailure
		if !strings.HasSuffix(d.Type, "/google.rpc.PreconditionFailure") || c.codec.Unmarshal(d.Value, &f) != nil {
			continue
		}
		for _, v := range f.Violations {
			if digest, ok := ParseResource(v.Subject); ok && v.Type == "MISSING" {
				e.Blobs = append(e.Blobs, digest)
			}
		}
	}
	if len(e.Blobs) == 0 {
		return nil
	}
	return e
}
