package buildkit

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/forge-build/forge"
	"github.com/forge-build/forge/container/words"
	"github.com/forge-build/forge/internal/grpc"
)

// outputs are what the client wants of the image. What is sent to it goes through the closers, which are to be called when all is written.
func (s *session) outputs(ctx context.Context, exporters []exporter, layouts *cacheNames) (outs []forge.Output, files []*fileSink, err error) {
	for i, e := range exporters {
		md := grpc.Metadata{"buildkit-attachable-exporter-id": {strconv.Itoa(i)}}
		out, err := outputOf(e)
		if err != nil {
			return nil, nil, grpc.Errorf(grpc.InvalidArgument, "%v", err)
		}
		switch {
		case out.Attrs["tar"] == "false":
			out.Layout = s.contents(layouts)("export")
		case out.Type == "oci" || out.Type == "docker" || out.Type == "tar":
			sink := &fileSink{start: func() *grpc.Call { return s.Start(ctx, fileSend, md) }}
			out.Dest, out.Out = "-", sink
			files = append(files, sink)
		case out.Type == "local":
			out.Files = func(ctx context.Context, dir string, tree forge.FileTree) error {
				return sendTree(ctx, s.Start(ctx, fileSend, md), dir, tree)
			}
		}
		outs = append(outs, out)
	}
	return outs, files, nil
}

// outputOf is an exporter of BuildKit as an output of forge.
func outputOf(e exporter) (forge.Output, error) {
	kind := e.Type
	if kind == "moby" {
		kind = "image"
	}
	fields := []string{"type=" + kind}
	is, err := strconv.ParseBool(e.Attrs["tar"])
	directory := kind == "local" || err == nil && !is
	if directory { // the client knows where
		fields = append(fields, "dest=.")
	}
	for k, v := range e.Attrs {
		switch key := strings.ToLower(strings.TrimSpace(k)); { // as the attributes of outputs are read
		case key == "dest", k == "prefer-image-digest", k == "dangling-name-prefix", k == "context", v == "" && k == "name", k == "mode" && kind == "local":
			continue
		case key == "type" || key == "" || strings.Contains(k, "="):
			return forge.Output{}, fmt.Errorf("exporter %s: there is no attribute %q", e.Type, k)
		}
		fields = append(fields, k+"="+v)
	}
	out, err := forge.ParseOutput(words.JoinFields(fields), nil)
	if err == nil && out.Attrs["special"] == "true" {
		err = errors.New("special=true: device nodes, set-uid and set-gid bits are not sent to clients: use type=tar, or forge build -o type=local")
	}
	if directory {
		out.Dest = ""
	}
	return out, err
}

// A fileSink sends a file to the client. The client makes it when the first bytes come.
type fileSink struct {
	start func() *grpc.Call
	call  *grpc.Call
}

// Write implements io.Writer.
func (f *fileSink) Write(p []byte) (written int, err error) {
	if f.call == nil {
		f.call = f.start()
	}
	for len(p) > 0 {
		n := min(len(p), 1<<20)
		if err := f.call.Send(&bytesMessage{Data: p[:n]}); err != nil {
			return written, f.ended(err)
		}
		written, p = written+n, p[n:]
	}
	return written, nil
}

// ended is why the client takes no more.
func (f *fileSink) ended(err error) error {
	if err != io.EOF {
		return err
	}
	if err = f.call.Recv(&bytesMessage{}); err == io.EOF || err == nil {
		err = io.ErrUnexpectedEOF
	}
	return err
}

// abort breaks the file off: the client does not take it for a whole one.
func (f *fileSink) abort() {
	if f.call != nil {
		f.call.Close()
	}
}

// close ends the file, and waits until the client has it.
func (f *fileSink) close() error {
	if f.call == nil {
		return nil
	}
	defer f.call.Close()
	if err := f.call.CloseSend(); err != nil {
		return err
	}
	for {
		switch err := f.call.Recv(&bytesMessage{}); {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("file of the client: %w", err)
		}
	}
}

// A treeSender sends a tree to the client, which says which files it wants.
type treeSender struct {
	call *grpc.Call
	tree forge.FileTree

	sending sync.Mutex // held while something is sent
	mu      sync.Mutex // guards what is below
	files   []string   // by their number; "" is no file
	inodes  map[uint64]string
}

