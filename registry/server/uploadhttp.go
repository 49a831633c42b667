package server

import (
	"context"
	"errors"
	"net/http"
	"os"

	"github.com/opencontainers/go-digest"
)

func (s *Server) startUpload(w http.ResponseWriter, r *http.Request, t target) error {
	if t.what != "" {
		return errUnsupported.with("POST to an upload")
	}
	q := r.URL.Query()
	if mount := q.Get("mount"); mount != "" {
		if err := checkDigest(mount); err != nil {
			return err
		}
		if from := q.Get("from"); validName(from) {
			mounted, err := s.store.mount(from, t.repo, digest.Digest(mount))
			if err != nil {
				return err
			}
			if mounted {
				return created(w, t.repo, mount)
			}
		}
	}
	dgst := q.Get("digest")
	if dgst != "" {
		if err := checkDigest(dgst); err != nil {
			return err
		}
	}
	u, err := s.begin(t.repo)
	if err != nil {
		return err
	}
	if dgst == "" {
		return u.state(w, http.StatusAccepted)
	}
	return u.hold(w, r, func() error { return s.finish(w, r, u, dgst) })
}

func (s *Server) statusUpload(w http.ResponseWriter, r *http.Request, t target) error {
	return s.withUpload(w, r, t, func(u *session) error { return u.state(w, http.StatusNoContent) })
}

func (s *Server) patchUpload(w http.ResponseWriter, r *http.Request, t target) error {
	return s.withUpload(w, r, t, func(u *session) error {
		if err := u.append(r); err != nil {
			u.stateHeader(w) // so that the client can go on from here
			return err
		}
		return u.state(w, http.StatusAccepted)
	})
}

func (s *Server) putUpload(w http.ResponseWriter, r *http.Request, t target) error {
	dgst := r.URL.Query().Get("digest")
	return s.withUpload(w, r, t, func(u *session) error {
		if err := checkDigest(dgst); err != nil {
			return err
		}
		return s.finish(w, r, u, dgst)
	})
}

func (s *Server) cancelUpload(w http.ResponseWriter, r *http.Request, t target) error {
	return s.withUpload(w, r, t, func(u *session) error {
		s.forget(u)
		if err := os.Remove(u.path); err != nil {
			return err
		}
		w.WriteHeader(http.StatusNoContent)
		return nil
	})
}

// withUpload does something with the upload that a request names, while no other request does.
func (s *Server) withUpload(w http.ResponseWriter, r *http.Request, t target, do func(*session) error) error {
	u, err := s.find(t.repo, t.what)
	if err != nil {
		return err
	}
	return u.hold(w, r, func() error { return do(u) })
}

// finish takes the last part of an upload that is held, and makes a blob of all parts.
func (s *Server) finish(w http.ResponseWriter, r *http.Request, u *session, dgst string) error {
	if err := u.append(r); err != nil {
		u.stateHeader(w)
		return err
	}
	got, err := u.digest()
	if err != nil {
		return err
	}
	if got.String() != dgst {
		s.forget(u)
		return errors.Join(errDigestInvalid.with("content has "+got.String()), os.Remove(u.path))
	}
	err = s.store.add(r.Context(), u.repo, got, func(ctx context.Context) error {
		return s.store.layout.PushFile(ctx, got, u.path)
	})
	if err != nil {
		return err
	}
	s.forget(u)
	return created(w, u.repo, dgst)
}
