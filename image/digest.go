package image

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"strings"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// maxBlobSize is the largest size that a descriptor may state, in bytes: what a JSON number can hold exactly.
const maxBlobSize = 1 << 53

const hexLen = 2 * sha256.Size

// CheckDigest reports what is wrong with d, if anything is. Only sha256 is known, in lower case, because a digest becomes
// a file name. It replaces [digest.Digest.Validate], which goes through regular expressions.
func CheckDigest(d digest.Digest) error {
	const prefix = "sha256:"
	s := string(d)
	if len(s) < len(prefix) || s[:len(prefix)] != prefix {
		return fmt.Errorf("digest %q: only sha256 is supported", Clip(s))
	}
	if s = s[len(prefix):]; len(s) != hexLen || !isHex(s) {
		return fmt.Errorf("digest %q: sha256 has %d lower case hexadecimal digits", Clip(string(d)), hexLen)
	}
	return nil
}

// checkDescriptor reports whether d can be acted on: whatever it says may come from outside.
func CheckDescriptor(d ocispec.Descriptor) error {
	if err := CheckDigest(d.Digest); err != nil {
		return err
	}
	if d.Size < 0 || d.Size > maxBlobSize {
		return fmt.Errorf("%s: size %d is out of range", d.Digest, d.Size)
	}
	return nil
}

func isHex(s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	return true
}

// Clip keeps messages short whatever a stranger sent.
func Clip(s string) string {
	const most = 300
	if len(s) > most {
		return strings.ToValidUTF8(s[:most], "") + "…"
	}
	return s
}

func sumDigest(h hash.Hash) digest.Digest {
	return digest.Digest("sha256:" + hex.EncodeToString(h.Sum(make([]byte, 0, sha256.Size))))
}

func tooLong(d ocispec.Descriptor) error {
	return &mismatch{d.Digest, fmt.Sprintf("is longer than its descriptor says (%d bytes)", d.Size)}
}

// A verifier reads a blob and fails at its end, or one byte behind it, unless size and digest are what d says.
type verifier struct {
	r    io.Reader
	d    ocispec.Descriptor
	hash hash.Hash
	left int64
	err  error
}

// Verify returns a reader of r that fails, at the end, if what was read has not the size and the digest of d, and that
// reads at most one byte more than it should have: with [ErrMismatch], or [io.ErrUnexpectedEOF] if bytes are missing.
func Verify(r io.Reader, d ocispec.Descriptor) io.Reader {
	return &verifier{r: r, d: d, hash: sha256.New(), left: d.Size}
}

// ErrMismatch is of content that has not the size or the digest that its descriptor states.
var ErrMismatch = errors.New("content does not match its digest")

// A mismatch says how content differs.
type mismatch struct {
	digest digest.Digest // that it should have
	how    string
}

func (m *mismatch) Error() string        { return m.digest.String() + ": " + m.how }
func (m *mismatch) Is(target error) bool { return target == ErrMismatch }

func (v *verifier) Read(p []byte) (int, error) {
	if v.err != nil {
		return 0, v.err
	}
	if int64(len(p)) > v.left+1 {
		p = p[:v.left+1]
	}
	n, err := v.r.Read(p)
	if int64(n) > v.left {
		v.err = tooLong(v.d)
		return 0, v.err
	}
	v.left -= int64(n)
	v.hash.Write(p[:n])
	if err == io.EOF {
		err = v.end()
	}
	v.err = err
	return n, err
}

func (v *verifier) end() error {
	if v.left > 0 {
		return fmt.Errorf("%s: ends after %d of %d bytes: %w", v.d.Digest, v.d.Size-v.left, v.d.Size, io.ErrUnexpectedEOF)
	}
	if got := sumDigest(v.hash); got != v.d.Digest {
		return &mismatch{v.d.Digest, "content has digest " + got.String()}
	}
	return io.EOF
}
