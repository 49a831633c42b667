package grpc

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/forge-build/forge/internal/proto"
)

// The headers of the protocol, as net/http writes their names.
const (
	contentType     = "application/grpc"
	headerStatus    = "Grpc-Status"
	headerMessage   = "Grpc-Message"
	headerDetails   = "Grpc-Status-Details-Bin"
	headerTimeout   = "Grpc-Timeout"
	headerEncoding  = "Grpc-Encoding"
	headerAccept    = "Grpc-Accept-Encoding"
	acceptEncodings = "identity, gzip"
)

// reserved says whether a header belongs to HTTP or to the protocol, and is no metadata.
func reserved(name string) bool {
	switch name {
	case "content-type", "te", "trailer", "content-length", "connection", "date":
		return true
	}
	return strings.HasPrefix(name, "grpc-")
}

// addMetadata adds metadata to headers; with a prefix it makes trailers.
func addMetadata(h http.Header, prefix string, m Metadata) error {
	for name, values := range m {
		if name != strings.ToLower(name) || reserved(name) {
			return Errorf(Internal, "%q cannot be the name of metadata: it is to be lower-case and none of the protocol's own", name)
		}
		for _, v := range values {
			if strings.HasSuffix(name, "-bin") {
				v = base64.RawStdEncoding.EncodeToString([]byte(v))
			} else if i := strings.IndexFunc(v, func(r rune) bool { return r < ' ' || r > '~' }); i >= 0 {
				return Errorf(Internal, "the metadata %q has a value that is not printable ASCII", name)
			}
			h.Add(prefix+name, v)
		}
	}
	return nil
}

// metadataOf returns the metadata among headers.
func metadataOf(h http.Header) (Metadata, error) {
	m := Metadata{}
	for name, values := range h {
		name = strings.ToLower(name)
		if reserved(name) {
			continue
		}
		if !strings.HasSuffix(name, "-bin") {
			m[name] = values
			continue
		}
		for _, joined := range values {
			for v := range strings.SplitSeq(joined, ",") {
				b, err := decodeBinary(strings.TrimSpace(v))
				if err != nil {
					return nil, Errorf(Internal, "the metadata %q: %v", name, err)
				}
				m[name] = append(m[name], string(b))
			}
		}
	}
	return m, nil
}

// decodeBinary reads base64, padded or not.
func decodeBinary(s string) ([]byte, error) {
	return base64.RawStdEncoding.DecodeString(strings.TrimRight(s, "="))
}

// timeoutOf reads a grpc-timeout.
func timeoutOf(s string) (time.Duration, error) {
	units := map[byte]time.Duration{
		'H': time.Hour, 'M': time.Minute, 'S': time.Second, 'm': time.Millisecond, 'u': time.Microsecond, 'n': time.Nanosecond,
	}
	bad := Errorf(Internal, "the grpc-timeout %q is not up to 8 digits and one of HMSmun", s)
	if len(s) < 2 || len(s) > 9 {
		return 0, bad
	}
	unit := units[s[len(s)-1]]
	n, err := strconv.ParseUint(s[:len(s)-1], 10, 32)
	if err != nil || unit == 0 {
		return 0, bad
	}
	const longest = 1 << 63 / uint64(time.Hour) // what a Duration holds
	if unit == time.Hour && n >= longest {
		n = longest - 1
	}
	return time.Duration(n) * unit, nil
}

// formatTimeout writes a grpc-timeout, rounded up to what 8 digits hold.
func formatTimeout(d time.Duration) string {
	if d <= 0 {
		return "0n"
	}
	for _, unit := range []struct {
		length time.Duration
		name   string
	}{{1, "n"}, {time.Microsecond, "u"}, {time.Millisecond, "m"}, {time.Second, "S"}, {time.Minute, "M"}} {
		if n := (d + unit.length - 1) / unit.length; n < 100_000_000 {
			return strconv.FormatInt(int64(n), 10) + unit.name
		}
	}
	return strconv.FormatInt(int64(d/time.Hour)+1, 10) + "H"
}

// setStatus writes a status into headers; prefix makes them trailers. A nil status is OK.
func setStatus(h http.Header, prefix string, codec *proto.Codec, status *Error) {
	if status == nil {
		h.Set(prefix+headerStatus, "0")
		return
	}
	code := status.Code
	if code == OK { // an error is none that went well
		code = Unknown
	}
	h.Set(prefix+headerStatus, strconv.Itoa(int(code)))
	h.Set(prefix+headerMessage, escape(status.Message))
	if len(status.Details) == 0 {
		return
	}
	full := *status
	full.Code, full.Message = code, strings.ToValidUTF8(full.Message, "\uFFFD")
	if b, err := codec.Marshal(&full); err == nil { // the details are an addition; a broken one must not hide the status
		h.Set(prefix+headerDetails, base64.RawStdEncoding.EncodeToString(b))
	}
}

// statusOf reads the status from headers or trailers. It returns nil for OK.
func statusOf(h http.Header, codec *proto.Codec) *Error {
	n, err := strconv.ParseUint(h.Get(headerStatus), 10, 31)
	if err != nil {
		return Errorf(Unknown, "the answer has the grpc-status %q", h.Get(headerStatus))
	}
	if n == 0 {
		return nil
	}
	status := &Error{Code: Code(n), Message: unescape(h.Get(headerMessage))}
	if details := h.Get(headerDetails); details != "" {
		var full Error
		b, err := decodeBinary(details)
		if err == nil && codec.Unmarshal(b, &full) == nil && full.Code == status.Code {
			status.Details = full.Details
		}
	}
	return status
}

// escape writes a message in the characters that a header may have.
func escape(s string) string {
	s = strings.ToValidUTF8(s, "\uFFFD")
	var b strings.Builder
	for i := range len(s) {
		if c := s[i]; c < ' ' || c > '~' || c == '%' {
			fmt.Fprintf(&b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
	return b.String()
}

// unescape reads what escape writes. What is broken stays as it is.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '%' && i+2 < len(s) {
			if n, err := strconv.ParseUint(s[i+1:i+3], 16, 8); err == nil {
				b.WriteByte(byte(n))
				i += 2
				continue
			}
		}
		b.WriteByte(s[i])
	}
	if !utf8.ValidString(b.String()) {
		return s
	}
	return b.String()
}

// codeOfHTTP is the code for an answer that is not gRPC's.
func codeOfHTTP(status int) Code {
	switch status {
	case http.StatusBadRequest:
		return Internal
	case http.StatusUnauthorized:
		return Unauthenticated
	case http.StatusForbidden:
		return PermissionDenied
	case http.StatusNotFound:
		return Unimplemented
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return Unavailable
	}
	return Unknown
}
