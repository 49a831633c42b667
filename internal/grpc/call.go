package grpc

import (
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
)

// A Call is a call that a client has begun. One goroutine may send while another receives.
type Call struct {
	ctx    context.Context
	cancel context.CancelFunc
	client *Client
	body   *io.PipeWriter // of the request; nil where it is already written

	answered chan struct{} // closed when resp or failed is set
	resp     *http.Response
	failed   error
	trailer  http.Header // what came at the end
	ended    error       // what Recv returned last
}

// round sends the request and waits for the head of the answer.
func (c *Call) round(req *http.Request, err error) {
	defer close(c.answered)
	if err != nil {
		c.failed = err
		return
	}
	resp, err := c.client.trip.RoundTrip(req)
	if err != nil {
		c.failed = c.status(err)
		return
	}
	c.resp = resp
}

// Send sends a message. It returns io.EOF where the call has ended: Recv says how.
func (c *Call) Send(message any) error {
	frame, err := appendFrame(nil, &c.client.codec, message)
	if err != nil {
		return err
	}
	if _, err := c.body.Write(frame); err != nil {
		return io.EOF
	}
	return nil
}

// CloseSend says that no more will be sent.
func (c *Call) CloseSend() error { return c.body.Close() }

// Header waits for the metadata of the answer, which servers send with their first message at the latest.
func (c *Call) Header() (Metadata, error) {
	<-c.answered
	if c.failed != nil {
		return nil, c.failed
	}
	return metadataOf(c.resp.Header)
}

// Trailer returns the metadata that came with the end of the call, after Recv has returned an error.
func (c *Call) Trailer() (Metadata, error) { return metadataOf(c.trailer) }

// Recv reads the next message. It returns io.EOF when the call has ended well, and else, as ever after, an [*Error].
func (c *Call) Recv(message any) error {
	if c.ended != nil {
		return c.ended
	}
	err := c.recv(message)
	if err != nil {
		c.ended = err
		c.Close()
	}
	return err
}

// Close ends the call, if it has not ended. The other side sees it as canceled.
func (c *Call) Close() {
	c.cancel()
	if c.body != nil {
		c.body.CloseWithError(io.ErrClosedPipe)
	}
	<-c.answered
	if c.resp != nil {
		c.resp.Body.Close()
	}
}

func (c *Call) recv(message any) error {
	<-c.answered
	if c.failed != nil {
		return c.failed
	}
	h := c.resp.Header
	if h.Get(headerStatus) != "" { // the answer is nothing but its end
		c.trailer = h
		return c.end()
	}
	if kind := h.Get("Content-Type"); c.resp.StatusCode != http.StatusOK || !isGRPC(kind) {
		text, _ := io.ReadAll(io.LimitReader(c.resp.Body, 200)) // what can be had of it makes the message better
		return Errorf(codeOfHTTP(c.resp.StatusCode), "the server answers %s of type %q, which is not gRPC: %s",
			c.resp.Status, kind, strings.ToValidUTF8(strings.Join(strings.Fields(string(text)), " "), "?")) // a page has lines; a warning is one
	}
	r := frameReader{codec: &c.client.codec, body: c.resp.Body, max: c.client.opts.MaxMessage, encoding: h.Get(headerEncoding)}
	err := r.read(message)
	if err != io.EOF {
		return c.status(err)
	}
	c.trailer = c.resp.Trailer
	return c.end()
}

// end is the end of the call as the trailer tells it.
func (c *Call) end() error {
	if c.trailer.Get(headerStatus) == "" {
		return c.status(Errorf(Internal, "the server has ended the stream without a status"))
	}
	if status := statusOf(c.trailer, &c.client.codec); status != nil {
		return status
	}
	return io.EOF
}

// isGRPC says whether a content type is one of gRPC with messages of protocol buffers.
func isGRPC(kind string) bool {
	rest, ok := strings.CutPrefix(kind, contentType)
	return ok && (rest == "" || rest == "+proto" || rest[0] == ';')
}

// status turns an error of the connection into one of the call.
func (c *Call) status(err error) error {
	if err == nil {
		return nil
	}
	var status *Error
	if errors.As(err, &status) {
		return status
	}
	if ended := c.ctx.Err(); ended != nil {
		return StatusOf(ended)
	}
	return &Error{Code: codeOfReset(err), Message: err.Error()}
}

// A resetError is what a stream is broken off with. Its fields are those of the error of net/http, which gives its own out to one of the same fields
// (http2StreamError.As).
type resetError struct {
	StreamID uint32
	Code     uint32
	Cause    error
}

func (e resetError) Error() string { return "the stream is broken off" }

// codeOfReset is the code for a stream or a connection that broke off.
func codeOfReset(err error) Code {
	var reset resetError
	if !errors.As(err, &reset) {
		return Unavailable
	}
	switch reset.Code { // RFC 9113, section 7
	case 0x7: // REFUSED_STREAM
		return Unavailable
	case 0x8: // CANCEL
		return Canceled
	case 0xb: // ENHANCE_YOUR_CALM
		return ResourceExhausted
	case 0xc: // INADEQUATE_SECURITY
		return PermissionDenied
	}
	return Internal
}
