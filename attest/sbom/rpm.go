package sbom

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"
)

// Tags of an rpm header (rpm's include/rpm/rpmtag.h) and types of their values.
const (
	rpmName    = 1000
	rpmVersion = 1001
	rpmRelease = 1002
	rpmEpoch   = 1003
	rpmLicense = 1014
	rpmArch    = 1022

	rpmInt32  = 4
	rpmString = 6
)

// maxHeader bounds an rpm header, in bytes: rpm's own limit is 256 MiB, and the largest packages have some.
const maxHeader = 64 << 20

// Limits of what is read of a header: of one text, a license at most, in bytes, and how many of them, as what is said later replaces
// what was said before.
const (
	maxValue  = 64 << 10
	maxValues = 100
)

// errTwice means that parts of a database lie over each other: what is read is longer than what is there.
var errTwice = errors.New("is damaged: it names the same bytes twice")

// rpmHeader notes the package that a header describes (rpm's docs/manual/format_header.md): the counts of entries and of bytes, the
// entries, the data, all big-endian.
func (s *scan) rpmHeader(name string, data []byte) error {
	if len(data) < 8 {
		return errTooShort
	}
	count := binary.BigEndian.Uint32(data)
	if uint64(count)*16+8 > uint64(len(data)) {
		return errTooShort
	}
	entries, store := data[8:8+count*16], data[8+count*16:]
	values, said := map[uint32]string{}, 0
	for ; len(entries) > 0; entries = entries[16:] {
		tag, kind, at := binary.BigEndian.Uint32(entries), binary.BigEndian.Uint32(entries[4:]), binary.BigEndian.Uint32(entries[8:])
		switch tag {
		case rpmName, rpmVersion, rpmRelease, rpmEpoch, rpmLicense, rpmArch:
			if said++; said > maxValues {
				return errTwice
			}
			value, err := rpmValue(store, kind, at)
			if err != nil {
				return err
			}
			values[tag] = value
		}
	}
	if values[rpmName] == "gpg-pubkey" { // a key that rpm keeps as if it were a package
		return nil
	}
	version := values[rpmVersion] + "-" + values[rpmRelease]
	p := Package{
		Name: values[rpmName], Version: version, License: values[rpmLicense],
		URL: s.distro.url("rpm", "rpm", values[rpmName], version, "arch", values[rpmArch], "epoch", values[rpmEpoch]),
	}
	if epoch := values[rpmEpoch]; epoch != "" {
		p.Version = epoch + ":" + version
	}
	return s.add(name, p)
}

func rpmValue(store []byte, kind, at uint32) (string, error) {
	if uint64(at) > uint64(len(store)) {
		return "", errTooShort
	}
	store = store[at:]
	switch kind {
	case rpmInt32:
		if len(store) < 4 {
			return "", errTooShort
		}
		return strconv.FormatUint(uint64(binary.BigEndian.Uint32(store)), 10), nil
	case rpmString:
		if i := bytes.IndexByte(store[:min(len(store), maxValue)], 0); i >= 0 {
			return string(store[:i]), nil
		}
	}
	return "", errTooShort
}

// A pages reads a database: pieces of it, checked against its size.
type pages struct {
	io.ReaderAt
	ctx  context.Context // of the one Scan
	size int64
}

// open opens a database and calls read with it.
func (s *scan) open(name string, read func(p pages) error) error {
	e, err := s.tree.Lstat(name)
	if err != nil {
		return err
	}
	if e.Size > maxDatabase {
		return fmt.Errorf("is longer than %d bytes", maxDatabase)
	}
	f, err := s.tree.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return read(pages{f, s.ctx, e.Size})
}

// at reads n bytes at an offset.
func (p pages) at(offset int64, n int) ([]byte, error) {
	if p.ctx.Err() != nil {
		return nil, context.Cause(p.ctx)
	}
	if offset < 0 || n < 0 || offset > p.size || int64(n) > p.size-offset {
		return nil, errTooShort
	}
	data := make([]byte, n)
	_, err := p.ReadAt(data, offset)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return data, err
}

// rpmNDB reads rpm's own database (rpm's lib/backend/ndb/rpmpkg.c, little-endian): a page of a header and slots, more pages of
// slots, and blobs at multiples of 16 bytes.
func (s *scan) rpmNDB(name string) error {
	const (
		magic, slotMagic, blobMagic = 'R' | 'p'<<8 | 'm'<<16 | 'P'<<24, 'S' | 'l'<<8 | 'o'<<16 | 't'<<24, 'B' | 'l'<<8 | 'b'<<16 | 'S'<<24

		page, slot, block = 4096, 16, 16
	)
	return s.open(name, func(p pages) error {
		head, err := p.at(0, 2*slot)
		if err != nil {
			return err
		}
		le := binary.LittleEndian
		if le.Uint32(head) != magic || le.Uint32(head[4:]) != 0 {
			return errors.New("is not a database of rpm in a form that is known")
		}
		left := p.size // of all headers
		slots := int64(le.Uint32(head[12:])) * page
		for at := int64(2 * slot); at < slots; at += slot {
			entry, err := p.at(at, slot)
			if err != nil {
				return err
			}
			if le.Uint32(entry) != slotMagic {
				return errors.New("is damaged: a slot has no mark")
			}
			if le.Uint32(entry[8:]) == 0 {
				continue
			}
			offset := int64(le.Uint32(entry[8:])) * block
			blob, err := p.at(offset, 16)
			if err != nil {
				return err
			}
			if le.Uint32(blob) != blobMagic || le.Uint32(blob[4:]) != le.Uint32(entry[4:]) || le.Uint32(blob[12:]) > maxHeader {
				return errors.New("is damaged: a slot names no package")
			}
			size := int64(le.Uint32(blob[12:]))
			if left -= block + size; left < 0 {
				return errTwice
			}
			header, err := p.at(offset+16, int(size))
			if err != nil {
				return err
			}
			if err := s.rpmHeader(name, header); err != nil {
				return err
			}
		}
		return nil
	})
}
