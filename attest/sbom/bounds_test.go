package sbom

import (
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"testing"
)

// overlappingNDB is a database of rpm whose slots name one package, which is as long as they are.
func overlappingNDB() string {
	le := binary.LittleEndian
	file := make([]byte, 2*4096)
	copy(file, "RpmP")
	le.PutUint32(file[12:], 1)
	for at := 32; at < 4096; at += 16 {
		copy(file[at:], "Slot")
		le.PutUint32(file[at+8:], 4096/16)
	}
	copy(file[4096:], "BlbS")
	le.PutUint32(file[4096+12:], 4096-16)
	return string(file)
}

// sqlitePage is a database of pages of 64 KiB, all empty but for the first, which has one cell many times.
func sqlitePage(kind byte, pages, cells int, cell []byte) string {
	const size, at = 65536, 30_000
	be := binary.BigEndian
	file := make([]byte, pages*size)
	copy(file, "SQLite format 3\x00")
	be.PutUint16(file[16:], 1)
	head := file[100:]
	head[0] = kind
	be.PutUint16(head[3:], uint16(cells))
	list := head[8:]
	if kind == sqliteInterior {
		be.PutUint32(head[8:], 1)
		list = head[12:]
	}
	for i := range cells {
		be.PutUint16(list[2*i:], at)
	}
	copy(file[at:], cell)
	return string(file)
}

// sqliteCell is a cell of a leaf with a record of empty columns and a long one.
func sqliteCell(empty, long int) []byte {
	varint := func(n int) []byte { return []byte{byte(n>>14) | 0x80, byte(n>>7) | 0x80, byte(n & 0x7f)} }
	head := append(varint(6+empty), make([]byte, empty)...)
	head = append(head, varint(12+2*long)...)
	return append(append(varint(len(head)+long), 1), head...)
}

// TestScanBounds holds that of a database no more is read than it has bytes, whatever it names how often.
func TestScanBounds(t *testing.T) {
	t.Parallel()
	var values []any
	for range maxValues + 1 {
		values = append(values, rpmName, "bash")
	}
	for name, c := range map[string]struct{ file, content, want string }{
		"ndb, a package named often":    {"Packages.db", overlappingNDB(), "the same bytes twice"},
		"ndb, a text named often":       {"Packages.db", ndb(header(values...)), "the same bytes twice"},
		"ndb, a text that is long":      {"Packages.db", ndb(header(rpmName, strings.Repeat("x", maxValue))), "ends too early"},
		"sqlite, a record named often":  {"rpmdb.sqlite", sqlitePage(sqliteLeaf, 1, 1000, sqliteCell(4, 20_000)), "the same bytes twice"},
		"sqlite, a page named often":    {"rpmdb.sqlite", sqlitePage(sqliteInterior, 2, 1000, []byte{0, 0, 0, 1}), "the same bytes twice"},
		"sqlite, a row of many columns": {"rpmdb.sqlite", sqlitePage(sqliteLeaf, 1, 1, sqliteCell(10_000, 1)), "another form"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := Scan(t.Context(), treeOf(t, map[string]string{"var/lib/rpm/" + c.file: c.content}))
			if err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, and not one that says %q", err, c.want)
			}
		})
	}
}

// TestScanEndsWithItsContext holds that each reader looks whether it is still wanted.
func TestScanEndsWithItsContext(t *testing.T) {
	t.Parallel()
	const apk = "P:a\n\nP:b\n\nP:c\n\n"
	files := map[string]string{
		"var/lib/dpkg/status": "Package: a\n\n", "lib/apk/db/installed": apk, "var/lib/rpm/rpmdb.sqlite": rpmsqlite(t),
		"var/lib/rpm/Packages.db": ndb(bash), "var/lib/rpm/Packages": bdb(binary.LittleEndian, bash),
		"node_modules/a/package.json": `{"name":"a"}`,
	}
	tree := treeOf(t, files)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for name := range files {
		s := &scan{ctx: ctx, tree: tree, found: map[string]Package{}}
		read := s.reader(name)
		if read == nil {
			read = s.npm
		}
		if err := read(name); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	// The limits are looked at with each package, not when a file is done.
	s := &scan{ctx: t.Context(), tree: tree, found: map[string]Package{}, text: maxText}
	if err := s.apk("lib/apk/db/installed"); err == nil || !strings.Contains(err.Error(), "longer than") || len(s.found) != 1 {
		t.Errorf("%d packages were taken past the limit: %v", len(s.found), err)
	}
}
