package buildkit

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"slices"
	"testing"
	"testing/iotest"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge/internal/grpc"
)

// blobs are stores of a client, as containerd's content service shows them: blobs by "STORE DIGEST".
type blobs map[string][]byte

func (b blobs) key(s *grpc.Stream, d string) string {
	return s.Metadata().Get("buildkit-attachable-store-id") + " " + d
}

func (b blobs) info(s *grpc.Stream, in *contentInfoRequest) (*contentInfoResponse, error) {
	data, ok := b[b.key(s, in.Digest)]
	if !ok {
		return nil, grpc.Errorf(grpc.NotFound, "content %s: not found", in.Digest)
	}
	return &contentInfoResponse{Info: &contentInfo{Digest: in.Digest, Size: int64(len(data))}}, nil
}

func (b blobs) read(s *grpc.Stream) error {
	var in contentReadRequest
	if err := s.Recv(&in); err != nil {
		return err
	}
	data, ok := b[b.key(s, in.Digest)]
	if !ok {
		return grpc.Errorf(grpc.NotFound, "content %s: not found", in.Digest)
	}
	for piece := range slices.Chunk(data[in.Offset:], 100_000) {
		if err := s.Send(&contentReadResponse{Data: piece}); err != nil {
			return err
		}
	}
	return nil
}

func (b blobs) write(s *grpc.Stream) error {
	var got []byte
	for {
		var in contentWriteRequest
		if err := s.Recv(&in); err != nil {
			return err
		}
		key := b.key(s, in.Expected)
		if b[key] != nil {
			return grpc.Errorf(grpc.AlreadyExists, "content %s: already exists", in.Expected)
		}
		if in.Offset != int64(len(got)) {
			return grpc.Errorf(grpc.OutOfRange, "write at %d, want %d", in.Offset, len(got))
		}
		got = append(got, in.Data...)
		if in.Action == contentCommit {
			if in.Total != int64(len(got)) || digest.FromBytes(got).String() != in.Expected {
				return grpc.Errorf(grpc.FailedPrecondition, "unexpected commit digest")
			}
			b[key] = got
		}
		if err := s.Send(&empty{}); err != nil || in.Action == contentCommit {
			return err
		}
	}
}

// TestContent writes blobs to a directory of the client and reads them: of any size, from any place, and each once.
func TestContent(t *testing.T) {
	c := newClient(t)
	sess, err := c.service.session(t.Context(), "s1")
	if err != nil {
		t.Fatal(err)
	}
	store, other := sess.contents(nil)("local:dir"), sess.contents(nil)("local:other")
	for _, size := range []int{0, 1, contentPiece - 1, contentPiece, contentPiece + 1, 3*contentPiece + 7} {
		data := bytes.Repeat([]byte("pattern"), size/7+1)[:size]
		d := digest.FromBytes(data)
		if _, err := store.Size(t.Context(), d); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a blob that is not there: %v", err)
		}
		for range 2 {
			if err := store.Write(t.Context(), d, int64(size), iotest.HalfReader(bytes.NewReader(data))); err != nil {
				t.Fatalf("%d bytes: %v", size, err)
			}
		}
		if n, err := store.Size(t.Context(), d); n != int64(size) || err != nil {
			t.Errorf("%d bytes are %d, %v", size, n, err)
		}
		r, err := store.Read(t.Context(), d, int64(size/2))
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(r); !bytes.Equal(got, data[size/2:]) || err != nil {
			t.Errorf("of %d bytes the second half has %d, %v", size, len(got), err)
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if _, err := other.Size(t.Context(), d); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a blob of another directory: %v", err)
		}
	}
	d := digest.FromString("other")
	if err := store.Write(t.Context(), d, 4, bytes.NewReader([]byte("some"))); err == nil {
		t.Error("a blob under another's digest is taken")
	}
	r, err := store.Read(t.Context(), d, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if _, err := io.ReadAll(r); err == nil {
		t.Error("a blob that is not there can be read")
	}
}