// sendTree sends a tree beneath a directory of the client's destination; "" is the destination itself.
func sendTree(ctx context.Context, call *grpc.Call, dir string, tree forge.FileTree) error {
	defer call.Close()
	s := &treeSender{call: call, tree: tree, inodes: map[uint64]string{}}
	listed := make(chan error, 1)
	go func() {
		err := s.list(ctx, dir)
		if err == nil {
			err = s.send(&packet{Type: packetStat})
		}
		if err != nil && err != io.EOF {
			_ = s.send(&packet{Type: packetErr, Data: []byte(err.Error())})
			call.Close() // the client may wait for more
		}
		listed <- err
	}()
	err := s.answer()
	if err != nil {
		call.Close() // the client may take no more of the list
	}
	if listErr := <-listed; listErr != nil && listErr != io.EOF {
		err = listErr
	}
	return err
}

// answer sends the files that the client asks for, until it wants no more.
func (s *treeSender) answer() error {
	for {
		var p packet
		switch err := s.call.Recv(&p); {
		case err == io.EOF:
			return nil
		case err != nil:
			return fmt.Errorf("files of the client: %w", err)
		}
		switch p.Type {
		case packetErr:
			return fmt.Errorf("files of the client: %s", p.Data)
		case packetReq:
			if err := s.file(p.ID); err != nil {
				return err
			}
		case packetFin:
			if err := s.send(&packet{Type: packetFin}); err != nil {
				return err
			}
			_ = s.call.CloseSend()
		}
	}
}

func (s *treeSender) send(p *packet) error {
	s.sending.Lock()
	defer s.sending.Unlock()
	return s.call.Send(p)
}

// list describes the tree: directories before what is in them, names in order.
func (s *treeSender) list(ctx context.Context, dir string) error {
	top := forge.FileEntry{Mode: syscall.S_IFDIR | 0o755}
	for i, c := range dir + "/" {
		if c == '/' && i > 0 {
			if err := s.stat(dir[:i], "", &top); err != nil {
				return err
			}
		}
	}
	return s.listDir(ctx, dir, ".")
}

func (s *treeSender) listDir(ctx context.Context, to, from string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	return s.tree.List(from, func(e *forge.FileEntry, _ *[32]byte) error {
		name, at := path.Join(from, e.Name), path.Join(to, e.Name)
		if err := s.stat(at, name, e); err != nil || e.Mode&syscall.S_IFMT != syscall.S_IFDIR {
			return err
		}
		return s.listDir(ctx, at, name)
	})
}

// stat describes a file that the client is to have at a path.
func (s *treeSender) stat(at, name string, e *forge.FileEntry) error {
	st := &stat{Path: at, Mode: modeOf(e.Mode), UID: e.UID, GID: e.GID, Size: e.Size, ModTime: e.ModTime.UnixNano(), Linkname: e.Link}
	for k, v := range e.Xattrs {
		if st.Xattrs == nil {
			st.Xattrs = map[string][]byte{}
		}
		st.Xattrs[k] = []byte(v)
	}
	s.mu.Lock()
	file := ""
	switch e.Mode & syscall.S_IFMT {
	case syscall.S_IFREG:
		file = name
		if first := s.inodes[e.Inode]; e.Nlink > 1 && first != "" {
			st.Linkname = first
		} else {
			s.inodes[e.Inode] = at
		}
	case syscall.S_IFDIR:
		st.Size = 0
	}
	s.files = append(s.files, file)
	s.mu.Unlock()
	return s.send(&packet{Type: packetStat, Stat: st})
}

// file sends a file.
func (s *treeSender) file(id uint32) error {
	s.mu.Lock()
	name := ""
	if int(id) < len(s.files) {
		name = s.files[id]
	}
	s.mu.Unlock()
	if name == "" {
		return fmt.Errorf("the client asks for file %d, which is none", id)
	}
	f, err := s.tree.Open(name)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // read only
	buf := make([]byte, maxChunk)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			if err := s.send(&packet{Type: packetData, ID: id, Data: buf[:n]}); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return s.send(&packet{Type: packetData, ID: id})
		}
		if err != nil {
			return err
		}
	}
}
