package buildkit

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"

	"github.com/forge-build/forge/event/builds"
	"github.com/forge-build/forge/event/solve"
	"github.com/forge-build/forge/event/trace"
	"github.com/forge-build/forge/internal/grpc"
	"github.com/forge-build/forge/internal/proto"
)

// What clients read of a build besides its record are blobs, which they ask for by digest: its log, where its time went, and where its images
// came from. They are made of the build's events each time, since nobody may ever ask. Only their digests are remembered, from when the build
// was listed first.

// Media types of these blobs, as BuildKit has them.
const (
	logsType       = "application/vnd.buildkit.status.v0"
	traceType      = "application/vnd.buildkit.otlp.json.v0"
	provenanceType = "application/vnd.in-toto+json"
)

// A historyBlob is one of them.
type historyBlob struct {
	descriptor
	platform string // of the image that provenance is of
	number   int    // of that image, in the order of the build's events
}

// predicateType is the annotation that says what an attestation says.
const predicateType = "in-toto.io/predicate-type"

// blobsOf are the blobs of a build, without digests and sizes.
func blobsOf(r *builds.Record) (all []historyBlob, err error) {
	for _, kind := range []string{logsType, traceType} {
		all = append(all, historyBlob{descriptor: descriptor{MediaType: kind}})
	}
	n := 0
	for e, err := range r.Events() {
		if err != nil {
			return nil, err
		}
		if o := e.Origin; o != nil {
			about := map[string]string{predicateType: o.Type}
			all = append(all, historyBlob{descriptor{MediaType: provenanceType, Annotations: about}, o.Platform, n})
			n++
		}
	}
	return all, nil
}

// attach names the blobs of a build.
func (r *historyRecord) attach(blobs []historyBlob) {
	results := map[string]buildResult{}
	for _, b := range blobs {
		switch b.MediaType {
		case logsType:
			r.Logs = &b.descriptor
		case traceType:
			r.Trace = &b.descriptor
		case provenanceType:
			of := results[b.platform]
			of.Attestations = append(of.Attestations, b.descriptor)
			results[b.platform] = of
		}
	}
	if len(results) > 1 {
		r.Results = results
		return
	}
	for _, one := range results {
		r.Result = &one
	}
}

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
	all, err := blobsOf(r)
	if err != nil {
		return err
	}
	for i := range all {
		sum := sha256.New()
		size := &counter{w: sum}
		if err := writeBlob(size, &all[i], r); err != nil {
			return err
		}
		all[i].Digest, all[i].Size = "sha256:"+hex.EncodeToString(sum.Sum(nil)), size.n
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
func writeBlob(w io.Writer, b *historyBlob, r *builds.Record) error {
	switch b.MediaType {
	case provenanceType:
		return writeProvenance(w, b.number, r)
	case traceType:
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

// writeProvenance writes where the image of a number came from, in the form that BuildKit keeps.
func writeProvenance(w io.Writer, number int, r *builds.Record) error {
	n := 0
	for e, err := range r.Events() {
		if err != nil {
			return err
		}
		if e.Origin == nil {
			continue
		}
		if n == number {
			var text bytes.Buffer
			if err := json.Indent(&text, e.Origin.Predicate, "", "  "); err != nil {
				return err
			}
			_, err := text.WriteTo(w)
			return err
		}
		n++
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
func (s *Service) blob(digest string) (found historyBlob, ref string, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for ref, all := range s.records {
		for _, b := range all {
			if b.Digest == digest {
				return b, ref, nil
			}
		}
	}
	return found, "", grpc.Errorf(grpc.NotFound, "content %s: not found: there are the logs, traces and provenance of builds that were listed", digest)
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
	b, ref, err := s.blob(in.Digest)
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
	if in.Offset < 0 || in.Offset > b.Size || in.Size < 0 {
		return grpc.Errorf(grpc.OutOfRange, "content %s has %d bytes: %d from %d are none of it", b.Digest, b.Size, in.Size, in.Offset)
	}
	w := &pieceWriter{st: st, skip: in.Offset, left: b.Size - in.Offset, at: in.Offset}
	if in.Size > 0 {
		w.left = min(w.left, in.Size)
	}
	if err := writeBlob(w, &b, &list[0]); err != nil && !errors.Is(err, errEnough) {
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
