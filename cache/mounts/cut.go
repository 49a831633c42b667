package mounts

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"github.com/forge-build/forge/cache/chunk"
	"github.com/forge-build/forge/snapshot"
	"github.com/forge-build/forge/snapshot/filetree"
	"github.com/forge-build/forge/snapshot/layertar"
)

// A tarCutter cuts the tar of a directory into chunks. It reads the files that the chunks need which it does not know from a [Memory], and
// at most as much behind them as a chunk is long.
type tarCutter struct {
	tree   filetree.Tree
	memory *Memory
	next   *memoryWriter                  // what will be remembered of this tar
	keep   func(s sum, size int64) bool   // takes a chunk without its bytes, if it can
	add    func(s sum, data []byte) error // takes a chunk

	cut   *chunk.Cutter
	parts []tarPart // those that are not all before pos
	pos   int64     // in the tar: where the next chunk begins
	end   int64     // of all parts so far

	room []byte // what buf is in
	buf  []byte // what is read, from pos on
	file filetree.File
	open int64 // where the part begins whose file is open
}

// A tarPart is the header of an entry and the content of its file, padded.
type tarPart struct {
	at, end int64 // in the tar
	was     int64 // where the same bytes began in the tar of the memory; -1 if they may be others
	header  []byte
	path    string
	size    int64 // of the content
}

func newTarCutter(tree filetree.Tree, memory *Memory, next *memoryWriter) *tarCutter {
	return &tarCutter{tree: tree, memory: memory, next: next, cut: chunk.New(chunk.Average, 0), open: -1}
}

// run cuts all of the directory.
func (c *tarCutter) run(ctx context.Context) (err error) {
	defer func() {
		if c.file != nil {
			err = errors.Join(err, c.file.Close())
		}
	}()
	err = snapshot.ExportParts(ctx, c.tree, c.part)
	for err == nil && c.pos < c.end {
		err = c.step()
	}
	return err
}

// part takes the next part of the tar.
func (c *tarCutter) part(path string, e *snapshot.Entry, header []byte, content int64) error {
	p := tarPart{at: c.end, path: path, size: content, header: append([]byte(nil), header...)}
	p.end = p.at + int64(len(header)) + layertar.Padded(content)
	key := partKey(header)
	p.was = c.memory.find(key, e, content)
	c.next.part(key, e, content, p.at)
	c.parts = append(c.parts, p)
	c.end = p.end
	for c.end-c.pos >= chunk.MaxSize+chunk.Ahead {
		if err := c.step(); err != nil {
			return err
		}
	}
	return nil
}

// step takes the next chunk.
func (c *tarCutter) step() error {
	if s, size := c.remembered(); size > 0 && c.keep(s, size) {
		c.drop(size)
		c.next.chunk(s, size)
		return nil
	}
	if err := c.read(min(c.end, c.pos+chunk.MaxSize)); err != nil {
		return err
	}
	data := c.buf[:c.cut.Cut(c.buf)]
	s := sha256.Sum256(data)
	c.next.chunk(s, int64(len(data)))
	err := c.add(s, data)
	c.drop(int64(len(data)))
	return err
}

// remembered is the chunk that begins here, if that can be known without reading it: a chunk began at these bytes in the tar of the memory, and
// all that decides where it ends is as it was there.
func (c *tarCutter) remembered() (s sum, size int64) {
	p := &c.parts[0]
	if p.was < 0 {
		return s, 0
	}
	was := p.was + c.pos - p.at
	s, size = c.memory.chunk(was)
	if size == 0 {
		return s, 0
	}
	for i := range c.parts {
		p := &c.parts[i]
		if p.was < 0 || p.was-p.at != was-c.pos {
			return s, 0
		}
		if p.end >= c.pos+size+chunk.Ahead {
			return s, size
		}
	}
	return s, 0
}

// drop leaves n bytes behind.
func (c *tarCutter) drop(n int64) {
	c.pos += n
	c.buf = c.buf[min(n, int64(len(c.buf))):]
	gone := 0
	for gone < len(c.parts) && c.parts[gone].end <= c.pos {
		gone++
	}
	c.parts = c.parts[gone:]
}

// read reads up to an offset of the tar.
func (c *tarCutter) read(to int64) error {
	if c.room == nil {
		c.room = make([]byte, 4*chunk.MaxSize)
	}
	if int64(cap(c.buf)) < to-c.pos { // seldom, in a room of many chunks
		c.buf = c.room[:copy(c.room, c.buf)]
	}
	at := c.pos + int64(len(c.buf))
	for i := range c.parts {
		p := &c.parts[i]
		if at >= to {
			break
		}
		if p.end <= at {
			continue
		}
		n := min(to, p.end) - at
		b := c.buf[len(c.buf) : len(c.buf)+int(n)]
		if err := c.readPart(p, b, at-p.at); err != nil {
			return fmt.Errorf("%s: %w", p.path, err)
		}
		c.buf = c.buf[:len(c.buf)+int(n)]
		at += n
	}
	return nil
}

// readPart reads of a part what is at an offset of it.
func (c *tarCutter) readPart(p *tarPart, b []byte, offset int64) error {
	if head := int64(len(p.header)); offset < head {
		n := copy(b, p.header[offset:])
		b, offset = b[n:], head
	}
	offset -= int64(len(p.header))
	content := b[:max(min(int64(len(b)), p.size-offset), 0)]
	clear(b[len(content):])
	if len(content) == 0 {
		return nil
	}
	if c.open != p.at {
		if c.file != nil {
			if err := c.file.Close(); err != nil {
				return err
			}
		}
		var err error
		if c.file, err = c.tree.Open(p.path); err != nil {
			return err
		}
		c.open = p.at
	}
	if n, err := c.file.ReadAt(content, offset); n < len(content) {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return fmt.Errorf("has %d of its %d bytes: %w", offset+int64(n), p.size, err)
	}
	return nil
}
