package registry

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"slices"
	"strings"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
)

// A responseError is a registry's refusal. It is fs.ErrNotExist for what is not there and fs.ErrPermission for what the
// credentials, or the lack of them, do not allow.
type responseError struct {
	Name    string // what was asked for: docker.io/library/alpine:latest, or a blob of it
	Status  int    // of HTTP
	Code    string // of the distribution protocol, such as MANIFEST_UNKNOWN; "" if none was given
	Message string // the registry's own words, one line
	Hint    string // what the caller may try; "" if nothing
}

func (e *responseError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s: %s (HTTP %d", e.Name, e.cause(), e.Status)
	if e.Code != "" {
		b.WriteString(" " + e.Code)
	}
	if e.Message != "" {
		b.WriteString(": " + e.Message)
	}
	b.WriteString(")")
	if e.Hint != "" {
		b.WriteString("; " + e.Hint)
	}
	return b.String()
}

// A requestError means that a registry did not answer.
type requestError struct {
	Name string // what was asked for, as in a [responseError]
	Err  error
	hint string // with what separates it from the cause; may be empty
}

func (e *requestError) Error() string { return e.Name + ": " + e.Err.Error() + e.hint }

func (e *requestError) Unwrap() error { return e.Err }

// NamesImage reports whether an error says which image, or which blob of an image, it is about.
func NamesImage(err error) bool {
	_, answered := errors.AsType[*responseError](err)
	_, asked := errors.AsType[*requestError](err)
	return answered || asked
}

func (e *responseError) cause() string {
	switch {
	case e.Status == http.StatusNotFound:
		return "not found"
	case e.Status == http.StatusUnauthorized:
		return "the registry wants a login or the name does not exist"
	case e.Status == http.StatusForbidden:
		return "denied"
	case e.Status == http.StatusTooManyRequests:
		return "too many requests"
	case e.Status >= 500:
		return "the registry is in trouble"
	}
	return "the registry refuses"
}

// Is makes errors.Is work with the errors of io/fs, and with those of stores that refuse a manifest.
func (e *responseError) Is(target error) bool {
	incomplete := slices.Contains([]string{"MANIFEST_BLOB_UNKNOWN", "BLOB_UNKNOWN"}, e.Code)
	// ECR has a code for it, Harbor and Quay have statuses.
	immutable := e.Code == "TAG_INVALID" || e.Status == http.StatusConflict || e.Status == http.StatusPreconditionFailed
	switch target {
	case image.ErrIncomplete:
		return incomplete
	case image.ErrImmutable:
		return immutable
	case image.ErrRefused:
		return !incomplete && !immutable && slices.Contains([]int{
			http.StatusBadRequest, http.StatusMethodNotAllowed, http.StatusNotAcceptable, http.StatusUnsupportedMediaType,
			http.StatusUnprocessableEntity,
		}, e.Status)
	case fs.ErrNotExist:
		return e.Status == http.StatusNotFound
	case fs.ErrPermission:
		return e.Status == http.StatusUnauthorized || e.Status == http.StatusForbidden
	}
	return false
}

// hasCode reports whether err is a registry's answer with one of the protocol's codes.
func hasCode(err error, codes ...string) bool {
	var re *responseError
	if !errors.As(err, &re) {
		return false
	}
	for _, c := range codes {
		if re.Code == c {
			return true
		}
	}
	return false
}

// hasStatus reports whether err is a registry's answer with one of the statuses of HTTP.
func hasStatus(err error, statuses ...int) bool {
	var re *responseError
	if !errors.As(err, &re) {
		return false
	}
	for _, s := range statuses {
		if re.Status == s {
			return true
		}
	}
	return false
}

// maxErrorBody is as much of a refusal's body as is read.
const maxErrorBody = 64 << 10

// refusal reads the refusal that resp is. The body is the caller's to close.
func refusal(name, login string, resp *http.Response) *responseError {
	e := &responseError{Name: name, Status: resp.StatusCode}
	var body struct {
		Errors []struct {
			Code    string
			Message string
		}
	}
	raw, _ := io.ReadAll(io.LimitReader(resp.Body, maxErrorBody))
	if json.Unmarshal(raw, &body) == nil && len(body.Errors) > 0 {
		e.Code, e.Message = oneLine(body.Errors[0].Code), oneLine(body.Errors[0].Message)
	}
	switch e.Status {
	case http.StatusUnauthorized, http.StatusForbidden:
		e.Hint = "check the name, or: forge login " + login
	case http.StatusNotFound:
		e.Hint = "check the name and the tag"
		if e.Code == "NAME_UNKNOWN" {
			e.Hint = "check the name"
			if m := resp.Request.Method; m != http.MethodGet && m != http.MethodHead {
				e.Hint = "create the repository first: this registry does not make it"
			}
		}
	}
	return e
}

// oneLine makes a stranger's words fit to be shown in one line of a terminal.
func oneLine(s string) string {
	return image.Clip(strings.TrimSpace(strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) {
			return ' '
		}
		return r
	}, s)))
}

// hintFor is what may help against an error of the connection.
func hintFor(err error, name string) string {
	var (
		dns  *net.DNSError
		cert *tls.CertificateVerificationError
		op   *net.OpError
	)
	switch {
	case errors.As(err, &cert):
		return "; put the certificate of its authority in /etc/docker/certs.d/" + name + "/ca.crt"
	case errors.As(err, &dns):
		return "; check the name and the network"
	case errors.Is(err, errPlain):
		return "; if it is yours, mark it insecure in registries.conf"
	case errors.As(err, &op) && op.Op == "proxyconnect":
		return "; is it the right proxy in HTTPS_PROXY? NO_PROXY names hosts that are reached without one"
	case errors.As(err, &op) && op.Op == "dial":
		return "; is the registry running?"
	}
	return ""
}

// isConn reports whether a registry could not be spoken to.
func isConn(err error) bool {
	var ce *web.ConnError
	return errors.As(err, &ce) || errors.Is(err, web.ErrRefused) || errors.Is(err, errPlain)
}
