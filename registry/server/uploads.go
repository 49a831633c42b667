package server

import (
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/opencontainers/go-digest"
)

// maxUploads bounds the uploads that are open at once.
const maxUploads = 10_000

// uploads are the sessions that this process has heard of; others are only files yet.
type uploads struct {
	mu   sync.Mutex // guards open
	open map[string]*session
}

// A session is an upload. One request at a time writes to it: a newer one makes an older one, whose connection its client
// has given up, stop.
type session struct {
	repo, id, path string
	turn           chan struct{} // holds one value while nobody writes

	mu   sync.Mutex // guards stop
	stop func()     // of the request that writes now

	// With the turn:
	size   int64
	hash   hash.Hash // of the first hashed bytes
	hashed int64
	gone   bool
}

// find returns the session of an upload, from memory or from what an earlier process left.
func (s *Server) find(repo, id string) (*session, error) {
	if len(id) != 32 || strings.Trim(id, "0123456789abcdef") != "" {
		return nil, errUploadUnknown.with(id)
	}
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	if u := s.uploads.open[id]; u != nil {
		if u.repo != repo {
			return nil, errUploadUnknown.with(id)
		}
		return u, nil
	}
	path := s.store.in(repo, "_uploads", id)
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, errUploadUnknown.with(id)
	}
	if err != nil {
		return nil, err
	}
	u := newSession(repo, id, path)
	u.size = st.Size()
	s.uploads.open[id] = u
	return u, nil
}

func newSession(repo, id, path string) *session {
	u := &session{repo: repo, id: id, path: path, turn: make(chan struct{}, 1), hash: sha256.New()}
	u.turn <- struct{}{}
	return u
}

func (s *Server) begin(repo string) (*session, error) {
	if s.uploads.full() {
		return nil, errUploads
	}
	dir := s.store.in(repo, "_uploads")
	if err := s.store.mkdir(dir); err != nil {
		return nil, err
	}
	id := fmt.Sprintf("%x", randomID())
	u := newSession(repo, id, s.store.in(repo, "_uploads", id))
	f, err := os.OpenFile(u.path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return nil, err
	}
	if err := f.Close(); err != nil {
		return nil, err
	}
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	s.uploads.open[id] = u
	return u, nil
}

func (u *uploads) full() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.open) >= maxUploads
}

// dropStale removes the uploads that have rested for too long at a time.
func (s *Server) dropStale(now time.Time) error {
	repos, err := s.store.repositories("_uploads")
	if err != nil {
		return err
	}
	var failed error
	for _, repo := range repos {
		ids, err := names(s.store.in(repo, "_uploads"))
		for _, id := range ids {
			err = errors.Join(err, s.dropIfStale(repo, id, now))
		}
		failed = errors.Join(failed, err)
	}
	return failed
}

func (s *Server) dropIfStale(repo, id string, now time.Time) error {
	if !stale(s.store.in(repo, "_uploads", id), now) {
		return nil
	}
	u, err := s.find(repo, id)
	if err != nil {
		return nil // finished since, or no upload
	}
	select {
	case <-u.turn:
	default:
		return nil // somebody goes on with it
	}
	defer func() { u.turn <- struct{}{} }()
	if u.gone || !stale(u.path, now) {
		return nil
	}
	s.forget(u)
	return os.Remove(u.path)
}

// stale reports whether an upload has rested for too long.
func stale(path string, now time.Time) bool {
	st, err := os.Stat(path)
	return err == nil && now.Sub(st.ModTime()) > staleUpload
}

func randomID() (id [16]byte) {
	_, _ = rand.Read(id[:]) // never fails, says its documentation
	return id
}

// forget ends a session; its file is somebody else's by now, or the caller removes it.
func (s *Server) forget(u *session) {
	u.gone = true
	s.uploads.mu.Lock()
	defer s.uploads.mu.Unlock()
	delete(s.uploads.open, u.id)
}

// hold does something with the session when it is free, after telling who has it to stop.
func (u *session) hold(w http.ResponseWriter, r *http.Request, do func() error) error {
	u.mu.Lock()
	if u.stop != nil {
		u.stop()
	}
	u.mu.Unlock()
	select {
	case <-u.turn:
	case <-r.Context().Done():
		return r.Context().Err()
	}
	defer func() { u.turn <- struct{}{} }()
	if u.gone {
		return errUploadUnknown.with(u.id)
	}
	u.setStop(func() { _ = http.NewResponseController(w).SetReadDeadline(time.Now()) })
	defer u.setStop(nil)
	return do()
}

func (u *session) setStop(stop func()) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.stop = stop
}

// append writes a request's body behind what has arrived. What comes before the connection breaks is kept.
func (u *session) append(r *http.Request) (err error) {
	if r.ContentLength == 0 {
		return nil
	}
	want := int64(-1)
	if cr := r.Header.Get("Content-Range"); cr != "" {
		first, last, ok := parseRange(cr)
		if !ok || first != u.size {
			return errRangeInvalid.with(cr)
		}
		want = last - first + 1
		if r.ContentLength >= 0 && r.ContentLength != want {
			return errSizeInvalid.with(cr)
		}
	}
	f, err := os.OpenFile(u.path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if _, err := f.Seek(u.size, io.SeekStart); err != nil {
		return err
	}
	n, err := u.copy(f, r.Body)
	if err != nil {
		return err
	}
	if want >= 0 && n != want {
		return errSizeInvalid.with(r.Header.Get("Content-Range"))
	}
	return nil
}

// copy writes and hashes. Its hash runs behind only for an upload that another process began.
func (u *session) copy(f *os.File, body io.Reader) (n int64, err error) {
	buf := make([]byte, 512<<10)
	for {
		k, rerr := io.ReadFull(body, buf)
		if k > 0 {
			m, err := f.Write(buf[:k])
			if u.hashed == u.size {
				u.hash.Write(buf[:m])
				u.hashed += int64(m)
			}
			u.size += int64(m)
			n += int64(m)
			if err != nil {
				return n, err
			}
		}
		switch rerr {
		case nil:
		case io.EOF, io.ErrUnexpectedEOF:
			// ReadFull says that of a body that ends, too; one that is cut says it again.
			if _, err := body.Read(buf[:1]); err != io.EOF {
				return n, errUploadBroken
			}
			return n, nil
		default:
			return n, errUploadBroken
		}
	}
}

// digest is that of all that has arrived.
func (u *session) digest() (digest.Digest, error) {
	if u.hashed < u.size {
		f, err := os.Open(u.path)
		if err != nil {
			return "", err
		}
		defer f.Close()
		n, err := io.Copy(u.hash, io.NewSectionReader(f, u.hashed, u.size-u.hashed))
		u.hashed += n
		if err != nil {
			return "", err
		}
	}
	return sum(u.hash), nil
}

func parseRange(s string) (first, last int64, ok bool) {
	a, b, ok := strings.Cut(strings.TrimPrefix(s, "bytes "), "-")
	if !ok {
		return 0, 0, false
	}
	b, _, _ = strings.Cut(b, "/")
	first, err1 := strconv.ParseInt(a, 10, 64)
	last, err2 := strconv.ParseInt(b, 10, 64)
	return first, last, err1 == nil && err2 == nil && first >= 0 && last >= first
}

// state answers where the session stands.
func (u *session) state(w http.ResponseWriter, status int) error {
	u.stateHeader(w)
	w.WriteHeader(status)
	return nil
}

func (u *session) stateHeader(w http.ResponseWriter) {
	w.Header().Set("Location", uploadLocation(u.repo, u.id))
	w.Header().Set("Docker-Upload-UUID", u.id)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(u.size-1, 0)))
}
