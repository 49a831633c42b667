package layertar

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/image"
	"github.com/forge-build/forge/snapshot/filetree"
)

const (
	pipeBatch = 512 << 10 // bytes that are rendered in one go
	pipeWhole = 256 << 10 // contents up to this size are rendered into a batch
	pipeDepth = 5         // batches on their way
)

// A Writer writes the tar of a layer. What is added is collected in batches; several are rendered (files opened and read) at a time,
// one goroutine writes them in order, another hashes what is written. Nothing starts before the first batch is full: a
// small layer is rendered, and stays, in memory. Not safe for concurrent use.
type Writer struct {
	ctx     context.Context
	staging *image.Staging
	header  []byte // reused
	size    int64  // of what was added

	cur   *batch
	free  chan *batch
	queue chan *batch   // nil until the first batch is full
	done  chan struct{} // closed when all is written and hashed

	mu  sync.Mutex
	err error // the first one

	file *image.StagedFile // of the writer until done
	hash hash.Hash         // of the hasher until done
}

// A batch is a stretch of a tar.
type batch struct {
	buf    []byte
	parts  []part
	stream part // follows buf; size 0: nothing
	ready  chan struct{}
	err    error
}

// A part is the content of one file, at an offset of a batch's buffer.
type part struct {
	path string
	at   int
	size int64
	open func() (io.ReadCloser, error)
}

// NewWriter begins a tar, whose file will be staged. The context ends the work.
func NewWriter(ctx context.Context, staging *image.Staging) *Writer {
	p := &Writer{ctx: ctx, staging: staging, cur: new(batch), free: make(chan *batch, pipeDepth), hash: sha256.New()}
	for range pipeDepth - 1 {
		p.free <- new(batch)
	}
	return p
}

// Add writes the entry at path, or a hard link of target if that is not empty, and returns where in the tar its content
// begins. open is called once, later, in another goroutine, and only for regular files with a size; it must give at least
// e.Size bytes, and what it gives beyond is left out. An error of reading comes with a later call, Finish at the latest.
func (p *Writer) Add(path string, e *filetree.Entry, target string, open func() (io.ReadCloser, error)) (int64, error) {
	var err error
	if p.header, err = AppendHeader(p.header[:0], path, e, target); err != nil {
		return 0, err
	}
	p.size += int64(len(p.header))
	offset := p.size
	if e.Mode&unix.S_IFMT != unix.S_IFREG || target != "" {
		return offset, p.append(p.header, path, 0, nil)
	}
	p.size += Padded(e.Size)
	return offset, p.append(p.header, path, e.Size, open)
}

// append appends a header and the content that belongs to it, padded.
func (p *Writer) append(header []byte, path string, size int64, open func() (io.ReadCloser, error)) error {
	need := len(header)
	if size <= pipeWhole {
		need += int(Padded(size))
	}
	if len(p.cur.buf) > 0 && len(p.cur.buf)+need > pipeBatch {
		if err := p.dispatch(); err != nil {
			return err
		}
	}
	b := p.cur
	b.buf = append(b.buf, header...)
	part := part{path: path, at: len(b.buf), size: size, open: open}
	switch {
	case size == 0:
	case size <= pipeWhole:
		b.parts = append(b.parts, part)
		b.buf = slices.Grow(b.buf, int(Padded(size)))[:part.at+int(Padded(size))]
		clear(b.buf[part.at+int(size):]) // the content comes into the rest
	default:
		b.stream = part
		return p.dispatch()
	}
	return nil
}

// dispatch has the current batch rendered and written, and begins another.
func (p *Writer) dispatch() error {
	if p.queue == nil {
		p.queue, p.done = make(chan *batch, pipeDepth), make(chan struct{})
		go p.write(p.queue)
	}
	b := p.cur
	b.ready = make(chan struct{})
	go func() {
		defer close(b.ready)
		b.err = b.render(p.ctx)
	}()
	p.queue <- b
	p.cur = <-p.free
	return p.failure()
}

// render reads the contents into the buffer.
func (b *batch) render(ctx context.Context) error {
	for _, part := range b.parts {
		if err := ctx.Err(); err != nil {
			return err
		}
		if err := part.read(func(r io.Reader) error {
			_, err := io.ReadFull(r, b.buf[part.at:part.at+int(part.size)])
			return err
		}); err != nil {
			return err
		}
	}
	return nil
}

