package layertar

import (
	"encoding/binary"
	"errors"
	"fmt"
	"sort"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/forge-build/forge/snapshot/filetree"
)

// Block is what all parts of a tar are a multiple of.
const Block = 512

// Padded is the size of a content with what fills its last block.
func Padded(size int64) int64 { return (size + Block - 1) &^ (Block - 1) }

// Types of a tar entry, as in POSIX's pax.
const (
	Regular     = '0'
	HardLink    = '1'
	Symlink     = '2'
	CharDevice  = '3'
	BlockDevice = '4'
	Directory   = '5'
	FIFO        = '6'
	typePAX     = 'x'
)

const (
	WhiteoutPrefix = filetree.WhiteoutPrefix
	WhiteoutOpaque = ".wh..wh..opq"
)

// AppendHeader renders the header of an entry: USTAR, with a PAX header before it for what USTAR cannot say. A target
// makes it a hard link. Headers depend on nothing but the entry, so that equal layers are equal bytes.
func AppendHeader(b []byte, path string, e *filetree.Entry, target string) ([]byte, error) {
	h := ustar{name: path, link: e.Link, size: e.Size}
	switch e.Mode & unix.S_IFMT {
	case unix.S_IFREG:
		h.kind = Regular
	case unix.S_IFDIR:
		h.kind = Directory
		h.name += "/"
	case unix.S_IFLNK:
		h.kind = Symlink
	case unix.S_IFCHR:
		h.kind = CharDevice
	case unix.S_IFBLK:
		h.kind = BlockDevice
	case unix.S_IFIFO:
		h.kind = FIFO
	default:
		return nil, fmt.Errorf("mode %#o is of no type that a tar can hold", e.Mode)
	}
	if target != "" {
		h.kind, h.link = HardLink, target
	}
	if h.kind != Regular {
		h.size = 0
	}
	if strings.Contains(path, "\x00") || strings.Contains(h.link, "\x00") {
		return nil, errors.New("name with a zero byte")
	}
	records, err := h.records(e)
	if err != nil {
		return nil, err
	}
	if len(records) > 0 {
		x := ustar{name: "PaxHeader", kind: typePAX, size: int64(len(records))}
		b = x.append(b, &filetree.Entry{Mode: 0o644})
		b = append(b, records...)
		b = append(b, make([]byte, -len(records)&(Block-1))...)
	}
	return h.append(b, e), nil
}

// A ustar is what an entry's header says besides its metadata.
type ustar struct {
	name, link string
	kind       byte
	size       int64
}

// records are the PAX records of what USTAR cannot say, sorted by key.
func (h *ustar) records(e *filetree.Entry) ([]byte, error) {
	var b []byte
	if len(e.Xattrs) > 0 && h.kind != HardLink && filetree.HasXattrs(e.Mode) {
		names := make([]string, 0, len(e.Xattrs))
		for name := range e.Xattrs {
			if !filetree.KeepXattr(name) {
				continue
			}
			if strings.ContainsAny(name, "=\x00") {
				return nil, fmt.Errorf("extended attribute %q: a tar cannot hold the name", name)
			}
			names = append(names, name)
		}
		sort.Strings(names)
		for _, name := range names {
			b = appendRecord(b, "SCHILY.xattr."+name, e.Xattrs[name])
		}
	}
	if e.GID > maxOctal7 {
		b = appendRecord(b, "gid", strconv.FormatUint(uint64(e.GID), 10))
	}
	if len(h.link) > 100 {
		b = appendRecord(b, "linkpath", h.link)
	}
	if sec, nsec := e.UnixTime(); nsec != 0 || sec < 0 || sec > maxOctal11 {
		b = appendRecord(b, "mtime", formatTime(sec, nsec))
	}
	if _, _, ok := splitUSTAR(h.name); !ok {
		b = appendRecord(b, "path", h.name)
	}
	if h.size > maxOctal11 {
		b = appendRecord(b, "size", strconv.FormatInt(h.size, 10))
	}
	if e.UID > maxOctal7 {
		b = appendRecord(b, "uid", strconv.FormatUint(uint64(e.UID), 10))
	}
	return b, nil
}

