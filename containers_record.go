package forge

import (
	"bytes"
	"encoding/gob"
	"encoding/json"
)

// What is kept of a container is JSON, unless it has text that JSON cannot hold: arguments and variables are bytes, which need
// not be UTF-8. Then it is a gob (encoding/gob) within the JSON.

// gobbed is the JSON of what JSON cannot hold.
type gobbed struct{ Gob []byte }

// marshalBytes is json.Marshal, with every byte of every string kept. plain is v as a type without methods.
func marshalBytes(plain any) ([]byte, error) {
	text, err := json.Marshal(plain)
	if err != nil || !bytes.Contains(text, []byte(`\ufffd`)) {
		return text, err
	}
	var b bytes.Buffer
	if err := gob.NewEncoder(&b).Encode(plain); err != nil {
		return nil, err
	}
	return json.Marshal(gobbed{b.Bytes()})
}

// unmarshalBytes reads what marshalBytes has written.
func unmarshalBytes(text []byte, plain any) error {
	if !bytes.HasPrefix(text, []byte(`{"Gob":`)) {
		return json.Unmarshal(text, plain)
	}
	var g gobbed
	if err := json.Unmarshal(text, &g); err != nil {
		return err
	}
	return gob.NewDecoder(bytes.NewReader(g.Gob)).Decode(plain)
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
