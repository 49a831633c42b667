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
func Do(ctx context.Context, c *web.Client, limits web.Limits, what string, next func() (*web.Request, error), want ...int) (resp *http.Response, err error) {
	b := web.NewBudget(limits)
	err = b.Until(ctx, func() error {
		req, err := next()
		if err != nil {
			return err
		}
		if resp, err = c.Follow(ctx, req, b); err != nil || slices.Contains(want, resp.StatusCode) {
			return err
		}
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 300))
		_ = resp.Body.Close() // nothing of it is wanted
		return web.Refused(&StatusError{Code: resp.StatusCode, What: what, Text: printable(text)}, resp)
	})
	if err != nil {
		return nil, err
	}
	return resp, nil
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
