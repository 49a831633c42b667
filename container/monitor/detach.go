package monitor

import (
	"bytes"
	"fmt"
	"io"
	"strings"
)

// DetachReader reads what somebody types for a container, and fails with ErrDetached when the keys come that end the
// attachment. Keys are in docker's words; "" is ctrl-p,ctrl-q. A part of them is kept back until it is clear that the rest does not follow.
func DetachReader(r io.Reader, keys string) (io.Reader, error) {
	parsed, err := parseDetachKeys(keys)
	if err != nil {
		return nil, err
	}
	return &detachReader{r: r, keys: parsed}, nil
}

// parseDetachKeys reads the keys that end an attachment: a list with commas of characters, ctrl-X for the control characters
// @, a to z, [, \, ], ^ and _, and DEL. "" is ctrl-p,ctrl-q.
func parseDetachKeys(text string) ([]byte, error) {
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

type detachReader struct {
	r    io.Reader
	keys []byte
	held int    // how many keys the input ends with
	left []byte // to be read before more is typed
	err  error  // after that
}

// Read is as in io.Reader.
func (d *detachReader) Read(p []byte) (int, error) {
	for len(d.left) == 0 {
		if d.err != nil {
			return 0, d.err
		}
		n, err := d.r.Read(p)
		d.left, d.err = d.left[:0], err
		if d.scan(p[:n]) {
			d.err = ErrDetached
		} else if err != nil { // what is held back is for the container after all
			d.left, d.held = append(d.left, d.keys[:d.held]...), 0
		}
	}
	n := copy(p, d.left)
	d.left = d.left[n:]
	return n, nil
}

// scan leaves what of the input is for the container, and reports whether the keys were typed; what follows them is dropped.
func (d *detachReader) scan(input []byte) bool {
	for _, c := range input {
		if c == d.keys[d.held] {
			if d.held++; d.held == len(d.keys) {
				return true
			}
			continue
		}
		// The end of what was held may be the beginning of the keys all the same: ctrl-p ctrl-p ctrl-q detaches, too.
		typed := append(bytes.Clone(d.keys[:d.held]), c)
		keep := min(len(typed), len(d.keys)-1)
		for !bytes.HasSuffix(typed, d.keys[:keep]) {
			keep--
		}
		d.left = append(d.left, typed[:len(typed)-keep]...)
		d.held = keep
	}
	return false
}
