package registry_test

import (
	"io"
	"net"
	"testing"
	"time"

	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/internal/web"
	"github.com/forge-build/forge/registry"
	"github.com/forge-build/forge/registry/registrytest"
)

// FuzzAnswer lets a registry answer anything: no panic, no hang, and no byte of a blob that has not its digest.
func FuzzAnswer(f *testing.F) {
	blob := ocispec.Descriptor{
		MediaType: ocispec.MediaTypeImageLayer, Size: 5,
		Digest: "sha256:2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824", // hello
	}
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"))
	f.Add([]byte("HTTP/1.1 401 Unauthorized\r\nWWW-Authenticate: Bearer realm=\"http://127.0.0.1:1/\",scope=\"a:b:c\"\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 307 X\r\nLocation: //127.0.0.1/x\r\n\r\n"))
	f.Add([]byte("HTTP/1.1 206 Partial\r\nContent-Range: bytes 0-4/5\r\n\r\nhello"))
	f.Add([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Type: application/vnd.oci.image.index.v1+json\r\n\r\n2\r\n{}\r\n0\r\n\r\n"))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() { _ = l.Close() })
	answers := make(chan []byte, 1)
	go answerAll(l, answers)
	f.Fuzz(func(t *testing.T, answer []byte) {
		answers <- answer
		defer func() { <-answers }()
		ref := registrytest.Ref(t, l.Addr().String()+"/app:1")
		repo := connect(t, ref, registry.Options{Limits: web.Limits{
			Headers: 50 * time.Millisecond, Idle: 50 * time.Millisecond, GiveUp: 100 * time.Millisecond, Backoff: time.Microsecond, Tries: 2,
		}})
		_, _ = repo.Resolve(t.Context(), ref)
		_, _ = repo.Tags(t.Context())
		_, _ = repo.Push(t.Context(), blob, image.Bytes([]byte("hello")))
		r, err := repo.Fetch(t.Context(), blob, 0)
		if err != nil {
			return
		}
		defer r.Close()
		if got, err := io.ReadAll(image.Verify(r, blob)); err == nil && string(got) != "hello" {
			t.Errorf("blob read as %q", got)
		}
	})
}

// answerAll gives each request of any connection the answer of the moment.
func answerAll(l net.Listener, answers chan []byte) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			buf := make([]byte, 4096)
			if n, err := conn.Read(buf); err != nil || buf[0] == 0x16 { // TLS
				_, _ = conn.Write([]byte("HTTP/1.0 400 Bad Request\r\n\r\n"[:min(n+28, 28)]))
				return
			}
			select {
			case a := <-answers:
				answers <- a
				_, _ = conn.Write(a)
			case <-time.After(time.Second):
			}
		}()
	}
}
