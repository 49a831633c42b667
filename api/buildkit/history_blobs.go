package buildkit

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"io"

	"github.com/forge-build/forge/event/builds"
	"github.com/forge-build/forge/event/solve"
	"github.com/forge-build/forge/event/trace"
	"github.com/forge-build/forge/internal/grpc"
	"github.com/forge-build/forge/internal/proto"
)

// What clients read of a build besides its record are blobs, which they ask for by digest: its log, and where its time went. They are made of the
// build's events each time, since nobody may ever ask. Only their digests are remembered, from when the build was listed first.

// Media types of these blobs, as BuildKit has them.
const (
	logsType  = "application/vnd.buildkit.status.v0"
	traceType = "application/vnd.buildkit.otlp.json.v0"
)

// blobTypes are all of them.
func blobTypes() []string { return []string{logsType, traceType} }

// listed is how many bytes of events a build may have whose blobs are found out when it is listed among others. For a larger one a client asks by
// its name, or has it finalized.
const listed = 1 << 20

// finalizeAll finds out what the blobs of builds are called that are over, where it is not known. A build whose events cannot be read has none.
func (s *Service) finalizeAll(list []builds.Record, ref string) {
	for i := range list {
		r := &list[i]
		s.mu.Lock()
		known := s.records[r.ID] != nil
		s.mu.Unlock()
		if !known && r.State != builds.Running && (r.ID == ref || r.Bytes <= listed) {
			_ = s.finalize(r)
		}
	}
}

// finalize finds out what the blobs of a build are called. Those of builds that are not kept any more are forgotten.
func (s *Service) finalize(r *builds.Record) error {
	if r.State == builds.Running {
		return grpc.Errorf(grpc.FailedPrecondition, "build %s is running", r.ID)
	}
	var all []descriptor
	for _, kind := range blobTypes() {
		sum := sha256.New()
		size := &counter{w: sum}
		if err := writeBlob(size, kind, r); err != nil {
			return err
		}
		all = append(all, descriptor{MediaType: kind, Digest: "sha256:" + hex.EncodeToString(sum.Sum(nil)), Size: size.n})
	}
	s.change(func() {
		if len(s.records) >= 2*builds.MaxBuilds {
			clear(s.records)
		}
		s.records[r.ID] = all
	})
	return nil
}

// writeBlob writes a blob of a build.
func writeBlob(w io.Writer, kind string, r *builds.Record) error {
	if kind == traceType {
		var t trace.Trace
		for e, err := range r.Events() {
			if err != nil {
				return err
			}
			t.Event(e)
		}
		return t.Spans(w)
	}
	to := solve.Translator{Line: clean, Lines: clean}
	var codec proto.Codec
	for e, err := range r.Events() {
		if err != nil {
			return err
		}
		news := to.Translate(e)
		if news.Empty() {
			continue
		}
		b, err := codec.Marshal(&news)
		if err != nil {
			return err
		}
		if _, err := w.Write(append(binary.LittleEndian.AppendUint32(nil, uint32(len(b))), b...)); err != nil {
			return err
		}
	}
	return nil
}

// A counter counts what is written.
type counter struct {
	w io.Writer
	n int64
}

func (c *counter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	c.n += int64(n)
	return n, err
}

// blob finds a blob by its digest, and the build that it is of.
func (s *Service) blob(digest string) (found descriptor, ref string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ref, all := range s.records {
		for _, d := range all {
			if d.Digest == digest {
				return d, ref, nil
			}
		}
	}
	return found, "", grpc.Errorf(grpc.NotFound, "content %s: not found: there are the logs and traces of builds that were listed", digest)
}

// contentInfo says how large a blob is.
func (s *Service) contentInfo(_ *grpc.Stream, in *contentInfoRequest) (*contentInfoResponse, error) {
	d, _, err := s.blob(in.Digest)
	if err != nil {
		return nil, err
	}
	return &contentInfoResponse{Info: &contentInfo{Digest: d.Digest, Size: d.Size}}, nil
}

// errEnough means that all that is wanted of a blob was sent.
var errEnough = errors.New("enough")

// contentRead sends a part of a blob.
func (s *Service) contentRead(st *grpc.Stream) error {
	var in contentReadRequest
	if err := st.Recv(&in); err != nil {
		return err
	}
	d, ref, err := s.blob(in.Digest)
	if err != nil {
		return err
	}
	list, err := s.kept(st.Context(), ref)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		return grpc.Errorf(grpc.NotFound, "build %s: %v", ref, builds.ErrNotKept)
	}
	if in.Offset < 0 || in.Offset > d.Size || in.Size < 0 {
		return grpc.Errorf(grpc.OutOfRange, "content %s has %d bytes: %d from %d are none of it", d.Digest, d.Size, in.Size, in.Offset)
	}
	w := &pieceWriter{st: st, skip: in.Offset, left: d.Size - in.Offset, at: in.Offset}
	if in.Size > 0 {
		w.left = min(w.left, in.Size)
	}
	if err := writeBlob(w, d.MediaType, &list[0]); err != nil && !errors.Is(err, errEnough) {
		return err
	}
	return w.flush()
}

// A pieceWriter sends a part of what is written to it in pieces.
type pieceWriter struct {
	st   *grpc.Stream
	skip int64 // bytes that are not wanted
	left int64 // bytes that are wanted still
	at   int64 // where in the blob buf begins
	buf  []byte
}

// Write implements io.Writer.
func (w *pieceWriter) Write(p []byte) (int, error) {
	n := len(p)
	skip := min(int64(n), w.skip)
	w.skip, p = w.skip-skip, p[skip:]
	p = p[:min(int64(len(p)), w.left)]
	w.left -= int64(len(p))
	w.buf = append(w.buf, p...)
	for len(w.buf) >= contentPiece {
		if err := w.flush(); err != nil {
			return 0, err
		}
	}
	if w.left == 0 {
		return n, errEnough
	}
	return n, nil
}

// flush sends what has been gathered.
func (w *pieceWriter) flush() error {
	for len(w.buf) > 0 {
		piece := w.buf[:min(len(w.buf), contentPiece)]
		if err := w.st.Send(&contentReadResponse{Offset: w.at, Data: piece}); err != nil {
			return err
		}
		w.at, w.buf = w.at+int64(len(piece)), w.buf[len(piece):]
	}
	return nil
}
