package planner

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"unicode/utf8"
)

// MarshalOp writes an operation as JSON: its fields, and "run", "copy" or "mkdir" as its kind. A Base is no operation of a
// worker and is refused, and so are strings that are no UTF-8, since JSON cannot hold them.
func MarshalOp(op Op) ([]byte, error) {
	kind := ""
	switch op.(type) {
	case *Run:
		kind = "run"
	case *Copy:
		kind = "copy"
	case *Mkdir:
		kind = "mkdir"
	default:
		return nil, fmt.Errorf("%T cannot be written as JSON", op)
	}
	if !validText(reflect.ValueOf(op).Elem()) {
		return nil, errors.New("the operation holds text that is not UTF-8, which JSON cannot hold")
	}
	return json.Marshal(struct {
		Kind string `json:"kind"`
		Op   Op     `json:"op"`
	}{kind, op})
}

// UnmarshalOp reads what MarshalOp has written.
func UnmarshalOp(text []byte) (Op, error) {
	var o struct {
		Kind string          `json:"kind"`
		Op   json.RawMessage `json:"op"`
	}
	if err := json.Unmarshal(text, &o); err != nil {
		return nil, err
	}
	var op Op
	switch o.Kind {
	case "run":
		op = &Run{}
	case "copy":
		op = &Copy{}
	case "mkdir":
		op = &Mkdir{}
	default:
		return nil, fmt.Errorf("there is no operation of kind %q", o.Kind)
	}
	return op, json.Unmarshal(o.Op, op)
}

// validText reports whether all strings of a value are UTF-8.
func validText(v reflect.Value) bool {
	switch v.Kind() {
	case reflect.String:
		return utf8.ValidString(v.String())
	case reflect.Pointer:
		return v.IsNil() || validText(v.Elem())
	case reflect.Slice:
		for i := range v.Len() {
			if !validText(v.Index(i)) {
				return false
			}
		}
	case reflect.Struct:
		for i := range v.NumField() {
			if !validText(v.Field(i)) {
				return false
			}
		}
	}
	return true
}
