package cas

import (
	"context"
	"errors"
	"io/fs"
	"testing"

	"github.com/forge-build/forge/cache/objects/objectstest"
	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/reapi"
	"github.com/forge-build/forge/internal/reapi/reapitest"
)

func newBucket(t *testing.T, s *reapitest.Server) Bucket {
	t.Helper()
	c, err := reapi.Dial(s.Start(t), reapi.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return Bucket{Client: c}
}

// TestBlobs holds that blobs of all sizes go and come, from any offset, compressed on their way or not.
func TestBlobs(t *testing.T) {
	t.Parallel()
	for _, s := range []*reapitest.Server{{}, {Zstd: true}} {
		objectstest.Blobs(t, objectstest.Store(t, newBucket(t, s)), 1, 1000, 2<<20)
	}
}

// TestNames holds that names can be given to something else, that they do without documents that come along, that nobody has to execute anything, and
// that a document is not taken for another.
func TestNames(t *testing.T) {
	t.Parallel()
	for _, s := range []*reapitest.Server{{}, {NoInline: true}} {
		b := newBucket(t, s)
		if _, err := b.Read(t.Context(), "a"); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("a name that nobody has given: %v", err)
		}
		for _, text := range []string{"first", "second"} {
			for _, name := range []string{"a", "b"} {
				if err := b.Write(t.Context(), name, []byte(text+name)); err != nil {
					t.Fatal(err)
				}
			}
			if raw, err := b.Read(t.Context(), "a"); err != nil || string(raw) != text+"a" {
				t.Errorf("%q, %v, want %s", raw, err, text+"a")
			}
		}
		for _, action := range s.Results() {
			var a reapi.Action
			if !s.Message(&action, &a) || s.Blob(*a.Command) == nil || s.Blob(*a.Input) == nil {
				t.Error("a server that checks results finds something missing")
			}
		}
		s.Set(reapi.DigestOf([]byte("seconda")), []byte("another"))
		if raw, err := b.Read(t.Context(), "a"); err == nil {
			t.Errorf("a document that is another is read: %q", raw)
		}
	}
}

// TestReadOnly holds that nothing is sent to a server that takes no names.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	s := &reapitest.Server{ReadOnly: true}
	b := newBucket(t, s)
	data := []byte("x")
	err := b.Put(t.Context(), objectstest.Blob(data), image.Bytes(data))
	if !errors.Is(err, fs.ErrPermission) || s.Calls("BatchUpdateBlobs") > 0 {
		t.Errorf("%v, %d calls", err, s.Calls("BatchUpdateBlobs"))
	}
	canceled, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := b.Has(canceled, objectstest.Blob(data)); err == nil {
		t.Error("a blob is there although nobody was asked")
	}
}
