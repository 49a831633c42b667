package s3

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/xml"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/forge-build/forge/cache/objects/objectstest"
	"github.com/forge-build/forge/internal/sigv4"
)

// A fake is a bucket "cache" that answers as S3's API reference says, path style, and takes signed requests only. Range requests are
// answered as http.ServeContent does.
type fake struct {
	*objectstest.Server
	key     sigv4.Key
	objects map[string]object
	uploads map[string]map[int][]byte
	begun   int // uploads
}

type object struct {
	data []byte
	when time.Time
}

func newFake(t *testing.T) *fake {
	t.Helper()
	f := &fake{key: sigv4.Key{ID: "id", Secret: "secret", Session: "session"}, objects: map[string]object{}, uploads: map[string]map[int][]byte{}}
	f.Server = objectstest.Serve(t, f.serve)
	return f
}

func (f *fake) refuse(w http.ResponseWriter, code int, name string) {
	w.WriteHeader(code)
	fmt.Fprintf(w, "<Error><Code>%s</Code><Message>%s</Message></Error>", name, name)
}

// signed reports whether a request is signed with the fake's key, and its body is what the signature says.
func (f *fake) signed(r *http.Request, body []byte) bool {
	sum := r.Header.Get("X-Amz-Content-Sha256")
	if got := sha256.Sum256(body); sum != sigv4.Unsigned && sum != hex.EncodeToString(got[:]) {
		return false
	}
	when, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil || time.Since(when).Abs() > 15*time.Minute {
		return false
	}
	_, list, _ := strings.Cut(r.Header.Get("Authorization"), "SignedHeaders=")
	list, _, _ = strings.Cut(list, ",")
	header := http.Header{}
	for name := range strings.SplitSeq(list, ";") {
		if name != "host" {
			header.Set(name, r.Header.Get(name))
		}
	}
	u := *r.URL
	u.Host = r.Host
	f.key.Sign(r.Method, &u, header, sigv4.Scope{Region: "eu-test-1", Service: "s3"}, sum, when)
	return header.Get("Authorization") == r.Header.Get("Authorization")
}

func (f *fake) serve(w http.ResponseWriter, r *http.Request, body []byte) {
	if !f.signed(r, body) {
		f.refuse(w, http.StatusForbidden, "SignatureDoesNotMatch")
		return
	}
	key, ok := strings.CutPrefix(r.URL.Path, "/cache/")
	if !ok {
		f.refuse(w, http.StatusNotFound, "NoSuchBucket")
		return
	}
	q := r.URL.Query()
	switch {
	case key == "" && r.Method == http.MethodGet:
		f.list(w, q)
	case q.Has("uploads") || q.Has("uploadId"):
		f.multipart(w, r, key, body)
	case r.Method == http.MethodPut && r.Header.Get("X-Amz-Copy-Source") != "":
		from, err := url.PathUnescape(r.Header.Get("X-Amz-Copy-Source"))
		old, ok := f.objects[strings.TrimPrefix(from, "/cache/")]
		if err != nil || !ok {
			f.refuse(w, http.StatusNotFound, "NoSuchKey")
			return
		}
		f.objects[key] = object{old.data, time.Now()}
	case r.Method == http.MethodPut:
		f.objects[key] = object{body, time.Now()}
	case r.Method == http.MethodGet || r.Method == http.MethodHead:
		o, ok := f.objects[key]
		if !ok {
			f.refuse(w, http.StatusNotFound, "NoSuchKey")
			return
		}
		http.ServeContent(w, r, "", o.when, bytes.NewReader(o.data))
	default:
		f.refuse(w, http.StatusNotImplemented, "NotImplemented")
	}
}

// list answers with two keys a page.
func (f *fake) list(w http.ResponseWriter, q url.Values) {
	var keys []string
	for key := range f.objects {
		if strings.HasPrefix(key, q.Get("prefix")) && key > q.Get("continuation-token") {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	fmt.Fprint(w, "<ListBucketResult>")
	for _, key := range keys[:min(2, len(keys))] {
		fmt.Fprintf(w, "<Contents><Key>%s</Key></Contents>", key)
	}
	if len(keys) > 2 {
		fmt.Fprintf(w, "<IsTruncated>true</IsTruncated><NextContinuationToken>%s</NextContinuationToken>", keys[1])
	}
	fmt.Fprint(w, "</ListBucketResult>")
}

func (f *fake) multipart(w http.ResponseWriter, r *http.Request, key string, body []byte) {
	q := r.URL.Query()
	id := q.Get("uploadId")
	parts := f.uploads[id]
	switch {
	case r.Method == http.MethodPost && q.Has("uploads"):
		f.begun++
		id = "u" + strconv.Itoa(f.begun) // a part of an upload that was given up may come late
		f.uploads[id] = map[int][]byte{}
		fmt.Fprintf(w, "<InitiateMultipartUploadResult><UploadId>%s</UploadId></InitiateMultipartUploadResult>", id)
	case parts == nil:
		f.refuse(w, http.StatusNotFound, "NoSuchUpload")
	case r.Method == http.MethodPut:
		n, _ := strconv.Atoi(q.Get("partNumber"))
		parts[n] = body
		w.Header().Set("ETag", fmt.Sprintf(`"%d-%d"`, n, len(body)))
	case r.Method == http.MethodDelete:
		delete(f.uploads, id)
		w.WriteHeader(http.StatusNoContent)
	case r.Method == http.MethodPost:
		var done completed
		if err := xml.Unmarshal(body, &done); err != nil {
			f.refuse(w, http.StatusBadRequest, "MalformedXML")
			return
		}
		var whole []byte
		for i, p := range done.Part {
			if p.PartNumber != i+1 || p.ETag != fmt.Sprintf(`"%d-%d"`, i+1, len(parts[i+1])) {
				fmt.Fprint(w, "<Error><Code>InvalidPart</Code><Message>InvalidPart</Message></Error>") // with 200, as S3 may
				return
			}
			whole = append(whole, parts[i+1]...)
		}
		f.objects[key] = object{whole, time.Now()}
		delete(f.uploads, id)
		fmt.Fprint(w, "<CompleteMultipartUploadResult><ETag>x</ETag></CompleteMultipartUploadResult>")
	}
}
