package proto_test

import (
	"bytes"
	"strings"
	"testing"

	reference "google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/dynamicpb"

	"github.com/forge-build/forge/internal/proto"
)

// marshal is the coded form of a message.
func marshal(t *testing.T, c *proto.Codec, m any) []byte {
	t.Helper()
	b, err := c.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// TestMarshal holds what is written and read to the reference, byte for byte.
func TestMarshal(t *testing.T) {
	kind := referenceType(t)
	for name, m := range map[string]*all{
		"empty": {}, "full": full(), "one is zero": {OneInt: new(uint32)}, "deep": {Message: full(), List: []*all{full(), full()}},
		"length of two bytes": {Message: &all{Bytes: make([]byte, 125)}}, "length of one": {Message: &all{Bytes: make([]byte, 124)}},
	} {
		var c proto.Codec
		got := marshal(t, &c, m)
		theirs := dynamicpb.NewMessage(kind)
		if err := reference.Unmarshal(got, theirs); err != nil {
			t.Errorf("%s: the reference does not read it: %v", name, err)
			continue
		}
		want, err := reference.MarshalOptions{Deterministic: true}.Marshal(theirs)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %.9999x, the reference writes %.9999x, %v", name, got, want, err)
		}
		back := all{ours: 3, Strings: []string{"is cleared"}}
		if err := c.Unmarshal(want, &back); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if again := marshal(t, &c, &back); !bytes.Equal(again, want) {
			t.Errorf("%s: read and written again it is %x, want %x", name, again, want)
		}
	}
}

// TestUnmarshal reads forms that Marshal does not write.
func TestUnmarshal(t *testing.T) {
	long := bytes.Repeat([]byte{0xff}, 9)
	deep := []byte{}
	for range 101 {
		deep = append([]byte{0x7a}, append(varint(len(deep)), deep...)...)
	}
	for _, test := range []struct {
		name, in, want string
		err            string
	}{
		{name: "packed where loose is written", in: "\x8a\x01\x02\x05\x06", want: "\x88\x01\x05\x88\x01\x06"},
		{name: "loose where packed is written", in: "\x80\x01\x05\x80\x01\x06", want: "\x82\x01\x02\x05\x06"},
		{name: "the last counts", in: "\x10\x01\x10\x02", want: "\x10\x02"},
		{name: "messages are merged", in: "\x7a\x02\x10\x01\x7a\x02\x18\x02", want: "\x7a\x04\x10\x01\x18\x02"},
		{name: "the last of a oneof counts", in: "\xa0\x06\x05\xaa\x06\x01x", want: "\xaa\x06\x01x"},
		{name: "unknown fields", in: "\xc0\x3e\x01\xc5\x3eabcd\xc1\x3eabcdefgh\xc2\x3e\x01x\xc3\x3e\x08\x01\xc4\x3e\x10\x02", want: "\x10\x02"},
		{name: "a wrong wire type is an unknown field", in: "\x12\x01x\x18\x01", want: "\x18\x01"},
		{name: "a number too long for its field", in: "\x10" + string(long) + "\x01", want: "\x10" + string(long) + "\x01"},
		{name: "a map entry of nothing", in: "\xba\x01\x00", want: "\xba\x01\x04\x08\x00\x12\x00"},
		{name: "cut tag", in: "\x80", err: "is cut short"},
		{name: "cut text", in: "\x62\x05ab", err: "field 12: is cut short"},
		{name: "huge text", in: "\x62" + string(long) + "\x01", err: "field 12: is cut short"},
		{name: "number of 11 bytes", in: "\x10" + string(long) + "\xff\x01", err: "more than 64 bits"},
		{name: "field 0", in: "\x00\x01", err: "number 0"},
		{name: "not UTF-8", in: "\x62\x01\xff", err: "field 12: \"\\xff\" is not UTF-8"},
		{name: "end without begin", in: "\xa4\x06", err: "wire type 4"},
		{name: "end of another group", in: "\xa3\x06\xac\x06", err: "does not end where it should"},
		{name: "too deep", in: string(deep), err: "nested more than 100 deep"},
		{name: "a bomb", in: strings.Repeat("\xa2\x01\x00", 100_000), err: "memory out of proportion"},
	} {
		var c proto.Codec
		var m all
		err := c.Unmarshal([]byte(test.in), &m)
		if test.err != "" {
			if err == nil || !strings.Contains(err.Error(), test.err) {
				t.Errorf("%s: error %v, want %s", test.name, err, test.err)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", test.name, err)
			continue
		}
		if got := string(marshal(t, &c, &m)); got != test.want {
			t.Errorf("%s: %x, want %x", test.name, got, test.want)
		}
	}
}

// TestValue is about a message that is no pointer: it is left out where it is zero.
func TestValue(t *testing.T) {
	type holder struct {
		Value leaf `pb:"3"`
	}
	for in, want := range map[string]string{"\x1a\x02\x10\x09": "\x1a\x02\x10\x09", "\x1a\x00": ""} {
		var c proto.Codec
		var h holder
		if err := c.Unmarshal([]byte(in), &h); err != nil {
			t.Error(err)
		}
		if got := string(marshal(t, &c, h)); got != want {
			t.Errorf("%x, want %x", got, want)
		}
	}
}

func varint(n int) []byte {
	var b []byte
	for ; n >= 0x80; n >>= 7 {
		b = append(b, byte(n)|0x80)
	}
	return append(b, byte(n))
}

// TestErrors is about messages that cannot be written.
func TestErrors(t *testing.T) {
	loop := &all{}
	loop.Message = loop
	for want, m := range map[string]any{
		"nested more than 100 deep":       loop,
		"\"\\xff\" is not UTF-8":          &all{String: "\xff"},
		"fields 100 and 101 are both set": &all{OneInt: new(uint32), OneText: new(string)},
		"the key a has no message":        &all{Names: map[string]*all{"a": nil}},
		"a int is no message":             1,
		"a chan int cannot be written": &struct {
			C chan int `pb:"1"`
		}{},
		"does not begin with a number": &struct {
			A string `pb:"x"`
		}{},
		"unknown option \"odd\"": &struct {
			A string `pb:"1,odd"`
		}{},
		"field 1 is there twice": &struct {
			A, B string `pb:"1"`
		}{},
		"is not exported": &struct {
			a string `pb:"1"`
		}{},
		"a uint32 cannot be written": &struct {
			A uint32 `pb:"1,zigzag"`
		}{},
		"a field of a oneof is a pointer": &struct {
			A string `pb:"1,oneof=x"`
		}{},
		"a float64 cannot be the key of a map": &struct {
			A map[float64]bool `pb:"1"`
		}{},
		"a []string cannot be the value of a m": &struct {
			A map[string][]string `pb:"1"`
		}{},
	} {
		var c proto.Codec
		if _, err := c.Marshal(m); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %s", err, want)
		}
	}
	if err := new(proto.Codec).Unmarshal(nil, all{}); err == nil {
		t.Error("what is no pointer was read into")
	}
}

