package proto_test

import (
	"math"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
)

type color int32

// all has a field of each kind; allFields is the same for the reference.
type all struct {
	Bool     bool              `pb:"1"`
	Int32    int32             `pb:"2"`
	Int64    int64             `pb:"3"`
	Uint32   uint32            `pb:"4"`
	Uint64   uint64            `pb:"5"`
	Sint32   int32             `pb:"6,zigzag"`
	Sint64   int64             `pb:"7,zigzag"`
	Fixed32  uint32            `pb:"8,fixed"`
	Sfixed64 int64             `pb:"9,fixed"`
	Float    float32           `pb:"10"`
	Double   float64           `pb:"11"`
	String   string            `pb:"12"`
	Bytes    []byte            `pb:"13"`
	Enum     color             `pb:"14"`
	Message  *all              `pb:"15"`
	Packed   []int32           `pb:"16"`
	Loose    []int64           `pb:"17,unpacked"`
	Strings  []string          `pb:"18"`
	Blobs    [][]byte          `pb:"19"`
	List     []*all            `pb:"20"`
	Values   []leaf            `pb:"21"`
	Names    map[string]*all   `pb:"22"`
	Numbers  map[int32]string  `pb:"23"`
	Flags    map[bool][]byte   `pb:"24"`
	Maybe    *int32            `pb:"25"`
	MaybeS   *string           `pb:"26"`
	OneInt   *uint32           `pb:"100,oneof=one"`
	OneText  *string           `pb:"101,oneof=one"`
	OneLeaf  *leaf             `pb:"536870911,oneof=one"`
	Doubles  []float64         `pb:"31"`
	Zigzags  []int32           `pb:"32,zigzag"`
	Colors   []color           `pb:"33"`
	Uints    map[uint64]uint32 `pb:"34"`

	ours int
}

type leaf struct {
	Text string `pb:"1"`
	Size int64  `pb:"2"`
}

