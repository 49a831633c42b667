package remote

import (
	"encoding/binary"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
)

// bomb is a table of n records that travels as next to nothing: its keys count up from first, and all have the same text of so many bytes.
func bomb(t *testing.T, first, n, text int) []byte {
	t.Helper()
	texts := append(binary.AppendUvarint(nil, uint64(text)), make([]byte, text)...)
	raw := append(make([]byte, 0, maxTable), tableMagic...)
	raw = binary.LittleEndian.AppendUint32(raw, tableVersion)
	raw = binary.LittleEndian.AppendUint32(raw, uint32(n))
	raw = binary.LittleEndian.AppendUint32(raw, 0)
	raw = binary.LittleEndian.AppendUint32(raw, uint32(len(texts)))
	raw = append(raw, make([]byte, headerSize-len(raw))...)
	for i := range n {
		r := make([]byte, recordSize)
		binary.BigEndian.PutUint32(r, uint32(first+i))
		r[32] = kindValue
		binary.LittleEndian.PutUint32(r[52:], uint32(len(texts)-1)) // a name of no bytes
		raw = append(raw, r...)
	}
	frame, err := compress(append(raw, texts...))
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// segmentOf is a segment whose table a store has.
func segmentOf(s *store, frame []byte) segment {
	d := descriptor(typeTable, frame)
	s.blobs[d.Digest] = frame
	return segment{d: ocispec.Descriptor{MediaType: ocispec.MediaTypeImageManifest, Digest: digest.FromString(d.Digest.String()), Size: 1}, table: d}
}

// TestTablesAreBounded: tables that are small as they travel and large in memory are read up to a limit, the newest first, by whomever, and
// what is beyond is as if it were not there.
func TestTablesAreBounded(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name    string
		frame   func(i int) []byte
		records int // of each table
		want    int // tables that are read
	}{
		{"records", func(i int) []byte { return bomb(t, 40_000*i, 40_000, 100) }, 40_000, maxRecords / 40_000},
		{"texts", func(i int) []byte { return padded(t, i, 3_000_000) }, 1, maxUnpacked / 3_000_000},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			s := newStore()
			x := &index{scope: "main"}
			for i := range 15 {
				x.segments = append(x.segments, segmentOf(s, test.frame(i)))
			}
			raw, d, err := x.encode()
			if err != nil {
				t.Fatal(err)
			}
			s.blobs[d.Digest], s.tags[ScopeTag("main")] = raw, d
			m := newMachine(t, s.place(), "main", nil)
			for range 2 { // as they are fetched, and as they are remembered
				fresh := m.reader.fresh(t.Context(), m.target.Scope)
				if fresh.err != nil || len(fresh.tables) != test.want || fresh.tables[0].records[0].Key != ([32]byte{}) {
					t.Errorf("%d tables, %v; want the first %d", len(fresh.tables), fresh.err, test.want)
				}
			}
			whole := 0
			for _, p := range (&writer{cache: m.Cache, target: m.target}).parts(t.Context(), x) {
				if p.table != nil {
					whole++
				}
			}
			if whole != test.want {
				t.Errorf("%d tables are put together, want %d", whole, test.want)
			}
			_, records, err := m.Records(t.Context(), m.target.Scope)
			if len(records) != test.want*test.records || err == nil || !strings.Contains(err.Error(), fmt.Sprint(15-test.want, " of 15 segments")) {
				t.Errorf("%d records, %v; want %d, and that more are there", len(records), err, test.want*test.records)
			}
		})
	}
}

// padded is a table of one record and of texts that nothing names.
func padded(t *testing.T, first, text int) []byte {
	t.Helper()
	raw, err := decompress(bomb(t, first, 1, 0))
	if err != nil {
		t.Fatal(err)
	}
	binary.LittleEndian.PutUint32(raw[16:], uint32(text+1))
	frame, err := compress(append(raw, make([]byte, text)...))
	if err != nil {
		t.Fatal(err)
	}
	return frame
}

// TestTextsAreShared: a text that many records name is in memory once.
func TestTextsAreShared(t *testing.T) {
	raw, err := decompress(bomb(t, 0, 20_000, maxValue))
	if err != nil {
		t.Fatal(err)
	}
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	got, err := decodeTable(raw)
	if err != nil {
		t.Fatal(err)
	}
	runtime.ReadMemStats(&after)
	if n := after.TotalAlloc - before.TotalAlloc; n > 20<<20 || len(got.records[0].Value) != maxValue {
		t.Errorf("a table of %d bytes takes %d", len(raw), n)
	}
}
