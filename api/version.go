package api

import (
	"fmt"
	"net/http"
	"strconv"
	"strings"
)

// EngineVersion is the version of docker's engine that speaks the API that is announced. Clients take it for a semantic version and
// conclude from it what they may ask for.
const EngineVersion = "28.5.2"

// An apiVersion is the minor number of one of Docker's Engine API, all of which have the major number 1.
type apiVersion int

// announced is the version that clients are told. Those of 1.52 and above lack fields that older clients read.
const (
	announced apiVersion = 51
	oldest    apiVersion = 24
	newest    apiVersion = 56
)

// String is the version as paths have it, without the v.
func (v apiVersion) String() string { return "1." + strconv.Itoa(int(v)) }

// negotiate takes the version from a path. A path without one is of the version that is announced.
func negotiate(path string) (apiVersion, string, error) {
	first, rest, _ := strings.Cut(strings.TrimPrefix(path, "/"), "/")
	number, ok := strings.CutPrefix(first, "v")
	left, right, dotted := strings.Cut(number, ".")
	major, majorErr := strconv.ParseUint(left, 10, 16)
	minor, minorErr := strconv.ParseUint(right, 10, 16)
	v := apiVersion(minor)
	switch {
	case !ok || !dotted || majorErr != nil || minorErr != nil:
		return announced, path, nil
	case major < 1 || major == 1 && v < oldest:
		text := fmt.Sprintf("client version %s is too old. Minimum supported API version is %v, please upgrade your client to a newer version", number, oldest)
		return v, rest, &statusError{code: http.StatusBadRequest, text: text, plain: true}
	case major > 1 || v > newest:
		text := fmt.Sprintf("client version %s is too new. Maximum supported API version is %v", number, announced)
		return v, rest, &statusError{code: http.StatusBadRequest, text: text}
	}
	return v, "/" + rest, nil
}
