package objects

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"slices"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
)

// A StatusError is an answer that was not wanted.
type StatusError struct {
	Code int
	What string // was asked for
	Text string // the beginning of the answer
}

func (e *StatusError) Error() string {
	text := fmt.Sprintf("%s: %d %s", e.What, e.Code, http.StatusText(e.Code))
	if e.Text != "" {
		text += ": " + e.Text
	}
	return text
}

// Is makes an answer of 404 an fs.ErrNotExist, and one of 401 or 403 an fs.ErrPermission.
func (e *StatusError) Is(target error) bool {
	switch e.Code {
	case http.StatusNotFound:
		return target == fs.ErrNotExist
	case http.StatusUnauthorized, http.StatusForbidden:
		return target == fs.ErrPermission
	}
	return false
}

// Do sends requests until one is answered as wanted, within limits; what names it in errors. next makes the request of each try, for
// what is signed may not be sent later. The answer's body is to be closed.
func Do(ctx context.Context, c *web.Client, limits web.Limits, what string, next func() (*web.Request, error), want ...int) (*http.Response, error) {
	b := web.NewBudget(limits)
	for {
		req, err := next()
		if err != nil {
			return nil, err
		}
		resp, err := c.Follow(ctx, req, b)
		if err == nil {
			if slices.Contains(want, resp.StatusCode) {
				return resp, nil
			}
			text, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
			err = web.Refused(&StatusError{Code: resp.StatusCode, What: what, Text: printable(text)}, resp)
			_ = resp.Body.Close() // nothing of it is wanted
		}
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		if !web.Retryable(err) {
			return nil, err
		}
		if err := b.Wait(ctx, err); err != nil {
			return nil, err
		}
	}
}

// printable is what a server says, without what would move a terminal's cursor.
func printable(b []byte) string {
	for i, c := range b {
		if c < ' ' || c > '~' {
			b[i] = ' '
		}
	}
	return string(b)
}

// ReadAll reads the body of a small answer and closes it.
func ReadAll(resp *http.Response) ([]byte, error) {
	raw, err := io.ReadAll(io.LimitReader(resp.Body, image.MaxManifestSize+1))
	if err = errors.Join(err, resp.Body.Close()); err == nil && len(raw) > image.MaxManifestSize {
		err = fmt.Errorf("the answer has more than %d bytes", image.MaxManifestSize)
	}
	return raw, err
}

// ReadJSON reads the body of a small answer and closes it.
func ReadJSON(resp *http.Response, v any) error {
	raw, err := ReadAll(resp)
	if err != nil {
		return err
	}
	return json.Unmarshal(raw, v)
}
