package sbom

import (
	"encoding/binary"
	"errors"
)

// Kinds of pages and entries in a hash of Berkeley DB (its src/dbinc/db_page.h).
const (
	bdbMagic    = 0x061561
	bdbHash     = 13
	bdbUnsorted = 2
	bdbOverflow = 7
	bdbOffPage  = 3
	bdbHead     = 26 // bytes of the head of a page
)

// rpmBDB reads rpm's database as Berkeley DB keeps it: pages of keys and values in turn, of which values are headers on chains of
// overflow pages. Numbers are in the byte order of the machine that wrote it.
func (s *scan) rpmBDB(name string) error {
	return s.open(name, func(p pages) error {
		head, err := p.at(0, 72)
		if err != nil {
			return err
		}
		var order binary.ByteOrder = binary.LittleEndian
		if order.Uint32(head[12:]) != bdbMagic {
			order = binary.BigEndian
		}
		size := int(order.Uint32(head[20:]))
		if order.Uint32(head[12:]) != bdbMagic || size < 512 || size > 65536 || size&(size-1) != 0 {
			return errors.New("is not a database of rpm in a form that is known")
		}
		db := &bdbFile{pages: p, order: order, pageSize: size}
		for n := int64(1); n < p.size/int64(size); n++ {
			page, err := p.at(n*int64(size), size)
			if err != nil {
				return err
			}
			if kind := page[25]; kind != bdbHash && kind != bdbUnsorted {
				continue
			}
			entries := int(order.Uint16(page[20:]))
			if bdbHead+2*entries > size {
				return errTooShort
			}
			for i := 1; i < entries; i += 2 {
				at := int(order.Uint16(page[bdbHead+2*i:]))
				if at+12 > size || page[at] != bdbOffPage { // a short value is no header, but the count of packages
					continue
				}
				header, err := db.overflow(order.Uint32(page[at+4:]), order.Uint32(page[at+8:]))
				if err == nil {
					err = s.rpmHeader(name, header)
				}
				if err != nil {
					return err
				}
			}
		}
		return nil
	})
}

// A bdbFile reads values that do not fit into a page.
type bdbFile struct {
	pages
	order    binary.ByteOrder
	pageSize int
	read     int64 // bytes, so that a value that is named often ends
}

func (db *bdbFile) overflow(n, length uint32) (value []byte, err error) {
	if length > maxHeader {
		return nil, errTooShort
	}
	for uint32(len(value)) < length {
		if db.read += int64(db.pageSize); n == 0 || db.read > db.size {
			return nil, errTooShort
		}
		page, err := db.at(int64(n)*int64(db.pageSize), db.pageSize)
		if err != nil {
			return nil, err
		}
		used := int(db.order.Uint16(page[22:]))
		if page[25] != bdbOverflow || used == 0 || bdbHead+used > db.pageSize {
			return nil, errTooShort
		}
		value = append(value, page[bdbHead:bdbHead+used]...)
		n = db.order.Uint32(page[16:])
	}
	return value[:length], nil
}