// read opens the content and hands it on.
func (t *part) read(use func(r io.Reader) error) (err error) {
	r, err := t.open()
	if err != nil {
		return err
	}
	err = use(r)
	if err == io.EOF || err == io.ErrUnexpectedEOF {
		err = fmt.Errorf("%s: has less than its %d bytes: it was changed while it was read", t.path, t.size)
	}
	return errors.Join(err, r.Close())
}

// A hashJob is a buffer to be hashed and then given back.
type hashJob struct {
	buf  []byte
	back func()
}

// write writes batches in order. After an error it only takes them.
func (p *Writer) write(queue <-chan *batch) {
	jobs, hashed := make(chan hashJob, 2), make(chan struct{})
	go func() {
		defer close(hashed)
		for j := range jobs {
			p.hash.Write(j.buf)
			j.back()
		}
	}()
	defer close(p.done)
	defer func() { <-hashed }()
	defer close(jobs)
	streams := make(chan []byte, 2) // buffers for contents that are not rendered whole
	for range cap(streams) {
		streams <- nil
	}
	for b := range queue {
		<-b.ready
		recycle := func() {
			*b = batch{buf: b.buf[:0], parts: b.parts[:0]}
			p.free <- b
		}
		if p.failure() != nil || p.fail(b.err) || p.fail(p.put(b.buf)) {
			recycle()
			continue
		}
		stream := b.stream
		jobs <- hashJob{b.buf, recycle}
		if stream.size > 0 {
			p.fail(stream.read(func(r io.Reader) error { return p.copy(r, stream.size, jobs, streams) }))
		}
	}
}

// copy writes size bytes of r, and the padding.
func (p *Writer) copy(r io.Reader, size int64, jobs chan<- hashJob, streams chan []byte) error {
	for size > 0 {
		if err := p.ctx.Err(); err != nil {
			return err
		}
		buf := <-streams
		if buf == nil {
			buf = make([]byte, pipeBatch)
		}
		n := min(size, int64(len(buf)))
		_, err := io.ReadFull(r, buf[:n])
		if size -= n; size == 0 {
			end := Padded(n)
			clear(buf[n:end])
			n = end
		}
		if err == nil {
			err = p.put(buf[:n])
		}
		if err != nil {
			streams <- buf
			return err
		}
		jobs <- hashJob{buf[:n], func() { streams <- buf }}
	}
	return nil
}

// put writes to the file, making it first if need be.
func (p *Writer) put(b []byte) (err error) {
	if p.file == nil {
		if p.file, err = p.staging.Create(); err != nil {
			return err
		}
	}
	// A sparse file stays one in the tar. What ends the tar is shorter than this, so that it ends with what is written.
	if len(b) >= pipeWhole && b[0] == 0 && bytes.Equal(b[1:], b[:len(b)-1]) {
		_, err = p.file.Seek(int64(len(b)), io.SeekCurrent)
		return err
	}
	_, err = p.file.Write(b)
	return err
}

// fail remembers the first error, and reports whether there was one.
func (p *Writer) fail(err error) bool {
	if err == nil {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err = err
	}
	return true
}

func (p *Writer) failure() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// Finish ends the tar and returns its file, not yet committed; nil if it is small enough for Small to have it.
func (p *Writer) Finish() (file *image.StagedFile, sum [sha256.Size]byte, err error) {
	p.size += 2 * Block
	p.cur.buf = append(p.cur.buf, make([]byte, 2*Block)...)
	if p.queue == nil {
		if err := p.cur.render(p.ctx); err != nil {
			return nil, sum, err
		}
		return nil, sha256.Sum256(p.cur.buf), nil
	}
	if err := p.dispatch(); err != nil {
		return nil, sum, err
	}
	p.stop()
	p.hash.Sum(sum[:0])
	return p.file, sum, p.failure()
}

// Size is that of the tar.
func (p *Writer) Size() int64 { return p.size }

// Small is a tar for which Finish gave no file.
func (p *Writer) Small() []byte { return p.cur.buf }

// stop waits until all is written.
func (p *Writer) stop() {
	if p.queue != nil {
		close(p.queue)
		p.queue = nil
		<-p.done
	}
}

// Close discards the file unless it was committed.
func (p *Writer) Close() error {
	p.fail(errors.New("layer is closed"))
	p.stop()
	if p.file == nil {
		return nil
	}
	return p.file.Close()
}
