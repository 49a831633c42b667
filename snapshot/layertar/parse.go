// Package layertar reads and writes the tars of layers: USTAR with PAX headers, as forge writes them, and all that other
// builders and GNU tar write, sparse files too. Headers are parsed without contents; contents are written behind the caller's back.
package layertar

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

// maxPAX is how long the block of PAX records of one entry may be.
const maxPAX = 1 << 20

// ErrTar says that something is not a tar.
var ErrTar = errors.New("not a valid tar")

// A Parser reads the headers of a tar that comes from outside. It asks for bytes and is given them, so that it works
// on a stream and on a file alike, and never sees contents.
type Parser struct {
	Off  int64 // where the next bytes are needed
	Need int   // how many; 0 after the end of the tar

	step  func(b []byte) error
	entry func(t *Header) error

	zeros              int  // zero blocks seen
	pending            bool // a header that belongs to the next entry was read
	pax                paxRecords
	longName, longLink string

	cur    Header
	sparse sparseReader
}

// A Header is what the headers of one entry say.
type Header struct {
	filetree.Entry // without a name, and without the type in its mode

	Path   string            // as written
	Kind   byte              // as written, but for what is a regular file or a directory
	Target string            // of a link, as written
	Offset int64             // of the data in the tar
	Sparse []filetree.Extent // of a file with holes: where in the file each piece of data belongs; else nil

	stored int64 // bytes of data in the tar
}

// NewParser begins to read a tar. entry gets the headers one after the other; it may not keep them.
func NewParser(entry func(t *Header) error) *Parser {
	p := &Parser{entry: entry}
	p.want(0, Block, p.headerBlock)
	return p
}

// want asks for bytes.
func (p *Parser) want(off int64, n int, step func(b []byte) error) {
	p.Off, p.Need, p.step = off, n, step
}

// Take gives the bytes that were asked for.
func (p *Parser) Take(b []byte) error {
	at := p.Off
	if err := p.step(b); err != nil {
		return fmt.Errorf("tar: at byte %d: %w", at, err)
	}
	return nil
}

// Finish is told that the tar has so many bytes.
func (p *Parser) Finish(size int64) error {
	if p.Need == 0 {
		return nil
	}
	// Some writers leave the zero blocks away. A last block that is not whole could not be mounted.
	if p.pending || size != p.Off {
		return fmt.Errorf("tar: at byte %d: %w", size, io.ErrUnexpectedEOF)
	}
	return nil
}

// headerBlock reads a block that begins an entry, or ends the tar.
func (p *Parser) headerBlock(b []byte) error {
	if isZero(b) {
		if p.zeros++; p.zeros == 2 {
			p.Need = 0
			return nil
		}
		if p.pending {
			return fmt.Errorf("%w: an entry without its header", ErrTar)
		}
		p.want(p.Off+Block, Block, p.headerBlock)
		return nil
	}
	if p.zeros > 0 || !checksumOK(b) {
		return fmt.Errorf("%w: header checksum", ErrTar)
	}
	h := block(b)
	kind := h[156]
	body := p.Off + Block
	switch kind {
	case 'x', 'g', 'L', 'K':
		size, err := h.number(124, 136)
		if err != nil {
			return err
		}
		limit := int64(maxPAX)
		if kind == 'L' || kind == 'K' {
			limit = filetree.MaxPath + 1
		}
		if size < 0 || size > limit {
			return fmt.Errorf("header of type %c with %d bytes", kind, size)
		}
		if p.pending = true; kind == 'g' {
			p.pending = false
		}
		next := body + Padded(size)
		if size == 0 {
			p.want(next, Block, p.headerBlock)
			return p.extension(kind, nil)
		}
		p.want(body, int(size), func(b []byte) error {
			p.want(next, Block, p.headerBlock)
			return p.extension(kind, b)
		})
		return nil
	}
	return p.file(h, body)
}

// extension reads what belongs to the next entry, or, globally, to none that matters.
func (p *Parser) extension(kind byte, b []byte) (err error) {
	switch kind {
	case 'x':
		p.pax, err = parsePAX(b)
	case 'L':
		p.longName = cString(b)
	case 'K':
		p.longLink = cString(b)
	}
	return err
}

// file reads the header of a file.
func (p *Parser) file(h block, body int64) error {
	t, err := p.merge(h)
	if err != nil {
		return err
	}
	p.cur = t
	t.Offset = body
	switch {
	case t.Kind == 'S':
		return p.sparse.old(p, h, &t)
	case p.pax.sparse():
		return p.sparse.pax(p, &t)
	}
	return p.done(&t)
}

// done hands the entry on and asks for the next header.
func (p *Parser) done(t *Header) error {
	next := t.Offset + Padded(t.stored)
	if next < t.Offset || next > math.MaxInt64/2 {
		return fmt.Errorf("%w: entry of %d bytes", ErrTar, t.stored)
	}
	p.want(next, Block, p.headerBlock)
	p.pax, p.longName, p.longLink, p.pending = paxRecords{}, "", "", false
	if err := p.entry(t); err != nil {
		return fmt.Errorf("entry %.100q: %w", t.Path, err)
	}
	return nil
}

