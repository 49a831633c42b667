package cloud

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"strings"
	"time"

	"github.com/forge-build/forge/internal/web"
)

// A reach says how far away somebody is who is asked.
type reach int

const (
	far      reach = iota // on the network: by https, through proxies, as often as limits say
	near                  // beside the job: without a proxy, and by http only at an address of this machine
	metadata              // the cloud's own address, which is perhaps not there: without a proxy, once, for a second
)

// metadataTime is how long a metadata server may take: it is on the same machine, if there is one.
const metadataTime = time.Second

// maxAnswer bounds what may be answered, and what is read of a file, in bytes.
const maxAnswer = 1 << 20

// A question is what is asked of a service.
type question struct {
	reach   reach
	method  string
	address string
	header  http.Header
	form    url.Values // is the body if there is no other
	body    []byte
	bearer  string // the whole Authorization
}

// An answer has status 200.
type answer struct {
	header http.Header
	raw    []byte
}

// A statusError is another answer.
type statusError struct {
	code   int
	host   string
	word   string // the service's name of the error; nothing else of the answer is shown
	header http.Header
}

func (e *statusError) Error() string {
	text := fmt.Sprintf("%s answers %d %s", e.host, e.code, http.StatusText(e.code))
	if e.word != "" {
		text += " (" + e.word + ")"
	}
	return text
}

// ask200 puts a question until it is answered.
func (h *Helpers) ask200(ctx context.Context, q question) (*answer, error) {
	u, err := q.place()
	if err != nil {
		return nil, err
	}
	limits := h.limits
	if q.reach == metadata {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, metadataTime)
		defer cancel()
		limits = web.Limits{Headers: metadataTime, Idle: metadataTime, GiveUp: metadataTime, Tries: 1}
	}
	client := web.New(u.Host, web.Options{Limits: limits, Peer: "service", Direct: q.reach != far})
	defer client.Close()
	b := web.NewBudget(limits)
	var a *answer
	err = b.Until(ctx, func() (err error) {
		a, err = q.once(ctx, client, u, b)
		return err
	})
	return a, err
}

// place is the address, if it may be asked.
func (q *question) place() (*url.URL, error) {
	u, err := web.ParseURL(q.address)
	if err != nil || u.Host == "" || u.User != nil || u.Scheme != "https" && u.Scheme != "http" {
		return nil, fmt.Errorf("%q is no URL of http or https", web.Redact(q.address))
	}
	if u.Scheme == "http" && q.reach != metadata && !isBeside(u.Hostname()) {
		return nil, fmt.Errorf("%s is asked for a token by https only", u.Host)
	}
	return u, nil
}

// isBeside reports whether a host is this machine, or one of the addresses at which Amazon's agents answer its containers and pods.
func isBeside(host string) bool {
	if web.IsLoopbackName(host) {
		return true
	}
	a, err := netip.ParseAddr(host)
	return err == nil && (a == netip.AddrFrom4([4]byte{169, 254, 170, 2}) || a == netip.AddrFrom4([4]byte{169, 254, 170, 23}) ||
		a == netip.MustParseAddr("fd00:ec2::23"))
}

// once puts a question once. Redirects are not followed: they would carry secrets along.
func (q *question) once(ctx context.Context, client *web.Client, u *url.URL, b *web.Budget) (*answer, error) {
	req := &web.Request{Method: q.method, URL: u, Header: http.Header{}, Authorization: q.bearer}
	for name, values := range q.header {
		req.Header[name] = values
	}
	body := q.body
	if q.form != nil {
		body = []byte(q.form.Encode())
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	if body != nil {
		req.Size = int64(len(body))
		req.Body = func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(body)), nil }
	}
	resp, err := client.Send(ctx, req, b)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", u.Host, err)
	}
	raw, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, fmt.Errorf("%s: %w", u.Host, err)
	}
	if resp.StatusCode != http.StatusOK {
		return nil, web.Refused(&statusError{resp.StatusCode, u.Host, errorWord(raw), resp.Header}, resp)
	}
	return &answer{resp.Header, raw}, nil
}

// askJSON puts a question whose answer is JSON.
func (h *Helpers) askJSON(ctx context.Context, q question, into any) error {
	a, err := h.ask200(ctx, q)
	if err != nil {
		return err
	}
	if json.Unmarshal(a.raw, into) != nil { // the decoder's error may quote what it read
		return errors.New("the answer is not JSON as it should be")
	}
	return nil
}

var errNoToken = errors.New("the answer has no token")

// errorWord is the name that OAuth, Amazon's services in JSON, or STS in XML give an error. Descriptions may repeat what was sent.
func errorWord(raw []byte) string {
	var said struct {
		Error any    `json:"error"`
		Type  string `json:"__type"`
		Codes []int  `json:"error_codes"`
	}
	var sts struct {
		Code string `xml:"Error>Code"`
	}
	word := ""
	if json.Unmarshal(raw, &said) == nil {
		name, _ := said.Error.(string)
		word = cmp.Or(name, said.Type[strings.LastIndexByte(said.Type, '#')+1:])
		for _, code := range said.Codes {
			word += fmt.Sprintf(" AADSTS%d", code)
		}
	} else if xml.Unmarshal(raw, &sts) == nil {
		word = sts.Code
	}
	isPlain := func(r rune) bool {
		return r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("_-. ", r)
	}
	if len(word) > 60 || strings.ContainsFunc(word, func(r rune) bool { return !isPlain(r) }) {
		return ""
	}
	return strings.TrimSpace(word)
}

// readSecret reads a small file of a secret, without the line's end.
func readSecret(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, maxAnswer))
	if err == nil && len(bytes.TrimSpace(raw)) == 0 {
		err = fmt.Errorf("%s is empty", path)
	}
	return strings.TrimSpace(string(raw)), err
}

// lifetime is when something ends that is good for some seconds; what does not say so is good for an hour.
func lifetime(seconds int64) time.Time {
	if seconds <= 0 || seconds > 24*3600 {
		seconds = 3600
	}
	return time.Now().Add(time.Duration(seconds) * time.Second)
}
