package words

import (
	"bytes"
	"fmt"
	"strings"
)

// ParseDetachKeys reads the keys that end an attachment: a list with commas of characters, ctrl-X for the control characters
// @, a to z, [, \, ], ^ and _, and DEL. "" is ctrl-p,ctrl-q.
func ParseDetachKeys(text string) ([]byte, error) {
	if text == "" {
		text = "ctrl-p,ctrl-q"
	}
	var keys []byte
	for key := range strings.SplitSeq(text, ",") {
		control, ok := strings.CutPrefix(key, "ctrl-")
		switch {
		case len(key) == 1:
			keys = append(keys, key[0])
		case key == "DEL":
			keys = append(keys, 127)
		case ok && len(control) == 1 && strings.Contains(`@abcdefghijklmnopqrstuvwxyz[\]^_`, control):
			keys = append(keys, control[0]&31)
		default:
			return nil, fmt.Errorf("unknown character: '%s'", key)
		}
	}
	return keys, nil
}

// A Detacher looks for detach keys in what a user types. It keeps a part of them back until it is clear that the rest does
// not follow. One without keys finds nothing. It is not safe for concurrent use.
type Detacher struct {
	Keys []byte
	held int // how many keys the input ends with
}

// Scan appends to dst what of the input is for the container. It reports whether the keys were typed; what follows them is
// dropped.
func (d *Detacher) Scan(dst, input []byte) (_ []byte, detached bool) {
	if len(d.Keys) == 0 {
		return append(dst, input...), false
	}
	for _, c := range input {
		if c == d.Keys[d.held] {
			if d.held++; d.held == len(d.Keys) {
				d.held = 0
				return dst, true
			}
			continue
		}
		// The end of what was held may be the beginning of the keys all the same: ctrl-p ctrl-p ctrl-q detaches, too.
		typed := append(bytes.Clone(d.Keys[:d.held]), c)
		keep := min(len(typed), len(d.Keys)-1)
		for !bytes.HasSuffix(typed, d.Keys[:keep]) {
			keep--
		}
		dst = append(dst, typed[:len(typed)-keep]...)
		d.held = keep
	}
	return dst, false
}

// Rest is what is still held back when the input has ended: it is for the container after all.
func (d *Detacher) Rest() []byte {
	rest := d.Keys[:d.held]
	d.held = 0
	return rest
}
