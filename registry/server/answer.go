package server

import (
	"bytes"
	"encoding/json"
	"errors"
	"io/fs"
	"net/http"
	"strconv"
)

// An apiError is one of the protocol's errors.
type apiError struct {
	status  int
	code    string
	message string
	detail  string
}

func (e *apiError) Error() string { return e.code + ": " + e.message }

func (e *apiError) with(detail string) *apiError {
	if len(detail) > 300 {
		detail = detail[:300]
	}
	return &apiError{e.status, e.code, e.message, detail}
}

var (
	errNotFound          = &apiError{404, "NOT_FOUND", "there is no such resource", ""}
	errUnauthorized      = &apiError{401, "UNAUTHORIZED", "authentication required", ""}
	errBusy              = &apiError{429, "TOOMANYREQUESTS", "too many logins at once", ""}
	errTooMany           = &apiError{429, "TOOMANYREQUESTS", "too many wrong logins: wait a minute", ""}
	errUploads           = &apiError{429, "TOOMANYREQUESTS", "too many uploads that are not finished", ""}
	errUnsupported       = &apiError{405, "UNSUPPORTED", "the operation is unsupported", ""}
	errNameInvalid       = &apiError{400, "NAME_INVALID", "invalid repository name", ""}
	errNameUnknown       = &apiError{404, "NAME_UNKNOWN", "repository name not known to registry", ""}
	errTagInvalid        = &apiError{400, "TAG_INVALID", "invalid tag", ""}
	errDigestInvalid     = &apiError{400, "DIGEST_INVALID", "provided digest did not match uploaded content", ""}
	errBlobUnknown       = &apiError{404, "BLOB_UNKNOWN", "blob unknown to registry", ""}
	errIsManifest        = &apiError{405, "UNSUPPORTED", "is a manifest: delete it below manifests", ""}
	errUploadUnknown     = &apiError{404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry", ""}
	errUploadBroken      = &apiError{400, "BLOB_UPLOAD_INVALID", "blob upload broke off", ""}
	errRangeInvalid      = &apiError{416, "BLOB_UPLOAD_INVALID", "chunk does not begin where the last one ended", ""}
	errSizeInvalid       = &apiError{400, "SIZE_INVALID", "provided length did not match content length", ""}
	errManifestUnknown   = &apiError{404, "MANIFEST_UNKNOWN", "manifest unknown to registry", ""}
	errManifestInvalid   = &apiError{400, "MANIFEST_INVALID", "manifest invalid", ""}
	errManifestTooBig    = &apiError{413, "MANIFEST_INVALID", "manifest is longer than 4 MiB", ""}
	errAnnotationsTooBig = &apiError{413, "MANIFEST_INVALID", "annotations of a manifest with a subject are longer than 256 KiB", ""}
	errManifestBlob      = &apiError{404, "MANIFEST_BLOB_UNKNOWN", "manifest references a blob unknown to registry", ""}
	errPageInvalid       = &apiError{400, "PAGINATION_NUMBER_INVALID", "invalid number of results requested", ""}
)

// fail answers with an error. Those that are not of the protocol are the server's own: a full disk, say.
func fail(c *counter, err error) {
	if c.begun {
		return // it is too late to say anything
	}
	var ae *apiError
	if !errors.As(err, &ae) {
		ae = &apiError{http.StatusInternalServerError, "UNKNOWN", "the registry's store is in trouble", err.Error()}
	}
	if errors.Is(err, fs.ErrNotExist) {
		ae = errNotFound
	}
	type one struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Detail  string `json:"detail,omitempty"`
	}
	body, _ := json.Marshal(map[string][]one{"errors": {{ae.code, ae.message, ae.detail}}})
	c.Header().Set("Content-Type", "application/json")
	c.Header().Set("Content-Length", strconv.Itoa(len(body)))
	c.WriteHeader(ae.status)
	_, _ = c.Write(body)
}

// marshal writes JSON that is no longer than it has to be: json.Marshal makes six bytes of each "<".
func marshal(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	err := e.Encode(v)
	return bytes.TrimSuffix(b.Bytes(), []byte("\n")), err
}

func answerJSON(w http.ResponseWriter, mediaType string, v any) error {
	body, err := marshal(v)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", mediaType)
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, err = w.Write(body)
	return err
}
