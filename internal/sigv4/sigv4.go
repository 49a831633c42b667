// Package sigv4 signs requests as Amazon's services ask for it: Signature Version 4 ("Create a signed AWS API request" of the IAM user guide).
package sigv4

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// A Key signs requests.
type Key struct {
	ID, Secret string
	Session    string // of a temporary key; else ""
}

// What stands for the digest of a body: of one that is not known before it is sent, and of an empty one.
const (
	Unsigned = "UNSIGNED-PAYLOAD"
	EmptySum = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
)

// A Scope is what a signature holds for.
type Scope struct{ Region, Service string }

// Sign adds to a request's header what says who sends it. body is the SHA-256 of the body in hexadecimal, or Unsigned. The header may have
// no values that a proxy changes; u is to be sent with the path and the query that [Path] and [Query] make.
func (k Key) Sign(method string, u *url.URL, header http.Header, to Scope, body string, now time.Time) {
	stamp := now.UTC().Format("20060102T150405Z")
	scope := stamp[:8] + "/" + to.Region + "/" + to.Service + "/aws4_request"
	header.Set("X-Amz-Date", stamp)
	header.Set("X-Amz-Content-Sha256", body)
	if k.Session != "" {
		header.Set("X-Amz-Security-Token", k.Session)
	}
	names := []string{"host"}
	for name := range header {
		names = append(names, strings.ToLower(name))
	}
	slices.Sort(names)
	canonical := method + "\n" + Path(u.Path) + "\n" + Query(u.Query()) + "\n"
	for _, name := range names {
		value := u.Host
		if name != "host" {
			value = strings.Join(strings.Fields(header.Get(name)), " ")
		}
		canonical += name + ":" + value + "\n"
	}
	signed := strings.Join(names, ";")
	canonical += "\n" + signed + "\n" + body
	sum := sha256.Sum256([]byte(canonical))
	text := "AWS4-HMAC-SHA256\n" + stamp + "\n" + scope + "\n" + hex.EncodeToString(sum[:])
	key := []byte("AWS4" + k.Secret)
	for _, part := range []string{stamp[:8], to.Region, to.Service, "aws4_request", text} {
		mac := hmac.New(sha256.New, key)
		mac.Write([]byte(part))
		key = mac.Sum(nil)
	}
	header.Set("Authorization", "AWS4-HMAC-SHA256 Credential="+k.ID+"/"+scope+", SignedHeaders="+signed+", Signature="+hex.EncodeToString(key))
}

// Query is a query as it is signed, and sent: sorted, and escaped as AWS does.
func Query(q url.Values) string {
	var parts []string
	for name, values := range q {
		for _, v := range values {
			parts = append(parts, escape(name)+"="+escape(v))
		}
	}
	slices.Sort(parts)
	return strings.Join(parts, "&")
}

// Path is a path, escaped as AWS does.
func Path(p string) string {
	parts := strings.Split(p, "/")
	for i := range parts {
		parts[i] = escape(parts[i])
	}
	return strings.Join(parts, "/")
}

// escape is RFC 3986's, of everything but its unreserved characters.
func escape(s string) string {
	const hexDigits = "0123456789ABCDEF"
	var b strings.Builder
	for i := range len(s) {
		c := s[i]
		if c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || strings.IndexByte("-._~", c) >= 0 {
			b.WriteByte(c)
		} else {
			b.Write([]byte{'%', hexDigits[c>>4], hexDigits[c&15]})
		}
	}
	return b.String()
}
