package buildkit

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"io/fs"
	"sync"

	"github.com/opencontainers/go-digest"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/internal/grpc"
)

// The messages of containerd.services.content.v1.Content, as far as they are used.

type contentInfo struct {
	Digest string `pb:"1"`
	Size   int64  `pb:"2"`
}

type contentInfoRequest struct {
	Digest string `pb:"1"`
}

type contentInfoResponse struct {
	Info *contentInfo `pb:"1"`
}

type contentReadRequest struct {
	Digest string `pb:"1"`
	Offset int64  `pb:"2"`
	Size   int64  `pb:"3"` // 0 is all
}

type contentReadResponse struct {
	Offset int64  `pb:"1"`
	Data   []byte `pb:"2"`
}

type contentAction int32

const (
	contentWrite  contentAction = 1
	contentCommit contentAction = 2
)

type contentWriteRequest struct {
	Action   contentAction `pb:"1"`
	Ref      string        `pb:"2"`
	Total    int64         `pb:"3"`
	Expected string        `pb:"4"`
	Offset   int64         `pb:"5"`
	Data     []byte        `pb:"6"`
}

const (
	contentService = "/containerd.services.content.v1.Content/"
	contentPiece   = 1 << 20 // how many bytes of a blob are sent at once
)

// A clientStore is a directory of blobs of the client.
type clientStore struct {
	own    *session
	md     grpc.Metadata
	caches *cacheNames
}

// cacheNames is what a build has written last of a cache that the client is to give a name.
type cacheNames struct {
	mu   sync.Mutex // guards last
	last []byte     // a descriptor, in JSON
}

// take is what the client is to give its name; "" if nothing was written.
func (c *cacheNames) take() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return string(c.last)
}

// contents gives the directories that the client lends.
func (s *session) contents(caches *cacheNames) func(store string) forge.ContentStore {
	return func(store string) forge.ContentStore {
		return &clientStore{s, grpc.Metadata{"buildkit-attachable-store-id": {store}}, caches}
	}
}

// lends refuses where the client has no store at all.
func (c *clientStore) lends() error {
	if !c.own.has(contentService + "Info") {
		return fmt.Errorf("the client lends no directory of blobs: %w", fs.ErrNotExist)
	}
	return nil
}

// Size implements forge.ContentStore.
func (c *clientStore) Size(ctx context.Context, d digest.Digest) (int64, error) {
	if err := c.lends(); err != nil {
		return 0, err
	}
	var out contentInfoResponse
	if err := c.own.Invoke(ctx, contentService+"Info", c.md, &contentInfoRequest{Digest: d.String()}, &out); err != nil {
		return 0, notGiven(err)
	}
	if out.Info == nil {
		return 0, fmt.Errorf("the client says nothing of blob %s", d)
	}
	return out.Info.Size, nil
}

// Read implements forge.ContentStore.
func (c *clientStore) Read(ctx context.Context, d digest.Digest, offset int64) (io.ReadCloser, error) {
	call := c.own.Start(ctx, contentService+"Read", c.md)
	if err := call.Send(&contentReadRequest{Digest: d.String(), Offset: offset}); err != nil && err != io.EOF { // of io.EOF the answer tells why
		call.Close()
		return nil, err
	}
	if err := call.CloseSend(); err != nil {
		call.Close()
		return nil, err
	}
	conn := newCallConn(call)
	conn.recv = func(m *bytesMessage) error {
		var out contentReadResponse
		err := call.Recv(&out)
		m.Data = out.Data
		return err
	}
	return conn, nil
}

// Write implements forge.ContentStore.
func (c *clientStore) Write(ctx context.Context, d digest.Digest, size int64, r io.Reader) error {
	if err := c.lends(); err != nil {
		return err
	}
	call := c.own.Start(ctx, contentService+"Write", c.md)
	defer call.Close()
	buf := make([]byte, min(size, contentPiece)+1) // one more finds the end
	for offset := int64(0); ; {
		n, err := io.ReadFull(r, buf)
		last := err == io.EOF || err == io.ErrUnexpectedEOF
		if err != nil && !last {
			return err
		}
		m := contentWriteRequest{Action: contentWrite, Ref: "forge-" + d.String(), Total: size, Expected: d.String(), Offset: offset, Data: buf[:n]}
		if last {
			m.Action = contentCommit
		}
		if err := exchange(call, &m); err != nil {
			if grpc.CodeOf(err) == grpc.AlreadyExists {
				return nil
			}
			return fmt.Errorf("blob %s of the client: %w", d, err)
		}
		if offset += int64(n); last {
			return nil
		}
	}
}

// exchange sends one piece and waits until the client has it.
func exchange(call *grpc.Call, m *contentWriteRequest) error {
	if err := call.Send(m); err != nil && err != io.EOF { // of io.EOF the answer tells why
		return err
	}
	err := call.Recv(&empty{})
	if err == io.EOF {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Name implements forge.ContentStore.
func (c *clientStore) Name(_ string, d forge.Descriptor) (err error) {
	c.caches.mu.Lock()
	defer c.caches.mu.Unlock()
	c.caches.last, err = json.Marshal(d)
	return err
}