// FuzzUnmarshal holds what is read of any bytes to the reference.
func FuzzUnmarshal(f *testing.F) {
	kind := referenceType(f)
	var c proto.Codec
	m := full()
	delete(m.Names, "a") // short inputs are tried faster
	m.List[0] = nil
	b, err := c.Marshal(m)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b)
	f.Add([]byte("\xa3\x06\x08\x01\xa4\x06\x10\x02"))
	f.Fuzz(func(t *testing.T, b []byte) {
		var ours all
		theirs := dynamicpb.NewMessage(kind)
		err := c.Unmarshal(b, &ours)
		if err != nil && (strings.Contains(err.Error(), "deep") || strings.Contains(err.Error(), "proportion")) {
			return
		}
		theirErr, fell := readReference(b, theirs)
		if fell {
			return
		}
		if (err == nil) != (theirErr == nil) {
			t.Fatalf("error %v, the reference says %v", err, theirErr)
		}
		if err != nil {
			return
		}
		want, err := reference.MarshalOptions{Deterministic: true}.Marshal(theirs)
		if err != nil {
			t.Fatal(err)
		}
		if got := marshal(t, &c, &ours); !bytes.Equal(got, want) {
			t.Fatalf("%x, the reference writes %x", got, want)
		}
	})
}

// readReference reads b as the reference does. Its dynamic messages fall over a key of a map that has the wrong wire type.
func readReference(b []byte, m reference.Message) (err error, fell bool) {
	defer func() { fell = recover() != nil }()
	return reference.UnmarshalOptions{DiscardUnknown: true}.Unmarshal(b, m), false
}

func benchmarkMessage() *all {
	m := &all{}
	for range 1000 {
		m.Values = append(m.Values, leaf{Text: strings.Repeat("0", 64), Size: 12345})
	}
	return m
}

func BenchmarkMarshal(b *testing.B) {
	var c proto.Codec
	m := benchmarkMessage()
	for b.Loop() {
		if _, err := c.Marshal(m); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkUnmarshal(b *testing.B) {
	var c proto.Codec
	in, err := c.Marshal(benchmarkMessage())
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		var m all
		if err := c.Unmarshal(in, &m); err != nil {
			b.Fatal(err)
		}
	}
}
