package objects

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"io/fs"
	"strings"
	"testing"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
)

// A bottomless bucket has every name, and no blob. What a name holds is as long as it says: NUMBER/BYTES.
type bottomless struct{ Bucket }

func (bottomless) Read(_ context.Context, name string) ([]byte, error) {
	var n, size int
	if _, err := fmt.Sscanf(name, "%d/%d", &n, &size); err != nil {
		return nil, err
	}
	return fmt.Appendf(bytes.Repeat([]byte(" "), size), "%d", n), nil
}

func (bottomless) Get(context.Context, ocispec.Descriptor, int64) (io.ReadCloser, error) {
	return nil, fs.ErrNotExist
}

// TestManyNames holds that what names hold is remembered for who fetches it next, and that names without end do not fill the memory.
func TestManyNames(t *testing.T) {
	t.Parallel()
	s := New(bottomless{}, nil)
	for size, names := range map[int]int{1 << 20: maxRead>>20 + 2, 10: maxDocuments + 10} {
		for n := range names {
			name := fmt.Sprintf("%d/%d", n, size)
			d, err := s.Resolve(t.Context(), image.Reference{Tag: name})
			if err != nil {
				t.Fatal(err)
			}
			r, err := s.Fetch(t.Context(), d, 0)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			got, err := io.ReadAll(r)
			if err != nil || strings.TrimSpace(string(got)) != fmt.Sprint(n) {
				t.Fatalf("%s: %d bytes, %v", name, len(got), err)
			}
		}
		total := 0
		for _, doc := range s.read {
			total += len(doc.raw)
		}
		if total > maxRead || len(s.read) > maxDocuments {
			t.Errorf("%d documents of %d bytes are remembered", len(s.read), total)
		}
	}
}
