package forge

import (
	"bytes"
	"encoding/json"
	"reflect"
)

// What is kept of a container is JSON, unless it has text that JSON cannot hold: arguments and variables are bytes, which need
// not be UTF-8. Then it is JSON within JSON, in whose strings each character stands for a byte.

// latinJSON is the JSON of what JSON cannot hold.
type latinJSON struct{ Latin json.RawMessage }

// marshalBytes is json.Marshal, with every byte of every string kept. plain points to a value of a type without methods.
func marshalBytes(plain any) ([]byte, error) {
	text, err := json.Marshal(plain)
	if err != nil || !bytes.Contains(text, []byte(`\ufffd`)) {
		return text, err
	}
	copied := reflect.New(reflect.TypeOf(plain).Elem())
	copied.Elem().Set(reflect.ValueOf(plain).Elem())
	mapStrings(copied.Elem(), latinOf)
	if text, err = json.Marshal(copied.Interface()); err != nil {
		return nil, err
	}
	return json.Marshal(latinJSON{text})
}

// unmarshalBytes reads what marshalBytes has written.
func unmarshalBytes(text []byte, plain any) error {
	if !bytes.HasPrefix(text, []byte(`{"Latin":`)) {
		return json.Unmarshal(text, plain)
	}
	var l latinJSON
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	if err := json.Unmarshal(l.Latin, plain); err != nil {
		return err
	}
	mapStrings(reflect.ValueOf(plain).Elem(), bytesOf)
	return nil
}

// latinOf has a character for each byte of s, and bytesOf is the way back.
func latinOf(s string) string {
	runes := make([]rune, len(s))
	for i := range len(s) {
		runes[i] = rune(s[i])
	}
	return string(runes)
}

func bytesOf(s string) string {
	var b []byte
	for _, r := range s {
		b = append(b, byte(r))
	}
	return string(b)
}

// mapStrings makes all strings of v, which can be set, other ones. What v shares with other values is copied before.
func mapStrings(v reflect.Value, to func(string) string) {
	switch v.Kind() {
	case reflect.String:
		if v.CanSet() {
			v.SetString(to(v.String()))
		}
	case reflect.Struct:
		for i := range v.NumField() {
			mapStrings(v.Field(i), to)
		}
	case reflect.Pointer:
		if !v.IsNil() && v.CanSet() {
			c := reflect.New(v.Type().Elem())
			c.Elem().Set(v.Elem())
			mapStrings(c.Elem(), to)
			v.Set(c)
		}
	case reflect.Slice:
		if !v.IsNil() && v.CanSet() {
			c := reflect.MakeSlice(v.Type(), v.Len(), v.Len())
			reflect.Copy(c, v)
			for i := range c.Len() {
				mapStrings(c.Index(i), to)
			}
			v.Set(c)
		}
	case reflect.Map:
		if !v.IsNil() && v.CanSet() {
			c := reflect.MakeMapWithSize(v.Type(), v.Len())
			for key, value := range v.Seq2() {
				k, e := reflect.New(key.Type()).Elem(), reflect.New(value.Type()).Elem()
				k.Set(key)
				e.Set(value)
				mapStrings(k, to)
				mapStrings(e, to)
				c.SetMapIndex(k, e)
			}
			v.Set(c)
		}
	default: // no strings: there are no arrays and interfaces in what is kept
	}
}

// MarshalJSON is as json.Marshaler.
func (c containerConfig) MarshalJSON() ([]byte, error) {
	type plain containerConfig
	return marshalBytes((*plain)(&c))
}

// UnmarshalJSON is as json.Unmarshaler.
func (c *containerConfig) UnmarshalJSON(text []byte) error {
	type plain containerConfig
	return unmarshalBytes(text, (*plain)(c))
}

// MarshalJSON is as json.Marshaler.
func (o ExecOptions) MarshalJSON() ([]byte, error) {
	type plain ExecOptions
	return marshalBytes((*plain)(&o))
}

// UnmarshalJSON is as json.Unmarshaler.
func (o *ExecOptions) UnmarshalJSON(text []byte) error {
	type plain ExecOptions
	return unmarshalBytes(text, (*plain)(o))
}
