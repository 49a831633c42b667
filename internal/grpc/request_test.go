package grpc_test

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/forge-build/forge/internal/grpc"
)

// TestServerDeadline sends the time of a call without keeping to it.
func TestServerDeadline(t *testing.T) {
	for _, method := range []string{"Wait", "WaitForMore"} {
		r, w := io.Pipe()
		defer w.Close()
		trailer := raw(t, "/test.Echo/"+method, r, map[string]string{"Grpc-Timeout": "10m"})
		if trailer.Get("Grpc-Status") != "4" {
			t.Errorf("%s: trailer %v, want the status 4", method, trailer)
		}
	}
}

// raw sends a request as it is and returns what the answer says of its end.
func raw(t *testing.T, path string, body io.Reader, header map[string]string) http.Header {
	t.Helper()
	srv := httptest.NewUnstartedServer(&grpc.Server{Methods: methods(), MaxMessage: 1000})
	srv.EnableHTTP2 = true
	srv.StartTLS()
	t.Cleanup(srv.Close)
	req, err := http.NewRequest(http.MethodPost, srv.URL+path, body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/grpc")
	for k, v := range header {
		req.Header.Set(k, v)
	}
	resp, err := srv.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, resp.Body)
	if resp.Header.Get("Grpc-Status") != "" {
		return resp.Header
	}
	if resp.StatusCode != http.StatusOK {
		return http.Header{"Grpc-Status": {resp.Status}}
	}
	return resp.Trailer
}

func frame(flag byte, b []byte) []byte {
	return append(binary.BigEndian.AppendUint32([]byte{flag}, uint32(len(b))), b...)
}

func deflated(b []byte) []byte {
	var buf bytes.Buffer
	z := gzip.NewWriter(&buf)
	z.Write(b)
	z.Close()
	return buf.Bytes()
}

// TestRequests is about requests that no client of ours sends.
func TestRequests(t *testing.T) {
	hello := []byte("\x0a\x05hello")
	for _, test := range []struct {
		name   string
		body   []byte
		header map[string]string
		want   string
	}{
		{"whole", frame(0, hello), nil, "0"},
		{"no message", nil, nil, "13"},
		{"half a head", []byte{0, 0}, nil, "13"},
		{"half a message", frame(0, hello)[:8], nil, "13"},
		{"announced only", []byte{0, 0, 0, 3, 0xe8}, nil, "13"},
		{"too long", []byte{0, 0xff, 0xff, 0xff, 0xff}, nil, "8"},
		{"odd flag", frame(2, hello), nil, "13"},
		{"no message of ours", frame(0, []byte{0}), nil, "13"},
		{"gzip", frame(1, deflated(hello)), map[string]string{"Grpc-Encoding": "gzip"}, "0"},
		{"gzip that was not announced", frame(1, deflated(hello)), nil, "12"},
		{"gzip that is none", frame(1, hello), map[string]string{"Grpc-Encoding": "gzip"}, "13"},
		{"gzip of much", frame(1, deflated(make([]byte, 1<<20))), map[string]string{"Grpc-Encoding": "gzip"}, "8"},
		{"snappy", frame(0, hello), map[string]string{"Grpc-Encoding": "snappy"}, "12"},
		{"bad timeout", frame(0, hello), map[string]string{"Grpc-Timeout": "1x"}, "13"},
		{"long timeout", frame(0, hello), map[string]string{"Grpc-Timeout": "99999999H"}, "0"},
		{"bad metadata", frame(0, hello), map[string]string{"a-bin": "%"}, "13"},
		{"JSON", frame(0, hello), map[string]string{"Content-Type": "application/grpc+json"}, "415 Unsupported Media Type"},
	} {
		if got := raw(t, "/test.Echo/Unary", bytes.NewReader(test.body), test.header).Get("Grpc-Status"); got != test.want {
			t.Errorf("%s: status %s, want %s", test.name, got, test.want)
		}
	}
}

// TestAnswers is about servers that do not speak gRPC, or break off.
func TestAnswers(t *testing.T) {
	srv := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Type", "application/grpc")
		switch r.URL.Path {
		case "/page":
			h.Set("Content-Type", "text/html")
			io.WriteString(w, "<html>\r\n hello\r\n")
		case "/503":
			h.Set("Content-Type", "text/plain")
			w.WriteHeader(503)
			io.WriteString(w, "later")
		case "/nothing":
			w.WriteHeader(200)
		case "/empty":
			w.(http.Flusher).Flush()
			h.Set(http.TrailerPrefix+"Grpc-Status", "0")
		case "/odd":
			h.Set("Grpc-Status", "x")
		case "/two":
			w.Write(append(frame(0, nil), frame(0, nil)...))
			h.Set(http.TrailerPrefix+"Grpc-Status", "0")
		case "/half":
			w.Write(frame(0, nil)[:3])
		case "/abort":
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	}))
	srv.EnableHTTP2 = true
	srv.StartTLS()
	defer srv.Close()
	c, err := grpc.Dial(strings.Replace(srv.URL, "https://", "grpcs://", 1), grpc.Options{TLS: srv.Client().Transport.(*http.Transport).TLSClientConfig})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		"/page": "Unknown: the server answers 200 OK of type \"text/html\", which is not gRPC: <html> hello", "/503": "Unavailable: the server answers 503 Service Unavailable of type \"text/plain\", which is not gRPC: later",
		"/nothing": "Internal: the server has ended the stream without a status", "/empty": "Internal: /empty: there is no message", "/odd": "Unknown: the answer has the grpc-status \"x\"",
		"/two": "Internal: /two: there is more than one message", "/half": "Internal: the stream ends in the head", "/abort": "Internal: stream error",
	} {
		if err := c.Invoke(t.Context(), path, nil, &text{}, &text{}); err == nil || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%s: %v, want %s", path, err, want)
		}
	}
}

// FuzzRequest sends any body to a server.
func FuzzRequest(f *testing.F) {
	f.Add(frame(0, []byte("\x0a\x05hello")), "gzip", "1S")
	f.Add(frame(1, deflated([]byte("\x0a\x05hello"))), "gzip", "99999999H")
	s := &grpc.Server{Methods: methods(), MaxMessage: 1 << 16}
	f.Fuzz(func(t *testing.T, body []byte, encoding, timeout string) {
		r := httptest.NewRequest(http.MethodPost, "/test.Echo/Client", bytes.NewReader(body))
		r.ProtoMajor = 2
		r.Header = http.Header{"Content-Type": {"application/grpc"}, "Grpc-Encoding": {encoding}, "Grpc-Timeout": {timeout}}
		w := httptest.NewRecorder()
		s.ServeHTTP(w, r)
		status := w.Header().Get("Grpc-Status") + w.Header().Get(http.TrailerPrefix+"Grpc-Status")
		if status == "" {
			t.Errorf("an answer without a status: %v", w.Header())
		}
	})
}
