package registrytest

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strconv"
	"time"
)

// Do is what a fault does.
type Do = func(w http.ResponseWriter, r *http.Request, next http.Handler)

// Status answers with an error.
func Status(status int) Do {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		refuse(w, status, "FAULT", "as commanded")
	}
}

// Refuse answers with one of the protocol's codes.
func Refuse(status int, code string) Do {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) { refuse(w, status, code, "as commanded") }
}

// Busy answers 429 and when to come back.
func Busy(retryAfter string) Do {
	return func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		w.Header().Set("Retry-After", retryAfter)
		refuse(w, http.StatusTooManyRequests, "TOOMANYREQUESTS", "slow down")
	}
}

func refuse(w http.ResponseWriter, status int, code, message string) {
	body, _ := json.Marshal(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(body)
}

// record takes an answer that may then be spoilt.
func record(r *http.Request, next http.Handler) *httptest.ResponseRecorder {
	rec := httptest.NewRecorder()
	next.ServeHTTP(rec, r)
	return rec
}

func copyHeader(w http.ResponseWriter, rec *httptest.ResponseRecorder) {
	for k, v := range rec.Header() {
		w.Header()[k] = v
	}
}

// Cut sends n bytes of the body and closes the connection.
func Cut(n int) Do {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		rec := record(r, next)
		copyHeader(w, rec)
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes()[:min(n, rec.Body.Len())])
		flush(w)
		panic(http.ErrAbortHandler)
	}
}

// Reset reads n bytes of the request's body and resets the connection.
func Reset(n int64) Do {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.CopyN(io.Discard, r.Body, n)
		reset(w)
	}
}

// ResetAfter lets the registry have n bytes of the request's body and then resets the connection.
func ResetAfter(n int64) Do {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		r.Body = io.NopCloser(io.MultiReader(io.LimitReader(r.Body, n), broken{}))
		record(r, next)
		reset(w)
	}
}

// broken is a body whose connection is gone.
type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func reset(w http.ResponseWriter) {
	conn, _, err := w.(http.Hijacker).Hijack()
	if err != nil {
		panic(http.ErrAbortHandler)
	}
	if tcp, ok := conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	_ = conn.Close()
}

// Swallow lets the registry do what is asked and loses the answer.
func Swallow() Do {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		record(r, next)
		reset(w)
	}
}

// FalseRange answers a range with bytes from elsewhere and says so.
func FalseRange() Do {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		if r.Header.Get("Range") == "" {
			next.ServeHTTP(w, r)
			return
		}
		r.Header.Del("Range")
		rec := record(r, next)
		body := rec.Body.Bytes()
		copyHeader(w, rec)
		w.Header().Set("Content-Range", fmt.Sprintf("bytes 0-%d/%d", len(body)-1, len(body)))
		w.WriteHeader(http.StatusPartialContent)
		_, _ = w.Write(body)
	}
}

// IgnoreRange answers a range with all there is.
func IgnoreRange() Do {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		r.Header.Del("Range")
		next.ServeHTTP(w, r)
	}
}

// Flip spoils a bit in the middle of the body.
func Flip() Do {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		rec := record(r, next)
		copyHeader(w, rec)
		w.WriteHeader(rec.Code)
		body := rec.Body.Bytes()
		body[len(body)/2] ^= 1
		_, _ = w.Write(body)
	}
}

// Endless sends zeros for ever, without a length.
func Endless() Do {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		rec := record(r, next)
		copyHeader(w, rec)
		w.Header().Del("Content-Length")
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
		for chunk := make([]byte, 64<<10); ; {
			if _, err := w.Write(chunk); err != nil {
				return
			}
		}
	}
}

// Drip sends the body a byte at a time, with pauses.
func Drip(pause time.Duration) Do {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		rec := record(r, next)
		copyHeader(w, rec)
		w.WriteHeader(rec.Code)
		for _, c := range rec.Body.Bytes() {
			if _, err := w.Write([]byte{c}); err != nil {
				return
			}
			flush(w)
			select {
			case <-time.After(pause):
			case <-r.Context().Done():
				return
			}
		}
	}
}

// Silence never answers.
func Silence() Do {
	return func(_ http.ResponseWriter, r *http.Request, _ http.Handler) {
		_, _ = io.Copy(io.Discard, r.Body)
		<-r.Context().Done()
	}
}

// Redirect sends the client elsewhere.
func Redirect(status int, location string) Do {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		w.Header().Set("Location", location)
		w.WriteHeader(status)
	}
}

// Answer sends a document of its own.
func Answer(mediaType string, body []byte) Do {
	return func(w http.ResponseWriter, r *http.Request, _ http.Handler) {
		w.Header().Set("Content-Type", mediaType)
		w.Header().Set("Content-Length", strconv.Itoa(len(body)))
		if r.Method != http.MethodHead {
			_, _ = w.Write(body)
		}
	}
}

// Header changes a header of the answer.
func Header(name, value string) Do {
	return func(w http.ResponseWriter, r *http.Request, next http.Handler) {
		rec := record(r, next)
		copyHeader(w, rec)
		w.Header().Set(name, value)
		w.WriteHeader(rec.Code)
		_, _ = w.Write(rec.Body.Bytes())
	}
}

func flush(w http.ResponseWriter) {
	if f, ok := w.(http.Flusher); ok {
		f.Flush()
	}
}
