package remote

import (
	"bytes"
	"reflect"
	"strings"
	"testing"
	"time"
)

func someRecords(s *store) []Record {
	value := Record{Key: keyOf("v"), Value: `[{"name":"/a"}]`, Created: time.Unix(0, 0).UTC(), Used: 7}
	return merge([]Record{layerRecord(s, "a"), layerRecord(s, "b"), value, layerRecord(s, strings.Repeat("long", 100))})
}

func TestTable(t *testing.T) {
	t.Parallel()
	s := newStore()
	records := someRecords(s)
	key, trust := signer(t, 1)
	for _, k := range []*Signer{nil, key} {
		raw, err := encodeTable(records, k, "here")
		if err != nil {
			t.Fatal(err)
		}
		frame, err := compress(raw)
		if err != nil {
			t.Fatal(err)
		}
		if again, err := decompress(frame); err != nil || !bytes.Equal(again, raw) {
			t.Fatalf("a table comes back as %d bytes, %v", len(again), err)
		}
		got, err := decodeTable(raw)
		if err != nil {
			t.Fatal(err)
		}
		for i := range got.records {
			want := records[i]
			want.Name = clip(want.Name, maxName)
			if !reflect.DeepEqual(got.records[i], want) {
				t.Errorf("got %+v, want %+v", got.records[i], want)
			}
			if found := got.find(want.Key); found == nil || found.Key != want.Key {
				t.Errorf("%s is not found", want.Name)
			}
		}
		if got.find(keyOf("other")) != nil {
			t.Error("a key is found that is not there")
		}
		if believed := trust.check(raw, "here") == nil; believed != (k != nil) {
			t.Errorf("signed %t, believed %t", k != nil, believed)
		}
		if k == nil {
			continue
		}
		_, others := signer(t, 2)
		if others.check(raw, "here") == nil || trust.check(raw, "elsewhere") == nil {
			t.Error("a table is believed that another key has signed, or for another place")
		}
		for i := range raw {
			forged := bytes.Clone(raw)
			forged[i] ^= 1
			if trust.check(forged, "here") == nil {
				t.Fatalf("a table with another byte %d is believed", i)
			}
		}
	}
}

// FuzzTable holds that no table makes the reader fail, or is read as something that is written otherwise.
func FuzzTable(f *testing.F) {
	records := someRecords(newStore())
	raw, err := encodeTable(records, nil, "")
	if err != nil {
		f.Fatal(err)
	}
	key, _ := signer(f, 1)
	signed, err := encodeTable(records, key, "")
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range [][]byte{raw, signed, raw[:headerSize], raw[:len(raw)-1], nil} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		got, err := decodeTable(raw)
		if err != nil {
			return
		}
		again, err := encodeTable(got.records, nil, "")
		if err != nil {
			t.Fatalf("a table that was read cannot be written: %v", err)
		}
		second, err := decodeTable(again)
		if err != nil || !reflect.DeepEqual(second.records, got.records) {
			t.Fatalf("a table that was written is read as another: %v", err)
		}
	})
}

// FuzzIndex holds that no index makes the reader fail, and that one that was read can be written.
func FuzzIndex(f *testing.F) {
	s := newStore()
	m := newMachine(f, s.place(), "main", nil)
	if err := m.keep(f.Context(), someRecords(s)...); err != nil {
		f.Fatal(err)
	}
	f.Add(s.blobs[s.tags[ScopeTag("main")].Digest])
	f.Add([]byte(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json","manifests":[]}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		x, err := parseIndex(raw)
		if err != nil {
			return
		}
		for _, seg := range x.segments {
			if seg.inline != nil {
				_, _ = (&reader{}).tables(t.Context(), &Scope{Place: &Place{}}, []segment{seg}, 0)
			}
		}
		again, _, err := x.encode()
		if err != nil {
			t.Fatal(err)
		}
		if y, err := parseIndex(again); err != nil || len(y.segments) != len(x.segments) {
			t.Fatalf("an index that was written is not read: %v", err)
		}
	})
}

// TestTableBomb refuses a frame that would become larger than a table may be.
func TestTableBomb(t *testing.T) {
	t.Parallel()
	frame, err := compress(make([]byte, 200<<20))
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := decompress(frame); err == nil {
		t.Errorf("%d bytes were inflated to %d", len(frame), len(raw))
	}
}