const (
	maxOctal7  = 1<<21 - 1
	maxOctal11 = 1<<33 - 1
)

// append renders one header block. Numbers that are too big for it are in PAX records, and zero here.
func (h *ustar) append(b []byte, e *filetree.Entry) []byte {
	at := len(b)
	b = append(b, make([]byte, Block)...)
	r := b[at:]
	prefix, name, ok := splitUSTAR(h.name)
	if !ok {
		prefix, name = "", h.name[:100]
	}
	copy(r[0:100], name)
	putOctal(r[100:108], uint64(e.Mode&filetree.ModePerm))
	putOctal(r[108:116], uint64(e.UID))
	putOctal(r[116:124], uint64(e.GID))
	putOctal(r[124:136], uint64(h.size))
	sec, _ := e.UnixTime()
	putOctal(r[136:148], uint64(max(sec, 0)))
	r[156] = h.kind
	copy(r[157:257], h.link)
	copy(r[257:265], "ustar\x0000")
	if h.kind == CharDevice || h.kind == BlockDevice {
		putOctal(r[329:337], uint64(unix.Major(e.Rdev)))
		putOctal(r[337:345], uint64(unix.Minor(e.Rdev)))
	}
	copy(r[345:500], prefix)

	copy(r[148:156], "        ")
	putOctal(r[148:155], sumBytes(r))
	return b
}

// sumBytes adds up the bytes of a block, eight at a time: in four numbers of 16 bits, which is enough for those of a block.
func sumBytes(block []byte) uint64 {
	const every2nd = 0x00ff00ff00ff00ff
	sums := uint64(0)
	for ; len(block) > 0; block = block[8:] {
		eight := binary.LittleEndian.Uint64(block)
		sums += eight&every2nd + eight>>8&every2nd
	}
	return sums&0xffff + sums>>16&0xffff + sums>>32&0xffff + sums>>48
}

// putOctal fills a field but for a zero at its end.
func putOctal(field []byte, n uint64) {
	digits := len(field) - 1
	if n >= 1<<(3*digits) {
		n = 0
	}
	field[digits] = 0
	for i := digits - 1; i >= 0; i-- {
		field[i] = '0' + byte(n&7)
		n >>= 3
	}
}

// splitUSTAR splits a name for the fields prefix and name, at a slash.
func splitUSTAR(path string) (prefix, name string, ok bool) {
	if len(path) <= 100 {
		return "", path, true
	}
	// The slash between the fields is not written; the one that ends a directory's name has to be.
	from := len(path) - 101
	i := strings.IndexByte(path[from:len(path)-1], '/')
	if i < 0 || from+i > 155 || from+i == 0 {
		return "", "", false
	}
	return path[:from+i], path[from+i+1:], true
}

// appendRecord renders "length key=value\n", where the length counts itself.
func appendRecord(b []byte, key, value string) []byte {
	rest := len(key) + len(value) + 3
	n := rest + len(strconv.Itoa(rest))
	if len(strconv.Itoa(n)) > len(strconv.Itoa(rest)) {
		n++
	}
	b = strconv.AppendInt(b, int64(n), 10)
	b = append(b, ' ')
	b = append(b, key...)
	b = append(b, '=')
	b = append(b, value...)
	return append(b, '\n')
}

// formatTime writes seconds with as many decimals as it takes; the fraction of a negative time counts away from zero.
func formatTime(sec int64, nsec uint32) string {
	sign := ""
	if sec < 0 {
		sign = "-"
		if sec = -sec; nsec > 0 {
			sec, nsec = sec-1, 1e9-nsec
		}
	}
	s := sign + strconv.FormatInt(sec, 10)
	if nsec == 0 {
		return s
	}
	frac := strconv.FormatUint(1e9+uint64(nsec), 10)[1:]
	return s + "." + strings.TrimRight(frac, "0")
}