// merge takes an entry from its header and from what came before it, which wins.
func (p *Parser) merge(h block) (t Header, err error) {
	n := numbers{block: h}
	t.Kind = h[156]
	t.Mode = uint32(n.read(100, 108, "", math.MaxInt64)) & filetree.ModePerm
	t.UID = uint32(n.read(108, 116, p.pax.uid, math.MaxUint32-1))
	t.GID = uint32(n.read(116, 124, p.pax.gid, math.MaxUint32-1))
	t.stored = n.read(124, 136, p.pax.size, math.MaxInt64/2)
	t.ModTime = n.time(136, 148, p.pax.mtime)
	if (t.Kind == CharDevice || t.Kind == BlockDevice) && h.format() != formatV7 {
		major, minor := n.read(329, 337, "", math.MaxUint32), n.read(337, 345, "", math.MaxUint32)
		t.Rdev = unix.Mkdev(uint32(major), uint32(minor))
	}
	name, target := h.names()
	t.Path, t.Target = cmp.Or(p.longName, p.pax.path, name), cmp.Or(p.longLink, p.pax.linkpath, target)
	t.Xattrs = p.pax.xattrs
	switch t.Kind {
	case Regular, 0, '7':
		if t.Kind = Regular; strings.HasSuffix(t.Path, "/") {
			t.Kind, t.stored = Directory, 0
		}
	case 'S':
	default:
		t.stored = 0 // types that have no data, whatever they say
	}
	t.Size = t.stored
	return t, n.err
}

// numbers reads the numbers of a header. The first error stays.
type numbers struct {
	block
	err error
}

// read reads a field, or the record that replaces it; the number is not negative and at most most.
func (n *numbers) read(from, to int, record string, most int64) int64 {
	v, err := n.number(from, to)
	if err == nil && record != "" {
		v, err = strconv.ParseInt(record, 10, 64)
	}
	if err == nil && (v < 0 || v > most) {
		err = fmt.Errorf("number %d is out of range", v)
	}
	if err != nil {
		n.fail(fmt.Errorf("%w: %w", ErrTar, err))
	}
	return v
}

// time reads a field of seconds, or the record that replaces it.
func (n *numbers) time(from, to int, record string) time.Time {
	sec, err := n.number(from, to)
	if err != nil {
		n.fail(fmt.Errorf("%w: %w", ErrTar, err))
	}
	if record == "" {
		return time.Unix(sec, 0)
	}
	t, err := parseTime(record)
	n.fail(err)
	return t
}

func (n *numbers) fail(err error) {
	if n.err == nil {
		n.err = err
	}
}

func isZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// checksumOK checks the sum of a header's bytes. Some old writers took them as signed.
func checksumOK(b []byte) bool {
	want, err := block(b).number(148, 156)
	if err != nil {
		return false
	}
	var unsigned, signed int64
	for i, c := range b {
		if i >= 148 && i < 156 {
			c = ' '
		}
		unsigned += int64(c)
		signed += int64(int8(c))
	}
	return want == unsigned || want == signed
}

// A block is a header block.
type block []byte

type format int

const (
	formatV7 format = iota
	formatUSTAR
	formatSTAR
	formatGNU
)

func (h block) format() format {
	switch {
	case string(h[257:265]) == "ustar  \x00":
		return formatGNU
	case string(h[257:263]) == "ustar\x00" && string(h[508:512]) == "tar\x00":
		return formatSTAR
	case string(h[257:263]) == "ustar\x00":
		return formatUSTAR
	}
	return formatV7
}

// names returns the fields of name and link.
func (h block) names() (name, link string) {
	name, link = cString(h[0:100]), cString(h[157:257])
	prefix := ""
	switch h.format() {
	case formatUSTAR:
		prefix = cString(h[345:500])
	case formatSTAR:
		prefix = cString(h[345:476])
	}
	if prefix != "" {
		name = prefix + "/" + name
	}
	return name, link
}

func cString(b []byte) string {
	if i := bytes.IndexByte(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// number reads a field: octal digits among blanks and zeros, or, after a high bit, a big-endian number.
func (h block) number(from, to int) (int64, error) {
	b := h[from:to]
	if b[0]&0x80 == 0 {
		s := cString(bytes.Trim(b, " \x00"))
		if s == "" {
			return 0, nil
		}
		n, err := strconv.ParseInt(s, 8, 64)
		if err != nil {
			return 0, fmt.Errorf("%w: number %q", ErrTar, b)
		}
		return n, nil
	}
	n := int64(int8(b[0]<<1)) >> 1 // the sign is the bit below the mark
	for _, c := range b[1:] {
		if n > math.MaxInt64>>8 || n < math.MinInt64>>8 {
			return 0, fmt.Errorf("%w: number % x", ErrTar, b)
		}
		n = n<<8 | int64(c)
	}
	return n, nil
}
