package sbom

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// rpmSQLite reads rpm's database as SQLite keeps it: the table Packages has a number and a header in each row.
func (s *scan) rpmSQLite(name string) error {
	if e, err := s.tree.Lstat(name + "-wal"); err == nil && e.Size > 0 {
		return fmt.Errorf("/%s-wal holds changes that were not merged: run rpm --rebuilddb in the image", name)
	}
	return s.open(name, func(p pages) error {
		db, err := openSQLite(p)
		if err != nil {
			return err
		}
		root, err := db.table("Packages")
		if err != nil {
			return err
		}
		return db.rows(root, func(columns [][]byte) error {
			if len(columns) != 2 {
				return errors.New("is not a database of rpm: its rows have another form")
			}
			return s.rpmHeader(name, columns[1])
		})
	})
}

// A sqliteFile reads tables of a database (https://www.sqlite.org/fileformat2.html). Indexes, journals and views are none of it.
type sqliteFile struct {
	pages
	pageSize int
	usable   int   // bytes of a page that hold content
	seen     int   // pages that were read, so that a loop ends
	read     int64 // bytes of records, so that one that is named often ends
}

func openSQLite(p pages) (*sqliteFile, error) {
	head, err := p.at(0, 100)
	if err != nil {
		return nil, err
	}
	size := int(binary.BigEndian.Uint16(head[16:]))
	if size == 1 {
		size = 65536
	}
	if string(head[:16]) != "SQLite format 3\x00" || size < 512 || size&(size-1) != 0 || size-int(head[20]) < 480 {
		return nil, errors.New("is not a database of SQLite")
	}
	return &sqliteFile{pages: p, pageSize: size, usable: size - int(head[20])}, nil
}

// page reads a page, which are counted from 1.
func (db *sqliteFile) page(n uint32) ([]byte, error) {
	if db.seen++; int64(db.seen) > 2*db.size/int64(db.pageSize)+2 {
		return nil, errors.New("is damaged: its pages go in circles")
	}
	if n == 0 {
		return nil, errTooShort
	}
	return db.at(int64(n-1)*int64(db.pageSize), db.pageSize)
}

// table is the root page of a table, as the schema says it: type, name, table, root page, SQL.
func (db *sqliteFile) table(name string) (root uint32, err error) {
	err = db.rows(1, func(columns [][]byte) error {
		if len(columns) == 5 && string(columns[0]) == "table" && string(columns[1]) == name {
			for _, b := range columns[3] {
				root = root<<8 | uint32(b)
			}
		}
		return nil
	})
	if err == nil && root == 0 {
		err = fmt.Errorf("is not a database of rpm: it has no table %s", name)
	}
	return root, err
}

// Kinds of pages.
const (
	sqliteInterior = 5
	sqliteLeaf     = 13
)

// rows calls fn for each row of the table whose tree begins at a page. Integers are in big-endian bytes.
func (db *sqliteFile) rows(n uint32, fn func(columns [][]byte) error) error {
	todo := []uint32{n}
	for len(todo) > 0 {
		n := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		page, err := db.page(n)
		if err != nil {
			return err
		}
		head := page
		if n == 1 {
			head = page[100:]
		}
		count, cells := int(binary.BigEndian.Uint16(head[3:])), head[8:]
		switch head[0] {
		case sqliteInterior:
			cells = head[12:]
			todo = append(todo, binary.BigEndian.Uint32(head[8:]))
		case sqliteLeaf:
		default:
			return fmt.Errorf("is damaged: page %d has kind %d", n, head[0])
		}
		if 2*count > len(cells) {
			return errTooShort
		}
		if head[0] == sqliteInterior && int64(len(todo)+count) > db.size/int64(db.pageSize) {
			return errTwice
		}
		for i := range count {
			at := int(binary.BigEndian.Uint16(cells[2*i:]))
			if at+4 > len(page) {
				return errTooShort
			}
			if head[0] == sqliteInterior {
				todo = append(todo, binary.BigEndian.Uint32(page[at:]))
				continue
			}
			record, err := db.payload(page[at:])
			if err == nil {
				err = row(record, fn)
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// payload is what a cell of a leaf holds: its length, the row's number, and content, the end of which may be on pages of its own.
func (db *sqliteFile) payload(cell []byte) ([]byte, error) {
	length, n := uvarint(cell)
	_, m := uvarint(cell[n:])
	if n == 0 || m == 0 || length > maxHeader {
		return nil, errTooShort
	}
	if db.read += int64(n+m) + int64(length); db.read > db.size {
		return nil, errTwice
	}
	cell = cell[n+m:]
	local := int(length)
	if most := db.usable - 35; local > most {
		least := (db.usable-12)*32/255 - 23
		local = least + (int(length)-least)%(db.usable-4)
		if local > most {
			local = least
		}
	}
	if local > len(cell) || local < int(length) && local+4 > len(cell) {
		return nil, errTooShort
	}
	if local == int(length) {
		return cell[:local], nil
	}
	content, next := append([]byte(nil), cell[:local]...), binary.BigEndian.Uint32(cell[local:])
	for len(content) < int(length) {
		page, err := db.page(next)
		if err != nil {
			return nil, err
		}
		next = binary.BigEndian.Uint32(page)
		content = append(content, page[4:min(db.usable, 4+int(length)-len(content))]...)
	}
	return content, nil
}

// maxColumns is more than the tables have that are read.
const maxColumns = 8

// row splits a record: the length of its head, the types of its columns, their values.
func row(record []byte, fn func(columns [][]byte) error) error {
	length, n := uvarint(record)
	if n == 0 || length < uint64(n) || length > uint64(len(record)) {
		return errTooShort
	}
	types, values := record[n:length], record[length:]
	var columns [][]byte
	for len(types) > 0 {
		kind, n := uvarint(types)
		if n == 0 {
			return errTooShort
		}
		if len(columns) == maxColumns {
			return errors.New("is not a database of rpm: its rows have another form")
		}
		types = types[n:]
		size := columnSize(kind)
		if size > uint64(len(values)) {
			return errTooShort
		}
		columns = append(columns, values[:size])
		values = values[size:]
	}
	return fn(columns)
}

// columnSize is how many bytes a column of a type has.
func columnSize(kind uint64) uint64 {
	switch {
	case kind >= 12:
		return (kind - 12) / 2
	case kind <= 4:
		return kind
	case kind == 5:
		return 6
	case kind <= 7:
		return 8
	}
	return 0
}

// uvarint reads one of SQLite's numbers, and how many bytes it has; 0 if it is cut off.
func uvarint(b []byte) (v uint64, n int) {
	for i, c := range b {
		if i == 8 {
			return v<<8 | uint64(c), 9
		}
		v = v<<7 | uint64(c&0x7f)
		if c < 0x80 {
			return v, i + 1
		}
	}
	return 0, 0
}