const allFields = `
name: "all.proto" syntax: "proto3"
enum_type { name: "Color" value { name: "NONE" number: 0 } value { name: "RED" number: 7 } }
message_type { name: "Leaf"
  field { name: "text" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "size" number: 2 type: TYPE_INT64 label: LABEL_OPTIONAL } }
message_type { name: "All"
  oneof_decl { name: "one" } oneof_decl { name: "_maybe" } oneof_decl { name: "_maybe_s" }
  field { name: "bool" number: 1 type: TYPE_BOOL label: LABEL_OPTIONAL }
  field { name: "int32" number: 2 type: TYPE_INT32 label: LABEL_OPTIONAL }
  field { name: "int64" number: 3 type: TYPE_INT64 label: LABEL_OPTIONAL }
  field { name: "uint32" number: 4 type: TYPE_UINT32 label: LABEL_OPTIONAL }
  field { name: "uint64" number: 5 type: TYPE_UINT64 label: LABEL_OPTIONAL }
  field { name: "sint32" number: 6 type: TYPE_SINT32 label: LABEL_OPTIONAL }
  field { name: "sint64" number: 7 type: TYPE_SINT64 label: LABEL_OPTIONAL }
  field { name: "fixed32" number: 8 type: TYPE_FIXED32 label: LABEL_OPTIONAL }
  field { name: "sfixed64" number: 9 type: TYPE_SFIXED64 label: LABEL_OPTIONAL }
  field { name: "float" number: 10 type: TYPE_FLOAT label: LABEL_OPTIONAL }
  field { name: "double" number: 11 type: TYPE_DOUBLE label: LABEL_OPTIONAL }
  field { name: "string" number: 12 type: TYPE_STRING label: LABEL_OPTIONAL }
  field { name: "bytes" number: 13 type: TYPE_BYTES label: LABEL_OPTIONAL }
  field { name: "enum" number: 14 type: TYPE_ENUM type_name: ".Color" label: LABEL_OPTIONAL }
  field { name: "message" number: 15 type: TYPE_MESSAGE type_name: ".All" label: LABEL_OPTIONAL }
  field { name: "packed" number: 16 type: TYPE_INT32 label: LABEL_REPEATED }
  field { name: "loose" number: 17 type: TYPE_INT64 label: LABEL_REPEATED options { packed: false } }
  field { name: "strings" number: 18 type: TYPE_STRING label: LABEL_REPEATED }
  field { name: "blobs" number: 19 type: TYPE_BYTES label: LABEL_REPEATED }
  field { name: "list" number: 20 type: TYPE_MESSAGE type_name: ".All" label: LABEL_REPEATED }
  field { name: "values" number: 21 type: TYPE_MESSAGE type_name: ".Leaf" label: LABEL_REPEATED }
  field { name: "names" number: 22 type: TYPE_MESSAGE type_name: ".All.NamesEntry" label: LABEL_REPEATED }
  field { name: "numbers" number: 23 type: TYPE_MESSAGE type_name: ".All.NumbersEntry" label: LABEL_REPEATED }
  field { name: "flags" number: 24 type: TYPE_MESSAGE type_name: ".All.FlagsEntry" label: LABEL_REPEATED }
  field { name: "maybe" number: 25 type: TYPE_INT32 label: LABEL_OPTIONAL proto3_optional: true oneof_index: 1 }
  field { name: "maybe_s" number: 26 type: TYPE_STRING label: LABEL_OPTIONAL proto3_optional: true oneof_index: 2 }
  field { name: "one_int" number: 100 type: TYPE_UINT32 label: LABEL_OPTIONAL oneof_index: 0 }
  field { name: "one_text" number: 101 type: TYPE_STRING label: LABEL_OPTIONAL oneof_index: 0 }
  field { name: "one_leaf" number: 536870911 type: TYPE_MESSAGE type_name: ".Leaf" label: LABEL_OPTIONAL oneof_index: 0 }
  field { name: "doubles" number: 31 type: TYPE_DOUBLE label: LABEL_REPEATED }
  field { name: "zigzags" number: 32 type: TYPE_SINT32 label: LABEL_REPEATED }
  field { name: "colors" number: 33 type: TYPE_ENUM type_name: ".Color" label: LABEL_REPEATED }
  field { name: "uints" number: 34 type: TYPE_MESSAGE type_name: ".All.UintsEntry" label: LABEL_REPEATED }
  nested_type { name: "NamesEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_STRING label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type: TYPE_MESSAGE type_name: ".All" label: LABEL_OPTIONAL } }
  nested_type { name: "NumbersEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_INT32 label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type: TYPE_STRING label: LABEL_OPTIONAL } }
  nested_type { name: "FlagsEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_BOOL label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type: TYPE_BYTES label: LABEL_OPTIONAL } }
  nested_type { name: "UintsEntry" options { map_entry: true }
    field { name: "key" number: 1 type: TYPE_UINT64 label: LABEL_OPTIONAL }
    field { name: "value" number: 2 type: TYPE_UINT32 label: LABEL_OPTIONAL } } }
`

// referenceType is the descriptor of all.
func referenceType(t testing.TB) protoreflect.MessageDescriptor {
	t.Helper()
	file := &descriptorpb.FileDescriptorProto{}
	if err := prototext.Unmarshal([]byte(allFields), file); err != nil {
		t.Fatal(err)
	}
	d, err := protodesc.NewFile(file, nil)
	if err != nil {
		t.Fatal(err)
	}
	return d.Messages().ByName("All")
}

func full() *all {
	return &all{
		Bool: true, Int32: -1, Int64: math.MinInt64, Uint32: math.MaxUint32, Uint64: math.MaxUint64, Sint32: math.MinInt32, Sint64: -3,
		Fixed32: 5, Sfixed64: -6, Float: -1.5, Double: math.Copysign(0, -1), String: "größer", Bytes: []byte{0xff, 0}, Enum: -2,
		Message: &all{Message: &all{}}, Packed: []int32{0, -1, 300}, Loose: []int64{1, 0}, Strings: []string{"", "b"}, Blobs: [][]byte{nil, {1}},
		List: []*all{{String: strings.Repeat("x", 200)}, nil, {}}, Values: []leaf{{}, {Text: "t", Size: 1}},
		Names:   map[string]*all{"b": {Int32: 1}, "": {}, "a": {Strings: []string{strings.Repeat("y", 17000)}}},
		Numbers: map[int32]string{3: "c", -1: "", 0: "z"}, Flags: map[bool][]byte{true: {1}, false: nil},
		Maybe: new(int32), MaybeS: new(string), OneLeaf: &leaf{},
		Doubles: []float64{0, 1}, Zigzags: []int32{-1, math.MaxInt32}, Colors: []color{0, 7, -1},
		Uints: map[uint64]uint32{math.MaxUint64: 1, 2: 0},
	}
}
