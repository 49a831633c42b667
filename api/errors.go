package api

import (
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"strings"

	"github.com/forge-build/forge"
)

// A statusError is an answer of a status that is no success.
type statusError struct {
	code  int
	text  string // "" has no body
	plain bool   // as text, for clients that are too old for JSON
}

// Error is what the client is told.
func (e *statusError) Error() string { return e.text }

// invalid says that the client has asked for what cannot be: 400.
func invalid(err error) error { return &statusError{code: http.StatusBadRequest, text: textOf(err)} }

// notFound says that what was named is not there: 404.
func notFound(err error) error { return &statusError{code: http.StatusNotFound, text: textOf(err)} }

// conflict says that it cannot be in the state in which things are: 409.
func conflict(err error) error { return &statusError{code: http.StatusConflict, text: textOf(err)} }

// errUnchanged says that it was so already: 304, without a body.
func errUnchanged() error { return &statusError{code: http.StatusNotModified} }

// statusOf is the status of an answer that tells an error: docker's for the errors of package forge. This is the one place that says so.
func statusOf(err error) int {
	if e, ok := errors.AsType[*statusError](err); ok {
		return e.code
	}
	for _, is := range []func(error) bool{is[*forge.NoContainerError], is[*forge.NotFoundError], is[*forge.NoPlatformError], is[*forge.NoNetworkError], is[*forge.NoVolumeError], is[*forge.NoExecError], is[*forge.NoFileError]} {
		if is(err) {
			return http.StatusNotFound
		}
	}
	for _, is := range []func(error) bool{is[*forge.NameTakenError], is[*forge.VolumeInUseError], is[forge.RefusedError]} {
		if is(err) {
			return http.StatusConflict
		}
	}
	if is[forge.InvalidError](err) {
		return http.StatusBadRequest
	}
	if is[*forge.NetworkInUseError](err) || is[forge.ForbiddenError](err) {
		return http.StatusForbidden
	}
	if is[*forge.CommandError](err) { // the start of a container whose command cannot be executed
		return http.StatusBadRequest
	}
	return http.StatusInternalServerError
}

// is reports whether there is an error of a type in the chain of err.
func is[E error](err error) bool {
	_, ok := errors.AsType[E](err)
	return ok
}

// textOf is the error in docker's words, which clients look for.
func textOf(err error) string {
	if e, ok := errors.AsType[*forge.NotFoundError](err); ok {
		return "No such image: " + tagged(e.Name)
	}
	if e, ok := errors.AsType[*fs.PathError](err); ok && errors.Is(e, fs.ErrPermission) {
		return "permission denied: " + err.Error()
	}
	return err.Error()
}

// tagged is the name of an image with its tag, as docker has it where none was given.
func tagged(name string) string {
	if name, platform, ok := strings.Cut(name, " for "); ok {
		return tagged(name) + " for " + platform
	}
	base := name[strings.LastIndex(name, "/")+1:]
	if strings.Contains(base, ":") || strings.Contains(base, "@") {
		return name
	}
	return name + ":latest"
}

// writeError answers with an error.
func writeError(w http.ResponseWriter, err error) {
	code, text := statusOf(err), textOf(err)
	e, ok := errors.AsType[*statusError](err)
	switch {
	case text == "":
		w.WriteHeader(code)
	case ok && e.plain:
		http.Error(w, text, code)
	default:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(code)
		_ = json.NewEncoder(w).Encode(map[string]string{"message": text})
	}
}

// maxBody is how much JSON a client may send, in bytes.
const maxBody = 16 << 20

// errEmptyBody is docker's answer where a body is needed.
var errEmptyBody = errors.New("invalid JSON: got EOF while reading request body")

// read reads the JSON of the request's body. As docker does, it ignores fields that it does not know. An empty body leaves v as it is,
// unless it is required.
func (c *call) read(v any, need bodyNeed) error {
	body := http.MaxBytesReader(c.w, c.r.Body, maxBody)
	dec := json.NewDecoder(body)
	err := dec.Decode(v)
	switch {
	case errors.Is(err, io.EOF) && need == bodyOptional:
		return nil
	case errors.Is(err, io.EOF):
		return invalid(errEmptyBody)
	case err != nil:
		return invalid(errors.New("invalid JSON: " + err.Error()))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return invalid(errors.New("unexpected content after JSON"))
	}
	return nil
}

// A bodyNeed says whether a request must have a body.
type bodyNeed bool

const (
	bodyOptional bodyNeed = false
	bodyRequired bodyNeed = true
)

// reply answers with JSON.
func (c *call) reply(code int, v any) error {
	raw, err := json.Marshal(v)
	if err != nil {
		return err
	}
	c.begin(code, "application/json")
	_, err = c.w.Write(append(raw, '\n'))
	return err
}

// done answers that it is done, and nothing more: 204.
func (c *call) done() error { return c.empty(http.StatusNoContent) }

// ok answers that it is done, as some of docker's endpoints do: 200, without a body.
func (c *call) ok() error { return c.empty(http.StatusOK) }

// empty answers without a body.
func (c *call) empty(code int) error {
	c.begun = true
	c.w.WriteHeader(code)
	return nil
}
